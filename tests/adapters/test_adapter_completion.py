"""Between OpenAI's chat completions and the plan's model: what is passed on, left out, and refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.adapters.completion import arguments_of, chunks, completion, distinct
from aip.errors import InvalidPayload
from aip.models.chat import Assembly, read_answer

MESSAGES = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "find", "parameters": {}}}
FIND = {"type": "function", "function": {"name": "find"}}
SCHEMA = {"type": "integer"}
USAGE = {"input_tokens": 12, "output_tokens": 5, "tokens": 17, "usd_micro": 22, "requests": 1}


@pytest.mark.parametrize(
    ("body", "more"),
    [
        ({"model": "x", "stream": True, "stream_options": {"include_usage": True}}, {}),
        ({"temperature": 0.5, "max_completion_tokens": 7}, {"temperature": 0.5, "max_output_tokens": 7}),
        ({"n": 1, "parallel_tool_calls": True, "top_p": None}, {}),
        ({"tools": [TOOL], "tool_choice": "auto"}, {"tools": [TOOL]}),
        ({"tools": [TOOL], "tool_choice": "none"}, {"tools": [TOOL], "tool_choice": "none"}),
        ({"tools": [TOOL], "tool_choice": "required"}, {"tools": [TOOL], "tool_choice": "required"}),
        ({"tools": [TOOL], "tool_choice": FIND}, {"tools": [TOOL], "tool_choice": FIND}),
        ({"tool_choice": "auto"}, {}),
        ({"stop": "end"}, {"stop": ["end"]}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"schema": {"type": "object"}}),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}, {"schema": SCHEMA}),
    ],
)
def test_what_the_model_of_a_plan_can_do_is_passed_on(body: dict[str, Any], more: dict[str, Any]) -> None:
    assert arguments_of({"messages": MESSAGES, **body}) == {"messages": MESSAGES, **more}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"top_p": 0.5}, "top_p"),
        ({"n": 2}, "n:"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [{"type": "custom"}]}, "custom"),
        ({"response_format": {"type": "grammar"}}, "grammar"),
    ],
)
def test_what_it_cannot_do_is_refused_by_its_name(body: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidPayload, match=says):
        arguments_of({"messages": MESSAGES, **body})


calls = st.lists(
    st.fixed_dictionaries(
        {"id": st.sampled_from(["a", "a-1", "a-2", "b"]), "name": st.text(min_size=1), "arguments": st.text()}
    ),
    max_size=3,
)
answers = st.fixed_dictionaries(
    {
        "text": st.text(),
        "tool_calls": calls,
        "finish": st.sampled_from(["stop", "length", "tool_calls", "eos"]),
        "usage": st.just(USAGE),
    }
)


@given(answers, st.lists(st.text(min_size=1), max_size=3))
def test_an_answer_reads_the_same_whole_and_in_parts(answer: dict[str, Any], texts: list[str]) -> None:
    answer = {**distinct(answer, []), "text": "".join(texts)}
    whole = read_answer(json.dumps(completion(answer, "m")).encode())
    assembly = Assembly()
    for part in [*({"delta": text} for text in texts), answer]:
        for chunk in chunks(part, "m"):
            list(assembly.feed(f"data: {json.dumps(chunk)}\n\n".encode()))
    assert assembly.whole() == whole
    assert whole.text == answer["text"]
    assert [call.as_json() for call in whole.tool_calls] == answer["tool_calls"]


@given(answers, calls, calls)
def test_no_two_tool_calls_of_a_conversation_share_an_id(answer: Any, before: Any, earlier: Any) -> None:
    first = distinct({**answer, "tool_calls": before}, [])
    second = distinct({**answer, "tool_calls": earlier}, [first])
    third = distinct(answer, [first, second])
    ids = [call["id"] for turn in (first, second, third) for call in turn["tool_calls"]]
    assert len(ids) == len(set(ids))
