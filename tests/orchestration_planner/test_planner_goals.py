"""What a goal's words become: every order a task, data never an order, and an honest no where neither is sure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_kit import TEXT, TEXTS, capability

from aip.orchestration.planner import NoMethod, Offers, make, offers_of
from aip.orchestration.planner.phrase import core, in_a_row, one_sentence, orders


def hall() -> Offers:
    """Who greets, who keeps a book of lines, who works on paper. `greet` and `sign` are those of examples/hello."""
    number = {"type": "integer"}
    return offers_of(
        {
            "agents:Greeter": {
                "type": "greeter",
                "capabilities": {"greet": capability("Greet one person.", TEXT, name=TEXT)},
            },
            "agents:Guestbook": {
                "type": "guestbook",
                "capabilities": {
                    "sign": capability("Write lines into the book; how many it holds.", number, lines=TEXTS),
                    "count": capability("Count the lines.", number, lines=TEXTS),
                },
            },
            "agents:Press": {
                "type": "press",
                "capabilities": {
                    "print": capability("Print a page.", TEXT, page=TEXT),
                    "frame": capability("Frame a picture.", TEXT, picture=TEXT),
                    "cut_and_fold": capability("Cut and fold a page.", TEXT, page=TEXT),
                },
            },
        }
    )


def told(goal: str, **inputs: Any) -> str:
    """The tasks of a goal's plan, each with what it is given: `greet(Ada) sign([greet])`."""
    plan = make(goal, hall(), given=inputs).plan
    return " ".join(f"{name}({_short(task.arguments.source)})" for name, task in plan.tasks.items())


def _short(arguments: Any) -> str:
    (value,) = arguments.values()
    is_list = isinstance(value, list)
    text = str(value[0] if is_list else value).replace("${{ tasks.", "").replace(".output }}", "")
    text = text.replace("${{ inputs.", "?").replace(" }}", "")
    return f"[{text}]" if is_list else text


BOTH = "greet(?name) sign([greet])"


@pytest.mark.parametrize(
    ("goal", "tasks"),
    [
        # However one says that one thing comes after another.
        ("greet, then sign", BOTH),
        ("greet then sign", BOTH),
        ("greet and then sign", BOTH),
        ("greet, and then sign", BOTH),
        ("greet; sign", BOTH),
        ("greet; then sign", BOTH),
        ("greet; and then sign", BOTH),
        ("greet, sign", BOTH),
        ("greet and sign", BOTH),
        ("greet, and sign", BOTH),
        ("Greet. Sign.", BOTH),
        ("greet! Then sign", BOTH),
        ("greet\nsign", BOTH),
        ("- greet\n- sign", BOTH),
        ("1. greet\n2. sign", BOTH),
        ("first greet, then sign", BOTH),
        ("First greet, finally sign", BOTH),
        ("please greet, afterwards sign", BOTH),
        # With an object that the first one knows: the second verb is no part of it.
        ("greet one person, then sign", BOTH),
        ("greet one person and sign", BOTH),
        ("greet one person, sign the book", BOTH),
        ("greet Ada, then sign", "greet(Ada) sign([greet])"),
        ("Greet Ada and Sign the book", "greet(Ada) sign([greet])"),
        ("greet Ada. Count", "greet(Ada) count([greet])"),
        ("greet 'Ada', then print, then sign", "greet(Ada) print(greet) sign([print])"),
        ("greet 'Ada'; print; frame; sign", "greet(Ada) print(greet) frame(print) sign([frame])"),
        # One order stays one, whatever stands before and behind it.
        ("greet", "greet(?name)"),
        ("then greet Ada", "greet(Ada)"),
        ("greet Ada, then", "greet(Ada)"),
        ("cut and fold 'a.txt'", "cut_and_fold(a.txt)"),
        ("cut and fold 'a.txt', then print it", "cut_and_fold(a.txt) print(cut_and_fold)"),
        # Data is never an order.
        ("greet 'sign', then print", "greet(sign) print(greet)"),
        ("greet 'then sign'", "greet(then sign)"),
        ('greet "Ada, then Bob", then sign', "greet(Ada, then Bob) sign([greet])"),
        ("print 'a. Then sign'", "print(a. Then sign)"),
        ("greet Dr. Who, then sign", "greet(Dr Who) sign([greet])"),
    ],
)
def test_a_goal_becomes_a_task_for_each_thing_to_do(goal: str, tasks: str) -> None:
    assert told(goal) == tasks


