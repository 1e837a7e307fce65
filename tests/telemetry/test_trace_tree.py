"""What caused what in a run, from its journal and the audit log."""

from __future__ import annotations

from typing import Any

import pytest
from trace_kit import AGENT, BOOM, JOURNAL, RUN, T0, VIEW, entry, event, started, succeeded

from aip.telemetry import trace
from aip.telemetry.trace import Node, Trace, concerns, plan_agent, trace_of


def found(of: Trace, kind: str, name: str = "") -> Node:
    return next(node for node in of.root.walk() if node.kind == kind and name in (node.name, ""))


def parent(of: Trace, child: Node) -> Node:
    return next(node for node in of.root.walk() if child in node.children)


def shape(node: Node) -> Any:
    """The tree by kinds and names."""
    below = [shape(child) for child in node.children]
    return (f"{node.kind} {node.name}", below) if below else f"{node.kind} {node.name}"


# The journal alone


def test_the_journal_alone_gives_tasks_attempts_and_gates() -> None:
    assert shape(trace_of(RUN, VIEW, JOURNAL).root) == (
        "run market-report",
        [
            "note run_moved",
            ("task find", ["attempt researcher", "attempt researcher"]),
            ("task approve", ["gate approve"]),
        ],
    )


def test_each_node_tells_how_long_it_took_and_what_it_came_to() -> None:
    made = trace_of(RUN, VIEW, JOURNAL)
    first, second = found(made, "task", "find").children
    assert (first.outcome, first.error, first.facts["spent"]) == ("failed", BOOM, {"tokens": 7})
    assert (second.outcome, second.facts["attempt"]) == ("succeeded", 2)
    assert (second.started_at_s, second.ended_at_s) == (T0 + 4, T0 + 9)
    assert (made.root.outcome, made.root.ended_at_s) == ("succeeded", T0 + 13)
    gate = found(made, "gate")
    assert (gate.outcome, gate.facts["by"], gate.facts["question"]) == ("approve", "user:bob", "Publish?")


def test_of_a_run_at_work_what_has_not_ended_is_open() -> None:
    made = trace_of(RUN, VIEW, JOURNAL[:4])
    assert {node.kind for node in made.root.walk() if node.outcome == "open"} == {"run", "task", "attempt"}


def test_a_retry_by_a_person_is_another_node_of_the_task_and_opens_the_run_again() -> None:
    again = [
        event("run_retried", 20, task="find", by="user:ada"),
        event("task_ready", 20, task="find", units=1),
        started("find", 3, 20),
    ]
    made = trace_of(RUN, VIEW, [*JOURNAL, *again])
    finds = [node for node in made.root.children if node.name == "find"]
    assert [(node.id, node.outcome) for node in finds] == [
        ("task/find/1", "succeeded"),
        ("task/find/2", "open"),
    ]
    assert made.root.ended_at_s is None


def test_a_task_that_was_skipped_has_a_node_with_the_reason() -> None:
    skipped = event("task_skipped", 5, task="log", reason="its `if` is false")
    node = found(trace_of(RUN, VIEW, [*JOURNAL[:2], skipped]), "task", "log")
    assert (node.outcome, node.facts["reason"]) == ("skipped", "its `if` is false")


def test_an_event_of_a_newer_version_is_a_note_and_no_failure() -> None:
    newer = event("task_dreamt", 5, task="find", of="sheep")
    made = trace_of(RUN, VIEW, [*JOURNAL[:4], newer])
    note = found(made, "note", "task_dreamt")
    assert note.facts["of"] == "sheep"
    assert parent(made, note).name == "find"


def test_the_attempts_of_a_vote_name_the_voters_in_turn() -> None:
    journal = [
        *JOURNAL[:2],
        event("task_ready", 1, task="judge", units=2),
        started("judge", 1, 1, unit=0),
        started("judge", 2, 1, unit=1, replica=1),
    ]
    judge = found(trace_of(RUN, VIEW, journal), "task", "judge")
    assert [child.facts["agent"] for child in judge.children] == ["critic", "critic"]


# The audit log


def test_an_effect_hangs_below_the_attempt_that_its_key_names() -> None:
    key = f"mail:{RUN}/find/0"
    entries = [
        entry("effect.begun", 5, effect="mail", key=key),
        entry("effect.done", 6, effect="mail", key=key),
    ]
    made = trace_of(RUN, VIEW, JOURNAL, entries)
    effect = found(made, "effect", "mail")
    assert (effect.outcome, effect.started_at_s, effect.ended_at_s) == ("done", T0 + 5, T0 + 6)
    assert parent(made, effect).facts["attempt"] == 2


