package aip.roles_test

import data.aip.fixture_test as fixture
import data.aip.roles

test_a_role_of_the_type_grants if {
	message := fixture.message
	config := fixture.config
	count(roles.grants) == 1 with input as message with data.aip.config as config
}

test_a_role_grants_no_other_capability if {
	config := fixture.config
	message := object.union(fixture.message, {"capability": "delete"})
	count(roles.grants) == 0 with input as message with data.aip.config as config
}

test_a_role_grants_no_other_kind if {
	config := fixture.config
	message := object.union(fixture.message, {"kind": "tell"})
	count(roles.grants) == 0 with input as message with data.aip.config as config
}

test_a_type_without_a_role_is_granted_nothing if {
	config := fixture.config
	message := object.union(fixture.message, {"subject": {"type": "stranger"}})
	count(roles.grants) == 0 with input as message with data.aip.config as config
}

test_a_role_that_the_person_brings_counts if {
	config := fixture.config
	message := object.union(fixture.with_target("http"), {"principal": {"roles": ["courier"]}})
	count(roles.grants) == 1 with input as message with data.aip.config as config
}

test_a_role_that_the_person_brings_counts_only_where_it_is_trusted if {
	message := object.union(fixture.with_target("http"), {"principal": {"roles": ["courier"]}})
	config := object.union(fixture.config, {"trust_roles_of_principals": false})
	count(roles.grants) == 0 with input as message with data.aip.config as config
}

test_a_role_that_is_given_to_a_person_counts if {
	message := fixture.with_target("http")
	config := object.union(fixture.config, {"members": {"principals": {"user:ada": ["courier"]}}})
	count(roles.grants) == 1 with input as message with data.aip.config as config
}

test_a_laptop_lets_its_runs_call_everything if {
	message := object.union(fixture.with_target("anything"), {"principal": {"id": "agent:x/1"}})
	config := object.union(fixture.config, {"open": true})
	fixture.rules(roles.grants) == {"roles.laptop"} with input as message with data.aip.config as config
}

test_a_laptop_is_not_open_to_whoever_is_in_no_run_and_no_person if {
	message := object.union(fixture.with_target("anything"), {"run": "", "principal": {"id": "agent:x/1"}})
	config := object.union(fixture.config, {"open": true})
	count(roles.grants) == 0 with input as message with data.aip.config as config
}
