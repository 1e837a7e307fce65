package aip.decision_test

import data.aip
import data.aip.fixture_test as fixture

decided(message) := found if {
	config := fixture.config
	found := aip.decision with input as message with data.aip.config as config
}

rules(decision) := fixture.rules(decision.reasons)

test_what_a_role_grants_and_nothing_denies_is_allowed if {
	decision := decided(fixture.message)
	decision.allow == true
	rules(decision) == {"roles.granted"}
}

test_what_nothing_grants_is_refused if {
	decision := decided(fixture.with_target("mail"))
	decision.allow == false
	rules(decision) == {"decision.default"}
}

test_a_denial_is_stronger_than_a_grant if {
	decision := decided(object.union(fixture.message, {"target": {"tenant": "other"}}))
	decision.allow == false
	rules(decision) == {"attributes.tenant"}
}

test_every_denial_is_told if {
	decision := decided(object.union(fixture.message, {"rates": {"call": 11}, "budget": {"usd_micro": 1}}))
	rules(decision) == {"rates.exceeded", "budgets.exhausted"}
}

test_an_empty_input_is_refused if {
	decision := decided({})
	decision.allow == false
	rules(decision) == {"shape.input"}
}

test_an_empty_configuration_refuses if {
	message := fixture.message
	decision := aip.decision with input as message with data.aip.config as {}
	decision.allow == false
	rules(decision) == {"shape.config"}
}

test_a_refusal_has_no_obligations if {
	decision := decided(object.union(fixture.with_target("http"), {"kind": "effect", "capability": "post"}))
	decision.obligations == set()
}

test_a_laptop_says_that_it_is_one if {
	message := fixture.with_target("mail")
	config := object.union(fixture.config, {"open": true, "mode": "laptop"})
	decision := aip.decision with input as message with data.aip.config as config
	decision.allow == true
	{"kind": "notice", "mode": "laptop", "text": "everything of this person's plans is allowed"} in decision.obligations
}

# The one that this bundle is for: nothing of a secret leaves, however it is asked for.
test_even_a_laptop_lets_no_secret_out if {
	config := object.union(fixture.config, {"open": true})
	message := object.union(fixture.with_target("http"), {"session": {"labels": ["secret"]}})
	decision := aip.decision with input as message with data.aip.config as config
	rules(decision) == {"sequence.external_after_secret"}
}
