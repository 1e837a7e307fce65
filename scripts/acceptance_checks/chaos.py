"""kill -9 at a seeded moment of a run, then whatever a person would do next, and the run must not show it.

Held for every seed: the findings are the same bytes as in the undisturbed run, and no scan whose success stood in the journal at
the blow ran again; the marker file, which every finished scan adds a line to, tells. What was in flight may run again: it does.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from actors import owned
from aip.client import Platform, connect
from aip.errors import AIPError
from aip.records import stored_events
from aip.settings import Home

from .stranger import Stranger

VICTIMS = ("a cell", "the Run actor", "all of Ray")
FILES_MIN = 5_000  # So many files are some seconds of scanning: the blow must find work under way.
FILES_OF_ONE_MAX = 600
LOOK_EVERY_S = 0.02
RUN_TIMEOUT_S = 180.0
ENDED = frozenset({"succeeded", "failed", "cancelled", "killed", "held"})


class Field:
    """One environment, one undisturbed run over it, and as many disturbed ones as there are seeds."""

    def __init__(self, me: Stranger) -> None:
        self._me = me
        self._home = Home(me.home)
        self._environment = me.folder / "field"
        populate(me.planted, self._environment)
        run = me.submit(4, environment=self._environment, output="undisturbed", marker="undisturbed.txt")
        self._scans = self._marks("undisturbed.txt")
        me.expect(set(self._scans.values()) == {1}, f"a scan ran twice in the undisturbed {run}")

    def strike(self, seed: int) -> str:
        rng = random.Random(seed)
        victim, after = rng.choice(VICTIMS), rng.randrange(len(self._scans) * 3 // 4)
        name = f"seed-{seed}"
        given = {"environment": self._environment, "output": name, "marker": f"{name}.txt"}
        options = [part for key, value in given.items() for part in ("-i", f"{key}={value}")]
        run = self._me.aip("submit", self._me.plan, *options, "--detach", code=0).stdout.strip()
        with connect(self._home) as platform:
            self._wait(
                f"{name}.txt", 1
            )  # The first mark: the run's processes are all up, and can be aimed at.
            killed, pids = self._aim(platform, run, victim, rng)
            self._wait(f"{name}.txt", after)
            finished = self._finished(run)
            _kill_9(pids)
        if victim == "all of Ray":
            self._me.aip("up", code=0)
        self._me.until(lambda: self._state(run) in ENDED, f"{run} is {self._state(run)}", RUN_TIMEOUT_S)
        self._me.expect(self._state(run) == "held", f"{run} is {self._state(run)}")
        one, other = (self._me.folder / folder / "findings.json" for folder in ("undisturbed", name))
        self._me.expect(one.read_bytes() == other.read_bytes(), f"the findings of {run} differ")
        marks = self._marks(f"{name}.txt")
        self._me.expect(
            marks.keys() == self._scans.keys(), f"{run} left out {self._scans.keys() - marks.keys()}"
        )
        again = {scan for scan, times in marks.items() if times > 1}
        self._me.expect(not again & finished, f"{run} ran {sorted(again & finished)} again")
        return f"{killed}; {len(finished)} of {len(marks)} scans were finished, {len(again)} others ran again"

    def _wait(self, marks: str, after: int) -> None:
        """The moment of the blow: `after` scans have left their mark. A run that is stuck is hit too."""
        deadline = time.monotonic() + RUN_TIMEOUT_S
        while self._marks(marks).total() < after and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)

    def _aim(self, platform: Platform, run: str, victim: str, rng: random.Random) -> tuple[str, list[int]]:
        """Who will be hit. Found before the moment: to ask the platform takes longer than many a scan."""
        if victim == "all of Ray":
            return f"killed {victim}", [use.pid for use in owned.processes(self._home)]
        wanted = f"run-{run}" if victim == "the Run actor" else "cell-"
        named = {
            name: pid
            for name, pid in _tree(platform.ask("orchestrator", "status")["tree"])
            if name.startswith(wanted)
        }
        self._me.expect(bool(named), f"{victim} of {run} is not in the tree")
        chosen = rng.choice(sorted(named))
        return f"killed {chosen}", [named[chosen]]

    def _state(self, run: str) -> str:
        try:
            with connect(self._home) as platform:
                return str(platform.run(run)["state"])
        except AIPError:
            return "unknown"

    def _finished(self, run: str) -> set[str]:
        """Scans whose success stands in the journal."""
        started: dict[int, str] = {}
        done = set()
        for event in stored_events(self._home, run):
            if event["event"] == "attempt_started":
                started[event["lease"]] = f"{event['task']}/{event['unit']}"
            elif event["event"] == "attempt_succeeded" and event["lease"] in started:
                done.add(started[event["lease"]])
        return done & self._scans.keys()

    def _marks(self, name: str) -> Counter[str]:
        path = self._me.folder / name
        return Counter(path.read_text().split() if path.exists() else ())


def populate(planted: Path, environment: Path) -> None:
    """The planted faults among copies of distributions that are installed here: some seconds of work for two scanners."""
    shutil.copytree(planted, environment, symlinks=True)
    site = next(environment.glob("lib/python3*/site-packages"))
    count = 0
    for distribution in sorted(distributions(), key=lambda one: str(one.metadata["Name"]).lower()):
        files = [
            file for file in distribution.files or () if ".." not in file.parts and file.suffix != ".pyc"
        ]
        if not 20 <= len(files) <= FILES_OF_ONE_MAX or (site / files[0].parts[0]).exists():
            continue
        for file in files:
            source, target = Path(str(distribution.locate_file(file))), site / file
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                count += 1
        if count >= FILES_MIN:
            break


def _kill_9(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # Died with its parent.


def _tree(node: dict[str, Any]) -> list[tuple[str, int]]:
    own = [(node["name"], node["pid"])] if node["pid"] else []
    return own + [found for child in node["children"] for found in _tree(child)]
