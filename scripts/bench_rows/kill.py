"""Does anything reach the outside after `aip kill` has returned: ten thousand live agents, their effects, and an HTTP sink.

A real platform: the agents live in real cells, each effect takes the whole road (a message, its turn, stamp, grant, policy,
ledger, audit, fence), and the sink is a process outside that notes each request's arrival by the clock that all processes share.
An order is raised as `aip kill` raises it, and returns when that would; the latest arrival is compared with that moment.

    nothing else                      the order alone
    the kill switch is dead           its process is ended with SIGKILL, and the order raised before it is back
    a cell is frozen                  SIGSTOP before the order, SIGCONT after it: what it had begun must not go on
    the gateway is frozen             the same; where it stood inside its one step `aip kill` names it, and that is counted apart

What the order covers is the agents' type. Everything is measured against us: the sink notes late where it waits for a processor,
and an arrival that was on the wire when the order returned counts.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from actors import owned
from actors.health import Health, read_all
from aip.governance.audit import log_path, read
from aip.governance.kill import desk
from aip.ids import base_type

from . import sink
from .row import Row, measured, quantile
from .stage import Stage

BENCH = "kill"
AGENTS = 10_000
OFFERED_PER_S = 5_000
ROUNDS = 30  # Of each way; with fewer than 100 the 99th percentile is the worst of all.
ROUNDS_LARGE = 110
GOAL_MS = 50.0
FLOW_S = 0.3  # Effects flow so long before an order.
QUIET_S = 0.4  # And so long is listened after one.
FIRST_S = 300.0  # Until the first effect: the agents are woken before it.
WAIT_S = 60.0
BY = "user:bench"

EFFECTS = """
connectors:
  sink:
    connector: http
    allow: [{{url: "http://127.0.0.1:{port}/**", methods: [POST]}}]
    private: [127.0.0.0/8]
    keep_alive_s: 5
    concurrency: 256
    rate_per_s: 100000
    burst: 100000
"""
PLAN = """
apiVersion: aip/v1
kind: Plan
metadata: {{name: hitting}}
agents:
  asker: {{use: "agents:Asker", density: {density}}}
  offerer: {{use: "agents:Offerer", density: {density}}}
  hitter: {{use: "agents:Hitter", density: {density}, effects: [sink]}}
tasks:
  live: {{agent: hitter, capability: prefix}}
  wake:
    agent: asker
    capability: wake
    timeout: 5m
    with: {{prefix: "${{{{ tasks.live.output }}}}", count: {agents}}}
  offer:
    agent: offerer
    capability: offer
    timeout: 15m
    needs: [wake]
    with:
      {{prefix: "${{{{ tasks.live.output }}}}", agents: {agents}, url: "{url}", per_s: {per_s}, folder: "{folder}"}}
