"""Three readers of syntax: each objects to what it looks for, and to nothing else."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sandbox import review
from secure_kit import EXAMPLE

TABLE = [
    ("import math\nprint(math.pi)", set()),
    ("import os", {"imports"}),
    ("import json, subprocess", {"imports"}),
    ("from urllib.request import urlopen", {"imports"}),
    ("from . import neighbour", {"imports"}),
    ("import collections.abc", set()),
    ("eval('1')", {"calls"}),
    ("run = exec", {"calls"}),
    ("().__class__.__base__", {"calls"}),
    ("class A:\n    def __init__(self):\n        super().__init__()", set()),
    ("open('x')", {"calls"}),
    ("__builtins__", {"calls"}),
    ("import os\nos.system('ls')\n__import__('os')", {"imports", "calls"}),
    ("x = '" + "a" * 1_001 + "'", {"size"}),
    ("\n" * 301, {"size"}),
    ("x = [" + "1," * 5_000 + "]", {"size"}),
    ("\n".join("    " * n + "if x:" for n in range(13)) + "\n" + "    " * 13 + "x", {"size"}),
    ("def broken(", {"imports", "calls", "size"}),
    ("x = " + "(" * 5_000, {"imports", "calls", "size"}),
    ("#" * 100_001, {"imports", "calls", "size"}),
]


@pytest.mark.parametrize(("code", "refused_by"), TABLE)
def test_each_reviewer_refuses_what_it_looks_for(code: str, refused_by: set[str]) -> None:
    votes = {name: review.judge(code, name).vote for name in review.REVIEWERS}
    assert {name for name, vote in votes.items() if vote == "refuse"} == refused_by


@pytest.mark.parametrize(("name", "refused_by"), [("primes", 0), ("bomb", 1), ("thief", 2)])
def test_the_snippets_of_the_example_are_judged_as_they_say(name: str, refused_by: int) -> None:
    code = (EXAMPLE / "snippets" / f"{name}.py").read_text()
    votes = [review.judge(code, evidence).vote for evidence in review.REVIEWERS]
    assert votes.count("refuse") == refused_by


def test_a_reason_names_its_line() -> None:
    (reason,) = review.judge("x = 1\nimport os\n", "imports").reasons
    assert (reason.line, reason.what) == (2, "imports os")


def test_reasons_are_bounded() -> None:
    code = "\n".join(f"import evil_{n}" for n in range(100))
    assert len(review.judge(code, "imports").reasons) == review.REASONS_MAX


@given(st.text(max_size=200))
def test_whatever_the_text_there_is_an_opinion(code: str) -> None:
    for name in review.REVIEWERS:
        opinion = review.judge(code, name)
        assert (opinion.vote == "refuse") is bool(opinion.reasons)


@given(st.lists(st.sampled_from(sorted(review.HARMLESS)), max_size=8))
def test_harmless_imports_are_never_refused(names: list[str]) -> None:
    code = "\n".join(f"import {name}" for name in names)
    assert review.judge(code, "imports").vote == "run"
    ast.parse(code)
