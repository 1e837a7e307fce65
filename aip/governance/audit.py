"""The audit log: one ordered record of what was refused, done, killed and admitted, which anybody can check.

What is guaranteed, and by what
  - An entry cannot be changed, removed, added or moved unnoticed: each names the one before it by its hash (`entry.py`), and all
    are leaves of one Merkle tree (RFC 6962, `tree.py`).
  - The end cannot be cut off, nor the whole be rewritten, unnoticed by who holds an earlier signed checkpoint (`note.py`).
  - One reader is not shown another log than the next one, as long as one witness is honest (`witness.py`): a witness cosigns no
    checkpoint that does not continue the last one it saw.
  - Producers number what they send. A number that is missing becomes an `audit.gap` entry: loss is recorded, never silent.
  - What waits for its record (`AuditFeed.record`: every effect does) waits for an fsync, and fails if the log cannot be reached.
    An audit that is not available means no effects.
  - Personal values can be erased and old bodies dropped, with every proof over the rest still holding (`erasure.py`,
    `retention.py`); both are entries themselves.

What is not: that a producer told the truth, or at all. And where the log, its key and every witness are one person's, that person
can write another history; a checkpoint kept elsewhere shows it.

Ordinary admissions come as one `flush` entry per flush of a cell, with their count and the Merkle root of their digests.

This module is the log's door: what reads and checks one imports from here. The files are `segments.py`'s, the checks
`verification.py`'s, writing is `log_writer.py`'s, questions are `index.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .canonical import canonical
from .entry import GENESIS, LINE_BYTES_MAX, AuditChain, Batch, Noted, entry_hash, line_hash
from .segments import entries, log_path, read, resume
from .verification import PROBLEMS_MAX, Report, verify

__all__ = [
    "GENESIS",
    "LINE_BYTES_MAX",
    "PROBLEMS_MAX",
    "AuditChain",
    "Batch",
    "Noted",
    "Report",
    "canonical",
    "entries",
    "entry_hash",
    "line_hash",
    "log_path",
    "read",
    "resume",
    "select",
    "verify",
]


def select(
    entries: Iterable[dict[str, Any]], kinds: Iterable[str] = (), subject: str = ""
) -> Iterator[dict[str, Any]]:
    """Entries of these kinds (by prefix) and with this text in their subject."""
    prefixes = tuple(kinds)
    for entry in entries:
        if (not prefixes or entry["kind"].startswith(prefixes)) and subject in entry["subject"]:
            yield entry
