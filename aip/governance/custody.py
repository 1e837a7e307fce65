"""A log in the hands of its keeper while no platform runs: a person is forgotten, old bodies are dropped.

With a platform the audit log's process does both (`actors/audit_log.py`). Without one, whoever has the folder and the signing key
may: `Custody` takes the log as its one writer, so that it is refused (`LogHeld`) as long as any process has it, and a platform
that starts meanwhile waits for it. Opening checks the log against its last checkpoint, as a platform's start does: a log that is
not what it signed for is evidence and is not worked on (`Corrupt`).

The order is the same in both: the entry about it is durable, then the key or the bodies go. A crash in between leaves an act that
is told and not done, and doing it again does it.

`due` and `sealed_under` say beforehand what would go. They read only.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from .entry import ERASED
from .erasure import MEMBER, Vault
from .log_writer import LogWriter
from .note import Signer
from .retention import Kept, Retention, dropped_before
from .segments import kept_segments, log_path
from .verification import own_checkpoint

REASON_CHARS_MAX = 1_000


class Custody:
    """A context manager; signs for what it entered when it ends well."""

    def __init__(self, folder: Path, signer: Signer, vault: Vault) -> None:
        self._path = log_path(folder)
        self._writer = LogWriter(folder, signer)
        self._vault = vault

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._sign()
        finally:
            self._writer.close()

    def erase(self, person: str, by: str, reason: str, now: float) -> str | None:
        """The id of the key that is no more; none where nothing was sealed for the person."""
        key_id = self._vault.key_id(person)
        if key_id is not None:
            self._writer.enter(now, ERASED, key_id, {"by": by, "reason": reason[:REASON_CHARS_MAX]})
            self._writer.sync()
            self._vault.erase(person)
        return key_id

    def retain(self, retention: Retention, by: str, now: float) -> int:
        """How many entries' bodies went: of some segments at a time, so until it is none."""
        self._sign()
        end = dropped_before(kept_segments(self._path), retention, now, self._writer.signed)
        going = self._writer.droppable(end)
        self._writer.drop(going, now, by)
        return sum(segment.end - segment.first for segment in going)

    def _sign(self) -> None:
        self._writer.sync()
        if (statement := self._writer.statement()) is not None:
            self._writer.publish(*statement)


def due(path: Path, retention: Retention, now: float) -> list[Kept]:
    """The sealed segments whose bodies may go, under the log's last checkpoint."""
    own = own_checkpoint(path)
    segments = kept_segments(path)
    end = dropped_before(segments, retention, now, own.size if own else 0)
    return [segment for segment in segments if segment.end <= end]


def sealed_under(lines: Iterable[bytes], key_id: str) -> int:
    """How many entries have personal values that nobody can read once this key is gone."""
    sought = f'"key":"{key_id}"'.encode()
    count = 0
    for line in lines:
        if sought in line and line.endswith(b"\n"):  # Few lines are worth decoding.
            told = msgspec.json.decode(line)["detail"].get(MEMBER)
            count += isinstance(told, dict) and told.get("key") == key_id
    return count
