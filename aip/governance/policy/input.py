"""The input document of a decision: one message, spawn or effect, and everything about it that a policy may weigh.

Facts that change (money left, rates, standing, kill orders, what a session has seen, the time) are here and never in `data`: data
is the bundle's, signed and the same in every cell, and a fact in it would be old by the time it arrived.

`CHANGING` names those facts with their value at rest, where there is nothing to know yet: the decision cache goes by it. Rates
and budgets are not among them: they are told in steps (`steps.py`), so that the same ones come again.
`SCHEMA` is the JSON Schema of the document; `of_envelope` fills it from a message as far as the message itself tells.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ...errors import InvalidPayload
from ...ids import base_type
from ...runtime.envelope import Envelope
from ...runtime.envelope import Kind as EnvelopeKind

LABELS_MAX = (
    64  # Data labels of one message or session: names of classes of data, of which a company has a dozen.
)
ROLES_MAX = 256
UNITS_MAX = 64
DATA_LABEL = "data"  # The envelope label that carries data labels, such as `data: secret,pii`.

Kind = Literal["call", "tell", "stream", "effect", "spawn"]
Isolation = Literal["cell", "process", "container"]
Level = Literal["none", "throttle", "pause", "quarantine", "drain", "terminate", "revoke", "lockdown"]
Text = Annotated[str, Meta(max_length=512)]
Labels = Annotated[tuple[Text, ...], Meta(max_length=LABELS_MAX)]
Amounts = Annotated[dict[Text, float], Meta(max_length=UNITS_MAX)]
Count = Annotated[int, Meta(ge=0)]
KINDS: dict[int, Kind] = {EnvelopeKind.CALL: "call", EnvelopeKind.TELL: "tell", EnvelopeKind.STREAM: "stream"}


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Target(_Document, frozen=True, kw_only=True):
    """Who or what is addressed. Of an effect: the connector."""

    address: Annotated[Text, Meta(description="type/key of the agent, or the connector's name")] = ""
    type: Annotated[Text, Meta(description="agent type without its code digest, or kind of connector")] = ""
    tenant: Text = ""


class Subject(Target, frozen=True, kw_only=True):
    """Who speaks."""

    depth: Annotated[Count, Meta(description="of a spawn: how many spawns lie between it and the run")] = 0
    children: Annotated[Count, Meta(description="of a spawn: agents that it has spawned before")] = 0


class Principal(_Document, frozen=True, kw_only=True):
    """The person or service on whose behalf, once authenticated."""

    id: Annotated[
        Text, Meta(description="such as user:ada or service:billing; empty where nobody is known")
    ] = ""
    roles: Annotated[tuple[Text, ...], Meta(max_length=ROLES_MAX)] = ()
    attributes: dict[str, Any] = {}


class Session(_Document, frozen=True, kw_only=True):
    labels: Annotated[Labels, Meta(description="labels of all data that this session has seen so far")] = ()


class Kill(_Document, frozen=True, kw_only=True):
    level: Annotated[
        Level, Meta(description="the strictest kill order that covers the message and lets it pass")
    ] = "none"


class Input(_Document, frozen=True, kw_only=True):
    kind: Kind
    subject: Subject
    target: Target
    capability: Annotated[
        Text, Meta(description="name or domain.name; of an effect its action, of a spawn empty")
    ] = ""
    run: Annotated[Text, Meta(description="the run of a plan on whose behalf; empty outside of one")] = ""
    principal: Principal = Principal()
    labels: Annotated[Labels, Meta(description="labels of the data in this message")] = ()
    tags: Annotated[dict[str, str], Meta(description="the plan's own labels, name by name")] = {}
    session: Session = Session()
    isolation: Annotated[Isolation, Meta(description="how the target is kept apart from others")] = "cell"
    budget: Annotated[
        Amounts, Meta(description="unit -> what is left, rounded down to a step; empty: not told")
    ] = {}
    rates: Annotated[
        Amounts,
        Meta(
            description="the kind -> how many of it the subject sends a second, rounded up to a step; empty: not told"
        ),
    ] = {}
    reputation: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="of the subject; 1 where nothing is held against it, and while nobody keeps count",
        ),
    ] = 1.0
    kill: Kill = Kill()
    now_s: Annotated[float, Meta(ge=0, description="whole seconds since the Unix epoch; 0: not told")] = 0.0


CHANGING: dict[tuple[str, ...], Any] = {
    ("reputation",): 1.0,
    ("kill", "level"): "none",
    ("session", "labels"): (),
    ("subject", "children"): 0,
    ("now_s",): 0.0,
}
SCHEMA: dict[str, Any] = msgspec.json.schema(Input)


def read_input(value: Any) -> Input:
    """A plain document as `Input`. Raises `InvalidPayload` that names the field."""
    try:
        return msgspec.convert(value, Input)
    except msgspec.ValidationError as error:
        raise InvalidPayload(
            f"not an input document: {error}", hint="`aip policy show --schema` prints its schema"
        ) from error


def plain(input: Input) -> dict[str, Any]:
    """The document as plain JSON values."""
    document: dict[str, Any] = msgspec.to_builtins(input)
    return document


def of_envelope(envelope: Envelope, **facts: Any) -> Input:
    """What a message tells of itself; `facts` are the fields of `Input` that it cannot know."""
    tags = dict(envelope.labels)
    data_labels = tuple(label for label in tags.pop(DATA_LABEL, "").split(",") if label)
    tenant = envelope.tenant
    known: dict[str, Any] = {
        "kind": KINDS[envelope.kind],
        "capability": envelope.capability,
        "run": envelope.run,
        "subject": Subject(address=envelope.sender, type=base_type(envelope.sender), tenant=tenant),
        "target": Target(address=envelope.recipient, type=base_type(envelope.recipient), tenant=tenant),
        "labels": data_labels,
        "tags": tags,
    }
    return Input(**(known | facts))
