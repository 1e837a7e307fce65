# What data may go where. The catalogue says which labels a tool takes and which leave with its answers. A tool that is outside
# takes what its entry accepts and nothing else; a tool inside takes everything but what its entry refuses to hold.
package aip.labels

import data.aip.catalogue

denials contains {"rule": "labels.external", "text": text} if {
	some label in input.labels
	catalogue.external
	not label in catalogue.accepts
	text := sprintf("data labelled %v may not go to %v, which is outside", [label, catalogue.name])
}

denials contains {"rule": "labels.refused", "text": text} if {
	some label in input.labels
	label in catalogue.refuses
	text := sprintf("%v takes no data labelled %v", [catalogue.name, label])
}

# What the answer will carry: whoever enforces this decision adds it to the labels that the session has seen.
obligations contains {"kind": "label", "labels": [label | some label in catalogue.labels]} if count(catalogue.labels) > 0
