"""What raises orders by itself: at its threshold, once, and again only after it was well."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.errors import UsageError
from aip.governance.kill import Level, settings
from aip.governance.kill.in_doubt import in_doubt
from aip.governance.kill.settings import KillSettings, Triggers
from aip.governance.kill.trigger import AuditAnswered, CircuitOpened, Detectors, QuorumSeen, Spent
from aip.settings import Home

ON = Triggers.model_validate(
    {
        "breaker_storm": {"enabled": True, "circuits": 3, "window_s": 10},
        "spend_rate": {"enabled": True, "per_minute": {"tokens": 100}},
        "audit_failure": {"after_s": 30},
        "lost_quorum": {"after_s": 10, "level": "drain"},
    }
)


def raised(events, triggers=ON):
    detectors = Detectors(triggers)
    return [order for now, event in events if (order := detectors.feed(event, now)) is not None]


def test_many_circuits_that_open_at_once_pause_the_platform_once():
    (order,) = raised([(float(n), CircuitOpened(f"c{n}")) for n in range(8)])
    assert (order.target, order.level, order.by, order.at) == (
        "platform",
        Level.PAUSE,
        "trigger:breaker_storm",
        2.0,
    )


def test_one_circuit_that_opens_again_and_again_is_no_storm():
    assert raised([(float(n), CircuitOpened("c")) for n in range(8)]) == []


def test_circuits_that_open_one_by_one_over_a_day_are_no_storm():
    assert raised([(n * 60.0, CircuitOpened(f"c{n}")) for n in range(100)]) == []


def test_a_second_storm_after_a_calm_raises_again():
    first = [(float(n), CircuitOpened(f"c{n}")) for n in range(3)]
    second = [(100.0 + n, CircuitOpened(f"c{n}")) for n in range(3)]
    assert [order.at for order in raised([*first, *second])] == [2.0, 102.0]


def test_a_run_that_spends_too_fast_is_paused_and_others_are_not():
    events = [
        (n * 10.0, Spent(run, "tokens", amount)) for n in range(4) for run, amount in [("a", 40), ("b", 9)]
    ]
    (order,) = raised(events)
    assert (order.target, order.level, order.at) == ("run/a", Level.PAUSE, 20.0)


def test_a_unit_without_a_threshold_is_not_watched():
    assert raised([(0.0, Spent("a", "usd_micro", 10**9))]) == []


def test_a_log_that_is_down_for_a_while_quarantines_and_a_short_gap_does_not():
    gap = [(t, AuditAnswered(t not in (10.0, 20.0))) for t in (0.0, 10.0, 20.0, 30.0)]
    assert raised(gap) == []
    down = [(t, AuditAnswered(t < 10 or t > 100)) for t in [*map(float, range(0, 120, 10))]]
    again = [(t + 1_000, event) for t, event in down]
    assert [(o.level, o.at) for o in raised([*down, *again])] == [
        (Level.QUARANTINE, 40.0),
        (Level.QUARANTINE, 1_040.0),
    ]


def test_a_lost_majority_is_noticed_with_the_level_that_was_set():
    (order,) = raised([(t, QuorumSeen(False)) for t in (0.0, 5.0, 10.0, 15.0)])
    assert (order.level, order.at, order.by) == (Level.DRAIN, 10.0, "trigger:lost_quorum")


def test_what_is_off_raises_nothing():
    off = Triggers.model_validate({"audit_failure": {"enabled": False}, "lost_quorum": {"enabled": False}})
    events = [(t, event) for t in (0.0, 900.0) for event in (AuditAnswered(False), QuorumSeen(False))]
    storm = [(0.0, CircuitOpened(f"c{n}")) for n in range(100)]
    assert raised([*events, *storm, (0.0, Spent("a", "tokens", 10**9))], off) == []


@given(st.lists(st.tuples(st.floats(0, 1e4), st.sampled_from(["a", "b"]), st.integers(0, 300)), max_size=30))
def test_spending_is_judged_by_what_lies_within_a_minute(spent):
    spent.sort(key=lambda one: one[0])
    for order in raised([(now, Spent(run, "tokens", amount)) for now, run, amount in spent]):
        run = order.target.removeprefix("run/")
        total = sum(a for now, r, a in spent if r == run and order.at - 60 < now <= order.at)
        assert total > 100


# The file


def test_a_laptop_without_a_file_needs_one_signature_and_a_file_asks_for_two(tmp_path):
    home = Home(tmp_path)
    assert settings.load(home).reset_signers == 1
    (tmp_path / "kill.yaml").write_text("triggers: {spend_rate: {enabled: true, per_minute: {tokens: 9}}}\n")
    assert settings.load(home).reset_signers == 2
    assert settings.load(home).triggers.spend_rate.per_minute == {"tokens": 9}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("reset_signers: 0", "reset_signers"),
        ("reset_signer: 2", "reset_signer"),
        ("triggers: {breaker_storm: {level: lockdown}}", "triggers.breaker_storm.level"),
        ("triggers: {lost_quorum: {after_s: -1}}", "triggers.lost_quorum.after_s"),
        ("reset_signers: [", "line 1"),
    ],
)
def test_a_wrong_file_names_itself_and_the_field(text, field, tmp_path):
    (tmp_path / "kill.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        settings.load(Home(tmp_path))
    assert "kill.yaml" in caught.value.message
    assert field in caught.value.message


def test_an_empty_file_is_the_strict_one():
    assert settings.parse(None, Path("kill.yaml")) == KillSettings()


# Effects nobody knows the outcome of


def entry(kind, agent, key="", at=0.0):
    return {"kind": kind, "subject": agent, "at": at, "detail": {"effect": "mail", "key": key, "run": "r-1"}}


def test_an_effect_that_was_begun_and_not_ended_is_in_doubt():
    log = [
        entry("effect.begun", "a", "1"),
        entry("effect.done", "a", "1"),
        entry("effect.begun", "a", "2", at=2.0),
        entry("effect.begun", "b", "2"),
        entry("effect.refused", "b", "2"),
        entry("effect.begun", "c", "1"),
        entry("effect.failed", "c", "1"),
        {"kind": "effect.refused", "subject": "a", "at": 3.0, "detail": {"effect": "mail"}},
        entry("flush", "cell-0"),
    ]
    assert [(row["agent"], row["key"], row["at"]) for row in in_doubt(log)] == [("a", "2", 2.0)]


def test_an_effect_that_is_begun_again_and_ends_is_no_more_in_doubt():
    log = [entry("effect.begun", "a", "1"), entry("effect.begun", "a", "1"), entry("effect.done", "a", "1")]
    assert in_doubt(log) == []
