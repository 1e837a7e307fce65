"""The reports: valid by their schemas, the same bytes every time, and harmless whatever the environment contains."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from gate.audit import Audit
from gate.finding import Finding, canonical, finding
from gate.report import bom, content, graph, markdown, page, sarif, timeline
from gate.report.content import BaselineInvalid, Report
from gate.verdict import Verdict
from gate_kit import DATA, EXAMPLE
from hypothesis import given, settings
from hypothesis import strategies as st

HOSTILE = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "<!--<script>",
    "]]></style><svg/onload=alert(1)>",
    "`` ` <b>bold</b> [x](javascript:alert(1)) | a | \n# heading",
    "\u202e\u2066\x00\x1b[31m\udc80",
]
RUN = {
    "id": "r1",
    "tasks": [
        {
            "name": "inventory",
            "start_s": 0,
            "end_s": 1.5,
            "state": "succeeded",
            "attempts": 1,
            "critical": True,
        },
        {"name": HOSTILE[0], "start_s": 1.5, "end_s": 9, "state": "succeeded", "attempts": 2},
    ],
    "killed": [{"what": "a cell", "at_s": 4.2}],
}


def report_of(done: Audit, **changes: Any) -> Report:
    state = content.state_of(done.verdict)
    return replace(Report(done.inventory, done.dependencies, done.licences, done.verdict, state), **changes)


def with_findings(done: Audit, findings: list[Finding], votes: Mapping[str, Any] | None = None) -> Report:
    verdict = Verdict("hold", (), {"high": len(findings)}, 0, 0, tuple(findings), votes or {})
    return report_of(done, verdict=verdict)


class Page(HTMLParser):
    """Every tag, attribute and script of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and data.strip() and data == page.SCRIPT:
            self.scripts.append(data)


@pytest.fixture
def full(planted: Audit) -> Report:
    return report_of(planted, run=RUN, created="2026-01-01T00:00:00+00:00")


def test_sarif_is_valid_by_the_schema_of_oasis(full: Report) -> None:
    schema = json.loads((DATA / "sarif-schema-2.1.0.json").read_text())
    document = sarif.document(full)
    jsonschema.Draft4Validator(schema).validate(document)
    assert len(document["runs"][0]["results"]) == len(full.findings)


def test_sarif_shows_an_accepted_finding_as_suppressed(full: Report) -> None:
    results = sarif.document(full)["runs"][0]["results"]
    assert {r["ruleId"] for r in results if "suppressions" in r} == {"native.unexpected"}


def test_the_bill_of_materials_is_valid_cyclonedx(full: Report) -> None:
    text = content.dump(bom.document(full)).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    names = {item["name"] for item in json.loads(text)["components"]}
    assert names == {item.name for item in full.inventory.distributions}


def test_the_bill_says_who_depends_on_whom(full: Report) -> None:
    needs = {item["ref"]: item["dependsOn"] for item in bom.document(full)["dependencies"]}
    assert needs["pkg:pypi/apache@1.0"] == [
        "pkg:pypi/agpl@1.0",
        "pkg:pypi/choice@1.0",
        "pkg:pypi/gpl-two@1.0",
    ]


def test_a_report_is_written_whole_and_its_findings_do_not_know_the_time(
    planted: Audit, tmp_path: Path
) -> None:
    early, late = (
        report_of(planted, created=created)
        for created in ("2026-01-01T00:00:00+00:00", "2030-01-01T00:00:00+00:00")
    )
    one, two = content.write(tmp_path / "one", early), content.write(tmp_path / "two", late)
    assert set(one) == {
        "findings.json",
        "report.json",
        "report.sarif",
        "bom.cdx.json",
        "report.md",
        "report.html",
    }
    for name in ("findings.json", "report.sarif", "bom.cdx.json"):
        assert Path(one[name]).read_bytes() == Path(two[name]).read_bytes()
    assert Path(one["findings.json"]).read_bytes() == canonical(planted.verdict.findings)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(one)


def test_a_held_release_says_so_and_a_decision_is_added_later(planted: Audit) -> None:
    held = report_of(planted)
    assert held.state == "held for approval"
    approved = content.decided(
        held, {"decision": "approve", "by": "ada", "note": "seen <b>it</b>"}, "succeeded"
    )
    denied = content.decided(held, None, "failed")
    assert (approved.state, denied.state) == ("approved", "denied")
    assert "ada" in markdown.render(approved)
    assert "&lt;b&gt;" in page.render(approved)
    assert "Denied" in page.render(denied)


