package aip.spawn_test

import data.aip.fixture_test as fixture
import data.aip.spawn

denied(message) := found if {
	config := fixture.config
	found := fixture.rules(spawn.denials) with input as message with data.aip.config as config
}

of(type, depth, children) := object.union(
	fixture.with_target(type),
	{"kind": "spawn", "subject": {"depth": depth, "children": children}},
)

test_a_child_within_all_bounds_is_born if denied(of("worker", 2, 9)) == set()

test_generations_end if denied(of("worker", 3, 0)) == {"spawn.depth"}

test_families_end if denied(of("worker", 0, 10)) == {"spawn.children"}

test_only_named_types_are_spawned if denied(of("virus", 0, 0)) == {"spawn.type"}

test_a_call_is_no_birth if denied(object.union(of("virus", 99, 99), {"kind": "call"})) == set()
