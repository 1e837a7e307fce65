package aip.sequence_test

import data.aip.fixture_test as fixture
import data.aip.sequence

denied(message) := found if {
	config := fixture.config
	found := fixture.rules(sequence.denials) with input as message with data.aip.config as config
}

having_seen(type, seen) := object.union(fixture.with_target(type), {"session": {"labels": seen}})

test_reading_a_secret_is_fine if denied(having_seen("vault", ["secret"])) == set()

test_writing_out_is_fine if denied(having_seen("http", [])) == set()

test_after_a_secret_nothing_is_written_out if {
	denied(having_seen("http", ["public", "secret"])) == {"sequence.external_after_secret"}
}

test_after_a_secret_work_inside_goes_on if denied(having_seen("billing.desk", ["secret"])) == set()

test_a_tool_outside_that_takes_secrets_still_may if {
	message := having_seen("http", ["secret"])
	entry := {"types": ["http"], "capabilities": ["*"], "external": true, "labels": [], "accepts": ["secret"], "refuses": []}
	config := object.union(fixture.config, {"catalogue": [entry]})
	count(sequence.denials) == 0 with input as message with data.aip.config as config
}

test_an_order_of_ones_own_holds if {
	message := object.union(having_seen("billing.desk", ["pii"]), {"capability": "pay"})
	denied(message) == {"sequence.forbidden"}
	denied(object.union(message, {"capability": "read"})) == set()
}
