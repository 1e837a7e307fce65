"""One invocation of `aip`: its home, its format, its two streams, and its way to a platform.

Data goes to `out` and chatter to `err`, so that `aip … -o json | jq` sees data only. Neither console reads markup: what agents
say is never an instruction to the screen.
"""

from __future__ import annotations

import getpass
import importlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, cast

import click

from ..errors import PlatformUnavailable
from ..settings import Home
from . import text
from .contract import Client, Platform

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"


@dataclass
class Session:
    """What every command works with. `client` and `clock` are handed in by tests."""

    home: Home | None = None
    format: Format = Format.TABLE
    color: bool = True
    client: Client | None = None
    clock: Callable[[], float] = time.time

    @property
    def folder(self) -> Home:
        return self.home or Home.find()

    @property
    def machine(self) -> bool:
        """Whether a program reads the output."""
        return self.format is not Format.TABLE

    @cached_property
    def out(self) -> Console:
        return self._console(stderr=False)

    @cached_property
    def err(self) -> Console:
        return self._console(stderr=True)

    def _console(self, *, stderr: bool) -> Console:
        from rich.console import Console

        plain = not self.color or "NO_COLOR" in os.environ
        return Console(
            stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True, no_color=plain or None
        )

    @property
    def live(self) -> bool:
        """Whether a picture may be drawn on the chatter's stream and redrawn."""
        return not self.machine and self.err.file.isatty() and not self.err.is_dumb_terminal

    def say(self, words: str | Text) -> None:
        """A line of chatter."""
        self.err.print(text.block(words) if isinstance(words, str) else words)

    def write(self, line: str) -> None:
        """A line of data, exactly."""
        click.echo(line)

    @cached_property
    def _client(self) -> Client:
        return self.client or cast(Client, importlib.import_module("aip.client"))

    @property
    def library(self) -> Client:
        """`aip.client`, imported when it is first needed."""
        return self._client

    @contextmanager
    def platform(self) -> Iterator[Platform]:
        """The running platform. Raises `PlatformUnavailable`."""
        with closing(self.library.connect(self.folder)) as platform:
            yield platform

    @contextmanager
    def platform_if_any(self) -> Iterator[Platform | None]:
        """The running platform, or None: many questions can be answered from the disk alone."""
        try:
            platform = self.library.connect(self.folder)
        except PlatformUnavailable:
            yield None
            return
        with closing(platform):
            yield platform


def session() -> Session:
    """The session of the command that runs."""
    return click.get_current_context().ensure_object(Session)


def person() -> str:
    """Who types: the name under which acts are recorded."""
    try:
        return f"user:{getpass.getuser()}"
    except (KeyError, OSError):  # A container's user without a name.
        return f"user:{os.getuid()}"
