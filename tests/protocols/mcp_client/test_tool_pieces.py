"""The pure pieces of the tool client: names, schemas, answers, texts, restarts, oversized lines."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import (
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from mcp_types import Tool as ToolRecord

from aip.errors import InvalidPayload, UnknownCapability
from aip.ids import CAPABILITY
from aip.protocols.mcp.catalogue import Catalogue, capability_name, catalogue
from aip.protocols.mcp.config import ServerConfig, disclosed
from aip.protocols.mcp.contract import Contract, SchemaUnusable
from aip.protocols.mcp.errors import ToolFailed, ToolServerUnusable
from aip.protocols.mcp.limits import BACKOFF_MAX_S, RESTART_WINDOW_S, RESTARTS_MAX
from aip.protocols.mcp.result import value_of
from aip.protocols.mcp.revival import Revival
from aip.protocols.mcp.stranger import Redaction, clean
from aip.protocols.mcp.wire import refusal_of

OBJECT = {"type": "object"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def listed(*names: str, allow: tuple[str, ...] = ("*",)) -> Catalogue:
    return catalogue("x", [ToolRecord(name=name, input_schema=OBJECT) for name in names], allow)


# Names ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "capability"),
    [
        ("git_log", "git_log"),
        ("get-sum", "get_sum"),
        ("createIssue", "create_issue"),
        ("repo/createPR2", "repo_create_pr2"),
        ("web.search", "web.search"),
        ("1password", "1password"),  # No capability can be made of it: it keeps its own name.
    ],
)
def test_a_tool_has_a_name_in_the_vocabulary_of_the_platform(tool: str, capability: str) -> None:
    assert capability_name(tool) == capability
    assert listed(tool).find(capability).name == tool
    assert listed(tool).find(tool).name == tool


@given(st.from_regex(r"[A-Za-z0-9_./-]{1,128}", fullmatch=True))
def test_every_name_is_a_capability_or_stays_as_it_is(tool: str) -> None:
    name = capability_name(tool)
    assert name == tool or CAPABILITY.match(name)


def test_two_tools_never_share_a_name() -> None:
    found = listed("get-sum", "get_sum", "getSum")
    assert found.find("get_sum").name == "get_sum"
    assert found.find("getSum").name == "getSum"
    twins = listed("get-sum", "getSum")
    with pytest.raises(UnknownCapability):
        twins.find("get_sum")
    assert set(twins.described()["capabilities"]) == {"get-sum", "getSum"}


def test_of_tools_with_one_name_the_first_counts() -> None:
    records = [ToolRecord(name="a", description=words, input_schema=OBJECT) for words in ("first", "second")]
    assert catalogue("x", records, ["*"]).find("a").doc == "first"


def test_what_is_required_and_not_there_is_named_with_its_field() -> None:
    with pytest.raises(ToolServerUnusable, match="no tool b; `allow` names it") as caught:
        listed("a", "c", allow=("a", "b")).require("allow", ["a", "b"])
    assert caught.value.hint == "it has: a, c"
    with pytest.raises(ToolServerUnusable, match="no tool c; `effects` names it") as caught:
        listed("a", "c", allow=("a",)).require("effects", ["c"])
    assert caught.value.hint == "it has: a"


# Schemas ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        ({"type": "object", "required": ["a"]}, {}, "$: 'a' is a required property"),
        ({"properties": {"a": {"type": "integer"}}}, {"a": "1"}, "$.a: '1' is not of type 'integer'"),
        ({"additionalProperties": False}, {"a": 1}, "Additional properties"),
        ({"$defs": {"n": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/n"}}}, {"a": ""}, "$.a"),
        ({"properties": {"a": {"$ref": "#/$defs/nowhere"}}}, {"a": 1}, "leads nowhere"),
        ({"$ref": "#"}, {}, "too long to check"),
        (
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "properties": {"a": {"items": [{"type": "null"}]}},
            },
            {"a": [1]},
            "$.a[0]",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_told_where(schema: dict[str, Any], value: Any, problem: str) -> None:
    assert problem in "; ".join(Contract(schema).problems(value))


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 50 + "!"}),
        (
            {"patternProperties": {"^(a+)+$": {"type": "null"}}, "additionalProperties": False},
            {"a" * 50 + "!": 1},
        ),
        ({"properties": {"pattern": {"type": "string"}}, "required": ["pattern"]}, {"pattern": "("}),
        ({"properties": {"$ref": {"type": "string"}}}, {"$ref": "x"}),
    ],
)
def test_patterns_of_a_stranger_are_not_run_and_properties_may_be_called_so(
    schema: dict[str, Any], value: Any
) -> None:
    assert Contract(schema).problems(value) == []


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ([], "no JSON object"),
        ({"type": "strin"}, "no JSON Schema"),
        ({"a": {"$ref": "file:///etc/passwd"}}, "refers outside"),
        ({"description": "x" * 70_000}, "bytes"),
        ({"enum": [object()]}, "no JSON"),
    ],
)
def test_a_schema_that_cannot_be_used_says_why(schema: Any, reason: str) -> None:
    with pytest.raises(SchemaUnusable, match=reason):
        Contract(schema)


def test_a_schema_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5_000):
        schema = {"not": schema}
    with pytest.raises(SchemaUnusable, match="levels deep"):
        Contract(schema)


@given(JSON)
def test_whatever_a_server_calls_a_schema_is_refused_or_used_without_an_accident(schema: Any) -> None:
    try:
        contract = Contract(schema)
    except SchemaUnusable:
        return
    assert isinstance(contract.problems({"a": 1}), list)


# Answers ----------------------------------------------------------------------------------------------------------------


def value(result: CallToolResult, bytes_max: int = 1_000, output: Any = None) -> Any:
    record = ToolRecord(name="t", input_schema=OBJECT, output_schema=output)
    return value_of(
        catalogue("x", [record], ["*"]).find("t"), "x", result, bytes_max, Redaction(["hunter22"])
    )


def text(words: str) -> TextContent:
    return TextContent(type="text", text=words)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (CallToolResult(content=[]), ""),
        (CallToolResult(content=[text("a")]), "a"),
        (CallToolResult(content=[text("a"), text("b")]), "a\nb"),
        (CallToolResult(content=[text("a")], structured_content={"n": 1}), {"n": 1}),
        (
            CallToolResult(
                content=[text("a"), ImageContent(type="image", data="AA==", mime_type="image/png")]
            ),
            [{"type": "text", "text": "a"}, {"type": "image", "mime": "image/png", "data": "AA=="}],
        ),
        (
            CallToolResult(content=[ResourceLink(type="resource_link", uri="file:///a", name="a")]),
            [{"type": "link", "uri": "file:///a", "name": "a", "mime": None}],
        ),
        (
            CallToolResult(
                content=[
                    EmbeddedResource(type="resource", resource=TextResourceContents(uri="a:b", text="t"))
                ]
            ),
            [{"type": "resource", "uri": "a:b", "mime": None, "text": "t"}],
        ),
    ],
)
def test_an_answer_becomes_a_plain_value(result: CallToolResult, expected: Any) -> None:
    assert value(result) == expected


def test_an_error_of_a_tool_carries_its_words_and_no_secret() -> None:
    result = CallToolResult(content=[text("cannot log in with hunter22\x1b[31m")], is_error=True)
    with pytest.raises(ToolFailed, match=r"x\.t: cannot log in with \[secret\]\[31m"):
        value(result)


@pytest.mark.parametrize(
    "result",
    [
        CallToolResult(content=[text("é" * 600)]),
        CallToolResult(content=[], structured_content={"a": "x" * 1_000}),
        CallToolResult(content=[ImageContent(type="image", data="A" * 1_200, mime_type="image/png")]),
    ],
)
def test_an_answer_above_the_limit_is_refused_and_never_cut(result: CallToolResult) -> None:
    with pytest.raises(InvalidPayload, match="the limit is 1000"):
        value(result)


def test_an_answer_is_held_to_the_tools_own_schema() -> None:
    told = {"type": "object", "properties": {"n": {"type": "integer"}}}
    assert value(CallToolResult(content=[], structured_content={"n": 1}), output=told) == {"n": 1}
    with pytest.raises(ToolFailed, match="broke its own contract"):
        value(CallToolResult(content=[], structured_content={"n": "1"}), output=told)


# Texts ------------------------------------------------------------------------------------------------------------------


@given(st.text(), st.integers(1, 50))
def test_a_cleaned_text_is_bounded_and_visible(words: str, chars_max: int) -> None:
    shown = clean(words, chars_max)
    assert len(shown) <= chars_max
    assert all(c in "\n\t" or not unicodedata.category(c).startswith("C") for c in shown)


@given(st.text(min_size=4), st.text(), st.text())
def test_a_secret_does_not_survive_redaction(secret: str, before: str, after: str) -> None:
    shown = Redaction([secret])(before + secret + after)
    assert secret not in shown.replace("[secret]", "\0")


def test_secrets_are_put_in_and_remembered() -> None:
    values = {"Authorization": "Bearer secret:KEY", "X": "secret:KEY", "Y": "not secret:KEY at all"}
    plain, secrets = disclosed(values, {"secret:KEY": "k-1"}.__getitem__)
    assert plain == {"Authorization": "Bearer k-1", "X": "k-1", "Y": "not secret:KEY at all"}
    assert secrets == ["k-1", "k-1"]


def test_python_means_the_interpreter_of_the_platform() -> None:
    assert ServerConfig(command=["python", "-m", "a"]).argv[0].startswith("/")
    assert ServerConfig(command=["node", "python"]).argv == ["node", "python"]


# Restarts ---------------------------------------------------------------------------------------------------------------


def test_the_first_restart_is_at_once_and_each_further_one_waits_longer() -> None:
    revival = Revival()
    waits = []
    for _ in range(RESTARTS_MAX):
        revival.failed(100.0)
        waits.append(revival.due_s(100.0) - 100.0)
    assert waits == pytest.approx([0.0, 0.2, 0.4, 0.8, 1.6])
    assert not revival.given_up(100.0)
    revival.failed(100.0)
    assert revival.given_up(100.0)
    assert not revival.given_up(100.0 + RESTART_WINDOW_S)


@given(st.lists(st.floats(0, 30), max_size=40))
def test_a_server_is_never_restarted_more_often_than_the_window_allows(gaps: list[float]) -> None:
    revival, now_s, starts = Revival(), 0.0, []
    for gap in gaps:
        now_s += gap
        revival.failed(now_s)
        if revival.given_up(now_s):
            continue
        due_s = revival.due_s(now_s)
        assert now_s <= due_s <= now_s + BACKOFF_MAX_S
        now_s = due_s
        starts.append(now_s)
    for start in starts:
        assert sum(start - RESTART_WINDOW_S < other <= start for other in starts) <= RESTARTS_MAX + 1


# Lines too long to read -------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**9), st.sampled_from(["first", "last", "before_version"]))
def test_the_call_of_an_oversized_answer_is_found_from_its_edges(number: int, where: str) -> None:
    result = {"content": [{"type": "text", "text": '"id": 7, ' * 100}]}
    orders = {
        "first": {"jsonrpc": "2.0", "id": number, "result": result},
        "last": {"result": result, "jsonrpc": "2.0", "id": number},
        "before_version": {"result": result, "id": number, "jsonrpc": "2.0"},
    }
    line = json.dumps(orders[where]).encode() + b"\n"
    refusal = refusal_of(line[:256], line[-256:], len(line))
    assert refusal is not None
    assert refusal.id == number


def test_an_oversized_message_of_nobody_is_not_guessed_at() -> None:
    assert refusal_of(b'{"method": "x", "params": {"id": 3, ', b'"id": 3}, "more": 1}\n', 10) is None
