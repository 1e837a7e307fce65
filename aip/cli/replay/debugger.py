"""pdb at a capability, for whoever replays a task."""

from __future__ import annotations

import bdb
import contextlib
import functools
import pdb
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ...agent import Agent, Capability


class Debugger:
    """pdb at the capability: at its first line where it went well in the run, where it raises otherwise."""

    def __init__(self, *, at_entry: bool) -> None:
        self._at_entry = at_entry
        self.left = False  # By the person, in the middle.
        self.stopped = False

    def attach(self, kind: type[Agent], capability: str) -> None:
        spec: Capability | None = kind.capabilities.get(capability)
        name = "handle" if spec is None else spec.method
        if spec is not None:
            spec.timeout_s = None  # It would run out while a person reads.
        setattr(kind, name, self._watched(getattr(kind, name), "async" if spec is None else spec.kind))

    def _watched(self, method: Callable[..., Any], kind: str) -> Callable[..., Any]:
        if kind == "sync":

            @functools.wraps(method)
            def watched(*args: Any, **kwargs: Any) -> Any:
                with self._watching():
                    return method(*args, **kwargs)

        elif kind == "async":

            @functools.wraps(method)
            async def watched(*args: Any, **kwargs: Any) -> Any:
                with self._watching():
                    return await method(*args, **kwargs)

        else:

            @functools.wraps(method)
            async def watched(*args: Any, **kwargs: Any) -> Any:
                with self._watching():
                    async for part in method(*args, **kwargs):
                        yield part

        return watched

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        if self._at_entry and not self.stopped:
            self.stopped = True
            debugger = pdb.Pdb(
                nosigint=True
            )  # A synchronous capability is in a thread, where signals cannot be set.
            debugger.reset()
            sys.settrace(
                debugger.trace_dispatch
            )  # The next frame that begins is the capability's: it stops there.
        try:
            yield
        except bdb.BdbQuit:
            self.left = True
            raise
        except Exception as error:
            sys.settrace(None)
            self.stopped = True
            pdb.post_mortem(error.__traceback__)
            raise
        finally:
            sys.settrace(None)
