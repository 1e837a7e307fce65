"""The border of a cell: what it believes of a frame that another process sent, item by item.

A *trust domain* is a pool: the cells that run one version of one code. They pass each other's agents and mail on, so they believe
each other; of anybody else a cell believes only what that one may say for itself:

    the frame            its source and generation are the speaker's, and no newer generation of it is a member
    envelope             sent by its origin, under an id of this generation, for an agent of the origin's pool, for the run
                         that the process is, or for the client that it is; its account is one of its run's.
                         Or passed on by a cell of the receiver's own pool
    reply, part, taken,  from where the call went, or from another cell of that agent's pool
    progress
    cancel, credit       from the cell that the call came from, or passed on by a cell of the agent's pool
    claim, hand-over     from a cell of the agent's pool, a claim in its own name
    probe                from a cell that may host the agent that waits

A client names itself: it speaks as `client/<its name>` and for no run. What else a message of an agent claims - its run, chain
and labels - is the word of its cell, and policy and kill orders weigh it as such. A false probe can end a call as a deadlock, and
do no more.

The rule of the receiver's own guard (`Guard.arrives`) comes after this one. Where nobody has proven who speaks (the cells of one
process: a test, the simulator) there is no border.
"""

from __future__ import annotations

from ..errors import Refused
from .envelope import Cancel, Claim, Credit, Envelope, Frame, HandOver, Item, Probe
from .ports import Locator
from .speaker import VISITOR, Speaker

CLIENT, RUN = "client", "run"
SPOKEN_MAX = 10_000  # Agents of one source that are remembered; it has about 500, and may make up more.
NOBODY: frozenset[str] = frozenset()


class Misspoken(Refused):
    """A process said something that is not its to say."""

    code = "refused.sender"


class Border:
    def __init__(self, locator: Locator) -> None:
        self._locator = locator
        self._epoch = -1
        self._spoken: dict[str, set[str]] = {}  # Agents that a source has spoken for, under this membership.

    def frame(self, speaker: Speaker, frame: Frame) -> str:
        """Why this frame is not the speaker's, or is of one that was replaced; "" where it may be looked at."""
        source = frame.source
        if source == speaker.name and frame.generation == speaker.generation:
            living = self._locator.generation(source)
            if living is None or living <= frame.generation:
                return ""
            return f"{speaker} was replaced by generation {living}"
        if speaker.name != VISITOR.name:
            return f"{speaker} speaks as {source}#{frame.generation}"
        return "" if source.startswith(f"{CLIENT}-") else f"a client speaks as {source}"

    def bars(self, frame: Frame) -> dict[int, str]:
        """The items of this frame that its source may not say, by their place in it, and why."""
        if self._epoch != self._locator.epoch:
            self._epoch = self._locator.epoch
            self._spoken.clear()
        source, life = frame.source, f"{frame.source}.{frame.generation}."
        own = self._spoken.get(source, NOBODY)
        barred = {}
        for index, item in enumerate(frame.items):
            if (
                type(item) is Envelope
                and item.sender in own
                and item.origin == source
                and not item.budget
                and item.id.startswith(life)
            ):
                continue  # The common case, at a quarter of the price.
            if why := self._item(frame, item):
                barred[index] = why
        return barred

    def _item(self, frame: Frame, item: Item) -> str:
        """Why the source of this frame may not say this; "" where it may."""
        source, hosts = frame.source, self._locator.hosts
        match item:
            case Envelope():
                return self._envelope(frame, item)
            case HandOver():
                fair = hosts(source, item.agent)
            case Claim():
                fair = item.claimant == source and hosts(source, item.agent)
            case Cancel():
                fair = item.id.startswith(f"{source}.") or hosts(source, item.recipient)
            case Credit():
                fair = item.id.startswith(f"{source}.")
            case Probe():
                fair = len(item.path) > 1 and hosts(source, item.path[-2])
            case _:
                fair = True  # About a call of ours: `Cell` asks `answers` of it.
        return "" if fair else f"{source} sent a {type(item).__name__.lower()} for what is not its own"

    def answers(self, source: str, cell: str, recipient: str) -> bool:
        """Whether `source` may tell of a call to `recipient` that went to `cell`."""
        return source == cell or self._locator.hosts(source, recipient)

    def _envelope(self, frame: Frame, envelope: Envelope) -> str:
        source, sender = frame.source, envelope.sender
        if envelope.origin != source:
            if self._locator.hosts(source, envelope.recipient):
                return ""
            return f"{source} passes on mail of {envelope.origin or 'nobody'}, and has no part in {envelope.recipient}"
        if not envelope.id.startswith(f"{source}.{frame.generation}."):
            return f"{source}#{frame.generation} sent a message of another generation"
        kind, _, key = sender.partition("/")
        if kind == CLIENT:
            fair = key == source and not envelope.run
        elif kind == RUN:
            fair = source == f"{RUN}-{key}" and envelope.run == key
        else:
            fair = self._locator.hosts(source, sender)
            if fair:
                self._remember(source, sender)
        if not fair:
            return f"{source} may not speak for {sender}"
        if envelope.budget and envelope.budget.partition("/")[0] != envelope.run:
            return f"{sender} would pay from {envelope.budget}, which is none of its run's accounts"
        return ""

    def _remember(self, source: str, sender: str) -> None:
        own = self._spoken.setdefault(source, set())
        if len(own) >= SPOKEN_MAX:
            own.clear()
        own.add(sender)
