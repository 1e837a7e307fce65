"""The cyclic garbage collector, at rest while syntax trees are made and dropped by the thousand.

Trees have no cycles, and looking for some in them costs a quarter of the time. It rests for the whole process, so this is for
one that does nothing else meanwhile (the plan gives such agents a process each); rests may overlap, the last to end wakes it.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_resting = 0
_wake = False  # Whether it was at work before the first of the rests that now overlap.


@contextmanager
def resting() -> Iterator[None]:
    global _resting, _wake  # noqa: PLW0603  # The collector is one for the process, and so is what is known of it.
    with _lock:
        if not _resting:
            _wake = gc.isenabled()
            gc.disable()
        _resting += 1
    try:
        yield
    finally:
        with _lock:
            _resting -= 1
            if not _resting and _wake:
                gc.enable()
