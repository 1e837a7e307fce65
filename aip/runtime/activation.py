"""One agent in one cell, while it is here.

    state       means                                                may become
    NEW         mail has come, nothing was started                   STARTING
    STARTING    incarnation asked for, `on_start` running            ACTIVE, GONE (start failed, held elsewhere)
    ACTIVE      serves its mailbox                                   STOPPING
    STOPPING    running turns finish, `on_stop` runs                 GONE
    GONE        no longer in this cell's table                       -

Mail that comes while STARTING or STOPPING waits in the mailbox; what is left when the agent is GONE is handed over, sent on, or
answered by an error - never forgotten.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..agent import Agent, agent_of, configuration
from ..errors import UserError
from .mailbox import Mailbox

if TYPE_CHECKING:
    from .turn import CellTurn


class State(Enum):
    NEW = "new"
    STARTING = "starting"
    ACTIVE = "active"
    STOPPING = "stopping"
    GONE = "gone"


class Activation:
    __slots__ = (
        "address",
        "count",
        "gone",
        "heir",
        "incarnation",
        "instance",
        "kind",
        "last_used",
        "mailbox",
        "run",
        "saving",
        "server",
        "spawned",
        "started",
        "state",
        "turns",
    )

    def __init__(self, address: str, kind: AgentType, mailbox: Mailbox, now: float) -> None:
        self.address = address
        self.kind = kind
        self.mailbox = mailbox
        self.state = State.NEW
        self.incarnation = 0
        self.count = 0  # Messages this activation has sent.
        self.spawned = 0
        self.instance: Agent | None = None
        self.server: asyncio.Task[None] | None = None
        self.started: asyncio.Future[None] | None = None  # Made by who must wait until STARTING is over.
        self.gone: asyncio.Future[None] | None = None  # Made by who must wait until it is GONE.
        self.saving: asyncio.Lock | None = None  # Made by the first checkpoint.
        self.heir = ""  # The cell that asked for this agent while it was not ready to go.
        self.turns: dict[CellTurn, None] = {}  # In order of their start.
        self.last_used = now
        self.run = ""  # The run whose message activated it; what it spawns inherits that.

    @property
    def reentrant(self) -> bool:
        return self.instance is not None and type(self.instance).reentrant

    def next_sequence(self) -> int:
        self.count += 1
        return self.incarnation << 32 | self.count


@dataclass(slots=True)
class AgentType:
    """A type of agent that a cell can host: its name with digest, and its class (imported on first use)."""

    name: str
    entry: str  # "module:Class"
    code_root: str = ""  # The folder of the user's own code: errors point into it.
    cls: type[Agent] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Agent:
        """A new instance with its configuration. Raises `UserError` that says why there can be none."""
        kind = self.load()
        instance = kind()
        instance.config = configuration(kind, self.config)
        return instance

    def load(self) -> type[Agent]:
        """The class. Raises `UserError` that says why it cannot be had."""
        if self.cls is None:
            module, _, attribute = self.entry.partition(":")
            try:
                self.cls = agent_of(getattr(importlib.import_module(module), attribute))
            except UserError:
                raise
            except AttributeError as error:
                raise UserError(f"{self.entry}: {error}") from error
            except Exception as error:
                raise UserError(
                    f"{self.entry} cannot be imported: {type(error).__name__}: {error}",
                    hint="run `python -c 'import " + module + "'` beside the plan",
                ) from error
        return self.cls
