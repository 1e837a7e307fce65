"""The live ledger of a run: what its cells may draw, also across the run's restart."""

from __future__ import annotations

import pytest

from actors.run_ledger import RunLedger
from aip.errors import NotFound


def drawn(ledger, account, holder, tokens, spent=0):
    return ledger.draw(
        account, holder, {"tokens": spent} if spent else {}, {"tokens": tokens}, {"tokens": tokens}
    )


def test_tasks_without_a_budget_of_their_own_share_the_plans():
    ledger = RunLedger("r", 1, {"tokens": 100}, {})
    ledger.begin("r/a", 1, {})
    ledger.begin("r/b", 1, {})
    assert drawn(ledger, "r/a", "c1", 60).refusal is None
    assert drawn(ledger, "r/b", "c2", 60).refusal.code == "refused.budget"


def test_what_a_task_has_reserved_nobody_else_spends():
    ledger = RunLedger("r", 1, {"tokens": 100}, {})
    ledger.begin("r/own", 1, {"tokens": 70})
    ledger.begin("r/other", 1, {})
    assert drawn(ledger, "r/other", "c1", 40).refusal is not None
    assert drawn(ledger, "r/own", "c1", 70).refusal is None
    ledger.settle("r/own", "c1", drawn(ledger, "r/own", "c2", 0).id, {})
    ledger.end("r/own")


def test_what_a_task_did_not_spend_of_its_own_is_the_plans_again():
    ledger = RunLedger("r", 1, {"tokens": 100}, {})
    ledger.begin("r/own", 1, {"tokens": 70})
    grant = drawn(ledger, "r/own", "c1", 10)
    ledger.settle("r/own", "c1", grant.id, {"tokens": 10})
    assert ledger.news("r/own") == {"tokens": 10}
    ledger.end("r/own")
    ledger.begin("r/other", 1, {})
    assert drawn(ledger, "r/other", "c1", 90).refusal is None
    assert drawn(ledger, "r/other", "c2", 1).refusal is not None


def test_a_new_generation_of_a_task_begins_with_a_fresh_budget():
    ledger = RunLedger("r", 1, {"tokens": 100}, {})
    ledger.begin("r/own", 1, {"tokens": 30})
    grant = drawn(ledger, "r/own", "c1", 30)
    ledger.settle("r/own", "c1", grant.id, {"tokens": 30})
    ledger.begin("r/own", 2, {"tokens": 30})
    assert drawn(ledger, "r/own", "c1", 30).refusal is None
    assert ledger.news("r/own") == {}


def test_a_purse_that_outlived_the_ledger_is_charged_with_all_it_has_spent():
    before = RunLedger("r", 1, {"tokens": 100}, {})
    before.begin("r/a", 1, {})
    grant = drawn(before, "r/a", "c1", 50)
    after = RunLedger("r", 2, {"tokens": 100}, {})
    after.begin("r/a", 1, {})
    mine = drawn(after, "r/a", "c2", 5)
    assert mine.id != grant.id
    after.settle("r/a", "c1", grant.id, {"tokens": 40})
    assert after.news("r/a") == {"tokens": 40}
    assert drawn(after, "r/a", "c2", 60).refusal is not None


def test_limits_may_be_raised_and_an_unknown_account_is_named():
    ledger = RunLedger("r", 1, {"tokens": 100}, {"tokens": 90})
    ledger.begin("r/a", 1, {})
    assert drawn(ledger, "r/a", "c1", 20).refusal is not None
    ledger.raise_limits({"tokens": 200})
    assert drawn(ledger, "r/a", "c1", 100).refusal is None
    with pytest.raises(NotFound, match="r/ghost"):
        drawn(ledger, "r/ghost", "c1", 1)


def test_a_part_of_a_task_is_held_to_its_own_limit_and_to_what_is_above_it():
    for own in ({"tokens": 100}, {}):
        ledger = RunLedger("r-1", 1, {"tokens": 100}, {})
        ledger.begin("r-1/plan", 1, own)
        ledger.split("r-1/plan", "r-1/plan/draft", {"tokens": 60})
        ledger.split("r-1/plan", "r-1/plan/draft", {"tokens": 60})  # Told twice.
        ledger.split("r-1/plan/draft", "r-1/plan/draft/look", {"tokens": 50})
        assert drawn(ledger, "r-1/plan/draft", "cell-1#1", 61).refusal
        assert not drawn(ledger, "r-1/plan/draft/look", "cell-1#1", 50).refusal
        assert drawn(ledger, "r-1/plan/draft", "cell-1#1", 11).refusal
        assert drawn(ledger, "r-1/plan", "cell-1#1", 51).refusal


def test_what_parts_spend_is_news_of_their_task_and_a_part_of_nothing_is_refused():
    ledger = RunLedger("r-1", 1, {"tokens": 100}, {})
    with pytest.raises(NotFound):
        ledger.split("r-1/plan", "r-1/plan/draft", {"tokens": 1})
    ledger.begin("r-1/plan", 1, {})
    ledger.split("r-1/plan", "r-1/plan/draft", {"tokens": 60})
    granted = drawn(ledger, "r-1/plan/draft", "cell-1#1", 20)
    ledger.settle("r-1/plan/draft", "cell-1#1", granted.id, {"tokens": 7})
    assert ledger.news("r-1/plan") == {"tokens": 7}
