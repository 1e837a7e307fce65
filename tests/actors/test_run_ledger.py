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
