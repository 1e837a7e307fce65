"""An environment that fights back: nothing that is in it crashes the audit, leads it outside or makes it run anything."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gate import record
from gate.audit import Audit, audit
from gate.behaviour import trace
from gate.environment import Environment, Unreadable, inside, locate, read, walk
from gate.finding import canonical
from gate.record import Entry
from gate.source import Unparsed, parse
from hypothesis import given, settings
from hypothesis import strategies as st

Build = Callable[..., Path]
SITE = "lib/python3.11/site-packages"


def rules(done: Audit) -> set[str]:
    return {item.rule for item in done.verdict.findings}


@pytest.mark.parametrize(
    ("written", "outside"),
    [
        ("../../../../etc/passwd", True),
        ("/etc/passwd", True),
        ("\\\\server\\share", True),
        ("C:\\Windows\\system32", True),
        ("a/../../../../../x", True),
        ("../../../bin/tool", False),
        ("demo/./x/../__init__.py", False),
        ("a\0b", True),
    ],
)
def test_a_record_path_counts_as_outside_exactly_if_it_leaves_the_prefix(written: str, outside: bool) -> None:
    rows, problems = record.parse(f"{written},,\n".encode(), SITE)
    assert not problems
    assert (rows[0].path == "") is outside


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "a", "b", "", "/"]), max_size=12))
def test_no_path_gets_past_the_prefix(parts: list[str]) -> None:
    path = inside("/".join(parts))
    if path is not None:
        assert not os.path.isabs(path)
        assert os.path.abspath(os.path.join("/prefix", path)).startswith("/prefix/")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2_000))
def test_any_bytes_are_a_record_with_rows_and_problems(data: bytes) -> None:
    rows, problems = record.parse(data, SITE)
    assert all(row.path == "" or inside(row.path) == row.path for row in rows)
    assert len(rows) + len(problems) <= data.count(b"\n") + data.count(b"\r") + 2


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(Unparsed):
        assert trace(parse(text.encode("utf-8", "surrogatepass"), "m", "m.py")).truncated is False


@pytest.mark.parametrize(
    "source",
    [
        b"(" * 100_000,
        b"x = " + b"-" * 100_000 + b"1",
        b"x = " + b"[" * 5_000 + b"]" * 5_000,
        b"\x00",
        b"\xff\xfe invalid",
        b"# -*- coding: no-such-codec -*-\n",
        b"x = '" + b"a" * 1_500_000 + b"'",
        b"a." * 50_000 + b"b()",
    ],
)
def test_source_that_breaks_parsers_is_reported_not_fatal(environment: Build, source: bytes) -> None:
    done = audit(str(environment(files={"demo/__init__.py": "", "demo/bad.py": source})))
    assert "source.unparsed" in rules(done)


def test_deep_but_legal_nesting_is_analysed_without_recursion(environment: Build) -> None:
    chain = (
        "x = 1\n"
        + "if x:\n"
        + " pass\n"
        + "".join("elif x:\n pass\n" for _ in range(400))
        + "import os\nos.system('id')\n"
    )
    done = audit(str(environment(files={"demo/__init__.py": chain})))
    assert rules(done) & {"risk.process", "source.unparsed"}


def test_a_line_of_ten_megabytes_costs_seconds_at_most(environment: Build) -> None:
    line = b"#" + b"x" * 10_000_000
    start_s = time.process_time()
    done = audit(str(environment(files={"demo/__init__.py": line, "demo/data.txt": line})))
    assert "source.unparsed" in rules(done)
    assert time.process_time() - start_s < 5


def test_a_record_of_one_huge_line_is_malformed(environment: Build) -> None:
    prefix = environment(files={"demo/__init__.py": ""}, rows={"huge": "x" * 10_000_000})
    assert "record.malformed" in rules(audit(str(prefix)))


def test_a_record_that_is_not_utf8_is_still_read(environment: Build) -> None:
    prefix = environment(files={"demo/__init__.py": ""})
    path = prefix / SITE / "demo-1.0.dist-info/RECORD"
    path.write_bytes(path.read_bytes() + b"caf\xe9.py,,\n")
    done = audit(str(prefix))
    assert {"record.malformed", "record.missing"} <= rules(done)


def test_links_in_circles_and_out_of_the_environment_are_not_followed(
    environment: Build, tmp_path: Path
) -> None:
    prefix = environment(files={"demo/__init__.py": ""})
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.py").write_text("SECRET = 1\n")
    site = prefix / SITE
    (site / "loop").symlink_to(site)
    (site / "demo/self.py").symlink_to("self.py")
    (site / "out").symlink_to(secret)
    (site / "demo/key.py").symlink_to(secret / "key.py")
    done = audit(str(prefix))
    assert not any(entry.path.count("loop") > 1 for entry in done.inventory.entries)
    for path in (f"{SITE}/demo/key.py", f"{SITE}/out/key.py", f"{SITE}/demo/self.py"):
        with pytest.raises(Unreadable):
            read(done.inventory.environment, path, 100)
    assert "SECRET" not in str([item.evidence for item in done.verdict.findings])


def test_a_file_name_that_is_not_utf8_is_reported_and_harms_no_report(environment: Build) -> None:
    prefix = environment(files={"demo/__init__.py": ""})
    with open(os.fsencode(prefix / SITE / "demo") + b"/caf\xe9.py", "w") as file:
        file.write("import os\nos.system('id')\n")
    done = audit(str(prefix))
    assert "file.unreadable" in rules(done)
    assert canonical(done.verdict.findings)
    assert json.dumps(done.inventory.to_json(), ensure_ascii=False).encode()


def test_a_pipe_does_not_hang_the_audit(environment: Build) -> None:
    prefix = environment(files={"demo/__init__.py": ""})
    os.mkfifo(prefix / SITE / "demo/pipe.py")
    assert "source.unparsed" in rules(audit(str(prefix)))


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"\xff\xfe\x00",
        b"Name: " + b"a" * 1_000_000,
        b"Requires-Dist: " + b"(" * 10_000,
        b"Requires-Dist: x; " + b"(" * 500 + b"python_version < '3'" + b")" * 500,
        b"License-Expression: " + b"(" * 300 + b"MIT" + b")" * 300,
        b"License: " + b"MIT AND " * 100_000 + b"MIT",
        b"Version: \x1b[31mred\r\nName: </script>\n",
    ],
)
def test_metadata_of_any_kind_make_findings_not_exceptions(environment: Build, metadata: bytes) -> None:
    prefix = environment(files={"demo/__init__.py": ""})
    (prefix / SITE / "demo-1.0.dist-info/METADATA").write_bytes(metadata)
    done = audit(str(prefix))
    assert len(done.inventory.distributions) == 1
    assert "record.altered" in rules(done)


@pytest.mark.parametrize(
    "name", ["direct_url.json", "entry_points.txt", "WHEEL", "INSTALLER", "top_level.txt"]
)
@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b"\xff", b"[a\n[b]\n=\n", b"null", b'{"url": 1, "dir_info": []}']
)
def test_small_files_of_any_kind_are_survived(environment: Build, name: str, data: bytes) -> None:
    prefix = environment(files={"demo/__init__.py": ""}, extra={name: data})
    assert audit(str(prefix)).inventory.distributions


def test_hooks_are_read_and_never_run(environment: Build, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    code = f"import pathlib; pathlib.Path({str(marker)!r}).write_text('x')\n"
    done = audit(str(environment(files={"demo.py": code, "demo.pth": code, "sitecustomize.py": code})))
    assert not marker.exists()
    assert "hook.risky" in rules(done)


def test_what_is_no_environment_is_an_error_that_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="virtual environment"):
        locate(str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="site-packages"):
        locate(str(tmp_path))


def test_the_default_is_the_environment_it_runs_in() -> None:
    assert locate().prefix == sys.prefix


def test_a_folder_is_walked_in_the_same_order_every_time(planted: Audit) -> None:
    environment = planted.inventory.environment
    assert list(walk(environment)) == list(walk(environment))


@pytest.mark.parametrize("field", ["hashes", "sizes"])
def test_a_file_that_grows_a_byte_is_altered(environment: Build, field: str) -> None:
    prefix = environment(files={"demo/__init__.py": "A = 1\n"})
    place = Environment(str(prefix), (SITE,), "3.11")
    data = b"A = 1\n"
    claims: dict[str, Any] = {"hashes": (record.record_hash(data),), "sizes": (len(data),)}
    entry = Entry(f"{SITE}/demo/__init__.py", ("demo",), **claims)
    assert record.verify(place, [entry]) == []
    (prefix / SITE / "demo/__init__.py").write_bytes(data + b"\n")
    assert [item.rule for item in record.verify(place, [entry])] == ["record.altered"]
