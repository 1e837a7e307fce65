"""The public names under the name that the architecture guide's snippets import."""

from aip import Agent, AgentFailed, AIPError, Context, agent_of, capability
from aip.client import Platform, connect
from aip.orchestrator import Orchestrator

__all__ = [
    "AIPError",
    "Agent",
    "AgentFailed",
    "Context",
    "Orchestrator",
    "Platform",
    "agent_of",
    "capability",
    "connect",
]
