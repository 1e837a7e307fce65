"""How an effect ends that was not done. Apart from the connectors, so that cells know these without what connectors need."""

from __future__ import annotations

from ...errors import AIPError, Denied


class NotAllowed(Denied):
    """The connector's own allow-list or bounds refuse the request; nothing was done."""

    code = "refused.effect"
    default_hint = "what a connector allows is in the operator's effects.yaml: see docs/effects.md"


class EffectFailed(AIPError):
    """It was not done, and that is certain. Trying again under the same key is allowed."""

    code = "effect.failed"
    retryable = True
