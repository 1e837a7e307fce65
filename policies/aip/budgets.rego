# Money before work. The budget's own check reserves and settles; this one refuses to begin on what is nearly gone.
package aip.budgets

import data.aip.config

denials contains {"rule": "budgets.exhausted", "text": text} if {
	some unit, left in input.budget
	least := object.get(config.limits.budget_left_min, unit, 0)
	left < least
	text := sprintf("%v of %v left, and at least %v must be", [left, unit, least])
}
