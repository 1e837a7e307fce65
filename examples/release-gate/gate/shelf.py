"""Large values lie on a shelf; messages carry where.

A shelf is a folder of JSON files, each named after the SHA-256 of its bytes. Putting the same value twice gives the same file, so
a task that runs again changes nothing; what is taken is checked against its name, so nobody exchanges a part between two tasks.
An inventory of 18,000 files is 2.6 MB, and ten tasks need it: that is ten lines in their messages instead of 26 MB.

Every run has a shelf of its own, a folder named after it, all of them side by side. The next run `clear`s those of runs that have
ended; a run does not clear its own, for one that failed may be taken up again where it stopped. So of each report the shelf of
its last run remains, and may be deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

PART_BYTES_MAX = 256 << 20  # A million files' inventory; beyond it something else is wrong.
_OURS = re.compile(
    r"[0-9a-f]{64}\.json|\.[0-9a-f]{64}\.json\.\d+\.\d+"
)  # A part, and one that was cut off in the writing.


class Misplaced(ValueError):
    """A part that is not on the shelf, or not what its name says."""


def put(shelf: Path, value: Any) -> str:
    """The path of the part that holds `value`."""
    data = json.dumps(value, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")
    path = shelf / f"{hashlib.sha256(data).hexdigest()}.json"
    if not path.exists():
        shelf.mkdir(parents=True, exist_ok=True)
        # Several processes may put the same value at once: each writes a file of its own, and any of them may win.
        fresh = shelf / f".{path.name}.{os.getpid()}.{threading.get_ident()}"
        fresh.write_bytes(data)
        fresh.replace(path)
    return str(path)


def clear(shelves: Path, ended: Callable[[str], bool]) -> list[str]:
    """Remove the shelves of runs that have ended, by name; gives the names of those that are gone.

    Only parts are deleted, and nothing behind a link: a folder with anything else in it stays, and so does that.
    """
    cleared = []
    for shelf in sorted(shelves.iterdir()) if shelves.is_dir() else ():
        if shelf.is_symlink() or not shelf.is_dir() or not ended(shelf.name):
            continue
        try:
            for path in shelf.iterdir():
                if _OURS.fullmatch(path.name):
                    path.unlink(missing_ok=True)
            if any(shelf.iterdir()):
                continue
            shelf.rmdir()
        except OSError:
            continue  # Somebody else clears it, still writes in it, or owns it: the next run tries again.
        cleared.append(shelf.name)
    return cleared


def take(part: str) -> Any:
    path = Path(part)
    try:
        if path.stat().st_size > PART_BYTES_MAX:
            raise Misplaced(f"{path} is larger than {PART_BYTES_MAX} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise Misplaced(f"{path} is gone: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != path.stem:
        raise Misplaced(f"{path} is not what was put there")
    return json.loads(data.decode("utf-8", "surrogatepass"))
