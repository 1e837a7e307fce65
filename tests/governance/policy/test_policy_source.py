"""What the text of a policy tells: references, calls, heads, packages."""

from __future__ import annotations

import pytest

from aip.governance.policy.source import calls, heads, package_of, references

REFERENCES = {
    "input.a.b": [("input", "a", "b")],
    'input["a"].b': [("input", "a", "b")],
    "input.a[x].b": [("input", "a", None)],
    "input[x]": [("input", None)],
    "f(input)": [("input",)],
    "input.a[input.b]": [("input", "a", None), ("input", "b")],
    "import input.facts as f": [("input", "facts")],
    "x.input.y": [],
    '"input.a" # input.b': [],
    "`input.a`": [],
    "{1 | input.a} == [input.b]": [("input", "a"), ("input", "b")],
    "y := input [1]": [("input",)],
}


@pytest.mark.parametrize(("text", "expected"), REFERENCES.items(), ids=REFERENCES)
def test_references_are_found_or_overstated(text: str, expected: list[tuple[str | None, ...]]) -> None:
    assert list(references(text, "input")) == expected


def test_heads_are_the_names_at_the_beginning_of_lines_outside_brackets() -> None:
    text = 'package a\nimport data.b\ndefault allow := false\nallow if {\n\tx := 1\n}\nf(y) := y\nt := {\n"a": b,\n}\n'
    assert heads(text) == {"allow", "f", "t"}


def test_calls_are_spelled_out_through_imports() -> None:
    text = "package a\nimport data.lib.math as m\nx := m.add(1)\ny := count([1])\nz := time.now_ns()\nw := data.q.f(1)\n"
    assert [path for path, _ in calls(text)] == [
        ("data", "lib", "math", "add"),
        ("count",),
        ("time", "now_ns"),
        ("data", "q", "f"),
    ]


def test_a_package_may_be_written_with_brackets() -> None:
    assert package_of('# a comment\npackage a["b-c"].d\n') == ("a", "b-c", "d")
