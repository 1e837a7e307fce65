"""What can go wrong with a tool of an outside server, beside what can go wrong with any agent.

ToolServerUnusable    the configuration is wrong: no such program, a tool allowed that does not exist
ToolServerLost        it died, or broke the protocol, while calls were in flight; trying again can help
ToolServerDown        it was restarted too often and is given up for a while
ToolFailed            the tool ran and says that it failed; the text is its own
"""

from __future__ import annotations

from ...errors import AgentFailed, AgentLost, UserError


class ToolServerUnusable(UserError):
    code = "tool.server_unusable"


class ToolServerLost(AgentLost):
    """Whether the tool did its work before the server was lost is not known. Details: `server`, `stderr`."""

    code = "tool.server_lost"
    default_hint = "it is started again by the next call"


class ToolServerDown(AgentFailed):
    code = "tool.server_down"
    retryable = False  # Not within any retry's patience: it has just been tried several times.


class ToolFailed(AgentFailed):
    """Details: `type` ("tool", "protocol", "return"), `tool`, `server`."""

    code = "tool.failed"