@pytest.mark.parametrize(("at_s", "attempt"), [(2, 1), (5, 2)])
def test_an_effect_with_a_key_of_its_author_goes_by_agent_and_time(at_s: float, attempt: int) -> None:
    made = trace_of(
        RUN, VIEW, JOURNAL, [entry("effect.begun", at_s, effect="pay", key="pay:invoice-7", run=RUN)]
    )
    assert parent(made, found(made, "effect", "pay")).facts["attempt"] == attempt


def test_an_effect_that_was_begun_and_never_ended_stays_open() -> None:
    made = trace_of(RUN, VIEW, JOURNAL, [entry("effect.begun", 5, effect="pay", key="pay:x", run=RUN)])
    assert found(made, "effect").outcome == "open"


def test_a_refusal_hangs_below_the_attempt_of_its_sender() -> None:
    refused = entry(
        "message.refused",
        5,
        "mailer@0123456789ab/any",
        sender=AGENT,
        capability="send",
        code="refused.denied",
        run=RUN,
    )
    made = trace_of(RUN, VIEW, JOURNAL, [refused])
    refusal = found(made, "refusal", "send")
    assert refusal.error == {"code": "refused.denied", "message": ""}
    assert parent(made, refusal).facts["attempt"] == 2


def test_where_an_agent_was_at_several_attempts_of_one_task_the_task_is_named() -> None:
    journal = [*JOURNAL[:3], started("find", 1, 1), started("find", 2, 1, unit=1)]
    made = trace_of(RUN, VIEW, journal, [entry("agent.started", 2, incarnation=1)])
    assert parent(made, found(made, "note", "agent.started")).kind == "task"


def test_what_cannot_be_attributed_says_so_and_is_not_guessed() -> None:
    made = trace_of(RUN, VIEW, JOURNAL, [entry("agent.started", 11, incarnation=2)])
    note = found(made, "note", "agent.started")
    assert parent(made, note) is made.root
    assert note.facts["attributed"] is False


def test_entries_of_other_runs_are_passed_over() -> None:
    others = [
        entry("effect.begun", 5, "researcher@0123456789ab/r-12.researcher.0", effect="x", key="k"),
        entry("flush", 5, "cell-1#1", admitted=3, root="00"),
        entry("run.cancel", 5, "r-2", by="user:ada"),
    ]
    assert not any(concerns(one, RUN) for one in others)
    assert shape(trace_of(RUN, VIEW, JOURNAL, others).root) == shape(trace_of(RUN, VIEW, JOURNAL).root)


# Messages


def row(id: str, causation: str, begin_s: float, sender: str = AGENT, code: str = "") -> list[Any]:
    attempt = f"{RUN}/find/0/1.2"
    return [id, causation, attempt, sender, f"x/{id}", "do", T0 + begin_s, T0 + begin_s + 1, code]


def test_messages_hang_below_the_message_that_caused_them_however_their_rows_come() -> None:
    rows = [
        row("m3", "m2", 6, code="undelivered.agent_lost"),
        row("m2", "m1", 5),
        row("m1", "", 4, sender=f"run/{RUN}"),
    ]
    made = trace_of(RUN, VIEW, JOURNAL, [entry("messages", 9, "cell-1#1", run=RUN, rows=rows)])
    assert made.messages_recorded
    (third,) = found(made, "message").children
    assert third.id == "message/m3"
    assert (third.outcome, third.error) == ("failed", {"code": "undelivered.agent_lost", "message": ""})
    top = next(node for node in made.root.walk() if node.id == "message/m2")
    assert parent(made, top).facts["attempt"] == 2  # m1 is the attempt's own envelope, and no node beside it.


def test_without_rows_the_trace_says_that_messages_were_not_recorded() -> None:
    assert not trace_of(RUN, VIEW, JOURNAL).messages_recorded


def test_a_tree_is_bounded_and_counts_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "NODES_MAX", 3)
    made = trace_of(RUN, VIEW, JOURNAL)
    assert sum(1 for _ in made.root.walk()) == 3
    assert made.left_out == 4


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (AGENT, ("researcher", 0)),
        (f"model-agent@0123456789ab/{RUN}.models.writer.12", ("models.writer", 12)),
        (f"helper@0123456789ab/{RUN}.researcher.3.1-2", ("researcher", 3)),
        ("greeter@0123456789ab/ada", ("greeter", None)),
        ("greeter/r-12.researcher.0", ("greeter", None)),
        (f"run/{RUN}", ("run", None)),
    ],
)
def test_an_address_names_the_plans_agent(address: str, expected: tuple[str, int | None]) -> None:
    assert plan_agent(address, RUN) == expected


def test_the_json_of_a_trace_is_plain() -> None:
    plain = trace_of(RUN, VIEW, [*JOURNAL[:3], started("find", 1, 1), succeeded(1, 2)]).root.to_json()
    assert plain["children"][1]["children"][0]["outcome"] == "succeeded"
    assert plain["submitted_by"] == "user:ada"
