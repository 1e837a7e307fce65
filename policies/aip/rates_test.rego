package aip.rates_test

import data.aip.fixture_test as fixture
import data.aip.rates

denied(message) := found if {
	config := fixture.config
	found := fixture.rules(rates.denials) with input as message with data.aip.config as config
}

test_a_rate_within_its_bound_is_fine if denied(object.union(fixture.message, {"rates": {"call": 10}})) == set()

test_a_rate_above_its_bound_is_denied if {
	denied(object.union(fixture.message, {"rates": {"call": 10.5}})) == {"rates.exceeded"}
}

test_a_rate_without_a_bound_is_fine if denied(object.union(fixture.message, {"rates": {"dream": 1000000}})) == set()
