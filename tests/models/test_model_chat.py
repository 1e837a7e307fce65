"""The bytes of an endpoint's answers: read where they are answers, refused where they are not, however they are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aip.errors import InvalidPayload
from aip.models.chat import LINE_BYTES_MAX, Answer, Assembly, ToolCall, checked_request, read_answer
from aip.models.failure import CutOff, Garbage, Unreachable

KEYS = st.sampled_from(["message", "content", "tool_calls", "function", "index", "arguments", "usage", "x"])
JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


def completion(message: Any, **more: Any) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], **more}).encode()


def events(*documents: Any, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(document)}\n\n" for document in documents]
    return "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode()


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"delta": delta, "finish_reason": finish}]}


STREAM = events(
    chunk(role="assistant", content=""),
    chunk(content="Grüße "),
    chunk(content="an alle"),
    chunk(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "look", "arguments": ""}}]),
    chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"at":'}}]),
    chunk(tool_calls=[{"index": 0, "function": {"arguments": " 1}"}}]),
    chunk("tool_calls"),
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
)
WHOLE = Answer(
    "Grüße an alle",
    (ToolCall("c1", "look", '{"at": 1}'),),
    "tool_calls",
    {"prompt_tokens": 3, "completion_tokens": 4},
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_a_stream_is_the_same_answer_wherever_the_network_cuts_it(cuts: list[int]) -> None:
    assembly, texts, start = Assembly(), [], 0
    for end in [*sorted(cuts), len(STREAM)]:
        texts += assembly.feed(STREAM[start:end])
        start = end
    assert assembly.done
    assert assembly.whole() == WHOLE
    assert "".join(texts) == WHOLE.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502</html>",
        b"[]",
        b"\xff\xfe",
        b"[" * 5_000,
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": [null]}',
        b'{"choices": {"0": {}}}',
    ],
)
def test_what_is_no_answer_is_garbage(body: bytes) -> None:
    with pytest.raises(Garbage):
        read_answer(body)


@settings(deadline=None, max_examples=60)
@given(JSON)
def test_any_json_is_an_answer_or_garbage_and_never_a_crash(value: Any) -> None:
    for document in (
        value,
        {"choices": value},
        {"choices": [{"message": value}]},
        {"choices": [{"delta": value}]},
    ):
        body = json.dumps(document).encode()
        for read in (read_answer, lambda b: list(Assembly().feed(b"data: " + b + b"\n"))):
            try:
                read(body)
            except Garbage:
                continue


def test_a_stream_that_ends_before_its_answer_was_cut_off() -> None:
    assembly = Assembly()
    assert list(assembly.feed(events(chunk(content="half"), done=False))) == ["half"]
    with pytest.raises(CutOff):
        assembly.whole()


def test_an_error_inside_a_stream_is_told_and_may_have_cost() -> None:
    with pytest.raises(Unreachable, match="overloaded") as caught:
        list(Assembly().feed(events({"error": {"message": "overloaded"}})))
    assert caught.value.cost_unknown


def test_an_event_without_end_is_garbage_before_it_fills_the_memory() -> None:
    with pytest.raises(Garbage, match="longer than"):
        list(Assembly().feed(b"data: " + b"x" * (LINE_BYTES_MAX + 1)))


def test_a_tool_call_far_out_is_garbage() -> None:
    with pytest.raises(Garbage, match="index"):
        list(Assembly().feed(events(chunk(tool_calls=[{"index": 10**9}]))))


def test_arguments_that_came_as_an_object_are_taken_as_text() -> None:
    calls = [{"function": {"name": "look", "arguments": {"at": 1}}}]
    assert read_answer(completion({"content": None, "tool_calls": calls})).tool_calls == (
        ToolCall("call_0", "look", '{"at":1}'),
    )


LOOK = {"type": "function", "function": {"name": "look"}}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"messages": []}, "messages: 0"),
        ({"messages": [{"role": "robot"}]}, r"messages\[0\].role is 'robot'"),
        ({"max_output_tokens": 0}, "max_output_tokens is 0"),
        ({"temperature": 3.0}, "temperature is 3.0"),
        ({"tool_choice": "always"}, "tool_choice: 'always'"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tool_choice": {"type": "function"}}, "tool_choice: write"),
        ({"tool_choice": LOOK, "tools": []}, "no tool 'look'"),
        (
            {"tool_choice": LOOK, "tools": [{"type": "function", "function": {"name": "hear"}}]},
            "no tool 'look'",
        ),
    ],
)
def test_a_wrong_request_names_its_field(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidPayload, match=says):
        checked_request(**{"messages": [{"role": "user", "content": "x"}], **wrong})
