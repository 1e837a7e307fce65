"""The command line `aip`: what a person types, and what a script reads."""
