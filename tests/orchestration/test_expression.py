"""What `${{ … }}` means, what it refuses, and that nothing it is given makes it run long or fail in another way."""

from __future__ import annotations

import contextlib
import pickle
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.orchestration import expression
from aip.orchestration.expression_error import ExpressionFailed, ExpressionInvalid
from aip.orchestration.template import Template

SCOPE: dict[str, Any] = {
    "inputs": {"topic": "bees", "n": 3, "big": 2**70, "list": list(range(1_000_000))},
    "tasks": {
        "find": {"output": [1, 2, 3], "outputs": [1, 2, 3], "status": "succeeded"},
        "judge": {"output": {"score": 0.5, "url": "https://x", "none": None}, "status": "succeeded"},
    },
    "item": "é😀",
    "index": 2,
    "run": {"id": "r-1", "plan": "p", "attempt": 1},
}
E = "${{ %s }}"

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("plain", "plain"),
        (5, 5),
        (E % "inputs.n", 3),
        ("  ${{ inputs.n }}", "  3"),
        ("${{ inputs.topic }}/${{ index }}", "bees/2"),
        ("n=${{ tasks.find.output }}", "n=[1,2,3]"),
        ("${{ tasks.judge.output.none }}!", "null!"),
        ("$${{ inputs.n }}", "${{ inputs.n }}"),
        ("a $${{ b ${{ index }}", "a ${{ b 2"),
        ({"a": [E % "index", {"b": E % "run.id"}], "c": None}, {"a": [2, {"b": "r-1"}], "c": None}),
        (E % "tasks.find.output.map(x, x * 2)", [2, 4, 6]),
        (E % "tasks.find.output.filter(x, x > 1).size()", 2),
        (E % "tasks['find'].output[0]", 1),
        (E % "size(item)", 2),
        (E % "{'a': {'b': 1}}", {"a": {"b": 1}}),
        (E % "'a}}b'", "a}}b"),
        (E % "r'\\d'", "\\d"),
        (E % "tasks.judge.output.score < 0.9 && run.plan == 'p'", True),
        (E % "has(tasks.judge.output.nope) ? 1 : 'no'", "no"),
        (E % "[1, 2].map(x, [3].map(y, x + y))", [[4], [5]]),
        (E % "duration('90m')", "5400s"),
        (E % "duration('1500ms')", "1.5s"),
        (E % "timestamp('2020-01-01T00:00:00Z')", "2020-01-01T00:00:00Z"),
        (E % "'aaa'.matches('(a+)+$')", True),
        (E % "inputs.n in tasks.find.output", True),
    ],
)
def test_an_expression_means(source: Any, value: Any) -> None:
    assert Template(source).evaluate(SCOPE) == value


@pytest.mark.parametrize(
    ("source", "references"),
    [
        ("text", set()),
        (E % "inputs.topic", {"inputs.topic"}),
        (E % "inputs", {"inputs"}),
        (E % "tasks.a.output.x + tasks['b'].output[0]", {"tasks.a", "tasks.b"}),
        (E % "tasks.a.output.map(item, item + index)", {"tasks.a", "index"}),
        (E % "item.url + run.id", {"item", "run.id"}),
        (E % "has(tasks.a.output.x) ? 'tasks.b.output' : ''", {"tasks.a"}),
        (E % "inputs.xs.all(x, tasks.c.output.exists(y, y == x))", {"inputs.xs", "tasks.c"}),
        (["${{ tasks.a.output }}", {"k": "- ${{ tasks.b.status }}"}], {"tasks.a", "tasks.b"}),
    ],
)
def test_references_name_what_a_value_depends_on(source: Any, references: set[str]) -> None:
    assert Template(source).references == references
    assert Template(source).is_constant == (not references)


