"""The platform's stamp key: made once, readable by its owner only. What runs in a sandbox cannot read it, and so cannot stamp."""

from __future__ import annotations

import os

from aip.errors import Denied
from aip.governance.effects.stamp import KEY_BYTES, cell_key
from aip.settings import Home

KEY_FILE = "effects.key"


def platform_key(home: Home) -> bytes:
    """The platform's stamp key; made by whoever comes first. Raises `Denied` where others can read it."""
    path = home.platform / KEY_FILE
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{KEY_FILE}.{os.getpid()}")
    if not path.exists():
        descriptor = os.open(
            draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
        try:
            os.link(draft, path)  # Whole, and only the first one.
        except FileExistsError:
            pass  # Another process was first; its key is the platform's.
        finally:
            draft.unlink()
    if path.stat().st_mode & 0o077:
        raise Denied(
            f"others can read {path}, so stamps prove nothing", hint=f"remove it and restart: rm {path}"
        )
    return path.read_bytes()


def own_key(home: Home, cell: str, generation: int) -> bytes:
    """For a cell's process at its opening: the key it stamps with."""
    return cell_key(platform_key(home), cell, generation)
