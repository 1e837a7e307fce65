"""Where AIP keeps its state, and every limit it holds. The reason stands beside each number."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

VERSION = "0.1.0"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one platform. Everything that a stranger or a mistake can grow has one."""

    # Messages
    payload_bytes_max: int = (
        8 * 2**20
    )  # A larger value belongs in an artifact; it would stall the frame it travels in.
    payload_depth_max: int = 64  # Deeper JSON is an attack on recursive readers.
    frame_items_max: int = 2_000  # One delivery must fit well inside a second of a receiver's loop.
    frame_bytes_max: int = 16 * 2**20
    call_depth_max: int = 32  # A chain of calls this long is a loop that changes its keys.
    call_timeout_s: float = 60.0  # Every call has a deadline; this one where nobody said.
    # Mailboxes
    mailbox_max: int = 1_000  # Messages that wait for one agent.
    stalled_max: int = 10_000  # Messages of one cell that wait for a full mailbox somewhere.
    pairs_max: int = 4_096  # Senders whose last sequence number one agent remembers.
    # Cells
    density: int = 500  # Agents of one cell, where the pool does not say.
    agents_per_cell_max: int = 200_000
    spawn_per_agent_max: int = 10_000  # Children one agent may spawn: spawning without end ends here.
    threads_max: int = 16  # Synchronous capabilities of one cell that run at the same time.
    idle_passivate_s: float = 300.0  # An agent without mail this long is checkpointed and leaves memory.
    checkpoint_bytes_max: int = 16 * 2**20
    stream_window: int = 64  # Chunks of one stream in flight before its agent waits for its reader.
    loop_warn_s: float = 1.0  # A loop silent this long: the watchdog names the agent that holds it.
    loop_fatal_s: float = 30.0  # And this long: the cell is ended, so that its neighbours move on.
    agent_restarts_max: int = (
        5  # Failed starts of one agent within agent_restart_window_s before it is given up.
    )
    agent_restart_window_s: float = 60.0
    # Plans
    plan_bytes_max: int = 8 * 2**20
    plan_depth_max: int = 50
    plan_tasks_max: int = 20_000
    fan_out_max: int = 100_000  # Items of one for_each.
    inline_bytes_max: int = 4 * 2**10  # Results above this are artifacts; the journal keeps their hashes.
    bundle_bytes_max: int = 32 * 2**20  # Code and data beside a plan that travel to the cells.
    # Journals
    segment_bytes_max: int = 32 * 2**20
    record_bytes_max: int = 16 * 2**20

    def but(self, **changes: float) -> Limits:
        """A copy with some limits changed, for tests and configuration."""
        return replace(self, **changes)  # type: ignore[arg-type]


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that holds everything of one embedded platform (`AIP_HOME`, default `~/.aip`)."""

    root: Path

    @classmethod
    def find(cls) -> Home:
        return cls(Path(os.environ.get("AIP_HOME") or Path.home() / ".aip").expanduser().absolute())

    def make(self) -> None:
        """The folder, for its owner only: what agents were given and answered lies below it."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def platform(self) -> Path:
        """What belongs to the running platform only: token, address, sockets, fence page, health pages, logs."""
        return self.root / "platform"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def code(self) -> Path:
        """Bundles of user code by digest."""
        return self.root / "code"

    @property
    def state(self) -> Path:
        """Journals of the control actors: orchestrator, registry, checkpoint shards."""
        return self.root / "state"

    @property
    def audit(self) -> Path:
        return self.root / "audit"
