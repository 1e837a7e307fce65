"""AIP, the Agent Infrastructure Platform: supervised agents on Ray, one road for every message.

The names an agent author needs are here at once; what holds a platform (`connect`, `Orchestrator`) is loaded on first use, so
that a cell and `aip --help` do not pay for it.
"""

from typing import TYPE_CHECKING, Any

from .agent import Agent, AgentRef, Context, agent_of, capability
from .errors import AgentFailed, AIPError

if TYPE_CHECKING:
    from .client import Platform, connect
    from .orchestrator import Orchestrator

__version__ = "0.1.0"
__all__ = [
    "AIPError",
    "Agent",
    "AgentFailed",
    "AgentRef",
    "Context",
    "Orchestrator",
    "Platform",
    "agent_of",
    "capability",
    "connect",
]


def __getattr__(name: str) -> Any:
    if name in {"Platform", "connect"}:
        from . import client

        return getattr(client, name)
    if name == "Orchestrator":
        from .orchestrator import Orchestrator

        return Orchestrator
    raise AttributeError(f"module 'aip' has no attribute {name!r}")
