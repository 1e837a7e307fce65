"""Agents of other frameworks as agents of AIP: one line each, under the same guard and the same budget (docs/adapters.md).

    researcher = aip.adapters.pydantic_ai.agent_of(pydantic_agent, tools=["library.book.find"])

A framework is imported by the module that is named after it, and by nothing else.
"""

from .failure import AdapterFailed, GuardrailTripped, Interrupted, Misbehaved, StepsExhausted, Unpriced
from .reins import current_context

__all__ = [
    "AdapterFailed",
    "GuardrailTripped",
    "Interrupted",
    "Misbehaved",
    "StepsExhausted",
    "Unpriced",
    "current_context",
]
