# What the tests begin with: one ordinary message, and a configuration that grants little. A test changes what it is about.
package aip.fixture_test

message := {
	"kind": "call",
	"subject": {"address": "planner/1", "type": "planner", "tenant": "acme", "depth": 1, "children": 0},
	"target": {"address": "billing.desk/1", "type": "billing.desk", "tenant": "acme"},
	"capability": "read",
	"run": "r-1",
	"principal": {"id": "user:ada", "roles": [], "attributes": {}},
	"labels": [],
	"session": {"labels": []},
	"isolation": "cell",
	"budget": {"usd_micro": 5000},
	"rates": {"call": 3},
	"reputation": 1,
	"kill": {"level": "none"},
}

config := {
	"mode": "test",
	"open": false,
	"trust_roles_of_principals": true,
	"unknown_is_external": false,
	"roles": {
		"clerk": [{"kinds": ["call"], "types": ["billing.*"], "capabilities": ["read", "pay"]}],
		"courier": [{"kinds": ["call", "effect"], "types": ["http"], "capabilities": ["*"]}],
	},
	"members": {"types": {"planner": ["clerk"]}, "principals": {}},
	"attributes": {
		"tenants_shared": ["commons"],
		"reputation_min": 0.2,
		"required": [{"types": ["billing.*"], "capabilities": ["pay"], "attributes": {"clearance": "finance"}}],
	},
	"limits": {"budget_left_min": {"usd_micro": 100}, "rates_per_s_max": {"call": 10}},
	"catalogue": [
		{
			"types": ["vault"],
			"capabilities": ["*"],
			"external": false,
			"labels": ["secret"],
			"accepts": [],
			"refuses": ["pii"],
		},
		{
			"types": ["http"],
			"capabilities": ["*"],
			"external": true,
			"labels": [],
			"accepts": ["public"],
			"refuses": [],
		},
	],
	"isolation": {
		"of_types": [{"types": ["untrusted.*"], "at_least": "container"}],
		"of_labels": {"secret": "process"},
	},
	"sequences": {
		"no_external_after": ["secret"],
		"forbidden": [{"after": "pii", "types": ["billing.*"], "capabilities": ["pay"]}],
	},
	"spawn": {"depth_max": 3, "children_max": 10, "types": ["worker"]},
	"effects": [{"connectors": ["http"], "actions": ["get"], "types": ["planner"]}],
}

with_target(type) := object.union(message, {"target": {"address": concat("/", [type, "1"]), "type": type, "tenant": "acme"}})

rules(denials) := {denial.rule | some denial in denials}
