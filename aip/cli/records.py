"""What is known of the runs: from the platform while there is one, else from the journals it left on disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UsageError
from .contract import Json, Platform
from .run_address import RunAddress, resolve
from .session import Session


class Records:
    """One way to ask, whether or not anything runs."""

    def __init__(self, session: Session, platform: Platform | None) -> None:
        self._library = session.library
        self._home = session.folder
        self.platform = platform

    def runs(self) -> list[Json]:
        return self.platform.runs() if self.platform else self._library.stored_runs(self._home)

    def id_of(self, address: RunAddress) -> str:
        return resolve(address.run, self.runs())

    def run(self, run_id: str) -> Json:
        return self.platform.run(run_id) if self.platform else self._library.stored_run(self._home, run_id)

    def events(self, run_id: str, after: int = 0, *, follow: bool = False) -> Iterator[Json]:
        if self.platform:
            return self.platform.events(run_id, after, follow)
        return self._library.stored_events(self._home, run_id, after)

    def moved_by(self, run_id: str) -> str:
        """Who brought the run to the state it is in; "budget" where its money ran out."""
        moves = deque((event for event in self.events(run_id) if event.get("event") == "run_moved"), 1)
        return str(moves[0].get("by", "")) if moves else ""

    def logs(self, run_id: str, task: str | None, *, follow: bool = False) -> Iterator[Json]:
        if self.platform:
            return self.platform.logs(run_id, task, follow)
        return self._library.stored_logs(self._home, run_id, task)


@contextmanager
def records(session: Session) -> Iterator[Records]:
    with session.platform_if_any() as platform:
        yield Records(session, platform)


def known_task(view: Json, task: str) -> str:
    """The task's name, or `UsageError` with the names there are."""
    names = list(view.get("tasks") or {})
    if task in names:
        return task
    raise UsageError(f"run {view.get('run')} has no task {task!r}", hint=f"it has: {', '.join(names[:12])}")
