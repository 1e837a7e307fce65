# How many may come of one. A plan that breeds agents ends here, long before it ends the machine.
package aip.spawn

import data.aip.config
import data.aip.match

denials contains {"rule": "spawn.depth", "text": text} if {
	input.kind == "spawn"
	input.subject.depth >= config.spawn.depth_max
	text := sprintf("an agent of type %v is %v generations deep, and %v are allowed", [input.subject.type, input.subject.depth, config.spawn.depth_max])
}

denials contains {"rule": "spawn.children", "text": text} if {
	input.kind == "spawn"
	input.subject.children >= config.spawn.children_max
	text := sprintf("an agent of type %v has %v children, and %v are allowed", [input.subject.type, input.subject.children, config.spawn.children_max])
}

denials contains {"rule": "spawn.type", "text": text} if {
	input.kind == "spawn"
	not match.any_of(input.target.type, config.spawn.types)
	text := sprintf("agents of type %v are not to be spawned", [input.target.type])
}
