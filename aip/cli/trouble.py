"""Processes of a run that do not start, told while one waits for it.

A pool whose cells fail to start (an environment that cannot be made, a node without the memory) leaves a run waiting without a
word: its supervisor tries again, and only the audit log knows. So the log is read beside the run, and what failed more than once
is told: a single failure heals itself, and the same one (but for numbers and ids) is told once.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Sequence

from actors.run_spec import read_spec

from ..errors import AIPError, NotFound
from . import text
from .audit import GrowingLog
from .contract import Json
from .session import Session

LOOK_EVERY_S = 1.0  # A start takes about a second; to know of a second failure sooner helps nobody.
TOLD_MAX = 20  # Reasons that differ in every try must not fill the screen.
_KIND = "process.start_failed"
_CHANGING = re.compile(
    r"\b[0-9a-f]{8,}\b|\d+"
)  # Ids, addresses, times: what differs from one try to the next.


class Troubles:
    """Which failed starts among the log's entries are to be told: pure, fed with entries in order."""

    def __init__(self, run_id: str, pools: Iterable[str]) -> None:
        names = "|".join(re.escape(pool) for pool in sorted(pools))
        self._own = re.compile(rf"run-{re.escape(run_id)}|cell-(?:{names})-p?\d+")
        self._seen: Counter[tuple[str, str]] = Counter()
        self._told = 0

    def told(self, entries: Iterable[Json]) -> list[str]:
        lines = []
        for entry in entries:
            subject = str(entry["subject"])
            if entry["kind"] != _KIND or not self._own.fullmatch(subject) or self._told == TOLD_MAX:
                continue
            error = str((entry.get("detail") or {}).get("error", ""))
            key = subject, _CHANGING.sub("#", error)
            self._seen[key] += 1
            if self._seen[key] == 2:
                self._told += 1
                lines.append(f"warning: {text.line(subject)} does not start: {text.line(error)}")
        return lines


class TroubleWatch:
    """One thread beside the one that watches the run. `with TroubleWatch(...)` waits for it at the end.

    `log` stands where the audit log ended before the run was submitted: its pools may have failed before it got its id.
    """

    def __init__(self, session: Session, run_id: str, log: GrowingLog) -> None:
        self._session, self._run, self._log = session, run_id, log
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="trouble", daemon=True)

    def __enter__(self) -> TroubleWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _pools(self) -> Sequence[str]:
        return [use.spec.pool for use in read_spec(self._session.folder, self._run).pools]

    def _look(self) -> None:
        try:
            troubles = Troubles(self._run, self._pools())
            while not self._over.wait(LOOK_EVERY_S):
                for line in troubles.told(self._log.new()):
                    self._session.say(line)
        except NotFound:
            return  # The run's files are not here, so neither is the log that would tell of it.
        except AIPError as error:  # A log that does not read ends nobody's run; it is said.
            self._session.say(f"failed starts are not watched: {error.message}")