@pytest.mark.parametrize(
    ("source", "message", "hint", "column"),
    [
        ("${{ x", "not closed", "close it with }}", 1),
        ("${{ }}", "nothing between", "$${{", 1),
        (E % "1 +", "ends too early", "", 6),
        (E % "a = 1", "unexpected '='", "==", 7),
        (E % "inputs.n > 1 and true", "unexpected `and`", "&&", 15),
        (E % "inputz.n", "unknown name `inputz`", "`inputs`", 2),
        (E % "sizee(inputs.n)", "unknown function `sizee`", "`size`", 2),
        (E % "tasks", "followed by a task's name", "", 2),
        (E % "tasks.a", "what of the task", "", 2),
        (E % "tasks[inputs.n].output", "followed by a task's name", "", 2),
        (E % "tasks.a.outptu", "no `outptu`", "`output`", 2),
        (E % "run.ids", "no `ids`", "`id`", 2),
        (E % "inputs.n.map(1, 2)", "variable and a body", "list.map(x, …)", 11),
        (E % "'a'.matches(inputs.n)", "must be written out", "r'…'", 6),
        (E % "9223372036854775808", "invalid int", "", 2),
        (E % ("(" * 40 + "1" + ")" * 40), "nested deeper", "", 34),
        (E % ("1" + "+1" * 200), "in one chain", "", 201),
        (E % ("1" + " " * 5_000), "longer than", "", 4),
        (E % "'abc", 'unexpected "\'"', "text is not closed", 5),
    ],
)
def test_a_wrong_expression_is_told_with_its_place_and_a_way_out(
    source: str, message: str, hint: str, column: int
) -> None:
    with pytest.raises(ExpressionInvalid) as caught:
        _ = Template(source).references
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert abs(caught.value.details["column"] - column) <= 1


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        (E % "inputs.topc", "no field `topc`", "`topic`"),
        (E % "inputs.topc + 'a'", "no field `topc`", "`topic`"),
        (E % "item.x", "`item` is a text", ""),
        (E % "1 / 0", "division by zero", ""),
        (E % "inputs.n + 'a'", "not defined for the given operand types", "convert"),
        (E % "b'abc'", "not JSON", "string()"),
        (E % "{1: 2}", "not JSON", "keys"),
        (E % "1.0 / 0.0", "not JSON", ""),
        (E % "inputs.big + 1", "larger than 64 bits", ""),
        (E % "9223372036854775807 + inputs.n", "overflow", ""),
        (E % "-9223372036854775808 / -1", "overflow", ""),
        (E % "'a'.matches('(')", "not a valid regex", ""),
        (E % "[1][7]", "out of bounds", ""),
        (E % "inputs.list.all(a, inputs.list.all(b, a + b > 0))", "too much work", "for_each"),
        (E % "inputs.list.filter(a, a > 1)", "too much work", "square"),
        (E % ("[1]" + ".map(a, [a, a])" * 60), "too much work", ""),
        (E % ("['a']" + ".map(a, a + a + a)" * 60), "too much work", ""),
        (E % "'a'.matches('a{1000}{1000}{1000}')", "too much work", ""),
    ],
)
def test_a_failed_evaluation_is_told_and_takes_no_time(source: str, message: str, hint: str) -> None:
    began = time.process_time()
    with pytest.raises(ExpressionFailed) as caught:
        Template(source).evaluate(SCOPE)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert time.process_time() - began < 5


def test_a_list_of_a_few_thousand_may_be_filtered() -> None:
    assert (
        len(Template(E % "inputs.xs.filter(x, x % 2 == 0)").evaluate({"inputs": {"xs": list(range(2_000))}}))
        == 1_000
    )


def test_a_plain_path_hands_over_the_value_itself() -> None:
    assert Template(E % "tasks.find.output").evaluate(SCOPE) is SCOPE["tasks"]["find"]["output"]
    assert Template(E % "inputs.big").evaluate(SCOPE) == 2**70


def test_an_expression_sees_only_what_it_names() -> None:
    scope = {"inputs": {"n": 1, "object": object()}, "tasks": {"a": {"output": object()}}}
    assert Template(E % "inputs.n + 1").evaluate(scope) == 2


def test_a_panic_of_the_library_is_an_error_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    class Program:
        def execute(self, scope: Any) -> Any:
            raise PanicException("index out of range")

    one = expression.Expression("1 + 1")
    monkeypatch.setattr(one, "_program", Program())
    with pytest.raises(ExpressionFailed, match="gave up"):
        one.evaluate({})


def test_templates_are_values() -> None:
    template = Template({"a": [E % "inputs.n"]})
    assert pickle.loads(pickle.dumps(template)) == template == Template({"a": ["${{ inputs.n }}"]})
    assert pickle.loads(pickle.dumps(template)).evaluate(SCOPE) == {"a": [3]}
    assert hash(template) == hash(Template({"a": ["${{ inputs.n }}"]}))


@given(json_values)
def test_every_json_value_comes_through_the_library_unchanged(value: Any) -> None:
    assert Template(E % "[inputs.v, 1][0]").evaluate({"inputs": {"v": value}}) == value


@given(st.text(max_size=200))
def test_no_text_is_more_than_an_invalid_expression(text: str) -> None:
    for source in ("${{" + text + "}}", text):
        with contextlib.suppress(ExpressionInvalid, ExpressionFailed):
            Template(source).evaluate({})


_WORDS = st.sampled_from(
    [
        *(
            "inputs.n",
            "tasks.find.output",
            "item",
            "1",
            "2.5",
            "'a'",
            "x",
            "size(",
            "has(",
            ".map(",
            ".all(",
            ".exists(",
        ),
        *(
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            ",",
            ".",
            ":",
            "?",
            "&&",
            "||",
            "!",
            "-",
            "+",
            "*",
            "/",
            "%",
            "<",
            "==",
            "in",
        ),
    ]
)


@given(st.lists(_WORDS, max_size=14))
def test_what_the_reader_takes_the_library_takes_too(words: list[str]) -> None:
    """Two readers, one language: a tree of ours is never of a text that CEL itself refuses, bar the number's range."""
    told = ""
    try:
        Template(E % " ".join(words)).evaluate({**SCOPE, "inputs": {"n": 1}})
    except ExpressionFailed:
        pass
    except ExpressionInvalid as error:
        told = error.message
    assert "cannot be compiled" not in told
    assert "mismatched input" not in told


@given(st.text(max_size=50))
def test_any_text_can_be_written_by_escaping_the_marker(text: str) -> None:
    escaped = text.replace("${{", "$${{")
    if "$${{" not in text:
        assert Template(escaped).evaluate({}) == text
