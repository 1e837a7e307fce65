# What must be true of those who speak, whatever their role: their tenant, their standing, the attributes that a capability
# demands, and that no kill order stops them. The kill fence stands before the policy and needs no help; a decision that is asked
# for elsewhere (over HTTP, say) must not be more generous than the road. Nor less: what a mild order covers waits in its mailbox
# (docs/semantics.md, Kill), and is not to be refused for that. A level that is not known here stops everything.
package aip.attributes

import data.aip.config
import data.aip.match

denials contains {"rule": "attributes.tenant", "text": text} if {
	input.subject.tenant != input.target.tenant
	not match.any_of(input.target.tenant, config.attributes.tenants_shared)
	text := sprintf("%v of tenant %v may not reach tenant %v", [input.subject.type, input.subject.tenant, input.target.tenant])
}

denials contains {"rule": "attributes.reputation", "text": text} if {
	input.reputation < config.attributes.reputation_min
	text := sprintf("the reputation of %v is %v, below %v", [input.subject.type, input.reputation, config.attributes.reputation_min])
}

denials contains {"rule": "attributes.required", "text": text} if {
	some demand in config.attributes.required
	match.any_of(input.target.type, demand.types)
	match.any_of(input.capability, demand.capabilities)
	some name, value in demand.attributes
	object.get(input.principal.attributes, name, null) != value
	text := sprintf("%v asks for %v = %v of whoever calls it", [input.capability, name, value])
}

denials contains {"rule": "attributes.kill", "text": text} if {
	not input.kill.level in {"none", "throttle", "pause", "quarantine"}
	text := sprintf("a kill order of level %v covers this message", [input.kill.level])
}

denials contains {"rule": "attributes.quarantine", "text": text} if {
	input.kill.level == "quarantine"
	input.kind == "effect"
	text := sprintf("%v is under quarantine: no effect leaves it", [input.subject.type])
}
