"""A platform of its own for a benchmark: a temporary home, started, and ended whatever happens.

The home lies under the system's temporary folder unless `AIP_BENCH_DISK` names another: durable rows measure that disk.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from actors import launch, owned, platform_record, ray_head
from aip import client
from aip.settings import Home

AGENT_SLOTS = 400_000  # Room for the large rows; slots are book-keeping and cost nothing.
AGENTS = Path(__file__).with_name("agents_of_bench.py")
RUN_TIMEOUT_S = 600.0


class RunFailed(Exception):
    """A run of a benchmark failed, or did not end in its time."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has succeeded: its last view, and when the client knew."""

    view: Mapping[str, Any]
    client_s: float
    cpu_s: float
    submitted_at_s: float

    @property
    def starting_s(self) -> float:
        """From `submit` to RunAccepted: reading the plan, packing its code, a process for the run."""
        return float(self.view["accepted_at_s"] - self.submitted_at_s)

    @property
    def run_s(self) -> float:
        """From RunAccepted to RunFinished, as journaled."""
        return float(self.view["finished_at_s"] - self.view["accepted_at_s"])


@dataclass(frozen=True, slots=True)
class Stage:
    home: Home
    platform: client.Platform

    @property
    def record(self) -> platform_record.Platform:
        return self.platform.record

    def plan(self, name: str, text: str) -> Path:
        """A folder with this plan and the benchmark's agents."""
        folder = self.home.root / "plans" / name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(AGENTS, folder / "agents.py")
        path = folder / "plan.yaml"
        path.write_text(text)
        return path

    def run(
        self, plan: Path, inputs: dict[str, Any] | None = None, *, timeout_s: float = RUN_TIMEOUT_S
    ) -> Run:
        """Submit and watch to the end. Raises `RunFailed`; a run that is late is killed."""
        cpu_s, at_s, began = self.cpu_s(), time.time(), time.perf_counter()
        run = self.platform.submit(plan, inputs or {})
        view = self._end_of(run, time.monotonic() + timeout_s)
        took_s = time.perf_counter() - began
        if view["state"] != "succeeded":
            raise _failed(plan, view)
        return Run(view, took_s, self.cpu_s() - cpu_s, at_s)

    @contextmanager
    def running(self, plan: Path, timeout_s: float = RUN_TIMEOUT_S) -> Iterator[None]:
        """While a run is at work; its end, and that it ended well, is waited for on the way out."""
        run = self.platform.submit(plan, {})
        yield
        view = self._end_of(run, time.monotonic() + timeout_s)
        if view["state"] != "succeeded":
            raise _failed(plan, view)

    def _end_of(self, run: str, until: float) -> dict[str, Any]:
        """The last view. A run that is late is killed: an order needs nobody's answer."""
        late = threading.Timer(
            max(0.0, until - time.monotonic()), self.platform.kill, (f"run/{run}", "the benchmark gave it up")
        )
        late.start()
        view: dict[str, Any] = {}
        try:
            for seen in self.platform.watch(run):
                view = seen
        finally:
            late.cancel()
        if time.monotonic() >= until:
            raise RunFailed(f"run {run} was given up; it is {view.get('state')}")
        return view

    def cpu_s(self) -> float:
        """What all processes of the platform have used, Ray's included."""
        return sum(use.cpu_s for use in owned.processes(self.home))


@contextmanager
def stage() -> Iterator[Stage]:
    """A running platform in a temporary home. Ctrl-C and SIGTERM end it like everything else."""
    before = signal.signal(signal.SIGTERM, _terminated)
    root = Path(tempfile.mkdtemp(prefix="aip-bench-", dir=os.environ.get("AIP_BENCH_DISK")))
    home = Home(root / "home")
    try:
        options = ray_head.LaunchOptions(agent_slots=AGENT_SLOTS)
        with client.connect(home, start=True, options=options) as platform:
            yield Stage(home, platform)
    finally:
        signal.signal(
            signal.SIGTERM, signal.SIG_IGN
        )  # Asked to end again, it would leave its processes behind.
        try:
            left = launch.stop(home).left
        finally:
            shutil.rmtree(root, ignore_errors=True)
            signal.signal(signal.SIGTERM, before)
    if left:
        raise RuntimeError(f"the platform left something behind: {left}")


def _failed(plan: Path, view: Mapping[str, Any]) -> RunFailed:
    error = view.get("error") or {}
    said = error.get("message") or view.get("reason") or "no reason given"
    return RunFailed(f"{plan.parent.name} {view['state']}: {said}")


def _terminated(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
