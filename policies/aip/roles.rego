# Who may do what. Nothing is granted but by a rule here: a role that the configuration gives, or the laptop's open door.
package aip.roles

import data.aip.config
import data.aip.match

# The roles of this message's sender: those its agent type was given, those its person was given, and those that an
# authenticated person brings along.
held contains role if some role in config.members.types[input.subject.type]

held contains role if some role in config.members.principals[input.principal.id]

held contains role if {
	config.trust_roles_of_principals == true
	some role in input.principal.roles
}

# A laptop belongs to one person: what takes part in a run, and the person at the keyboard, may ask anything of anyone.
grants contains {"rule": "roles.laptop", "text": text} if {
	config.open == true
	own
	text := "mode laptop: this platform serves one person, whose plans may call everything"
}

grants contains {"rule": "roles.granted", "text": text} if {
	some role in held
	some grant in config.roles[role]
	match.any_of(input.kind, grant.kinds)
	match.any_of(input.target.type, grant.types)
	match.any_of(input.capability, grant.capabilities)
	text := sprintf("role %v may %v %v of %v", [role, input.kind, input.capability, input.target.type])
}

own if input.run != ""

own if startswith(input.principal.id, "user:")
