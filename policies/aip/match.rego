# Names against patterns: "*" is every name, "billing.*" every name below billing, anything else that very name.
package aip.match

any_of(name, patterns) := true if "*" in patterns

else := true if name in patterns

else := true if {
	some pattern in patterns
	endswith(pattern, ".*")
	startswith(name, substring(pattern, 0, count(pattern) - 1))
}
