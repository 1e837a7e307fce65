"""The agents of plan.yaml: three who look at a snippet, and the one that runs it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from sandbox import cage, review
from sandbox.bounds import Bounds

import aip


class Reviewer(aip.Agent):
    """Votes on a snippet by one kind of evidence, without running it."""

    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

        evidence: Literal["imports", "calls", "size"]

    config: Config

    @aip.capability("code.review")
    def review(self, code: str) -> dict[str, Any]:
        """`{vote: run | refuse, reasons: [{line, what}]}`"""
        return review.judge(code, self.config.evidence).to_json()


class Runner(aip.Agent):
    """Runs a snippet in a cage of its own. One at a time: what it was given bounds all that runs."""

    Config = Bounds
    config: Bounds

    @aip.capability("code.run", cost={"tool_calls": 1})
    async def run(self, code: str, ctx: aip.Context) -> dict[str, Any]:
        """How it ended, what it printed, what it used, and what held it meanwhile."""
        outcome = await cage.run(code, self.config)
        ctx.log.info(
            "%s, exit code %s, held by %s", outcome.ended, outcome.exit_code, ", ".join(outcome.held)
        )
        for hold, why in outcome.not_held.items():
            ctx.log.warning("not held by %s: %s", hold, why)
        return outcome.as_json()
