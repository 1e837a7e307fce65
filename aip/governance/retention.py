"""How long the audit log keeps the bodies of its entries: whole sealed segments at a time, and never silently.

Leaf hashes are kept for good (32 bytes an entry), so that every root, proof and checkpoint over what is kept still holds, and
somebody who has an old entry from an export can still prove that it was in the log. That bodies go is an entry itself
(`audit.dropped`, durable before they are gone), without which `verification.py` calls them missing.

Pure: segments and the time come in, `log_writer.LogWriter.drop` does it. The age of a segment is that of the first entry of the
*next* one: all of it is at least that old. The active segment is never dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import UsageError

DAY_S = 86_400.0
KEEP_DAYS_MIN = (
    183  # EU AI Act, Articles 19(1) and 26(6): automatically generated logs are kept for at least six months.
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A sealed segment as retention sees it: entries `first` to `end` - 1, the last of them entered before `ended_at`."""

    first: int
    end: int
    ended_at: float


@dataclass(frozen=True, slots=True)
class Retention:
    """`keep_days` counts from when an entry was made. `short` says that the six months do not apply here."""

    keep_days: float
    short: bool = False

    def __post_init__(self) -> None:
        if self.keep_days < 0 or (self.keep_days < KEEP_DAYS_MIN and not self.short):
            raise UsageError(
                f"keep_days: {self.keep_days:g} is less than {KEEP_DAYS_MIN}",
                hint="the EU AI Act asks for six months where it applies; say `short` where it does not",
            )


def dropped_before(segments: Sequence[Kept], retention: Retention, now: float, signed: int) -> int:
    """The entry before which bodies may go: what is old enough, from the beginning on, under a checkpoint. 0: nothing."""
    end = 0
    for segment in segments:
        if now - segment.ended_at < retention.keep_days * DAY_S or segment.end > signed:
            break
        end = segment.end
    return end
