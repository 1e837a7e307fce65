"""A witness's memory as files, one log each: the last note, the key it was verified with, and any contradiction."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import UsageError
from .durable_file import append, replace
from .note import Checkpoint, Unverified, Verifier, verify

LOGS_MAX = (
    1_000  # A witness takes logs on trust when they first come: a stranger must not fill its disk with them.
)
EVIDENCE_BYTES_MAX = 2**20  # The first contradiction says it all; the thousandth adds nothing.


class WitnessMemory:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def trusted(self, log: Verifier) -> Verifier:
        """The key that this log came with first; this one, if it comes for the first time."""
        path = self._path(log.name, ".vkey")
        try:
            return Verifier.parse(path.read_text())
        except FileNotFoundError:
            if sum(1 for _ in self._folder.glob("*.vkey")) >= LOGS_MAX:
                raise UsageError(f"this witness keeps {LOGS_MAX} logs already") from None
            replace(path, f"{log}\n")
            return log

    def kept(self, origin: str) -> str | None:
        try:
            return self.path(origin).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def keep(self, origin: str, note: str) -> None:
        replace(self.path(origin), note)

    def evidence(self, origin: str, kept: str, refused: str) -> None:
        path = self._path(origin, ".evidence")
        if not path.exists() or path.stat().st_size < EVIDENCE_BYTES_MAX:
            append(path, f"{kept}\n{refused}\n".encode())

    def path(self, origin: str) -> Path:
        """Of the last note: a signed checkpoint as it is, which `aip audit verify --checkpoint` takes."""
        return self._path(origin, ".note")

    def _path(self, origin: str, suffix: str) -> Path:
        """An origin can be any line of text: its hash is the name, as in tlog-witness's monitoring."""
        return self._folder / f"{hashlib.sha256(origin.encode()).hexdigest()}{suffix}"


def witnessed(state: Path, log: Verifier) -> list[Checkpoint]:
    """The last checkpoints of a log that the witnesses under a platform's state folder have seen, for `verify(…, trusted)`."""
    found = []
    for folder in sorted(state.glob("witness-*")):
        note = WitnessMemory(folder).kept(log.name)
        if note is not None:
            try:
                found.append(verify(note, [log]))
            except Unverified as error:
                raise Unverified(f"{folder.name} keeps a checkpoint that does not hold: {error}") from None
    return found
