"""plan.yaml: from bytes to a `Plan`, to problems a person can fix, and to the inputs of a run."""

from .check import check
from .inputs import resolve_inputs
from .plan_file import parse
from .problem import Problem, render

__all__ = ["Problem", "check", "parse", "render", "resolve_inputs"]
