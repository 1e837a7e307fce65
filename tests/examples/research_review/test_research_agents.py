"""The agents on the road: what is not readable fails alone, what is discarded is gone, what is published is published once."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from research_kit import DOCUMENTS, QUESTION, TORN

import aip.testing
from aip.errors import BudgetExceeded, InvalidPayload, NotFound


async def written(test: aip.testing.TestPlatform) -> tuple[list[str], list[Any], dict[str, Any]]:
    """Find, read, draft as the plan does: None for what could not be read."""
    found = await test.call("librarian/any", "library.find", folder=None, question=QUESTION, limit=8)
    notes: list[Any] = []
    for name in found:
        try:
            one = await test.call(
                "librarian/any", "library.read", folder=None, document=name, question=QUESTION
            )
        except InvalidPayload:
            one = None
        notes.append(one)
    return found, notes, await test.call("author/any", "report.write", question=QUESTION, notes=notes)


async def test_one_torn_page_is_one_failed_item_and_the_report_says_so(
    agents: ModuleType, tmp_path: Path
) -> None:
    async with aip.testing.platform(agents.Librarian, agents.Author) as test:
        found, notes, draft = await written(test)
        assert [name for name, note in zip(found, notes, strict=True) if note is None] == [TORN]
        assert len(found) // 4 >= 1, "within the plan's 25 %"
        given = {"found": found, "notes": notes, "output": str(tmp_path)}
        path = await test.call("author/any", "report.keep", draft=draft, slot="r-1", **given)
    assert Path(path).read_text().endswith(f"Not read: {TORN}.\n")


async def test_three_reviewers_judge_the_same_draft(agents: ModuleType) -> None:
    kinds = (agents.Citations, agents.Coverage, agents.Tone)
    async with aip.testing.platform(agents.Librarian, agents.Author, *kinds) as test:
        _, notes, draft = await written(test)
        forged = {
            **draft,
            "sections": [
                {
                    **draft["sections"][0],
                    "statements": [{**draft["sections"][0]["statements"][0], "sentence": 90}],
                },
                *draft["sections"][1:],
            ],
        }
        votes = {}
        for name in ("citations", "coverage", "tone"):
            given = {"question": QUESTION, "notes": notes, "folder": str(DOCUMENTS)}
            votes[name] = [
                (await test.call(f"{name}/any", "report.review", draft=one, **given))["vote"]
                for one in (draft, forged)
            ]
    assert votes == {
        "citations": ["publish", "revise"],
        "coverage": ["publish", "publish"],
        "tone": ["publish", "publish"],
    }


async def test_undoing_a_draft_twice_does_no_harm(agents: ModuleType, tmp_path: Path) -> None:
    async with aip.testing.platform(agents.Librarian, agents.Author) as test:
        found, notes, draft = await written(test)
        given = {"draft": draft, "found": found, "notes": notes, "output": str(tmp_path)}
        mine = await test.call("author/any", "report.keep", slot="r-1", **given)
        theirs = await test.call("author/any", "report.keep", slot="r-2", **given)
        undone = [
            await test.call("author/any", "report.discard", output=str(tmp_path), slot="r-1")
            for _ in range(2)
        ]
    assert undone == [True, False]
    assert not Path(mine).exists()
    assert Path(theirs).exists()


async def test_a_report_is_published_once_for_a_run_however_often_it_is_asked(
    agents: ModuleType, tmp_path: Path
) -> None:
    async with aip.testing.platform(agents.Librarian, agents.Author, agents.Publisher) as test:
        found, notes, draft = await written(test)
        given = {"draft": draft, "output": str(tmp_path), "slot": "r-1"}
        kept = await test.call("author/any", "report.keep", found=found, notes=notes, **given)
        first = await test.call("publisher/any", "report.publish", kept=kept, **given)
        await test.call("publisher/any", "report.tidy", output=str(tmp_path), slot="r-1")
        again = await test.call("publisher/any", "report.publish", kept=kept, **given)
        assert first == again
        log = tmp_path / "published" / "log.txt"
        assert log.read_text() == "r-1 how-was-longitude-found-at-sea.md\n"
        assert len(test.audit.of("effect.done")) == 1
    assert not Path(kept).exists()


async def test_what_cannot_be_published_leaves_no_line_and_may_be_begun_again(
    agents: ModuleType, tmp_path: Path
) -> None:
    async with aip.testing.platform(agents.Librarian, agents.Author, agents.Publisher) as test:
        found, notes, draft = await written(test)
        given = {"draft": draft, "output": str(tmp_path), "slot": "r-1"}
        with pytest.raises(aip.errors.AgentFailed, match="FileNotFoundError"):
            await test.call("publisher/any", "report.publish", kept=str(tmp_path / "gone.md"), **given)
        assert not (tmp_path / "published" / "log.txt").exists()
        kept = await test.call("author/any", "report.keep", found=found, notes=notes, **given)
        await test.call("publisher/any", "report.publish", kept=kept, **given)
    assert (tmp_path / "published" / "log.txt").read_text().count("\n") == 1


async def test_reading_is_paid_for_and_finding_is_not(agents: ModuleType) -> None:
    async with aip.testing.platform(agents.Librarian, budget={"tool_calls": 1}) as test:
        ask = {"folder": None, "question": QUESTION}
        await test.call("librarian/any", "library.find", limit=3, **ask)
        await test.call("librarian/any", "library.read", document="chronometers.md", **ask)
        with pytest.raises(BudgetExceeded):
            await test.call("librarian/any", "library.read", document="chronometers.md", **ask)


async def test_a_question_that_no_document_answers_has_no_report(agents: ModuleType) -> None:
    async with aip.testing.platform(agents.Author) as test:
        with pytest.raises(NotFound, match="no document says anything"):
            await test.call("author/any", "report.write", question="Whales?", notes=[None])
