"""A goal becomes a plan that the parser and the check accept, or an honest no."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_kit import TEXT, TEXTS, VERDICT, capability, newsroom

from aip.errors import UsageError
from aip.orchestration import run_commands as cmd
from aip.orchestration import run_inputs as inp
from aip.orchestration.parse import check, parse
from aip.orchestration.plan import Plan
from aip.orchestration.planner import Method, MethodsInvalid, NoMethod, make, offers_of, parse_methods
from aip.orchestration.planner.lexicon import Lexicon, stem
from aip.orchestration.planner.make import manifests_of
from aip.orchestration.planner.method import read
from aip.orchestration.planner.wiring import Match, match
from aip.orchestration.run import RunMachine
from aip.runtime import codec

HEAD = "apiVersion: aip/v1\nkind: Methods\nmethods:\n"


def methods(text: str) -> list[Method]:
    return parse_methods((HEAD + text).encode(), "methods.yaml")


# Goals that are reached


def test_a_pipeline_feeds_each_step_from_the_one_before_and_maps_over_a_list() -> None:
    plan = make("search for 'wild bees', then summarise each page, then write a report", newsroom()).plan
    assert list(plan.tasks) == ["search", "summarise", "write"]
    assert plan.tasks["search"].arguments.source == {"query": "wild bees"}
    assert plan.tasks["summarise"].for_each is not None
    assert plan.tasks["summarise"].needs == ("search",)
    assert plan.tasks["write"].arguments.source == {"notes": "${{ tasks.summarise.output }}"}


def test_a_map_reduce_goes_over_an_input_that_the_goal_names() -> None:
    plan = make("for each page in the pages, summarise it, then write a report", newsroom()).plan
    assert plan.inputs["pages"].schema == {"type": "array"}
    assert plan.tasks["map"].for_each is not None
    assert plan.tasks["reduce"].needs == ("map",)


def test_a_review_loop_is_written_out_and_its_second_round_is_skipped_once_approved() -> None:
    plan = make("write a report, review and revise it", newsroom(), given={"notes": ["a"]}).plan
    assert list(plan.tasks) == ["write", "review", "revise", "recheck", "rework"]
    assert plan.tasks["revise"].condition is not None
    assert _run(plan, approved=True) == {
        "write": "succeeded",
        "review": "succeeded",
        **dict.fromkeys(("revise", "recheck", "rework"), "skipped"),
    }
    assert set(_run(plan, approved=False).values()) == {"succeeded"}


def test_a_debate_has_a_side_for_each_advocate_and_a_vote_of_three_judges() -> None:
    plan = make("debate whether bees should vote", newsroom()).plan
    vote = plan.tasks["judge"].vote
    assert vote is not None
    assert len(vote.voters) == 3
    assert plan.agents["editor"].replicas_max == 3
    assert plan.tasks["argue"].arguments.source["question"] == "whether bees should vote"


def test_what_the_goal_does_not_say_becomes_an_input_that_submit_asks_for() -> None:
    plan = make("publish a report", newsroom()).plan
    assert {name for name, spec in plan.inputs.items() if spec.required} == {"draft", "slot"}


def test_an_input_is_known_by_its_name_in_the_goal() -> None:
    made = make("search for topic", newsroom(), given={"topic": "bees", "colour": "red"})
    assert made.plan.tasks["search"].arguments.source == {"query": "${{ inputs.topic }}"}
    assert made.plan.inputs["topic"].default == "bees"
    assert made.unused == ("colour",)


def test_the_users_own_method_goes_before_the_shipped_ones() -> None:
    own = methods("""
  research:
    goal: "search {topic}, then write a report"
    needs: [web.search]
    steps:
      look: {capability: web.search, with: {query: "all about {topic}", limit: 3}}
      note: {capability: web.summarise}
      ask: {gate: {question: "Write about {topic}?"}}
      tell: {capability: report.write, with: {notes: "${{ tasks.note.output }}"}}
