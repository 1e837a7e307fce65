"""A compliance report counts what the log shows, says what it does not show, and is safe to open."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_log import ADA, EVERY_KIND, T0, Said

from aip.governance.entry import AuditChain, Batch, Noted
from aip.governance.export import record_facts, report_html, report_markdown
from aip.governance.export.clauses import FRAMEWORKS, SOC2
from aip.governance.export.compliance import DAY_S, Basis, Report, Standing, report
from aip.governance.export.record_facts import LISTED_MAX, gather
from aip.governance.export.selection import Selection

STANDING = Standing(
    origin="aip.test/audit",
    size=33,
    root="ab" * 32,
    verified=True,
    problems=(),
    trusted_key=True,
    witnesses=1,
    oldest_at=T0,
    dropped=0,
)


def entries(*said: Said, step_s: float = 1.0) -> list[dict[str, Any]]:
    chain = AuditChain()
    notes = [
        Noted(n, T0 + n * step_s, kind, subject, detail) for n, (kind, subject, detail) in enumerate(said)
    ]
    return [msgspec.json.decode(line) for line in chain.entered(Batch("cell-1", notes))]


def made(framework: str, *said: Said, standing: Standing = STANDING, after_s: float = 3_600) -> Report:
    return report(
        FRAMEWORKS[framework], Basis(gather(entries(*said)), standing, None, None, T0 + after_s, "user:ada")
    )


def shown(found: Report, clause: str) -> str:
    return "\n".join(line for one in found.findings if clause in one.name for line in one.shows)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_clause_says_what_it_shows_how_to_check_it_and_what_it_does_not_show(framework: str) -> None:
    found = made(framework, *EVERY_KIND)
    assert found.findings
    for one in found.findings:
        assert one.asks
        assert one.shows
        assert one.check
        assert one.not_shown


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_empty_log_is_reported_as_one(framework: str) -> None:
    empty = Standing("x", 0, "00" * 32, False, ("no signed checkpoint",), False, 0, None, 0)
    text = report_markdown.render(made(framework, standing=empty))
    assert "0 entries" in text
    assert "compliant" not in text.replace("not an assessment", "")


def test_stop_orders_are_told_with_their_times_and_who_gave_them() -> None:
    text = shown(
        made(
            "ai-act",
            (
                "kill",
                "run/r-1",
                {"by": "user:ada", "reason": "it loops", "ordered_at": T0 - 0.25, "level": "quarantine"},
            ),
            ("message.refused", ADA, {"code": "refused.killed"}),
            ("kill.lifted", "run/r-1", {"by": "user:bob", "reason": "fixed", "ordered_at": T0 + 1.5}),
        ),
        "14(4)(e)",
    )
    assert "1 stop order raised, 1 lifted." in text
    assert (
        "2026-11-22T17:53:20Z: user:ada ordered quarantine on run/r-1 (it loops); its entry followed after 0.25 s."
        in text
    )
    assert "user:bob lifted the order on run/r-1" in text
    assert "1 message or effect refused because of a stop order." in text


def test_approvals_are_told_with_how_long_they_waited() -> None:
    text = shown(
        made(
            "ai-act",
            ("gate.opened", "r-1", {"task": "approve", "question": "go on?"}),
            ("run.decide", "r-1", {"by": "user:ada", "task": "approve", "decision": "approved"}),
            ("run.cancel", "r-2", {"by": "user:ada"}),
        ),
        "14(4)(d)",
    )
    assert "1 question put to people, 1 answered; median wait 1 s." in text
    assert "user:ada: approved at approve of r-1." in text
    assert "run.cancel 1" in text


def test_effects_without_an_end_are_counted() -> None:
    begun = [("effect.begun", ADA, {"effect": "mail", "key": f"mail:{n}"}) for n in range(4)]
    ends: list[Said] = [
        ("effect.done", ADA, {"effect": "mail", "key": "mail:0"}),
        ("effect.failed", ADA, {"effect": "mail", "key": "mail:1"}),
        ("effect.unknown", ADA, {"effect": "mail", "key": "mail:2"}),
    ]
    text = shown(made("iso42001", *begun, *ends), "A.6.2.8")
    assert "begun 4, done 1, failed 1, refused 0, unknown 1; 2 effects without a recorded end" in text


@pytest.mark.parametrize(("days", "words"), [(10, "less than the 183 days"), (200, "six months or more")])
def test_how_far_the_log_reaches_back_is_held_against_six_months(days: int, words: str) -> None:
    text = shown(made("ai-act", *EVERY_KIND, after_s=days * DAY_S), "19(1)")
    assert words in text
    assert f"{days} days ago" in text


def test_a_log_that_does_not_hold_is_said_in_every_framework() -> None:
    broken = Standing("x", 3, "00" * 32, False, ("changed: line 2",), False, 0, T0, 0)
    for framework in ("ai-act", "iso42001"):
        text = report_markdown.render(made(framework, *EVERY_KIND, standing=broken))
        assert "DO NOT HOLD" in text
        assert "line 2" in text


def test_lists_are_cut_and_say_so_and_counts_are_exact() -> None:
    orders = [("kill", f"run/r-{n}", {"by": "user:ada"}) for n in range(LISTED_MAX + 5)]
    text = shown(made("ai-act", *orders), "14(4)(e)")
    assert f"{LISTED_MAX + 5} stop orders raised" in text
    assert f"The first {LISTED_MAX} of them:" in text
    assert text.count("ordered terminate") == LISTED_MAX


def test_the_policy_that_was_in_force_at_the_beginning_is_named() -> None:
    facts = gather(entries(*EVERY_KIND), Selection(since=T0 + 3, until=T0 + 10))
    text = shown(report(SOC2, Basis(facts, STANDING, T0 + 3, T0 + 10, T0 + 60, "user:ada")), "CC7.1")
    assert text == (
        "Policy revision rev-1 in force since 2026-11-22T17:53:20Z (entry 0).\nNo activation of a policy in this time."
    )


def test_gaps_of_producers_are_told() -> None:
    chain = AuditChain()
    chain.entered(Batch("a", [Noted(1, T0, "x", "y", {})]))
    lines = chain.entered(Batch("a", [Noted(9, T0, "x", "y", {})]))
    facts = gather(msgspec.json.decode(line) for line in lines)
    text = shown(report(SOC2, Basis(facts, STANDING, None, None, T0, "user:ada")), "CC7.2")
    assert "7 entries that producers numbered never reached the log" in text


def test_kinds_without_end_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_facts, "KINDS_MAX", 2)
    facts = gather(entries(*((f"kind{n}", "x", {}) for n in range(5))))
    assert facts.kinds == {"kind0": 1, "kind1": 1, "(other kinds)": 3}


# Safe to open --------------------------------------------------------------------------------------------------------

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> [x](javascript:alert(1)) `|\n# no"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


@given(words=st.text(max_size=30))
@settings(max_examples=40, deadline=None)
def test_what_agents_wrote_is_text_in_the_page_and_nothing_else(words: str) -> None:
    said = ("kill", f"run/{words}{EVIL}", {"by": EVIL + words, "reason": words + EVIL})
    page = report_html.render(
        made("ai-act", said, ("run.decide", EVIL, {"by": EVIL, "task": words, "decision": EVIL}))
    )
    found = Tags()
    found.feed(page)
    plain = Tags()
    plain.feed(report_html.render(made("ai-act", *EVERY_KIND)))
    assert found.tags <= plain.tags
    assert found.attributes <= plain.attributes
    assert "script" not in found.tags


def test_the_page_allows_one_style_by_its_hash_and_asks_nothing_of_anywhere() -> None:
    page = report_html.render(made("soc2", *EVERY_KIND))
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src &#x27;sha256-{digest}&#x27;" in page
    assert "default-src &#x27;none&#x27;" in page
    assert not re.search(r"(src|href)=", page)


def test_words_of_agents_are_no_markdown() -> None:
    text = report_markdown.render(made("ai-act", ("kill", "run/r-1", {"by": "user:ada", "reason": EVIL})))
    assert "<script>" not in text
    assert not re.search(
        r"(?<!\\)[\[\]<>]", "".join(line for line in text.splitlines() if "cmd" in line or "alert" in line)
    )
    assert "\n# no" not in text


@pytest.mark.parametrize(
    "words", ["http://evil", "https://evil", "WWW.evil.example", "eve@evil.example", "![x](y)", "**b**"]
)
def test_no_word_becomes_a_link_or_markup_by_itself(words: str) -> None:
    assert words not in report_markdown.text(words)
    assert report_markdown.text(words).replace("\\", "") == words
