package aip.catalogue_test

import data.aip.catalogue
import data.aip.fixture_test as fixture

both := object.union(fixture.config, {"catalogue": [
	{"types": ["mail"], "capabilities": ["*"], "external": false, "labels": ["pii"], "accepts": ["public", "pii"], "refuses": []},
	{"types": ["mail"], "capabilities": ["send"], "external": true, "labels": [], "accepts": ["public"], "refuses": ["secret"]},
]})

send := object.union(fixture.with_target("mail"), {"capability": "send"})

test_a_tool_is_external_if_one_entry_says_so if {
	message := send
	config := both
	catalogue.external == true with input as message with data.aip.config as config
}

test_a_tool_is_inside_if_every_entry_says_so if {
	message := fixture.with_target("mail")
	config := both
	catalogue.external == false with input as message with data.aip.config as config
}

test_only_what_every_entry_accepts_is_accepted if {
	message := send
	config := both
	catalogue.accepts == {"public"} with input as message with data.aip.config as config
}

test_labels_and_refusals_add_up if {
	message := send
	config := both
	catalogue.labels == {"pii"} with input as message with data.aip.config as config
	catalogue.refuses == {"secret"} with input as message with data.aip.config as config
}

test_to_be_started_shows_nobody_any_data if {
	message := object.union(fixture.with_target("mail"), {"capability": "aip.start"})
	config := both
	catalogue.labels == set() with input as message with data.aip.config as config
}

test_where_nothing_is_known_the_tool_is_outside if {
	catalogue.external == true with input as {} with data.aip.config as {}
}
