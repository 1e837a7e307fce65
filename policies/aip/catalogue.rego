# What is known of the tool that a message is for. Entries that match add up: external if one says so, labels and refusals of all,
# accepted only what every one of them accepts. A tool in no entry is inside if the configuration says that unknown tools are.
package aip.catalogue

import data.aip.config
import data.aip.match

name := sprintf("%v.%v", [input.target.type, input.capability])

entries contains entry if {
	some entry in config.catalogue
	match.any_of(input.target.type, entry.types)
	match.any_of(input.capability, entry.capabilities)
}

default external := true

external := false if {
	count(entries) > 0
	every entry in entries { entry.external == false }
}

external := false if {
	count(entries) == 0
	config.unknown_is_external == false
}

# To be started or described hands no data out.
labels contains label if {
	not input.capability in {"aip.start", "aip.describe"}
	some entry in entries
	some label in entry.labels
}

refuses contains label if {
	some entry in entries
	some label in entry.refuses
}

accepts contains label if {
	some entry in entries
	some label in entry.accepts
	every other in entries { label in other.accepts }
}
