"""Durations, sizes, amounts of a budget and times of day, as a person reads them."""

from __future__ import annotations

import time

_MICRO = "_micro"


def duration(seconds: float | None) -> str:
    """`850 ms`, `4.2 s`, `2:05`, `1:02:05`; nothing for nothing."""
    if seconds is None:
        return ""
    seconds = max(seconds, 0.0)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(size_bytes: float) -> str:
    """`812 B`, `1.5 KiB`, `640 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return (
                f"{size_bytes:.0f} {unit}" if unit == "B" or size_bytes >= 10 else f"{size_bytes:.1f} {unit}"
            )
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


def amount(unit: str, value: int) -> str:
    """`12,000` of `tokens`; `4.25` of `usd_micro`, whose name a person reads as `usd` (see `unit_name`)."""
    if unit.endswith(_MICRO):
        whole, micro = divmod(abs(value), 1_000_000)
        digits = f"{micro:06}".rstrip("0").ljust(2, "0")
        return f"{'-' if value < 0 else ''}{whole:,}.{digits}"
    return f"{value:,}"


def unit_name(unit: str) -> str:
    return unit.removesuffix(_MICRO)


def count(number: int, noun: str) -> str:
    """`1 task`, `12,000 tasks`, `2 processes`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def moment(at_s: float | None) -> str:
    """A point in time, in this machine's time zone."""
    return "" if at_s is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))


def clock_time(at_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_s))
