"""Durations, sizes and money as people write them: `250ms`, `1h30m`, `64Mi`, `1.50`."""

from __future__ import annotations

import re
from decimal import Decimal

_DURATION_PARTS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION = re.compile(
    r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m(?!s))?(?:(\d{1,9}(?:\.\d{1,3})?)s)?(?:(\d{1,9})ms)?\Z"
)
_SIZE_UNITS = {
    "": 1,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}
_SIZE = re.compile(r"(\d{1,15})(|[KMGT]i?)\Z")
_USD = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?([eE]-[0-9])?\Z")

DURATION_FORM = r"^(?=.*[1-9])(\d{1,9}d)?(\d{1,9}h)?(\d{1,9}m(?!s))?(\d{1,9}(\.\d{1,3})?s)?(\d{1,9}ms)?$"  # For the JSON Schema.
SIZE_FORM = r"^\d{1,15}([KMGT]i?)?$"
SIZE_BYTES_MAX = 2**50  # No machine has it.
DURATION_MAX_S = 366 * 86_400.0  # A year: what waits longer is not a run of a plan.


def duration_s(text: str) -> float | None:
    """Seconds, or None if the text is no duration. Units descend and each appears once."""
    found = _DURATION.match(text) if text else None
    if found is None:
        return None
    milliseconds = sum(
        float(number) * factor
        for number, factor in zip(found.groups(), _DURATION_PARTS.values(), strict=True)
        if number
    )
    return milliseconds / 1_000


def size_bytes(text: str) -> int | None:
    """Bytes, or None if the text is no size."""
    found = _SIZE.match(text)
    return int(found[1]) * _SIZE_UNITS[found[2]] if found else None


def usd_micro(text: str) -> int | None:
    """USD as a number in text to whole micro-dollars, or None if it is none. Exact: no float rounds money."""
    found = _USD.match(text)
    if found is None:
        return None
    micro = Decimal(text).scaleb(6)
    return int(micro) if micro == micro.to_integral_value() else None
