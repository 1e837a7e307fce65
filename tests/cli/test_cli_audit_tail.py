"""`aip audit tail`: the last entries, and with `-f` those that come, whole ones only."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from platform_double import T0

from aip.cli import audit
from aip.cli.audit import GrowingLog
from aip.errors import Corrupt
from aip.governance.audit import AuditChain, Batch, Noted, log_path
from aip.settings import Home

Type = Callable[..., Result]


class Writer:
    """Writes entries of a kind, one after the other, as the audit actor does."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._chain, self._number = path, AuditChain(), 0

    def lines(self, *kinds: str) -> bytes:
        notes = [Noted(self._number + n, T0, kind, "greeter/ada", {}) for n, kind in enumerate(kinds)]
        self._number += len(notes)
        return self._chain.lines(Batch("cell-1", notes))

    def write(self, *kinds: str) -> None:
        self.append(self.lines(*kinds))

    def append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)


@pytest.fixture
def writer(home: Home) -> Writer:
    return Writer(log_path(home.audit))


def kinds(log: GrowingLog) -> list[str]:
    return [entry["kind"] for entry in log.new()]


def test_each_look_gives_what_is_new(writer: Writer) -> None:
    log = GrowingLog(writer.path)
    assert kinds(log) == []
    writer.write("a", "b")
    assert kinds(log) == ["a", "b"]
    assert kinds(log) == []
    writer.write("c")
    assert kinds(log) == ["c"]


def test_a_line_that_is_still_being_written_is_given_once_it_is_whole(writer: Writer) -> None:
    log = GrowingLog(writer.path)
    whole = writer.lines("a")
    for cut in (1, len(whole) // 2, len(whole) - 1):
        writer.path.write_bytes(whole[:cut])
        assert kinds(log) == []
    writer.path.write_bytes(whole)
    assert kinds(log) == ["a"]


def test_from_now_leaves_out_what_was(writer: Writer) -> None:
    writer.write("before")
    log = GrowingLog.from_now(writer.path)
    writer.write("after")
    assert kinds(log) == ["after"]


@pytest.mark.parametrize("harm", [b"no entry\n", b'{"kind": "a"}\n', b"[]\n", b"\xff\n"])
def test_what_is_no_entry_is_corrupt_and_names_the_log(writer: Writer, harm: bytes) -> None:
    writer.append(harm)
    with pytest.raises(Corrupt, match=writer.path.name):
        list(GrowingLog(writer.path).new())


def test_a_log_that_became_shorter_was_rewritten(writer: Writer) -> None:
    writer.write("a", "b")
    log = GrowingLog(writer.path)
    assert kinds(log) == ["a", "b"]
    writer.path.write_bytes(b"")
    with pytest.raises(Corrupt, match="shorter"):
        list(log.new())


@pytest.mark.parametrize("options", [(), ("-o", "ndjson")])
def test_following_goes_on_until_ctrl_c_and_that_is_no_failure(
    writer: Writer, typed: Type, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    writer.write("refused", "effect", "refused")
    coming = iter([("effect", "refused.late"), (), ("refused.last",)])

    def meanwhile(_: float) -> None:
        following = next(coming, None)
        if following is None:
            raise KeyboardInterrupt
        writer.write(*following)

    monkeypatch.setattr(audit.time, "sleep", meanwhile)
    result = typed("audit", "tail", "-f", "-n", "1", "--kind", "refused", *options)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    if options:
        assert [json.loads(line)["index"] for line in lines] == [2, 4, 5]
    else:
        assert [line.split()[0] for line in lines] == ["2", "4", "5"]
        assert all("greeter/ada" in line for line in lines)


def test_without_follow_it_ends_at_once(writer: Writer, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("nothing to wait for"))
    writer.write("a")
    assert typed("audit tail").exit_code == 0


def test_a_broken_log_exits_with_8(writer: Writer, typed: Type) -> None:
    writer.write("a")
    writer.append(b"no entry\n")
    result = typed("audit tail")
    assert result.exit_code == 8
    assert "aip audit verify" in result.stderr