"""


@dataclass(frozen=True, slots=True)
class Heard:
    """One order: how long raising took, and by how much the latest arrival came after its return."""

    way: str
    raising_ms: float
    late_ms: float
    late: int
    revision: int  # Of the fence while the order stood.
    named: bool  # A gateway that stood inside its one step, which `aip kill` says.


@dataclass(slots=True)
class Measured:
    agents: int
    cells: int
    seconds: float
    arrived: int
    tally: Mapping[str, int]
    heard: list[Heard] = field(default_factory=list)
    stale: int = 0
    done: int = 0
    raced: int = 0


def rows(stage: Stage, *, agents: int = AGENTS, rounds: int = ROUNDS) -> list[Row]:
    """`stage` must be fresh: its gateway reads the connectors at its first effect."""
    return rows_of(measure(stage, agents, rounds))


def rows_of(found: Measured) -> list[Row]:
    return [
        *(_late_row(found, way) for way in WAYS),
        Row(
            BENCH, "effects committed with a stale epoch", found.stale, "effects", goal=0,
            note=f"of {found.done:,} done, by the fence's revision in their audit entries; {found.raced} raced an order",
        ),
        Row(BENCH, "effects that arrived after the order had returned", sum(one.late for one in found.heard), "effects"),
        measured(
            BENCH, "raising an order, durable, gateways settled", [one.raising_ms for one in found.heard], "ms",
            note="what `aip kill` does, under load; without the start of its process",
        ),
        *_rate_rows(found),
    ]  # fmt: skip


def _late_row(found: Measured, way: str) -> Row:
    late_ms = [one.late_ms for one in found.heard if one.way == way and not one.named]
    named = sum(one.named for one in found.heard if one.way == way)
    note = f"{found.agents:,} live agents in {found.cells} cells; 99th percentile of {len(late_ms)} orders"
    if len(late_ms) < 100:
        note += ", so the worst of them"
    if named:
        note += f"; {named} more, of which `aip kill` said that a gateway stood in its step, not counted"
    return Row(
        BENCH, f"last arrival after `aip kill`, {way}, p99", quantile(late_ms, 0.99) if late_ms else None, "ms",
        goal=GOAL_MS, low=min(late_ms, default=None), high=max(late_ms, default=None), note=note,
    )  # fmt: skip


def _rate_rows(found: Measured) -> list[Row]:
    others = ", ".join(
        f"{count:,} {code}" for code, count in sorted(found.tally.items()) if code not in ("offered", "done")
    )
    offered, done = (found.tally.get(name, 0) / found.seconds for name in ("offered", "done"))
    return [
        Row(
            BENCH, "effects offered", offered, "effects/s", goal=OFFERED_PER_S, more_is_better=True,
            note="messages to live agents, each to have one effect; while an order stands their guard refuses them",
        ),
        Row(
            BENCH, "effects committed", found.arrived / found.seconds, "effects/s",
            note=f"arrived at the sink; {done:,.0f}/s were answered to their agents; the others: {others or 'none'}",
        ),
    ]  # fmt: skip


# One measurement ----------------------------------------------------------------------------------------------------------


def measure(stage: Stage, agents: int, rounds: int, per_s: int = OFFERED_PER_S) -> Measured:
    folder = stage.home.root / "hitting"
    folder.mkdir(parents=True)
    with _sink(folder / "arrivals") as (port, words):
        (stage.home.root / "effects.yaml").write_text(EFFECTS.format(port=port))
        plan = stage.plan(
            "hitting",
            PLAN.format(
                density=max(2, agents // 2 + agents // 20), agents=agents, per_s=per_s, folder=folder,
                url=f"http://127.0.0.1:{port}/",
            ),
        )  # fmt: skip
        with stage.running(plan, timeout_s=900.0):
            try:
                _until(lambda: words[0] > 0, FIRST_S)
                began, before, counted = time.monotonic(), words[0], _tally(folder)
                heard = [_order(stage, words, way) for _ in range(rounds) for way in WAYS]
                _flowing(words)
                seconds, arrived = time.monotonic() - began, words[0] - before
                tally = {what: count - counted.get(what, 0) for what, count in _tally(folder).items()}
                cells = [page for page in _pages(stage) if page.name.startswith("cell-") and page.agents]
            finally:
                (folder / "stop").touch()
        agents_alive = sum(page.agents for page in cells)
        found = Measured(agents_alive, len(cells), seconds, arrived, tally, heard)
        _count_done(stage, found)
    return found


def _order(stage: Stage, words: memoryview, way: str) -> Heard:
    _flowing(words)
    frozen = WAYS[way](stage)
    try:
        target = base_type(
            next(one["type"] for one in stage.platform.types() if one["type"].startswith("hitter"))
        )
        began_ns = time.monotonic_ns()
        desk.raise_order(stage.home, target, "benchmark", BY, time.time())
        named = desk.unsettled(stage.home)
        returned_ns = time.monotonic_ns()
        revision = desk.fence_of(stage.home).revision()
        time.sleep(QUIET_S)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    if frozen:
        time.sleep(QUIET_S)
    late = _after(words, returned_ns)
    desk.lift_alone(stage.home, target, "benchmark", "bench", time.time())
    last_ms = (max(late) - returned_ns) / 1e6 if late else 0.0
    return Heard(way, (returned_ns - began_ns) / 1e6, last_ms, len(late), revision, bool(named))


def _after(words: memoryview, moment_ns: int) -> list[int]:
    """Arrivals since then, from the newest back."""
    found = []
    for index in range(words[0], 0, -1):
        if words[index] <= moment_ns:
            break
        found.append(words[index])
    return found


def _flowing(words: memoryview) -> None:
    """Until effects arrive again, and a while longer: an order comes in the middle of them."""
    count = words[0]
    _until(lambda: words[0] > count + 10)
    time.sleep(FLOW_S)


# What is done before an order -----------------------------------------------------------------------------------------------


def _nothing(stage: Stage) -> list[int]:
    return []


def _kill_the_switch(stage: Stage) -> list[int]:
    for page in _pages(stage):
        if page.name == "kill":
            os.kill(page.pid, signal.SIGKILL)
    return []


def _freeze_a_cell(stage: Stage) -> list[int]:
    return _frozen([page.pid for page in _pages(stage) if page.name.startswith("cell-") and page.agents][:1])


def _freeze_the_gateway(stage: Stage) -> list[int]:
    return _frozen([page.pid for page in _pages(stage) if page.name == "effects"])


def _frozen(pids: list[int]) -> list[int]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


WAYS: dict[str, Callable[[Stage], list[int]]] = {
    "nothing else": _nothing,
    "the kill switch is dead": _kill_the_switch,
    "a cell is frozen": _freeze_a_cell,
    "the gateway is frozen": _freeze_the_gateway,
}


def _pages(stage: Stage) -> list[Health]:
    """Of processes that are ours and alive."""
    ours = {process.pid for process in owned.processes(stage.home)}
    return [page for page in read_all(stage.home.platform / "health") if page.pid in ours]


# What is told of it ---------------------------------------------------------------------------------------------------------


def _count_done(stage: Stage, found: Measured) -> None:
    """By the audit log: an effect whose fence's revision is one at which the order stood was committed with a stale epoch."""
    standing = {str(one.revision) for one in found.heard}
    for entry in read(log_path(stage.home.audit)):
        if entry["kind"] == "effect.done":
            found.done += 1
            found.raced += entry["detail"]["raced"]
            found.stale += entry["detail"]["fence"] in standing


def _tally(folder: Path) -> dict[str, int]:
    total: dict[str, int] = {}
    for path in folder.glob("tally-*.json"):
        for what, count in json.loads(path.read_text()).items():
            total[what] = total.get(what, 0) + count
    return total


@contextmanager
def _sink(path: Path) -> Iterator[tuple[int, memoryview]]:
    words = sink.page(path)
    process = subprocess.Popen(
        [sys.executable, sink.__file__, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), words
    finally:
        process.kill()
        process.communicate()


def _until(holds: Callable[[], bool], wait_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + wait_s
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no effect arrived within {wait_s:g} s")
        time.sleep(0.01)
