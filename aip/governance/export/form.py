"""What an export format is: a way to write entries that can be written again, byte for byte, from the entries alone.

Every record of every format carries the entry's own line, as the log has it; the rest of the record is made of that line. So one
check serves all formats: take the line out, prove it against the tree, write the record again, compare. A column that was changed
in a spreadsheet differs from what its own line gives.
"""

from __future__ import annotations

from typing import Any, Protocol

from ...errors import Corrupt


class NotVerified(Corrupt):
    """An export, a proof or a log that is not what was signed. `details["problems"]` names each thing found."""

    code = "state.corrupt.not_verified"


class Form(Protocol):
    """One writer of one export. It may remember what it wrote before; a fresh one makes the same bytes again."""

    name: str
    version: int
    """Raised when the bytes change; who verifies refuses a version he cannot write."""

    def begin(self) -> bytes:
        """What stands before the first record."""

    def encode(self, line: bytes, entry: dict[str, Any]) -> bytes:
        """The record of one entry: whole lines. `line` is the entry as the log has it, without its newline."""

    def extract(self, record_line: bytes) -> bytes:
        """The entry's line, out of the first line of its record. Raises `ValueError`."""

    def end(self, checkpoint: str, at: float) -> bytes:
        """What stands behind the last record."""
