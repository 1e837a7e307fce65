"""How a person names a run and a task of it: `RUN`, `RUN/TASK`.

`RUN` is an id, any beginning of an id that fits one run only, or `last`: the newest. The shell completes both halves,
from the runs on disk, without a platform.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..errors import AIPError, NotFound, UsageError
from . import measure, text
from .session import Session

LAST = "last"
COMPLETIONS_MAX = 50


@dataclass(frozen=True, slots=True)
class RunAddress:
    """As typed: `run` may still be an abbreviation."""

    run: str
    task: str | None = None


def newest_first(runs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Ids sort by time, so the order holds without a look at any clock."""
    return sorted(runs, key=lambda run: str(run["run"]), reverse=True)


def resolve(typed: str, runs: Iterable[Mapping[str, Any]]) -> str:
    """The one run that is meant. Raises `NotFound` or, where several are meant, `UsageError`."""
    ids = [str(run["run"]) for run in newest_first(runs)]
    if not ids:
        raise NotFound("there are no runs yet", hint="start one: aip submit plan.yaml")
    if typed == LAST:
        return ids[0]
    if typed in ids:
        return typed
    found = [one for one in ids if one.startswith((typed, f"r-{typed}"))]
    if not found:
        raise NotFound(f"no run {typed!r}", hint="see `aip run list`")
    if len(found) > 1:
        some = ", ".join(found[:4]) + (", …" if len(found) > 4 else "")
        raise UsageError(f"{typed!r} fits {len(found)} runs: {some}", hint="type more of the id")
    return found[0]


class RunAddressType(click.ParamType):  # type: ignore[type-arg]  # Generic in newer click only.
    """`with_task`: whether `/TASK` may follow, must follow, or has no meaning here."""

    name = "run"

    def __init__(self, *, with_task: bool | None = None) -> None:
        self.with_task = with_task

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> RunAddress:
        if isinstance(value, RunAddress):
            return value
        run, slash, task = str(value).removeprefix("run/").partition("/")
        if not run or (slash and not task):
            self.fail(f"not a run: {value!r}; write RUN or RUN/TASK", param, ctx)
        if task and self.with_task is False:
            self.fail(f"a run is wanted here, not a task of it: {run}", param, ctx)
        if not task and self.with_task is True:
            self.fail(f"name the task too: {run}/TASK", param, ctx)
        return RunAddress(run, task or None)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        session = ctx.ensure_object(Session)
        try:
            return self._completions(session, incomplete)
        except (AIPError, OSError):
            return []  # A shell that waits for a completion is no place to tell an error; the command itself will.

    def _completions(self, session: Session, incomplete: str) -> list[CompletionItem]:
        runs = session.library.stored_runs(session.folder)
        run, slash, task = incomplete.partition("/")
        if slash and self.with_task is not False:
            view = session.library.stored_run(session.folder, resolve(run, runs))
            names = [name for name in view.get("tasks") or {} if name.startswith(task)]
            return [
                CompletionItem(f"{run}/{name}", help=str(view["tasks"][name].get("state", "")))
                for name in names[:COMPLETIONS_MAX]
            ]
        fitting = [one for one in newest_first(runs) if str(one["run"]).startswith(incomplete)]
        items = [CompletionItem(str(one["run"]), help=_about(one)) for one in fitting[:COMPLETIONS_MAX]]
        return items + [CompletionItem(LAST, help="the newest run")] * (
            bool(runs) and LAST.startswith(incomplete)
        )


def _about(run: Mapping[str, Any]) -> str:
    return text.line(
        f"{run.get('plan', '')}, {run.get('state', '')} {measure.moment(run.get('accepted_at_s'))}", 80
    )


RUN = RunAddressType(with_task=False)
RUN_OR_TASK = RunAddressType()
TASK = RunAddressType(with_task=True)
