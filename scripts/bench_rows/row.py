"""One line of a benchmark: a measured value, what stands beside it, and the goal it is held to.

`goal` is in the unit of `value`, so `met` is one comparison: a goal that is a ratio ("three times the peer's rate") is written
as the value it asks for in this run. `ratio` is value over reference, whichever of the two should be the larger. `low` and `high`
are the least and the most of the repetitions whose median `value` is; `note` says what has to be known to read the number.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """Repetitions of one measurement."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies; of few values, the nearest one."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Row:
    bench: str
    row: str
    value: float | None
    unit: str
    reference: str | None = None
    reference_value: float | None = None
    goal: float | None = None
    more_is_better: bool = False
    low: float | None = None
    high: float | None = None
    note: str = ""

    def plain(self) -> dict[str, Any]:
        """As it is printed: the nine fields that scripts may rely on first."""
        fields = asdict(self)
        value, reference, goal = self.value, self.reference_value, self.goal
        met = None if goal is None else False  # What did not end has not met its goal.
        if goal is not None and value is not None:
            met = value >= goal if self.more_is_better else value <= goal
        nine = {
            "bench": self.bench,
            "row": self.row,
            "value": _short(value),
            "unit": self.unit,
            "reference": self.reference,
            "reference_value": _short(reference),
            "ratio": _short(value / reference) if value is not None and reference else None,
            "goal": _short(goal),
            "met": met,
        }
        return {**nine, **{name: _short(fields[name]) for name in ("low", "high")}, "note": self.note}


def measured(bench: str, row: str, values: Sequence[float], unit: str, **fields: Any) -> Row:
    """A row of repetitions."""
    median, low, high = spread(values)
    return Row(bench, row, median, unit, low=low, high=high, **fields)


def _short(number: float | None) -> float | None:
    """Four digits: what a shared machine repeats is fewer still."""
    if number is None or number == 0:
        return number
    rounded = float(f"{number:.4g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) >= 100 else rounded
