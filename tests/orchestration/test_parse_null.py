"""A plan is told where one of its tasks may be handed null, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest

from aip.orchestration.parse import parse
from aip.orchestration.parse.check_null import CODE, cautions
from aip.orchestration.parse.problem import PROBLEMS_MAX

ROOT = Path(__file__).parents[2]
HEAD = "apiVersion: aip/v1\nkind: Plan\nmetadata: {name: p}\nagents: {a: {use: 'm:A'}}\ntasks:\n"
FIRST_LINE = HEAD.count("\n") + 1


def told(*tasks: str) -> list[str]:
    """The cautions of a plan of these tasks: `LINE:COLUMN message`, the line counted among the tasks."""
    text = HEAD + "".join(f"  {one}\n" for one in tasks)
    found = cautions(parse(text.encode(), "plan.yaml"))
    assert all(one.code == CODE and one.file == "plan.yaml" and one.suggestion for one in found)
    return [f"{one.line - FIRST_LINE + 1}:{one.column} {one.message}" for one in found]


def a(name: str, reads: str = "", when: str = "all_ok", **keys: str) -> str:
    more = "".join(f", {'if' if key == 'condition' else key}: {value}" for key, value in keys.items())
    given = f', with: {{x: "${{{{ {reads} }}}}"}}' if reads else ""
    return f"{name}: {{agent: a, capability: work, when: {when}{given}{more}}}"


FIND, READ = a("find"), a("read", needs="[find]")  # A failure of `find` has `read` skipped.


def test_a_failure_two_tasks_back_is_not_seen_by_none_failed() -> None:
    (caution,) = told(FIND, READ, a("write", "tasks.read.output.text", when="none_failed"))
    assert caution.startswith(
        "3:3 write reads `tasks.read.output.text`, which is null if read is skipped because find failed"
    )


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (a("write", "tasks.read.output", when="always"), "if read does not succeed"),
        (a("write", "tasks.read.output", when="any_ok", needs="[find]"), "if read does not succeed"),
        (a("write", "'by: ' + string(tasks.read.output)", when="none_failed"), "because find failed"),
        (a("write", when="none_failed", for_each='"${{ tasks.read.output }}"'), "because find failed"),
        (a("write", when="none_failed", condition='"${{ tasks.read.output.ok }}"'), "because find failed"),
    ],
)
def test_every_when_that_lets_a_task_start_without_a_result_is_told(task: str, why: str) -> None:
    (caution,) = told(FIND, READ, task)
    assert why in caution


@pytest.mark.parametrize(
    "task",
    [
        a("write", "tasks.read.output"),  # all_ok
        a("write", "tasks.read.output", when="any_ok"),  # It has no other need.
        a("write", "tasks.find.output", when="none_failed"),  # Nothing stands behind `find`.
        a("write", "tasks.read.output", when="none_failed", needs="[find]"),  # It sees the failure itself.
        a("write", "tasks.read.status", when="always"),
        a("write", "tasks.read.status == 'succeeded' ? tasks.read.output : ''", when="none_failed"),
        a("write", "has(tasks.read.output) ? tasks.read.output : ''", when="always"),
        a("write", "tasks.read.output == null ? '' : tasks.read.output", when="always"),
        a(
            "write",
            "tasks.read.output",
            when="always",
            condition="\"${{ tasks.read.status == 'succeeded' }}\"",
        ),
        a("write", when="always", needs="[read]"),
        'write: {agent: a, capability: work, when: always, with: {x: "${{ tasks.read.output }}", s: "${{ tasks.read.status }}"}}',
    ],
)
def test_what_cannot_be_null_or_is_looked_at_first_is_not_told(task: str) -> None:
    assert told(FIND, READ, task) == []


def test_what_its_own_if_skips_is_meant_to_be_skipped() -> None:
    skipped = a("read", condition='"${{ inputs.deep }}"')
    text = (
        HEAD
        + f"  {skipped}\n  {a('write', 'tasks.read.output', when='none_failed')}\ninputs: {{deep: {{type: boolean}}}}\n"
    )
    assert cautions(parse(text.encode(), "plan.yaml")) == []


def test_an_if_speaks_for_all_that_a_task_could_not_succeed_without() -> None:
    draft, kept = a("draft", "tasks.read.output"), a("keep", "tasks.draft.output")
    asked = "\"${{ tasks.keep.status == 'succeeded' }}\""
    reader = a("write", "tasks.draft.output", when="none_failed", needs="[keep]", condition=asked)
    assert told(FIND, READ, draft, kept, reader) == []
    kept = a("keep", "tasks.draft.status", when="always")
    assert "because" in told(FIND, READ, draft, kept, reader)[0]


def test_a_skip_goes_on_down_a_chain_but_not_past_a_task_that_always_runs() -> None:
    chain = [a("b", "tasks.find.output"), a("c", "tasks.b.output")]
    reader = a("write", "tasks.c.output", when="none_failed", needs="[b]")
    assert "because find failed" in told(FIND, *chain, reader)[0]
    chain[0] = a("b", needs="[find]", when="always")
    assert told(FIND, *chain, reader) == []


def test_the_tasks_of_finally_are_looked_at_among_themselves() -> None:
    closing = [a("tidy"), a("note", "tasks.tidy.output", when="always")]
    text = HEAD + f"  {FIND}\nfinally:\n" + "".join(f"  {one}\n" for one in closing)
    (caution,) = cautions(parse(text.encode(), "plan.yaml"))
    assert caution.message.startswith("note reads `tasks.tidy.output`")


def test_a_thousand_of_them_are_not_listed() -> None:
    many = [a(f"w{number}", "tasks.read.output", when="always") for number in range(PROBLEMS_MAX + 10)]
    assert len(told(FIND, READ, *many)) == PROBLEMS_MAX


MEANT = {  # What an example does on purpose: its agent takes null for it.
    "release-gate/plan.yaml": ["conclude reads `tasks.baseline.output`"]
}


def test_no_plan_among_the_examples_is_handed_null_unmeant() -> None:
    found = {}
    for path in sorted((ROOT / "examples").glob("**/plan*.yaml")):
        told = [one.message.partition(",")[0] for one in cautions(parse(path.read_bytes(), path.name))]
        if told:
            found[f"{path.parent.name}/{path.name}"] = told
    assert found == MEANT
