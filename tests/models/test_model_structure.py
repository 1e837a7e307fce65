"""Answers that must fit a schema, and the pauses between attempts."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aip.errors import InvalidPayload
from aip.models import structure
from aip.models.retry import HEARD_JITTER, PAUSE_S_MAX, pause_s, retry_after_s

POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}},
    "required": ["x"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [('{"x": 1}', {"x": 1}), (' \n{"x": 1}\n', {"x": 1}), ('```json\n{"x": 1}\n```', {"x": 1})],
)
def test_a_value_that_fits_is_found(text: str, value: Any) -> None:
    assert structure.parsed(text, POINT) == (value, [])


@pytest.mark.parametrize(
    ("text", "says"), [("I think x is 1", "not JSON"), ('{"x": "1"}', "$.x"), ("{}", "'x' is a required")]
)
def test_what_is_wrong_is_said_where_it_is(text: str, says: str) -> None:
    value, problems = structure.parsed(text, POINT)
    assert value is None
    assert says in problems[0]


def test_what_is_no_schema_is_refused_before_a_model_is_paid() -> None:
    with pytest.raises(InvalidPayload, match="schema"):
        structure.check_schema({"type": "integre"})


def test_a_schema_elsewhere_is_not_fetched() -> None:
    with pytest.raises(InvalidPayload, match="schema"):
        structure.parsed("1", {"$ref": "http://127.0.0.1:1/schema.json"})


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (POINT, True),
        ({"type": "array", "items": POINT}, True),
        ({**POINT, "required": []}, False),
        ({"type": "object"}, False),
    ],
)
def test_the_strict_mode_of_openai_is_asked_for_where_it_takes_the_schema(schema: Any, strict: bool) -> None:
    assert structure.response_format(schema)["json_schema"]["strict"] is strict


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 50), st.none() | st.floats(0, 1_000), st.integers())
def test_a_pause_is_never_shorter_than_the_endpoint_says_and_bounded_where_it_says_nothing(
    attempt: int, after_s: float | None, seed: int
) -> None:
    pause = pause_s(attempt, after_s, random.Random(seed))
    if after_s is None:
        assert 0 <= pause <= PAUSE_S_MAX
    else:
        assert after_s <= pause <= after_s * (1 + HEARD_JITTER)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        ("-4", 0.0),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, 784_111_777.0) == seconds
