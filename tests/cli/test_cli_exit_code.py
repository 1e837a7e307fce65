"""The table from errors and ends of runs to exit codes, row by row."""

from __future__ import annotations

import pytest

from aip.cli.exit_code import OF_ERROR, OF_RUN, of_error, of_run
from aip.errors import AIPError
from aip.orchestration.run_lifecycle import RunState

PUBLISHED = {
    "user.usage": 2,
    "user.not_found": 2,
    "payload.invalid": 2,
    "plan.invalid": 3,
    "refused.denied": 4,
    "gate.denied": 4,
    "refused.killed": 5,
    "undelivered.cancelled": 5,
    "refused.budget": 6,
    "refused.budget_not_drawn": 6,
    "undelivered.deadline": 6,
    "platform.unavailable": 7,
    "state.corrupt": 8,
    "agent.failed": 1,
    "effect.in_doubt": 1,
}


@pytest.mark.parametrize(("code", "exit_code"), PUBLISHED.items())
def test_an_error_has_the_published_exit_code(code: str, exit_code: int) -> None:
    assert of_error(code) == exit_code


def test_every_error_of_the_tree_is_in_the_table() -> None:
    codes = [code for code, cls in AIPError.by_code.items() if cls.__module__ == "aip.errors"]
    assert len(codes) > 20
    assert [code for code in codes if code not in OF_ERROR] == []


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("refused.policy.region", 4), ("agent.failed.mine", 1), ("mine", 1), ("", 1), ("user.odd", 2)],
)
def test_an_unknown_code_is_read_as_what_stands_before_its_dots(code: str, exit_code: int) -> None:
    assert of_error(code) == exit_code


def test_every_state_of_a_run_is_in_the_table() -> None:
    assert set(OF_RUN) == {str(state) for state in RunState}


@pytest.mark.parametrize(
    ("state", "code", "exit_code"),
    [
        ("succeeded", None, 0),
        ("succeeded", "agent.failed", 0),
        ("failed", None, 1),
        ("failed", "agent.failed", 1),
        ("failed", "undelivered.deadline", 6),
        ("failed", "refused.budget", 6),
        ("failed", "gate.denied", 4),
        ("failed", "refused.killed", 5),
        ("failed", "user.usage", 1),
        ("failed", "plan.invalid", 1),
        ("failed", "platform.unavailable", 1),
        ("failed", "state.corrupt", 1),
        ("held", None, 4),
        ("paused", None, 4),
        ("paused", "refused.budget", 6),
        ("cancelled", None, 5),
        ("cancelled", "undelivered.deadline", 5),
        ("killed", "refused.killed", 5),
    ],
)
def test_a_run_that_was_waited_for_has_the_published_exit_code(
    state: str, code: str | None, exit_code: int
) -> None:
    assert of_run(state, {"code": code} if code else None) == exit_code
