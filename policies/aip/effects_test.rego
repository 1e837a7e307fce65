package aip.effects_test

import data.aip.effects
import data.aip.fixture_test as fixture

denied(message) := found if {
	config := fixture.config
	found := fixture.rules(effects.denials) with input as message with data.aip.config as config
}

act(connector, action) := object.union(fixture.with_target(connector), {"kind": "effect", "capability": action})

test_a_permitted_connector_may_be_used if denied(act("http", "get")) == set()

test_not_for_another_action if denied(act("http", "post")) == {"effects.connector"}

test_not_another_connector if denied(act("smtp", "get")) == {"effects.connector"}

test_not_by_another_type if {
	denied(object.union(act("http", "get"), {"subject": {"type": "stranger"}})) == {"effects.connector"}
}

test_a_call_needs_no_connector if denied(object.union(act("smtp", "get"), {"kind": "call"})) == set()

test_an_effect_is_recorded_first if {
	message := act("http", "get")
	config := fixture.config
	effects.obligations == {{"kind": "record_before"}} with input as message with data.aip.config as config
}
