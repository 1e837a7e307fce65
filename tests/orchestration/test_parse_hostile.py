"""Whatever the bytes, `parse` answers with a plan or with `PlanInvalid`, soon and in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aip.errors import PlanInvalid
from aip.orchestration.parse import parse, render
from aip.settings import DEFAULT_LIMITS

HEAD = b"apiVersion: aip/v1\nkind: Plan\nmetadata: {name: demo}\n"
SECONDS_MAX = 10.0  # Of CPU; without its bound each of these takes minutes or the process.


def refused(text: bytes) -> dict[str, Any]:
    """The first problem of a text that must be refused in time."""
    began = time.process_time()
    with pytest.raises(PlanInvalid) as caught:
        parse(text, "plan.yaml")
    assert time.process_time() - began < SECONDS_MAX
    problems: list[dict[str, Any]] = caught.value.details["problems"]
    assert len(problems) <= 100
    assert len(render(problems, text)) < 100_000
    return problems[0]


def bomb() -> bytes:
    rows = [b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 12)]
    return b"\n".join(rows)


def many_tasks() -> bytes:
    return HEAD + b"tasks:\n" + b"".join(b"  t%d: {capability: c}\n" % n for n in range(20_001))


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "nine megabytes": (lambda: b"a: " + b"x" * 9 * 2**20, "yaml.size"),
    "100,000 open brackets": (lambda: b"[" * 100_000, "yaml.depth"),
    "100,000 open braces": (lambda: b"{a: " * 100_000, "yaml.depth"),
    "100,000 nested dashes": (lambda: b"- " * 100_000, "yaml.depth"),
    "nesting hidden in an alias": (
        lambda: b"a: &a " + b"[" * 40 + b"]" * 40 + b"\nb: " + b"[" * 30 + b"*a" + b"]" * 30,
        "yaml.depth",
    ),
    "billion laughs": (bomb, "yaml.nodes"),
    "an alias in itself": (lambda: b"a: &a [*a]", "yaml.alias"),
    "an alias of nothing": (lambda: b"a: *b", "yaml.alias"),
    "600,000 keys": (lambda: b"a: {" + b",".join(b"k%d: 1" % n for n in range(600_000)) + b"}", "plan.unknown_key"),
    "20,001 tasks": (many_tasks, "plan.tasks"),
    "a key of a megabyte": (lambda: b"k" * 2**20 + b": 1", "yaml.syntax"),
    "a quoted key of a megabyte": (lambda: b'? "' + b"k" * 2**20 + b'"\n: 1', "yaml.key"),
    "an unknown key of 200 characters": (lambda: HEAD + b"k" * 200 + b": 1", "plan.missing"),
    "a number of a million digits": (lambda: b"a: " + b"9" * 10**6, "yaml.number"),
    "a list as a key": (lambda: b"[1, 2]: 3", "yaml.key"),
    "a Python object": (lambda: b"a: !!python/object/apply:os.system [ls]", "yaml.tag"),
    "a control character": (lambda: b"a: \x07", "yaml.characters"),
    "NUL": (lambda: b"a: b\x00", "yaml.characters"),
    "not UTF-8": (lambda: b"a: \xff\xfe", "yaml.encoding"),
    "an encoded surrogate": (lambda: b"a: \xed\xa0\x80", "yaml.encoding"),
    "an escaped surrogate pair": (lambda: b'a: "\\ud83d\\ude00"', "yaml.syntax"),
    "UTF-16": (lambda: "a: b".encode("utf-16"), "yaml.encoding"),
    "nothing": (lambda: b"", "yaml.empty"),
    "only comments": (lambda: b"# plan\n", "yaml.empty"),
    "a text": (lambda: b"hello", "plan.type"),
    "null": (lambda: b"~", "plan.type"),
    "a million problems": (
        lambda: HEAD + b"tasks: {t: {" + b",".join(b"k%d: 1" % n for n in range(10**5)) + b"}}",
        "plan.unknown_key",
    ),
    "100,000 unclosed expressions": (
        lambda: HEAD + b"tasks: {t: {capability: c, with: {x: '" + b"${{ 1 " * 100_000 + b"'}}}",
        "expression.invalid",
    ),
    "an expression without end": (
        lambda: HEAD + b"tasks: {t: {capability: c, with: {x: '${{ " + b"(" * 10**6 + b" }}'}}}",
        "expression.invalid",
    ),
    "a chain of 20,000 tasks in a ring": (
        lambda: HEAD
        + b"tasks:\n"
        + b"".join(b"  t%d: {capability: c, needs: [t%d]}\n" % (n, (n + 1) % 20_000) for n in range(20_000)),
        "plan.cycle",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused_in_time(name: str) -> None:
    make, code = HOSTILE[name]
    assert refused(make())["code"] == code


def test_20_000_tasks_are_not_too_many() -> None:
    text = HEAD + b"tasks:\n" + b"".join(b"  t%d: {capability: c}\n" % n for n in range(20_000))
    assert len(parse(text, "plan.yaml").tasks) == 20_000


@pytest.mark.parametrize("name", ["Ünïcode", "日本語", "مرحبا", "😀", "e\u0301", "\u200bzero"])
def test_text_of_any_script_is_data_and_no_name(name: str) -> None:
    head = f"apiVersion: aip/v1\nkind: Plan\nmetadata: {{name: demo, labels: {{x: '{name}'}}}}\n"
    labels = head + "tasks: {t: {capability: c}}\n"
    assert parse(labels.encode(), "plan.yaml").labels["x"] == name
    assert refused(HEAD + f"tasks: {{'{name}': {{capability: c}}}}".encode())["code"] == "plan.name"


@given(st.binary(max_size=400))
@example(b"\xef\xbb\xbf")
@example(b"%YAML 2.0\n---\na")
@example(b"--- >\n")
def test_random_bytes_are_never_more_than_an_invalid_plan(text: bytes) -> None:
    with pytest.raises(PlanInvalid):
        parse(text, "plan.yaml")


_SCRAPS = st.sampled_from(
    [
        *(
            "apiVersion: aip/v1\n",
            "kind: Plan\n",
            "metadata: {name: x}\n",
            "tasks:\n",
            "  a: ",
            "{capability: c",
        ),
        *(
            ", with: {k: ",
            "'${{ ",
            "tasks.a.output",
            " }}'",
            "}",
            "]",
            "[",
            "\n",
            "- ",
            "&a ",
            "*a",
            "needs: [a]",
        ),
        *(
            "inputs:\n",
            "  i: {type: integer, default: ",
            "1",
            "null",
            "retry: ",
            "gate: {question: ",
            ", ",
            "\t",
        ),
        *("assign: {mode: vote, voters: ", "for_each: ", "agents:\n", "use: m:A"),
    ]
)


@settings(max_examples=300)
@given(st.lists(_SCRAPS, max_size=30).map("".join))
def test_random_scraps_of_plans_are_plans_or_invalid(text: str) -> None:
    try:
        parse(text.encode(), "plan.yaml")
    except PlanInvalid as error:
        problems = error.details["problems"]
    else:
        return
    assert problems
    assert render(problems, text)


names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name not in ("in", "true", "false", "null")
)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20)


@st.composite
def plans(draw: st.DrawFn) -> tuple[str, dict[str, set[str]]]:
    """The text of a valid plan, as JSON, which is YAML; and the edges that it must have."""
    import json

    tasks: dict[str, Any] = {}
    needs: dict[str, set[str]] = {}
    for name in draw(st.lists(names, min_size=1, max_size=8, unique=True)):
        before = st.sampled_from(sorted(tasks)) if tasks else st.nothing()
        written = draw(st.lists(before, max_size=3, unique=True)) if tasks else []
        implied = draw(st.lists(before, max_size=2)) if tasks else []
        values = draw(st.lists(scalars, max_size=3))
        arguments: dict[str, Any] = {
            f"k{n}": value.replace("${{", "$${{") if isinstance(value, str) else value
            for n, value in enumerate(values)
        }
        arguments |= {f"r{n}": f"see ${{{{ tasks.{other}.output.x }}}}" for n, other in enumerate(implied)}
        tasks[name] = {
            "capability": "c",
            "needs": written,
            "with": arguments,
            "timeout": f"{draw(st.integers(1, 99))}s",
        }
        needs[name] = {*written, *implied}
    whole = {"apiVersion": "aip/v1", "kind": "Plan", "metadata": {"name": "x"}, "tasks": tasks}
    return json.dumps(whole, ensure_ascii=False), needs


@given(plans())
def test_a_valid_plan_keeps_its_tasks_its_edges_and_its_values(made: tuple[str, dict[str, set[str]]]) -> None:
    text, needs = made
    if any(
        ord(char) < 32
        or 0x7F <= ord(char) < 0xA0
        or 0xD800 <= ord(char) <= 0xDFFF
        or ord(char) in (0xFFFE, 0xFFFF)
        for char in text
    ):
        return  # YAML lets these stand in escapes only.
    plan = parse(text.encode(), "plan.json", DEFAULT_LIMITS)
    assert {name: set(task.needs) for name, task in plan.tasks.items()} == needs
    assert all(len(task.needs) == len(set(task.needs)) for task in plan.tasks.values())
