# How often. Rates are counted on the road and come in the input; the bounds are the configuration's.
package aip.rates

import data.aip.config

denials contains {"rule": "rates.exceeded", "text": text} if {
	some name, rate in input.rates
	most := config.limits.rates_per_s_max[name]
	rate > most
	text := sprintf("%v: %v a second, and at most %v are allowed", [name, rate, most])
}
