package aip.attributes_test

import data.aip.attributes
import data.aip.fixture_test as fixture

denied(message) := found if {
	config := fixture.config
	found := fixture.rules(attributes.denials) with input as message with data.aip.config as config
}

test_an_ordinary_message_is_denied_nothing if denied(fixture.message) == set()

test_tenants_stay_apart if {
	denied(object.union(fixture.message, {"target": {"tenant": "other"}})) == {"attributes.tenant"}
}

test_a_shared_tenant_may_be_reached if {
	denied(object.union(fixture.message, {"target": {"tenant": "commons"}})) == set()
}

test_a_bad_name_is_not_heard if {
	denied(object.union(fixture.message, {"reputation": 0.1})) == {"attributes.reputation"}
}

test_a_reputation_at_the_bound_is_heard if {
	denied(object.union(fixture.message, {"reputation": 0.2})) == set()
}

test_a_capability_may_demand_an_attribute if {
	denied(object.union(fixture.message, {"capability": "pay"})) == {"attributes.required"}
}

test_who_has_the_attribute_may if {
	denied(object.union(fixture.message, {
		"capability": "pay",
		"principal": {"attributes": {"clearance": "finance"}},
	})) == set()
}

test_what_is_killed_is_denied_here_too if {
	denied(object.union(fixture.message, {"kill": {"level": "drain"}})) == {"attributes.kill"}
	denied(object.union(fixture.message, {"kill": {"level": "hush"}})) == {"attributes.kill"}
}

test_what_waits_under_a_mild_order_is_not_denied if {
	denied(object.union(fixture.message, {"kill": {"level": "pause"}})) == set()
	denied(object.union(fixture.message, {"kill": {"level": "quarantine"}})) == set()
}

test_quarantine_keeps_effects_in if {
	message := object.union(fixture.message, {"kind": "effect", "kill": {"level": "quarantine"}})
	denied(message) == {"attributes.quarantine"}
}
