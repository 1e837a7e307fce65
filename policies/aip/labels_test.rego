package aip.labels_test

import data.aip.fixture_test as fixture
import data.aip.labels

denied(message) := found if {
	config := fixture.config
	found := fixture.rules(labels.denials) with input as message with data.aip.config as config
}

asked(message) := found if {
	config := fixture.config
	found := labels.obligations with input as message with data.aip.config as config
}

to(type, carried) := object.union(fixture.with_target(type), {"labels": carried})

test_data_without_labels_goes_anywhere if denied(to("http", [])) == set()

test_public_data_goes_out if denied(to("http", ["public"])) == set()

test_personal_data_does_not_go_out if denied(to("http", ["public", "pii"])) == {"labels.external"}

test_personal_data_stays_inside_freely if denied(to("billing.desk", ["pii"])) == set()

test_a_tool_inside_may_refuse_a_label if denied(to("vault", ["pii"])) == {"labels.refused"}

test_a_tool_in_no_entry_is_outside_where_the_unknown_is if {
	message := to("mystery", ["pii"])
	config := object.union(fixture.config, {"unknown_is_external": true})
	found := fixture.rules(labels.denials) with input as message with data.aip.config as config
	found == {"labels.external"}
}

test_what_a_tool_gives_is_labelled if asked(to("vault", [])) == {{"kind": "label", "labels": ["secret"]}}

test_a_tool_without_labels_adds_none if asked(to("http", [])) == set()
