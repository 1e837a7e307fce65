"""What can go wrong between a model agent and its endpoint, as errors whose class decides what follows.

    class        code                 tried again here    the endpoint may charge for it
    RateLimited  model.rate_limited   yes, when it says   no
    Unreachable  model.unreachable    yes                 no (a 5xx, a connection that never was), unless it had begun
    CutOff       model.cut_off        yes                 yes: it stalled, or broke off in the middle
    Garbage      model.garbage        yes                 yes: it answered, with something that is no answer
    Rejected     model.rejected       no                  no: the request is wrong, or its key
    Unstructured model.unstructured   one repair before   yes, and its usage is known
    Unpriced     model.unpriced       no                  nothing was sent

None of them holds a request, a response or a header: what an endpoint says is quoted in part, with the key struck out of it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import AgentFailed, Refused

QUOTE_CHARS_MAX = 500  # Of what an endpoint says: enough to understand it, too little to flood a log.


class ModelFailed(AgentFailed):
    """The root of what endpoints do. `cost_unknown`: tokens may have been spent that nobody reported."""

    code = "model.failed"
    tried_again: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", cost_unknown: bool = False, **details: Any) -> None:
        super().__init__(message, hint=hint, **details)
        self.cost_unknown = cost_unknown


class RateLimited(ModelFailed):
    code = "model.rate_limited"
    tried_again = True
    default_hint = "lower the model's concurrency, or ask its provider for more"

    def __init__(self, message: str, *, after_s: float | None = None, hint: str = "", **details: Any) -> None:
        super().__init__(message, hint=hint, **details)
        self.after_s = after_s


class Unreachable(ModelFailed):
    code = "model.unreachable"
    tried_again = True
    default_hint = "is base_url right, and the endpoint up?"


class CutOff(ModelFailed):
    code = "model.cut_off"
    tried_again = True
    default_hint = "raise timeout_s or idle_timeout_s of the model if it is only slow"

    def __init__(self, message: str, *, hint: str = "", **details: Any) -> None:
        super().__init__(message, hint=hint, **{"cost_unknown": True, **details})


class Garbage(ModelFailed):
    code = "model.garbage"
    tried_again = True
    default_hint = "does base_url speak OpenAI's chat completions?"

    def __init__(self, message: str, *, hint: str = "", **details: Any) -> None:
        super().__init__(message, hint=hint, **{"cost_unknown": True, **details})


class Rejected(ModelFailed):
    code = "model.rejected"
    retryable = False

    def __init__(self, message: str, *, status: int = 0, hint: str = "", **details: Any) -> None:
        super().__init__(message, hint=hint, status=status, **details)
        self.status = status


class Unstructured(ModelFailed):
    code = "model.unstructured"
    retryable = False
    default_hint = "make the schema simpler, raise max_output_tokens, or take a larger model"


class Unpriced(Refused):
    """A model without a price, asked under a budget that limits money."""

    code = "model.unpriced"


def without_key(text: str, key: str) -> str:
    """`text` with the key struck out, then cut: a cut through the key would leave half of it that nothing finds."""
    return (text.replace(key, "[secret]") if key else text)[:QUOTE_CHARS_MAX]
