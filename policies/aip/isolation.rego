# How far apart. Some code must not share a process with other code, and some data must not reach code that does.
package aip.isolation

import data.aip.config
import data.aip.match

rank := {"cell": 1, "process": 2, "container": 3}

# Demanded by what the target is, and by what the message carries.
demands contains demand.at_least if {
	some demand in config.isolation.of_types
	match.any_of(input.target.type, demand.types)
}

demands contains level if {
	some label in input.labels
	level := config.isolation.of_labels[label]
}

denials contains {"rule": "isolation.demanded", "text": text} if {
	some level in demands
	rank[input.isolation] < rank[level]
	text := sprintf("%v runs with isolation %v, and at least %v is demanded", [input.target.type, input.isolation, level])
}

obligations contains {"kind": "isolation", "at_least": level} if some level in demands