@pytest.mark.parametrize(
    ("goal", "why"),
    [
        ("greet Ada, then paint", 'a capability to "paint"'),
        ("paint, then sign", 'a capability to "paint"'),
        ("greet one person, then paint it", 'a capability to "paint it"'),
        ("greet one person and dance", "greet, which does not know dance"),
        ("greet one person and paint it", "greet, which does not know paint"),
        ("greet Ada, then bees", 'a capability to "bees"'),
        ("greet Ada and Bob", "greet takes one thing and not also Bob"),
        ("greet Ada or sign", "greet, which does not know sign"),
        ("greet but sign", "greet, which does not know sign"),
        ("greet before signing", "greet, which does not know signing"),
        ("print the page by greeting Ada", "print, which does not know greeting"),
        ("sign, then greet", "greet takes nothing of what sign gives"),
        ("count, then print", "print takes nothing of what count gives"),
        ("cut, then fold", "things to do in a row are no one capability"),
    ],
)
def test_what_cannot_be_told_apart_or_done_is_refused_with_the_words(goal: str, why: str) -> None:
    with pytest.raises(NoMethod) as caught:
        make(goal, hall())
    assert any(why in one for one in caught.value.details["problems"]), caught.value.details["problems"]


def test_an_inputs_value_is_no_order_and_an_order_no_inputs_value() -> None:
    assert told("greet topic, then sign", topic="sign") == "greet(?topic) sign([greet])"
    assert told("print topic", topic="print") == "print(?topic)"


GLUE = st.sampled_from([", then ", " then ", " and then ", ", and then ", "; ", "; then ", ". Then ", "\n"])


@settings(max_examples=60, deadline=None)
@given(
    first=st.sampled_from(["greet", "print the page", "frame", "frame the picture"]),
    glue=GLUE,
    second=st.sampled_from(["sign", "count the lines", "dance", "dance wildly"]),
)
def test_what_is_said_to_happen_in_a_row_is_never_one_task(first: str, glue: str, second: str) -> None:
    try:
        plan = make(f"{first}{glue}{second}", hall()).plan
    except NoMethod:
        assert "dance" in second
        return
    assert len(plan.tasks) == 2
    assert "dance" not in second


# The parts


@pytest.mark.parametrize(
    ("goal", "sentence"),
    [
        ("greet Ada. Then sign.", "greet Ada; Then sign."),
        ("greet Mr. Bean! Sign", "greet Mr. Bean; Sign"),
        ("print 3.5 pages of a.txt", "print 3.5 pages of a.txt"),
        ("say 'no. Never'. Sign", "say 'no. Never'; Sign"),
        ("* greet\n\n* sign", "greet; sign"),
        ("greet   Ada", "greet Ada"),
    ],
)
def test_sentences_and_lines_become_parts(goal: str, sentence: str) -> None:
    assert one_sentence(goal) == sentence


@pytest.mark.parametrize(
    ("goal", "left"),
    [("then greet", "greet"), ("First, greet Ada and", "greet Ada"), ("then", "then"), ("", ""), (", ;", "")],
)
def test_words_that_say_only_when_are_left_out(goal: str, left: str) -> None:
    assert core(goal) == left


@pytest.mark.parametrize(
    ("phrase", "parts"),
    [
        ("greet one person and sign", [["greet", "person"], ["sign"]]),
        ("search for bees and paint them", [["search"], ["paint"]]),
        ("greet before signing the book", [["greet"], ["signing", "book"]]),
        ("greet before noon", [["greet"]]),
        ("greet 'Ada' and 'Bob'", [["greet"]]),
        ("greet Ada and Bob", [["greet"]]),
    ],
)
def test_each_part_has_the_words_that_are_no_data(phrase: str, parts: list[list[str]]) -> None:
    assert orders(phrase, {}, {"greet", "signing", "sign", "book"}.__contains__) == parts


def test_only_what_says_afterwards_makes_a_row() -> None:
    assert in_a_row("greet; sign")
    assert in_a_row("greet then sign")
    assert not in_a_row("cut and fold, or print")
    assert not in_a_row("greet 'then; sign'")
