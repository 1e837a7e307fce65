"""What can be wrong with an expression, one kind of error for all of it, and how values are named in it."""

from __future__ import annotations

from typing import Any

from ..errors import UserError


class _ExpressionError(UserError):
    """An expression, where in it, and what is wrong. Details: `expression`, `column` (from 1, within it)."""

    def __init__(
        self, problem: str, expression: str = "", at: int = 0, *, hint: str = "", **details: Any
    ) -> None:
        shown = expression.strip() if len(expression) <= 120 else expression[:117].strip() + "..."
        super().__init__(
            f"{problem} in `{shown}`",
            hint=hint,
            expression=expression,
            column=at + 1,
            problem=problem,
            **details,
        )
        self.problem = problem
        self.at = at


class ExpressionInvalid(_ExpressionError):
    """The expression can never be evaluated: syntax, an unknown name, too long, too deep."""

    code = "expression.invalid"


class ExpressionFailed(_ExpressionError):
    """The expression could not be evaluated with these values."""

    code = "expression.failed"


def kind(value: Any) -> str:
    """What a value is, with its article: `an integer`."""
    kinds = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "a map",
    }
    return "null" if value is None else kinds.get(type(value), f"a {type(value).__name__}")
