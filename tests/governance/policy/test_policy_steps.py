"""Facts in steps: few values, and never one that opens a door."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.governance.policy import steps

AMOUNTS = st.integers(0, 2**53) | st.floats(0, 2**53)


@pytest.mark.parametrize(
    ("amount", "down", "up"),
    [
        (-3, -1, 0),
        (0, 0, 0),
        (0.5, 0, 1),
        (1, 1, 1),
        (2.1, 2, 5),
        (9, 5, 10),
        (1_000, 1_000, 1_000),
        (1_001, 1_000, 2_000),
        (2**53, 5 * 10**15, 10**16),
    ],
)
def test_an_amount_lies_between_two_steps(amount: float, down: int, up: int) -> None:
    assert (steps.down(amount), steps.up(amount)) == (down, up)


@given(AMOUNTS)
def test_rounding_is_towards_refusal_and_within_a_factor_of_two_and_a_half(amount: float) -> None:
    assert steps.down(amount) <= amount <= steps.up(amount)
    if amount >= 1:
        assert steps.up(amount) <= 2.5 * amount
        assert steps.down(amount) >= amount / 2.5


@given(AMOUNTS, st.sampled_from(steps.STEPS))
def test_a_limit_that_is_a_step_is_held_exactly(amount: float, limit: int) -> None:
    assert (steps.up(amount) > limit) == (amount > limit)
    assert (steps.down(amount) < limit) == (amount < limit)


def test_the_whole_range_of_a_budget_takes_few_values() -> None:
    assert len(steps.STEPS) == 51
    assert steps.STEPS[-1] > 2**53
