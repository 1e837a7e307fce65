"""A decision is used again only on the very same facts, and never where facts change."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policies_for_tests import RULES, bundle

from aip.governance.policy import cache as caches
from aip.governance.policy.bundle import Bundle
from aip.governance.policy.cache import DecisionCache, fields_read
from aip.governance.policy.engine import Decision, decide
from aip.governance.policy.input import CHANGING, Input, Kill, Principal, Session, Subject, Target
from aip.governance.policy.regorus_engine import RegorusEngine
from aip.governance.policy.serving import Serving

CALM_RULES = RULES.replace("input.budget.usd", "input.subject.depth")
CALM = bundle(rules=CALM_RULES, tests=None)


def message(**changes: Any) -> Input:
    whole: dict[str, Any] = {
        "kind": "call",
        "capability": "greet",
        "subject": Subject(address="a/1", type="a", tenant="t", depth=10),
        "target": Target(address="b/1", type="b", tenant="t"),
        "principal": Principal(id="user:ada", roles=("guest",)),
    }
    return Input(**(whole | changes))


READS = {
    "input.capability == 1": {("capability",)},
    "input.subject.type == 1": {("subject", "type")},
    "input.subject == 1": {("subject", name) for name in ("address", "type", "tenant", "depth", "children")},
    'input["kill"].level == 1': {("kill", "level")},
    "input.labels[0] == 1": {("labels",)},
    "input[x] == 1": set(fields_read(bundle(rules="package aip\n\nx := input\n", tests=None))),
    "data.x == 1": set(),
}


@pytest.mark.parametrize(("condition", "expected"), READS.items(), ids=READS)
def test_what_rules_read_is_found_or_overstated(condition: str, expected: set[tuple[str, ...]]) -> None:
    assert fields_read(bundle(rules=f"package aip\n\nx if {condition}\n", tests=None)) == expected


def test_a_rule_that_mentions_the_whole_input_reads_all_of_it() -> None:
    everything = fields_read(bundle(rules="package aip\n\nx if f(input)\n\nf(_) := true\n", tests=None))
    assert set(CHANGING) <= everything
    assert ("principal", "attributes") in everything


def test_a_fact_that_no_rule_reads_is_not_in_the_key() -> None:
    cache = DecisionCache(CALM)
    assert cache.key(message()) == cache.key(message(run="r-9", budget={"usd": 3.0}, now_s=5.0))
    assert cache.key(message()) != cache.key(message(capability="pay"))


AWAY_FROM_REST = {
    "reputation": {"reputation": 0.5},
    "kill": {"kill": Kill(level="pause")},
    "session": {"session": Session(labels=("secret",))},
    "children": {"subject": Subject(children=1)},
    "time": {"now_s": 1.0},
}


@pytest.mark.parametrize("changes", AWAY_FROM_REST.values(), ids=AWAY_FROM_REST)
def test_a_changing_fact_that_rules_read_is_cached_only_at_rest(changes: dict[str, Any]) -> None:
    cache = DecisionCache(bundle(rules="package aip\n\nx := input\n", tests=None))
    assert cache.key(message()) is not None
    assert cache.key(message(**changes)) is None


def test_every_changing_fact_is_a_field_and_rests_at_its_default() -> None:
    plain = msgspec.to_builtins(message(subject=Subject()))
    for path, rest in CHANGING.items():
        value: Any = plain
        for part in path:
            value = value[part]
        assert value == rest


class Counting(RegorusEngine):
    asked = 0

    def evaluate(self, path: str, input: Any) -> Any:
        self.asked += 1
        return super().evaluate(path, input)


def serving(served: Bundle) -> tuple[Serving, Counting]:
    engine, place = Counting(), Serving()
    engine.load(served)
    place.activate(engine)
    return place, engine


def test_the_same_question_is_answered_once_under_its_own_id() -> None:
    place, engine = serving(CALM)
    first, again = place.decide(message(), id="m-1"), place.decide(message(), id="m-2")
    assert engine.asked == 1
    assert (first.id, again.id) == ("m-1", "m-2")
    assert msgspec.structs.replace(again, id="m-1") == first


def test_a_question_with_a_changing_fact_is_asked_every_time() -> None:
    place, engine = serving(bundle(rules=RULES.replace("input.budget.usd", "input.reputation"), tests=None))
    for _ in range(3):
        assert not place.decide(message(reputation=0.5), id="").allow
    assert engine.asked == 3


def test_a_fact_that_is_told_in_steps_is_part_of_the_question() -> None:
    place, engine = serving(bundle(tests=None))
    told = [place.decide(message(budget={"usd": left}), id="").allow for left in (5.0, 20.0, 5.0, 20.0)]
    assert (told, engine.asked) == ([False, True, False, True], 2)


@given(
    st.lists(
        st.tuples(st.sampled_from(["greet", "pay"]), st.sampled_from(["t", "u"]), st.integers(8, 12)),
        max_size=20,
    )
)
def test_a_cached_decision_is_the_one_that_would_be_made(asked: list[tuple[str, str, int]]) -> None:
    place, engine = serving(CALM)
    for capability, tenant, depth in asked:
        one = message(
            capability=capability,
            target=Target(address="b/1", type="b", tenant=tenant),
            subject=Subject(address="a/1", type="a", tenant="t", depth=depth),
        )
        assert place.decide(one, id="m") == decide(engine, one, id="m")


def test_a_failure_is_not_kept() -> None:
    place, engine = serving(
        bundle(rules='package aip\n\ndecision := {"allow": 1 / count(input.labels) == 1}\n', tests=None)
    )
    assert not place.decide(message(), id="").allow
    assert not place.decide(message(), id="").allow
    assert engine.asked == 2


def test_another_revision_starts_with_an_empty_cache() -> None:
    place, _ = serving(CALM)
    assert place.decide(message(), id="").allow
    closed = RegorusEngine()
    closed.load(bundle(data="{}", manifest='{"revision": "r2"}', rules=CALM_RULES, tests=None))
    place.activate(closed)
    after = place.decide(message(), id="")
    assert (after.allow, after.revision) == (False, "r2")


def test_nothing_in_force_denies() -> None:
    assert not Serving().decide(message(), id="").allow


def test_a_full_cache_forgets_its_oldest_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "ENTRIES_MAX", 10)
    cache = DecisionCache(CALM)
    for number in range(11):
        cache.put(b"%d" % number, Decision(True))
    assert cache.get(b"0") is None
    assert cache.get(b"4") is None
    assert cache.get(b"5") is not None
    assert cache.get(b"10") is not None
