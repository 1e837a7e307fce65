# Whether the input and the configuration are what the rules take them for. In Rego a number is always less than a text, and what
# is undefined denies nothing: a limit spelt "10" would be no limit at all. So every value that a rule compares has its type
# checked first, with tests that are false, never failing, on any value at all. Addresses are compared by no rule, and mentioned by
# none: a decision that does not depend on them holds for every agent of a type, and is made once.
package aip.shape

import data.aip.config

default valid := false

valid if {
	input_valid
	config_valid
}

default input_valid := false

input_valid if {
	input.kind in {"call", "tell", "stream", "effect", "spawn"}
	is_string(input.subject.type)
	is_string(input.subject.tenant)
	is_number(input.subject.depth)
	is_number(input.subject.children)
	is_string(input.target.type)
	is_string(input.target.tenant)
	is_string(input.capability)
	is_string(input.run)
	principal := input.principal
	is_string(principal.id)
	is_object(principal.attributes)
	texts(principal.roles)
	texts(input.labels)
	texts(input.session.labels)
	input.isolation in {"cell", "process", "container"}
	numbers(input.budget)
	numbers(input.rates)
	is_number(input.reputation)
	is_string(input.kill.level)
}

texts(value) if {
	is_array(value)
	every item in value { is_string(item) }
}

numbers(value) if {
	is_object(value)
	every item in value { is_number(item) }
}

lists(value) if {
	is_object(value)
	every item in value { texts(item) }
}

# The tables that the rules walk through: one that is missing would deny nothing. Asked of every decision, so it is written for
# speed: a local name costs an engine less than a path from the root.
default config_valid := false

config_valid if {
	c := data.aip.config
	limits := c.limits
	is_object(limits.rates_per_s_max)
	is_object(limits.budget_left_min)
	attributes := c.attributes
	is_array(attributes.required)
	is_number(attributes.reputation_min)
	is_array(c.catalogue)
	isolation := c.isolation
	is_array(isolation.of_types)
	is_object(isolation.of_labels)
	sequences := c.sequences
	is_array(sequences.no_external_after)
	is_array(sequences.forbidden)
	spawn := c.spawn
	is_number(spawn.depth_max)
	is_number(spawn.children_max)
}

# Every word of the configuration. It does not change between two decisions, so the bundle's tests ask this once, when it is loaded:
# a configuration that does not hold is never served.
default config_whole := false

config_whole if {
	config_valid
	is_boolean(config.open)
	is_boolean(config.trust_roles_of_principals)
	is_boolean(config.unknown_is_external)
	roles
	lists(config.members.types)
	lists(config.members.principals)
	attributes
	numbers(config.limits.budget_left_min)
	numbers(config.limits.rates_per_s_max)
	catalogue
	isolation
	sequences
	texts(config.spawn.types)
	effects
}

roles if {
	is_object(config.roles)
	every grants in config.roles {
		is_array(grants)
		every grant in grants {
			texts(grant.kinds)
			texts(grant.types)
			texts(grant.capabilities)
		}
	}
}

attributes if {
	texts(config.attributes.tenants_shared)
	every demand in config.attributes.required {
		texts(demand.types)
		texts(demand.capabilities)
		is_object(demand.attributes)
	}
}

catalogue if {
	every entry in config.catalogue {
		texts(entry.types)
		texts(entry.capabilities)
		is_boolean(entry.external)
		texts(entry.labels)
		texts(entry.accepts)
		texts(entry.refuses)
	}
}

isolation if {
	every demand in config.isolation.of_types {
		texts(demand.types)
		demand.at_least in {"cell", "process", "container"}
	}
	every level in config.isolation.of_labels { level in {"cell", "process", "container"} }
}

sequences if {
	texts(config.sequences.no_external_after)
	every order in config.sequences.forbidden {
		is_string(order.after)
		texts(order.types)
		texts(order.capabilities)
	}
}

effects if {
	is_array(config.effects)
	every permit in config.effects {
		texts(permit.connectors)
		texts(permit.actions)
		texts(permit.types)
	}
}
