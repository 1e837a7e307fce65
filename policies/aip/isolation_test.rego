package aip.isolation_test

import data.aip.fixture_test as fixture
import data.aip.isolation

denied(message) := found if {
	config := fixture.config
	found := fixture.rules(isolation.denials) with input as message with data.aip.config as config
}

at(type, level) := object.union(fixture.with_target(type), {"isolation": level})

test_code_of_which_nothing_is_demanded_runs_anywhere if denied(fixture.message) == set()

test_untrusted_code_runs_in_a_container_only if {
	denied(at("untrusted.code", "cell")) == {"isolation.demanded"}
	denied(at("untrusted.code", "process")) == {"isolation.demanded"}
	denied(at("untrusted.code", "container")) == set()
}

test_a_secret_reaches_no_shared_process if {
	denied(object.union(fixture.message, {"labels": ["secret"]})) == {"isolation.demanded"}
	denied(object.union(fixture.message, {"labels": ["secret"], "isolation": "process"})) == set()
}

test_what_is_demanded_is_an_obligation if {
	message := at("untrusted.code", "container")
	config := fixture.config
	found := isolation.obligations with input as message with data.aip.config as config
	found == {{"kind": "isolation", "at_least": "container"}}
}
