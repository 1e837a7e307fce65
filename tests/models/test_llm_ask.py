"""The reins of an ask, the names of tools, and what is remembered: decisions without a model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aip.errors import (
    AgentFailed,
    AgentLost,
    AIPError,
    BudgetExceeded,
    Cancelled,
    Denied,
    EffectInDoubt,
    InvalidPayload,
    Killed,
    UnknownCapability,
    UsageError,
)
from aip.models.ask import (
    CALLS_AT_ONCE_MAX,
    Ask,
    BadArguments,
    Looped,
    StepsExhausted,
)
from aip.models.chat import ToolCall
from aip.models.conversation import Conversation
from aip.toolbox import NAME_CHARS_MAX, RESULT_CHARS_MAX, Reference, chosen, offered, told

LOOK = offered([("web", "look", {"doc": "Look at a page.", "input": {"type": "object"}})])


def wants(name: str = "look", arguments: Any = None) -> ToolCall:
    text = arguments if isinstance(arguments, str) else json.dumps({} if arguments is None else arguments)
    return ToolCall("c", name, text)


def test_a_call_of_an_offered_tool_is_made() -> None:
    (wish,) = Ask(LOOK, 8).judge((wants(arguments={"at": 1}),))
    assert wish.tool is not None
    assert (wish.tool.agent, wish.tool.capability, wish.arguments) == ("web", "look", {"at": 1})


@pytest.mark.parametrize("name", ["delete_everything", "LOOK", "web.look", "look ", "", "aip.describe"])
def test_a_name_that_was_not_offered_is_refused_and_counted(name: str) -> None:
    ask = Ask(LOOK, 8)
    (wish,) = ask.judge((wants(name),))
    assert wish.tool is None
    assert wish.reply.startswith("refused: there is no tool")
    assert "look" in wish.reply
    assert ask.refused == 1


@pytest.mark.parametrize("arguments", ["{", "[1]", "7", "look at this", "\ud800" * 2])
def test_garbage_arguments_are_told_once_and_then_end_the_ask(arguments: str) -> None:
    ask = Ask(LOOK, 8)
    (wish,) = ask.judge((wants(arguments=arguments),))
    assert wish.reply.startswith("error: ")
    with pytest.raises(BadArguments, match="cannot call look"):
        ask.judge((wants(arguments=arguments),))


def test_arguments_that_the_tool_does_not_take_are_told_once_and_then_end_the_ask() -> None:
    ask = Ask(LOOK, 8)
    error = InvalidPayload("look takes: at: Field required")
    (first,) = ask.judge((wants(),))
    assert ask.failed(first, error) == "error: look takes: at: Field required"
    (second,) = ask.judge((wants(arguments={"x": 1}),))
    with pytest.raises(BadArguments, match="Field required"):
        ask.failed(second, error)


def test_the_same_call_for_the_third_time_is_a_loop_however_its_arguments_are_written() -> None:
    ask = Ask(LOOK, 8)
    keys = [ask.judge((wants(arguments=text),))[0].key for text in ('{"a":1,"b":2}', '{"b": 2, "a": 1}')]
    assert len(set(keys)) == 2
    with pytest.raises(Looped, match="third time"):
        ask.judge((wants(arguments={"a": 1, "b": 2}),))


def test_a_repeated_ask_gives_the_same_calls_the_same_keys() -> None:
    calls = (wants(arguments={"a": 1}), wants(arguments={"a": 2}))
    first, again = ([wish.key for wish in Ask(LOOK, 8).judge(calls)] for _ in range(2))
    assert first == again


def test_too_many_calls_at_once_are_refused_beyond_the_limit() -> None:
    calls = tuple(wants(arguments={"at": index}) for index in range(CALLS_AT_ONCE_MAX + 2))
    wishes = Ask(LOOK, 8).judge(calls)
    assert [wish.tool is None for wish in wishes] == [False] * CALLS_AT_ONCE_MAX + [True, True]


def test_steps_end() -> None:
    ask = Ask(LOOK, 2)
    ask.begin_step()
    ask.begin_step()
    with pytest.raises(StepsExhausted, match="after 2 steps"):
        ask.begin_step()


@pytest.mark.parametrize("error", [BudgetExceeded("x"), Killed("x"), Cancelled("x"), EffectInDoubt("x")])
def test_what_no_model_may_talk_itself_around_ends_the_ask(error: AIPError) -> None:
    ask = Ask(LOOK, 8)
    (wish,) = ask.judge((wants(),))
    with pytest.raises(type(error)):
        ask.failed(wish, error)


@pytest.mark.parametrize(
    ("error", "reply", "refused"),
    [
        (Denied("not for you"), "refused: not for you", 1),
        (AgentFailed("ValueError: no page"), "error: ValueError: no page", 0),
        (AgentLost("gone"), "error: gone", 0),
    ],
)
def test_other_failures_are_told_to_the_model(error: AIPError, reply: str, refused: int) -> None:
    ask = Ask(LOOK, 8)
    (wish,) = ask.judge((wants(),))
    assert ask.failed(wish, error) == reply
    assert ask.refused == refused


def test_a_long_result_is_cut_and_says_so() -> None:
    text = told("x" * (RESULT_CHARS_MAX + 5))
    assert text.endswith("[cut: 5 more characters]")
    assert told({"a": [1]}) == '{"a":[1]}'


# Names of tools -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "agent", "capability"),
    [
        ("researcher", "researcher", ""),
        ("researcher.web.search", "researcher", "web.search"),
        ("tools.git", "tools.git", ""),
        ("tools.git.git_log", "tools.git", "git_log"),
        ("capability:web.search", None, "web.search"),
    ],
)
def test_a_reference_names_an_agent_and_what_it_can_do(text: str, agent: str | None, capability: str) -> None:
    assert Reference.parse(text) == Reference(agent, capability)


@pytest.mark.parametrize("text", ["", "tools", ".search", "researcher.", "capability:", "a b"])
def test_what_names_no_tool_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names no tool"):
        Reference.parse(text)


DESCRIBED = {
    "capabilities": {"web.search": {"doc": "d"}, "web.read": {"doc": "d"}, "follow": {"kind": "stream"}}
}


def test_an_agent_means_all_that_it_can_do_at_once() -> None:
    found = chosen(Reference.parse("researcher"), DESCRIBED)
    assert [name for _, name, _ in found] == ["web.search", "web.read"]


@pytest.mark.parametrize("text", ["researcher.web.delete", "researcher.follow"])
def test_a_capability_that_is_not_there_is_told_with_those_that_are(text: str) -> None:
    with pytest.raises(UnknownCapability) as caught:
        chosen(Reference.parse(text), DESCRIBED)
    assert caught.value.hint == "it has: web.read, web.search"


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.none() | st.text(max_size=80), st.text(min_size=1, max_size=80)),
        max_size=40,
        unique=True,
    )
)
def test_every_tool_has_a_name_of_its_own_that_endpoints_take(pairs: list[tuple[str | None, str]]) -> None:
    tools = offered([(agent, capability, {}) for agent, capability in pairs])
    assert {(tool.agent, tool.capability) for tool in tools.values()} == set(pairs)
    for name, tool in tools.items():
        assert tool.name == name
        assert 0 < len(name) <= NAME_CHARS_MAX
        assert all(sign.isascii() and (sign.isalnum() or sign in "_-") for sign in name)


def test_too_many_tools_are_refused() -> None:
    with pytest.raises(UsageError, match="a model takes 128"):
        offered([("a", f"c{index}", {}) for index in range(129)])


# Memory ---------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30))), st.integers(0, 5), st.integers(0, 120)
)
def test_memory_is_the_last_turns_within_its_bounds_and_survives_a_checkpoint(
    turns: list[tuple[str, str]], turns_max: int, bytes_max: int
) -> None:
    memory = Conversation(turns_max, bytes_max)
    for turn in turns:
        memory.add(*turn)
    texts = [message["content"] for message in memory.messages()]
    assert texts == [text for turn in turns[len(turns) - len(memory) :] for text in turn]
    assert len(memory) <= turns_max
    assert sum(len(text.encode()) for text in texts) <= bytes_max
    again = Conversation(turns_max, bytes_max)
    again.restore(memory.to_state())
    assert list(again.messages()) == list(memory.messages())
