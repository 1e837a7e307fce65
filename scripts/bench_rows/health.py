"""Looking at a cell's health while it idles, while a mailbox in it is full, and while its loop is busy answering.

A look is what `aip status` and a supervisor do: one read of the page that the cell writes, from another process. The cell is not
asked, so it makes no difference how much it has to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from actors.health import HealthPage, read_all
from aip.settings import DEFAULT_LIMITS

from .row import Row, quantile
from .stage import Stage

BENCH = "runtime"
READS = 20_000
GOAL_P99_US = 100.0
MAILBOX = DEFAULT_LIMITS.mailbox_max
BEHIND = 200  # More than fits: their sender waits too.
HELD_S = 8.0
WITHIN_S = 30.0

PLAN = """
apiVersion: aip/v1
kind: Plan
metadata: {{name: health}}
agents:
  asker: {{use: "agents:Asker", density: 100}}
  echo: {{use: "agents:Echo", density: 100}}
  sleeper: {{use: "agents:Sleeper", density: 100}}
tasks:
  work: {{agent: asker, capability: {capability}, timeout: 2m, with: {arguments}}}
"""
FILL = f"{{target: sleeper/full, count: {MAILBOX + BEHIND}, seconds: {HELD_S}}}"
ASK = "{targets: [echo/busy], here: true, rounds: 5, count: 10000}"


def rows(stage: Stage, *, reads: int = READS) -> list[Row]:
    idle = stage.plan("health", PLAN.format(capability="measure", arguments=ASK.replace("10000", "100")))
    stage.run(idle)
    page = _page(stage, lambda page: _turns(page) == 0)
    looks = [_look(page, reads, "idle", "nothing to do")]

    full = stage.plan("health-full", PLAN.format(capability="fill", arguments=FILL))
    with stage.running(full):
        page = _page(stage, lambda page: _waiting(page) >= MAILBOX)
        note = f"{_waiting(page):,} messages wait in its agent's mailbox"
        looks.append(_look(page, reads, "mailbox full", note))

    busy = stage.plan("health-busy", PLAN.format(capability="measure", arguments=ASK))
    with stage.running(busy):
        page = _page(stage, lambda page: _turns(page) > 0)
        looks.append(_look(page, reads, "loop busy", "its loop does nothing but answer"))
    missed = sum(look.missed for look in looks)
    total = Row(BENCH, f"health, of {reads * len(looks):,} looks, without an answer", missed, "looks", goal=0)
    return [*(row for look in looks for row in look.rows()), total]


@dataclass(frozen=True, slots=True)
class Look:
    """Many looks at one page in a row."""

    state: str
    note: str
    times_s: list[float]
    missed: int

    def rows(self) -> list[Row]:
        p50_us, p99_us = (quantile(self.times_s, share) * 1e6 for share in (0.50, 0.99))
        return [
            Row(BENCH, f"health, {self.state}, p50", p50_us, "us", note=self.note),
            Row(BENCH, f"health, {self.state}, p99", p99_us, "us", goal=GOAL_P99_US, note=self.note),
        ]


def _look(page: HealthPage, reads: int, state: str, note: str) -> Look:
    times, missed = [], 0
    for _ in range(reads):
        began = time.perf_counter()
        health = page.read()
        times.append(time.perf_counter() - began)
        if health is None or not health.ok:
            missed += 1
    page.close()
    return Look(state, note, times, missed)


def _page(stage: Stage, wanted: Callable[[HealthPage], bool]) -> HealthPage:
    """The page of the first cell that is as wanted."""
    folder = stage.home.platform / "health"
    until = time.monotonic() + WITHIN_S
    while time.monotonic() < until:
        for health in read_all(folder):
            if health.name.startswith("cell-"):
                page = HealthPage(folder, health.name)
                if wanted(page):
                    return page
                page.close()
        time.sleep(0.05)
    raise RuntimeError(f"no cell became as wanted within {WITHIN_S:g} s")


def _waiting(page: HealthPage) -> int:
    health = page.read()
    return 0 if health is None else health.waiting


def _turns(page: HealthPage) -> int:
    health = page.read()
    return -1 if health is None else health.turns
