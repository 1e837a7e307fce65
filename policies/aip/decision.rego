# The decision: allowed only if the input and the configuration are in shape, some rule grants it, and no rule denies it.
#
# Written to deny whatever goes wrong, under either way that engines treat a failing builtin (raise, or go on with undefined):
#   - `default`s stand at the side of refusal, and `allow` is proven, never the absence of a proof;
#   - a denial that could not be computed would be a door left open, so nothing is computed on values whose type is not known:
#     `shape` checks the whole input and the whole configuration first, by tests that cannot fail;
#   - the parts of `decision` are defined for every input; were one not, the whole would be undefined, and that denies.
package aip

import data.aip.attributes
import data.aip.budgets
import data.aip.config
import data.aip.effects
import data.aip.isolation
import data.aip.labels
import data.aip.rates
import data.aip.roles
import data.aip.sequence
import data.aip.shape
import data.aip.spawn

decision := {"allow": allow, "reasons": reasons, "obligations": obligations}

default allow := false

allow if {
	shape.valid
	count(denials) == 0
	count(roles.grants) > 0
}

denials := (((attributes.denials | budgets.denials) | (effects.denials | isolation.denials)) |
	((labels.denials | rates.denials) | (sequence.denials | spawn.denials)))

# Where something is out of shape nothing else is asked.
reasons := roles.grants if allow

else := {{"rule": "shape.input", "text": "the input is not a whole and well-typed input document"}} if not shape.input_valid

else := {{"rule": "shape.config", "text": "the policy's own configuration is not whole and well-typed"}} if not shape.config_valid

else := denials if count(denials) > 0

else := {{"rule": "decision.default", "text": text}} if {
	text := sprintf("no rule lets %v %v %v of %v", [input.subject.type, input.kind, input.capability, input.target.type])
}

obligations := ((effects.obligations | isolation.obligations) | (labels.obligations | notices)) if allow

else := set()

notices contains {"kind": "notice", "mode": "laptop", "text": "everything of this person's plans is allowed"} if config.open == true
