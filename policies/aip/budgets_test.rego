package aip.budgets_test

import data.aip.budgets
import data.aip.fixture_test as fixture

denied(message) := found if {
	config := fixture.config
	found := fixture.rules(budgets.denials) with input as message with data.aip.config as config
}

test_money_left_is_enough if denied(fixture.message) == set()

test_nothing_begins_on_what_is_nearly_gone if {
	denied(object.union(fixture.message, {"budget": {"usd_micro": 99}})) == {"budgets.exhausted"}
}

test_exactly_enough_is_enough if denied(object.union(fixture.message, {"budget": {"usd_micro": 100}})) == set()

test_a_unit_without_a_bound_may_reach_zero_but_not_go_below if {
	denied(object.union(fixture.message, {"budget": {"tokens": 0}})) == set()
	denied(object.union(fixture.message, {"budget": {"tokens": -1}})) == {"budgets.exhausted"}
}
