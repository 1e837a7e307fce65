"""The keys of a platform: made once, readable by their owner only. What runs in a sandbox cannot read them.

AIP_HOME/platform/effects.key   the platform's stamp key. The effect gateway verifies stamps with it; a cell keeps only the
                                key derived for itself (`own_key`)
its link key                    derived from it: every process of ours proves with it who speaks, and verifies others
SOCKETS/visitor.key             the one speaker's key that clients prove with. It is of no use for any other name
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path

from aip.errors import Denied
from aip.governance.effects.stamp import KEY_BYTES, cell_key
from aip.runtime.speaker import VISITOR, Voice, speaker_key
from aip.settings import Home

KEY_FILE = "effects.key"
VISITOR_FILE = "visitor.key"


def platform_key(home: Home) -> bytes:
    """The platform's stamp key; made by whoever comes first. Raises `Denied` where others can read it."""
    path = home.platform / KEY_FILE
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        draft = _drafted(path, os.urandom(KEY_BYTES))
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


def _drafted(path: Path, key: bytes) -> Path:
    """The key in a file beside, for its owner only."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
    return draft


def own_key(home: Home, cell: str, generation: int, issued: int = 0) -> bytes:
    """For a cell's process: the key it stamps with, issued under the orders as they stand at that epoch."""
    return cell_key(platform_key(home), cell, generation, issued)


def link_key(home: Home) -> bytes:
    """What the speakers' keys are derived from. Whoever has it cannot stamp effects."""
    return hmac.digest(platform_key(home), b"aip links\x01", "sha256")


def admit_visitors(sockets: Path, key: bytes) -> None:
    """Leave the visitors' key where the sockets are: whoever may open those may speak as a client."""
    sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, key = sockets / VISITOR_FILE, speaker_key(key, VISITOR)
    if not path.exists() or path.read_bytes() != key:  # Of a platform before this one.
        os.replace(_drafted(path, key), path)


def visitor(sockets: Path) -> Voice | None:
    """The voice of a client; None where no platform has left a key."""
    try:
        key = (sockets / VISITOR_FILE).read_bytes()
    except FileNotFoundError:
        return None
    return Voice(lambda: VISITOR, lambda _: key)