""")
    made = make("search bees, then write a report", newsroom(), own)
    assert list(made.plan.tasks) == ["look", "note", "ask", "tell"]
    assert made.plan.tasks["look"].arguments.source == {"query": "all about bees", "limit": 3}
    assert "ask" in made.plan.tasks["tell"].needs
    assert "methods.yaml:5" in made.text


def test_a_plan_says_by_which_method_and_why_each_task_is_there() -> None:
    text = make("search for 'bees', then summarise each page", newsroom()).text
    assert "# method pipeline (shipped)" in text
    assert "# web.search fits \"search for 'bees'\" by search" in text
    assert "# url: each item of the list that search gave" in text


def test_equal_goals_give_equal_plans() -> None:
    goal = "search for 'bees', then summarise each page, then write a report, review and revise it"
    assert make(goal, newsroom()).text == make(goal, newsroom()).text


def _run(plan: Plan, *, approved: bool) -> dict[str, str]:
    """How each task ends on the machine that executes runs, with a reviewer who always says the same."""
    machine = RunMachine(plan, load=lambda _: None, rng=random.Random(1))
    work = list(machine.accept("r-1", "", codec.encode({"notes": ["a"]}), "ada", 0.0).commands)
    while work:
        one = work.pop(0)
        if isinstance(one, cmd.Dispatch):
            verdict = {"approved": approved, "notes": "shorter"}
            value = codec.encode(verdict if one.capability == "report.review" else f"text of {one.task}")
            work += machine.handle(inp.Succeeded(one.attempt, one.lease, value), 1.0).commands
    last = "write" if approved else "rework"
    assert machine.outputs() == {"result": f"text of {last}"}
    return {name: str(task.state) for name, task in machine.run.tasks.items()}


# Honest refusals


@pytest.mark.parametrize(
    ("goal", "missing"),
    [
        ("launch a rocket", "launch a rocket"),
        ("launch a rocket, then write a report", "launch a rocket"),
        ("write a poem", "write a poem"),
        ("search for 'bees', then paint them", "paint them"),
        ("search for bees and paint them", "paint them"),
    ],
)
def test_a_goal_that_nobody_can_reach_is_refused_and_says_what_is_missing(goal: str, missing: str) -> None:
    with pytest.raises(NoMethod) as caught:
        make(goal, newsroom())
    assert any(missing in one for one in caught.value.details["missing"])


def test_steps_that_do_not_feed_each_other_are_no_pipeline() -> None:
    offers = offers_of(
        {
            "m:A": {
                "type": "a",
                "capabilities": {
                    "count": capability("Count bees.", {"type": "integer"}, hive=TEXT),
                    "print": capability("Print a page.", TEXT, page={"type": "object"}),
                },
            }
        }
    )
    with pytest.raises(NoMethod) as caught:
        make("count bees, then print a page", offers)
    assert any("print takes nothing of what count gives" in one for one in caught.value.details["refused"])


def test_a_reviewer_that_gives_no_verdict_is_no_reviewer() -> None:
    offers = offers_of(
        {
            "m:A": {
                "type": "a",
                "capabilities": {
                    "write": capability("Write a report.", TEXT),
                    "review": capability("Review a draft.", {"type": "integer"}, draft=TEXT),
                    "revise": capability("Revise a draft.", TEXT, draft=TEXT),
                },
            }
        }
    )
    with pytest.raises(NoMethod) as caught:
        make("write a report, review and revise it", offers)
    assert any("does not answer what step review asks for" in one for one in caught.value.details["refused"])


def test_a_method_whose_capability_is_not_there_names_it_and_is_shown_as_the_nearest() -> None:
    own = methods(
        '  paint: {goal: "paint {thing}", needs: [art.paint], steps: {a: {capability: art.paint}}}\n'
    )
    with pytest.raises(NoMethod) as caught:
        make("paint a bee", newsroom(), own)
    assert caught.value.details["nearest"][0]["method"] == "paint"
    assert any("art.paint" in one for one in caught.value.details["missing"])


def test_a_method_that_leads_back_to_itself_ends() -> None:
    own = methods('  loop: {goal: "loop {x}", steps: {a: {goal: "loop {x} again"}}}\n')
    with pytest.raises(NoMethod) as caught:
        make("loop bees", newsroom(), own)
    assert "deep" in str(caught.value.details["problems"][0])


def test_a_template_that_the_goal_does_not_fit_tells_its_form() -> None:
    with pytest.raises(NoMethod, match="does not have the form of debate") as caught:
        make("search for 'bees'", newsroom(), template="debate")
    assert "debate {question}" in caught.value.hint
    with pytest.raises(UsageError, match="no template"):
        make("search for 'bees'", newsroom(), template="debte")


# Whatever the goal holds


@settings(max_examples=60, deadline=None)
@given(data=st.text(min_size=1, max_size=40).filter(lambda text: '"' not in text and text.strip() == text))
def test_what_a_goal_quotes_stays_data(data: str) -> None:
    try:
        made = make(f'search for "{data}"', newsroom())
    except NoMethod:
        return
    told = made.plan.tasks["search"].arguments
    assert told.is_constant
    assert check(parse(made.text.encode(), "plan.yaml"), manifests_of(newsroom())) == []
    assert set(made.plan.tasks) == {"search"}


def test_an_expression_in_a_goal_is_words() -> None:
    made = make('search for "${{ inputs.secret }}"', newsroom())
    assert made.plan.tasks["search"].arguments.evaluate({}) == {"query": "${{ inputs.secret }}"}


# The parts


@pytest.mark.parametrize(
    ("gives", "takes", "verdict"),
    [
        (TEXT, TEXT, Match.ALWAYS),
        ({"type": "integer"}, {"type": "number"}, Match.ALWAYS),
        ({"type": "number"}, {"type": "integer"}, Match.PERHAPS),
        (TEXT, {"type": "integer"}, Match.NEVER),
        (True, TEXT, Match.PERHAPS),
        (TEXT, True, Match.ALWAYS),
        (TEXTS, TEXTS, Match.ALWAYS),
        (TEXTS, {"type": "array", "items": {"type": "integer"}}, Match.NEVER),
        ({"anyOf": [TEXT, {"type": "null"}]}, TEXT, Match.PERHAPS),
        (TEXT, {"anyOf": [TEXT, {"type": "null"}]}, Match.ALWAYS),
        ({"enum": ["a"]}, {"enum": ["a", "b"]}, Match.ALWAYS),
        ({"enum": ["a", "c"]}, {"enum": ["a", "b"]}, Match.PERHAPS),
        (VERDICT, {"type": "object", "required": ["score"]}, Match.NEVER),
        (VERDICT, {**VERDICT, "required": ["approved"]}, Match.ALWAYS),
        ({"$ref": "#/$defs/V", "$defs": {"V": VERDICT}}, VERDICT, Match.ALWAYS),
        (TEXTS, TEXT, Match.NEVER),
    ],
)
def test_schemas_match(gives: object, takes: object, verdict: Match) -> None:
    assert match(gives, takes) is verdict


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.sampled_from([TEXT, {"type": "integer"}, {"type": "boolean"}, True]),
        lambda below: st.one_of(
            below.map(lambda one: {"type": "array", "items": one}),
            st.dictionaries(st.sampled_from("abc"), below, min_size=1).map(
                lambda has: {"type": "object", "properties": has, "required": sorted(has)}
            ),
        ),
        max_leaves=6,
    )
)
def test_every_schema_takes_what_it_gives(schema: object) -> None:
    assert match(schema, schema) is not Match.NEVER


@pytest.mark.parametrize(
    "family",
    [("summarise", "summary", "summaries", "Summarising"), ("review", "reviews", "reviewer", "reviewed")],
)
def test_forms_of_a_word_have_one_stem(family: tuple[str, ...]) -> None:
    assert len({stem(word) for word in family}) == 1


def test_the_nearest_entry_is_the_one_with_the_rarer_word() -> None:
    found = Lexicon({"a": [("fetch page", 1)], "b": [("print page", 1)], "c": [("page", 1)]}).fits(
        "print the page"
    )
    assert found[0].name == "b"
    assert found[0].coverage == 1.0


@pytest.mark.parametrize(
    ("goal", "slots"),
    [
        ("research bees", {"topic": "bees"}),
        ("Researching wild bees.", {"topic": "wild bees"}),
        ("research 'a, then b'", {"topic": "'a, then b'"}),
        ("research", None),
        ("please research bees", None),
    ],
)
def test_a_pattern_reads_a_goal_by_stems_and_leaves_quotes_whole(
    goal: str, slots: dict[str, str] | None
) -> None:
    (method,) = methods('  r: {goal: "research {topic}", steps: {a: {find: search}}}\n')
    reading = read(method, goal)
    assert (reading.slots if reading else None) == slots


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("  a: {goal: x, stepps: {}}\n", ":4:16", "has no `stepps`"),
        ("  a: {goal: x, steps: {b: {}}}\n", ":4:27", "one of capability, find, goal and gate"),
        ("  a: {goal: x, steps: {b: {goal: y, with: {}}}}\n", ":4:27", "takes no other keys"),
        ("  a: {goal: x, steps: {b: {find: y}}, output: c}\n", ":4:47", "no step `c`"),
        ("  a: {steps: {b: {find: y}}}\n", ":4:6", "`goal` or `words`"),
        ("  a: {goal: x, needs: [Y], steps: {b: {find: y}}}\n", ":4:24", "cannot be `Y`"),
    ],
)
def test_what_is_wrong_with_a_methods_file_is_told_with_its_place(
    text: str, place: str, message: str
) -> None:
    with pytest.raises(MethodsInvalid) as caught:
        methods(text)
    problems = caught.value.details["problems"]
    assert any(
        message in one["message"] and place == f":{one['line']}:{one['column']}" for one in problems
    ), problems
