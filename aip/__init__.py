"""AIP, the Agent Infrastructure Platform: supervised agents on Ray, one road for every message.

The names an agent author needs are here at once; what holds a platform (`connect`, `Orchestrator`) is loaded on first use, so
that a cell and `aip --help` do not pay for it.
"""

from typing import TYPE_CHECKING, Any

from .agent import Agent, AgentRef, Context, Reservation, agent_of, capability
from .errors import AgentFailed, AIPError
from .settings import VERSION

if TYPE_CHECKING:
    from .client import Platform, connect
    from .models import LLMAgent
    from .orchestrator import Orchestrator

__version__ = VERSION
__all__ = [
    "AIPError",
    "Agent",
    "AgentFailed",
    "AgentRef",
    "Context",
    "LLMAgent",
    "Orchestrator",
    "Platform",
    "Reservation",
    "agent_of",
    "capability",
    "connect",
]


def __getattr__(name: str) -> Any:
    if name in {"Platform", "connect"}:
        from . import client

        return getattr(client, name)
    if name == "LLMAgent":
        from .models import LLMAgent

        return LLMAgent
    if name == "Orchestrator":
        from .orchestrator import Orchestrator

        return Orchestrator
    raise AttributeError(f"module 'aip' has no attribute {name!r}")