def test_a_release_that_may_ship_needs_no_decision(planted: Audit) -> None:
    clean = report_of(planted, verdict=replace(planted.verdict, decision="ship"), state="ship")
    assert content.decided(clean, None, "skipped") == clean


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_from_the_environment_becomes_markup(planted: Audit, tmp_path: Path, text: str) -> None:
    item = finding("risk.exec", text, text, 3, text, text, symbol=text)
    tally = {
        "decision": text,
        "votes": [{"voter": text, "vote": text, "confidence": text, "reason": text, "evidence": [text]}],
    }
    report = with_findings(
        planted, [item], {item.id: {**tally, "votes": [{**tally["votes"][0], "confidence": 0.5}]}}
    )
    report = replace(
        report, state="held for approval", decision={"decision": text, "reason": text}, run=RUN, created=text
    )
    report = content.with_changes(report, content.Changes((item,), (item,), (text,)))
    parsed, plain = Page(page.render(report)), Page(page.render(report_of(planted)))
    assert set(parsed.tags) <= set(plain.tags) | {
        "b",
        "p",
        "ul",
        "li",
        "svg",
        "g",
        "rect",
        "text",
        "path",
        "pre",
        "table",
        "br",
    }
    assert parsed.tags.count("script") == 1
    assert parsed.tags.count("style") == 1
    assert not [name for name, _ in parsed.attributes if name.startswith("on") or name in ("src", "style")]
    outside_code = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", markdown.render(report).replace("\\`", ""))
    assert "<" not in outside_code
    assert "](" not in outside_code
    assert content.write(tmp_path, report)


def test_the_policy_allows_exactly_the_page_s_own_script_and_style(full: Report) -> None:
    text = page.render(full)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])  # type: ignore[index]
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]  # type: ignore[index]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]  # type: ignore[index]
    assert f"script-src '{page.digest(script)}'" in policy
    assert f"style-src '{page.digest(style)}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<[^>]*\s(?:src|href|action)=|url\(|@import", text)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_markdown_text_never_contains_html(value: str) -> None:
    assert "<" not in markdown.text(value)
    assert "\n" not in markdown.text(value) + markdown.code(value)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="`ab |", max_size=60))
def test_a_code_span_cannot_be_ended_from_inside(value: str) -> None:
    span = markdown.code(value)
    if span:
        fence = re.match(r"`+", span)[0]  # type: ignore[index]
        inner = span[len(fence) : -len(fence)]
        assert fence not in inner
        assert not inner.startswith("`")


def test_the_page_shows_verdict_votes_graph_licences_and_timeline(full: Report) -> None:
    text = page.render(full)
    for wanted in (
        "Held for approval",
        "provenance",
        "Who needs whom",
        "strong",
        "critical-path",
        "killed: a cell at 4.2 s",
    ):
        assert wanted in text


def test_without_a_run_the_timeline_says_so() -> None:
    assert "No timeline" in timeline.render(None)
    assert "No timeline" in timeline.render({"tasks": "nonsense"})


def test_the_graph_puts_who_needs_left_of_what_is_needed_and_survives_circles(planted: Audit) -> None:
    column = graph.layers(["apache", "gpl-two", "space-one", "space-two"], planted.dependencies.edges)
    assert column["apache"] < column["gpl-two"]
    assert column["space-two"] < column["space-one"]
    from gate.dependency import Edge

    circle = [Edge("a", "b", True, True), Edge("b", "a", True, True), Edge("b", "c", True, True)]
    assert graph.layers("abc", circle) == {"a": 0, "b": 1, "c": 2}


def test_a_baseline_tells_what_is_new_and_what_is_gone(planted: Audit, tmp_path: Path) -> None:
    files = content.write(tmp_path, report_of(planted))
    before = content.load_baseline(Path(files["report.json"]))
    same = content.compare(before, planted.verdict, planted.inventory)
    assert (same.new, same.gone, same.distributions) == ((), (), ())
    fewer = replace(planted.verdict, findings=planted.verdict.findings[1:])
    less = content.compare(before, fewer, planted.inventory)
    assert [item.id for item in less.gone] == [planted.verdict.findings[0].id]
    before["distributions"] = {**before["distributions"], "agpl": "0.9", "ghost": "1"}
    del before["distributions"]["apache"]
    changed = content.compare(before, planted.verdict, planted.inventory)
    assert changed.distributions == ("agpl: 0.9 → 1.0", "apache: 1.0 added", "ghost: 1 removed")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "other"}', "[" * 100_000, '{"format": "release-gate/1"}']
)
def test_what_is_no_report_is_refused_as_baseline(planted: Audit, tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(BaselineInvalid):
        content.compare(content.load_baseline(path), planted.verdict, planted.inventory)


def test_the_whole_example_is_there() -> None:
    assert {"plan.yaml", "agents.py", "gate", "planted"} <= {path.name for path in EXAMPLE.iterdir()}
