"""OPA's errors: their status, their code, and the shape of their body.

400 invalid_parameter     what was asked cannot be asked so; modules and queries tell each problem with its place
401 unauthorized          no token, or another one
404 resource_not_found    no such policy or document
404 resource_conflict     a document cannot be written where a plain value stands
408 invalid_parameter     the body did not come in time
413 invalid_parameter     larger than a limit (OPA answers 400; a proxy understands this one)
429 invalid_parameter     too many requests a second of one client (OPA has no such limit)
500 internal_error        the evaluation failed: a function's error, a conflict of rules
503 internal_error        too many wait already, or the evaluation took too long
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import AIPError

INVALID = "invalid_parameter"
NOT_FOUND = "resource_not_found"
CONFLICT = "resource_conflict"
UNAUTHORIZED = "unauthorized"
INTERNAL = "internal_error"
COMPILING = "error(s) occurred while compiling module(s)"
EVALUATING = "error(s) occurred while evaluating query"
PARSING = "error(s) occurred while parsing query"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a module or a query, and where."""

    code: str
    message: str
    file: str = ""
    row: int = 0
    col: int = 0

    def body(self) -> dict[str, Any]:
        found = asdict(self)
        return {
            "code": self.code,
            "message": self.message,
            "location": {name: found[name] for name in ("file", "row", "col")},
        }


class Rejected(AIPError):
    """A request that ends in one of OPA's errors."""

    code = "opa.rejected"

    def __init__(self, status: int, opa_code: str, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message, status=status, opa_code=opa_code)
        self.status = status
        self.opa_code = opa_code
        self.problems = tuple(problems)

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"code": self.opa_code, "message": self.message}
        if self.problems:
            body["errors"] = [problem.body() for problem in self.problems]
        return body


def invalid(message: str, problems: Sequence[Problem] = ()) -> Rejected:
    return Rejected(400, INVALID, message, problems)


def not_found(message: str) -> Rejected:
    return Rejected(404, NOT_FOUND, f"storage_not_found_error: {message}")
