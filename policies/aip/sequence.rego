# What may not come after what. Each message alone may be fine: reading a secret is, and so is posting to the world. One after the
# other is a leak. The session is what its labels say it has seen; it never forgets one.
package aip.sequence

import data.aip.catalogue
import data.aip.config
import data.aip.match

denials contains {"rule": "sequence.external_after_secret", "text": text} if {
	some label in config.sequences.no_external_after
	label in input.session.labels
	catalogue.external
	not label in catalogue.accepts
	text := sprintf("this session has seen data labelled %v: nothing of it goes out through %v any more", [label, catalogue.name])
}

denials contains {"rule": "sequence.forbidden", "text": text} if {
	some order in config.sequences.forbidden
	order.after in input.session.labels
	match.any_of(input.target.type, order.types)
	match.any_of(input.capability, order.capabilities)
	text := sprintf("after data labelled %v nothing may call %v", [order.after, catalogue.name])
}
