# What may touch the world, and through which connector. A connector that the configuration does not name is nobody's.
package aip.effects

import data.aip.config
import data.aip.match

denials contains {"rule": "effects.connector", "text": text} if {
	input.kind == "effect"
	not permitted
	text := sprintf("%v may not act through connector %v (%v)", [input.subject.type, input.target.type, input.capability])
}

permitted if {
	some permit in config.effects
	match.any_of(input.target.type, permit.connectors)
	match.any_of(input.capability, permit.actions)
	match.any_of(input.subject.type, permit.types)
}

# An effect without a durable record is not begun: the road holds to it anyway, and here it is said.
obligations contains {"kind": "record_before"} if input.kind == "effect"
