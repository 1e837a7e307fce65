"""A framework that brings its own model client: what can be held of its cost, and what is charged after.

AIP does not see those requests. Before a run, what the author says that a run may cost is reserved; after it, what the framework
reports is charged, and what it does not report counts as reserved. A run that is under way is not stopped by its own cost: the
reservation is all that stands between it and the account, and what goes beyond it is charged as an overrun.

An agent without prices is refused where money is limited, like a model without prices (docs/models.md, M5).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from ..agent import Context
from ..errors import BudgetExceeded
from .failure import Unpriced

MILLION = 1_000_000
UNKNOWN_USD_MICRO = 10**12  # A million dollars: what a run of unknown price may cost.


class OwnModel(BaseModel):
    """What one run may use, and usd_micro per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: int = Field(ge=1)
    input_price: int | None = Field(default=None, ge=0)
    output_price: int | None = Field(default=None, ge=0)

    @property
    def priced(self) -> bool:
        return self.input_price is not None and self.output_price is not None

    def usd_micro(self, input_tokens: int, output_tokens: int) -> int:
        """Rounded up once: a fraction of a micro-dollar is a micro-dollar."""
        millionths = input_tokens * (self.input_price or 0) + output_tokens * (self.output_price or 0)
        return -(-millionths // MILLION)

    def amounts(self) -> dict[str, int]:
        """The most: every token at the dearer price."""
        if not self.priced:
            return {"tokens": self.tokens}
        dearest = max(self.usd_micro(self.tokens, 0), self.usd_micro(0, self.tokens))
        return {"tokens": self.tokens, "usd_micro": dearest}


@dataclass(slots=True)
class Report:
    """What the framework says that its run has used; None until it says so."""

    tokens: tuple[int, int] | None = None  # Input, output.


@asynccontextmanager
async def charged(ctx: Context, own: OwnModel) -> AsyncIterator[Report]:
    """Reserve for a run, and charge what its report says."""
    if not own.priced:
        await _check_money_is_free(ctx)
    report = Report()
    async with ctx.reserve(**own.amounts()) as held:
        try:
            yield report
        finally:
            if report.tokens is not None:
                spent = {"tokens": sum(report.tokens)}
                if own.priced:
                    spent["usd_micro"] = own.usd_micro(*report.tokens)
                held.settle(**spent)


async def _check_money_is_free(ctx: Context) -> None:
    try:
        async with ctx.reserve(usd_micro=UNKNOWN_USD_MICRO) as held:
            held.settle(usd_micro=0)
    except BudgetExceeded as error:
        if error.details.get("unit") not in (None, "usd_micro"):
            raise
        raise Unpriced(
            f"this agent's own model has no price, and money is limited: {error.message}",
            hint="give agent_of its own_model with input_price and output_price; zeros if it is free",
        ) from None
