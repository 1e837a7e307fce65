"""`-i name=@file`: what a file holds is an input, by its ending, within bounds, and with errors that name the place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from platform_double import Double

from aip.cli import value_file
from aip.cli.key_value import collected
from aip.errors import AIPError, NotFound, UsageError

PLAN = """\
apiVersion: aip/v1
kind: Plan
metadata: {name: p}
inputs: {topic: {type: string, default: bees}, sites: {type: array, default: []}, deep: {type: boolean, default: false}}
agents: {g: {use: "agents:Greeter"}}
tasks:
  a: {agent: g, capability: greet}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.yaml").write_text(PLAN)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content", "value"),
    [
        ("v.json", '{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        ("v.JSON", "true", True),
        ("v.yaml", "- a\n- on\n- 012\n", ["a", "on", 12]),
        ("v.yml", "a: {b: 1}\n", {"a": {"b": 1}}),
        ("v.txt", "two\nlines\n", "two\nlines\n"),
        ("v.md", "\ufeff# notes", "# notes"),
        ("v", "[1, 2]", "[1, 2]"),
    ],
)
def test_a_file_is_read_by_its_ending(name: str, content: str, value: Any, folder: Path) -> None:
    (folder / name).write_text(content)
    assert collected([("x", f"@{name}")]) == {"x": value}
    assert collected([("x", f"@{folder / name}")]) == {"x": value}


@pytest.mark.parametrize(
    ("typed_text", "value"), [("@@handle", "@handle"), ("@@@", "@@"), ("a@b", "a@b"), ("", "")]
)
def test_an_at_sign_that_is_meant_is_written_twice_or_stands_elsewhere(typed_text: str, value: str) -> None:
    assert collected([("x", typed_text)]) == {"x": value}


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("", None, UsageError, "x=@ names no file"),
        ("missing.json", None, NotFound, "x: there is no file missing.json"),
        ("v.json", b'{"a": 1,\n}', UsageError, "x: v.json:2:1: "),
        ("v.json", b"[NaN]", UsageError, "NaN is no JSON"),
        ("v.json", b"[" * 100_000, UsageError, "nested too deep"),
        ("v.json", b"1" * 10_000, UsageError, "x: v.json: "),
        ("v.yaml", b"a: 1\na: 2\n", UsageError, "x: v.yaml:2:1: the key `a` stands here for the second time"),
        ("v.yaml", b"a: !!python/object:os.system x\n", UsageError, "tags are not accepted"),
        ("v.txt", b"\xff\xfe", UsageError, "is not UTF-8 text"),
        (".", None, UsageError, "Is a directory"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_input_and_the_place(
    name: str, content: bytes | None, kind: type[AIPError], message: str, folder: Path
) -> None:
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(kind) as caught:
        collected([("x", f"@{name}")])
    assert message in str(caught.value)
    assert caught.value.details["input"] == "x"


def test_a_file_larger_than_a_message_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_file, "FILE_BYTES_MAX", 10)
    (folder / "v.txt").write_bytes(b"x" * 10)
    assert collected([("x", "@v.txt")]) == {"x": "x" * 10}
    (folder / "v.txt").write_bytes(b"x" * 11)
    with pytest.raises(UsageError, match="larger than 10 bytes"):
        collected([("x", "@v.txt")])


def test_submit_takes_inputs_from_files_and_checks_them_like_typed_ones(
    typed: Callable[..., Result], folder: Path, platform: Double
) -> None:
    (folder / "topic.txt").write_text("wild bees")
    (folder / "sites.yaml").write_text("- a\n- b\n")
    words = ("submit", "plan.yaml", "--detach", "-i", "topic=@topic.txt", "-i")
    result = typed(*words, "sites=@sites.yaml")
    assert result.exit_code == 0, result.output
    given = next(act for act in platform.acts if act[0] == "submit")[2]
    assert given == {"topic": "wild bees", "sites": ["a", "b"], "deep": False}
    wrong = typed(*words, "deep=@sites.yaml")
    assert wrong.exit_code == 2
    assert "deep" in wrong.stderr


def test_an_agent_is_called_with_what_a_file_holds(
    typed: Callable[..., Result], folder: Path, platform: Double
) -> None:
    (folder / "name.json").write_text('{"first": "Ada"}')
    assert typed("agents call greeter/ada.greet -i name=@name.json").exit_code == 0
    assert ("call", "greeter/ada", "greet", {"name": {"first": "Ada"}}, 60.0) in platform.acts
