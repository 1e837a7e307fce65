"""Commands of `aip plan` whose `-o` means more than how to print data: a file to write, or a way of drawing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import UsageError
from .command import Command
from .session import Format, Session

PLAN_ENDINGS = (".yaml", ".yml")
DRAWINGS = ("text", "mermaid", "dot")
ASKED = "aip.plan.output"  # Where a command finds what `-o` asked for beside a format.


def asked(ctx: click.Context) -> str | None:
    """What `-o` named, if that was no format."""
    found: str | None = ctx.meta.get(ASKED)
    return found


class _OutputType(click.ParamType):  # type: ignore[type-arg]  # Generic in newer click only.
    """One of the formats, or what `more` says."""

    name = "output"

    def __init__(self, more: tuple[str, ...], endings: tuple[str, ...], shown: str) -> None:
        self._more, self._endings, self._shown = more, endings, shown

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return self._shown

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        formats = [one.value for one in Format]
        if text not in (*formats, *self._more) and not text.endswith(self._endings or ("\0",)):
            self.fail(f"{text!r} is not one of {self._shown}", param, ctx)
        return text


def _take(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    if value in {one.value for one in Format}:
        ctx.ensure_object(Session).format = Format(value)
    else:
        ctx.meta[ASKED] = value


class _WithOutput(Command):
    """A command whose own `-o` stands in the place of the shared one and knows the formats too."""

    more: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    meaning = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shown = "|".join((*self.more, *(f"FILE{one}" for one in self.endings[:1]), *Format))
        option = click.Option(
            ["-o", "--output"],
            type=_OutputType(self.more, self.endings, shown),
            callback=_take,
            expose_value=False,
            is_eager=True,
            help=self.meaning,
        )
        self.params = [option if one.name == "output" else one for one in self.params]


class WritesPlan(_WithOutput):
    endings = PLAN_ENDINGS
    meaning = "The file to write the plan to, or how to print it."


class Draws(_WithOutput):
    more = DRAWINGS
    meaning = "How to draw it, or how to print its data."


def write_new(path: Path, content: str, *, force: bool) -> None:
    """Write a file that is not there yet. Somebody's own plan is never written over without being asked for."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        raise UsageError(
            f"{path} is there already; nothing was written", hint="name another file, or add --force"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
