"""The plan as the run machine executes it: every dispatch answered by hand, gates decided, failures where it hurts."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from research.report import Report
from research_kit import EXAMPLE, TORN

from aip.errors import ErrorRecord
from aip.orchestration import run_commands as cmd
from aip.orchestration import run_inputs as inp
from aip.orchestration.parse import resolve_inputs
from aip.orchestration.parse.plan_file import parse
from aip.orchestration.run import RunMachine
from aip.runtime import codec

FOUND = ["a.md", "b.md", "c.md", TORN]
DRAFT = {"title": "t", "sections": [{"heading": "h", "statements": []}]}
LOST = ErrorRecord("undelivered.agent_lost", "its process ended", True)


class Rehearsal:
    """A run of plan.yaml whose agents are one function; time moves only where the plan waits."""

    def __init__(self, answer: Callable[[cmd.Dispatch], Any], **inputs: Any) -> None:
        path = EXAMPLE / "plan.yaml"
        plan = parse(path.read_bytes(), str(path))
        self.machine = RunMachine(plan, load=lambda _: None, rng=random.Random(1))
        self.asked: list[cmd.Dispatch] = []
        self.end: cmd.Finish | None = None
        self._answer = answer
        self._now_s = 0.0
        given = resolve_inputs(plan, {"question": "How?", "output": "/out", **inputs})
        self.take(self.machine.accept("r-1", "text", codec.encode(given), "ada", self._now_s))

    def take(self, step: cmd.Step) -> None:
        for command in step.commands:
            if isinstance(command, cmd.Finish):
                self.end = command
            if isinstance(command, cmd.Dispatch):
                self.asked.append(command)
                value = self._answer(command)
                if isinstance(value, ErrorRecord):
                    self.tell(inp.Failed(command.attempt, command.lease, value))
                else:
                    self.tell(inp.Succeeded(command.attempt, command.lease, codec.encode(value)))

    def tell(self, message: inp.Input) -> None:
        self.take(self.machine.handle_all([message], self._now_s))

    def wait(self, seconds: float) -> None:
        self._now_s += seconds
        self.tell(inp.Tick())

    def capabilities(self) -> list[str | None]:
        return [one.capability for one in self.asked]

    def state(self, task: str) -> str:
        return str(self.machine.run.tasks[task].state)


def answers(one: cmd.Dispatch) -> Any:
    """What good agents answer; the torn page cannot be read."""
    match one.capability:
        case "library.find":
            return FOUND
        case "library.read" if one.arguments["document"] == TORN:
            return ErrorRecord("payload.invalid", f"{TORN}: byte 96 is not UTF-8")
        case "library.read":
            return {"document": one.arguments["document"], "title": "", "quotes": []}
        case "report.write":
            return DRAFT
        case "report.review":
            return {"vote": "publish", "reasons": []}
        case "report.keep":
            return "/out/drafts/r-1/report.md"
        case "report.publish":
            return {"path": "/out/published/t.md", "statements": 0}
    return True


def test_where_all_reviewers_agree_it_is_published_without_a_person() -> None:
    run = Rehearsal(answers)
    assert run.end is not None
    assert str(run.end.state) == "succeeded"
    assert run.state("approve") == "skipped"
    assert run.capabilities().count("report.publish") == 1
    assert run.capabilities()[-1] == "report.tidy"
    assert "report.discard" not in run.capabilities()


def test_a_torn_page_is_tried_once_and_is_null_in_the_notes() -> None:
    run = Rehearsal(answers)
    torn = [
        one for one in run.asked if one.capability == "library.read" and one.arguments["document"] == TORN
    ]
    assert len(torn) == 1
    (draft,) = [one for one in run.asked if one.capability == "report.write"]
    assert [note is None for note in draft.arguments["notes"]] == [False, False, False, True]


def test_two_torn_pages_of_four_are_more_than_the_plan_allows() -> None:
    def torn(one: cmd.Dispatch) -> Any:
        unreadable = one.capability == "library.read" and one.arguments["document"] in (TORN, "a.md")
        return ErrorRecord("payload.invalid", "not UTF-8") if unreadable else answers(one)

    run = Rehearsal(torn)
    assert run.state("read") == "failed"
    assert "report.write" not in run.capabilities()
    assert run.capabilities()[-1] == "report.tidy"


@pytest.mark.parametrize("broken", ["library.find", "report.write", "report.keep", "report.review"])
def test_whatever_fails_before_it_nothing_is_published(broken: str) -> None:
    error = ErrorRecord("user.not_found", "there is none")
    run = Rehearsal(lambda one: error if one.capability == broken else answers(one))
    assert run.end is not None
    assert str(run.end.state) == "failed"
    assert "report.publish" not in run.capabilities()
    assert run.capabilities()[-1] == "report.tidy"


def test_denial_undoes_the_draft_and_publishes_nothing() -> None:
    run = Rehearsal(answers, gate="always")
    assert run.end is None
    run.tell(inp.Decide("approve", "deny", "ada"))
    assert run.end is not None
    assert str(run.end.state) == "failed"
    assert "report.publish" not in run.capabilities()
    assert run.capabilities()[-2:] == ["report.discard", "report.tidy"]
    assert run.asked[-2].arguments == {"output": "/out", "slot": "r-1"}


def test_a_gate_that_nobody_answers_is_denied_after_a_day() -> None:
    run = Rehearsal(answers, gate="always")
    run.wait(23 * 3600)
    assert run.end is None
    run.wait(3600)
    assert run.state("approve") == "failed"
    assert "report.discard" in run.capabilities()


def test_one_reviewer_who_objects_brings_a_person_in() -> None:
    def objects(one: cmd.Dispatch) -> Any:
        return {"vote": "revise", "reasons": ["no"]} if one.agent == "citations" else answers(one)

    run = Rehearsal(objects)
    assert run.end is None
    run.tell(inp.Decide("approve", "approve", "ada"))
    assert run.capabilities().count("report.publish") == 1


def test_a_publisher_that_was_lost_is_asked_again_under_the_same_key() -> None:
    lost: list[str] = []

    def once_lost(one: cmd.Dispatch) -> Any:
        if one.capability == "report.publish" and not lost:
            lost.append(one.idempotency_key)
            return LOST
        return answers(one)

    run = Rehearsal(once_lost)
    run.wait(10)
    asked = [one for one in run.asked if one.capability == "report.publish"]
    assert [one.number for one in asked] == [1, 2]
    assert {one.idempotency_key for one in asked} == set(lost)
    assert {one.replica for one in asked} == {asked[0].replica}, "who has the record of the effect is asked"


@pytest.mark.parametrize("name", ["plan.yaml", "plan-with-model.yaml"])
def test_both_plans_hold_what_is_published_behind_the_same_label(name: str) -> None:
    plan = parse((EXAMPLE / name).read_bytes(), name)
    assert plan.tasks["publish"].labels == {"effect": "external-write"}
    assert plan.tasks["keep"].compensate is not None
    assert list(plan.closing) == ["tidy"]


def test_what_the_model_is_asked_for_is_a_report() -> None:
    plan = parse((EXAMPLE / "plan-with-model.yaml").read_bytes(), "plan-with-model.yaml")
    asked, known = plan.agents["author"].config["output"], Report.model_json_schema()
    assert set(asked["required"]) == set(known["required"])
    statement = asked["properties"]["sections"]["items"]["properties"]["statements"]["items"]
    assert set(statement["required"]) == set(known["$defs"]["Statement"]["required"])
