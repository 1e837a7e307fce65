"""What a policy engine is, and what a decision is.

An engine evaluates one bundle of Rego. It is asked for a *path* (`aip/decision`, as in OPA's REST API) under an *input*, and
answers with a plain value, or `UNDEFINED` where the rules give none. `decide` turns the answer at `DECISION_PATH` into a
`Decision`:

    data.aip.decision = {"allow": bool, "reasons": [{"rule": id, "text": why}], "obligations": [{"kind": ..., ...}]}

Guaranteed: **whatever is wrong denies.** An error, an undefined value, a wrong shape, a time-out, an engine that panics (a Rust
panic arrives as a `BaseException`, which `except Exception` lets through): each is a `Decision` with `allow=False` whose reason
says what happened, under the rule `FAULT`. Reasons and obligations are sorted, so that two engines that agree give equal
decisions, and reasons are traced to the file and line of the bundle that holds the rule's id.

An engine serves one bundle for its whole life: a reload is another engine, built, warmed and swapped in (`serving.py`). So a
decision cannot mix two revisions, whatever is activated while it is made.

Not guaranteed: that an evaluation in this process can be cut short. Rego ends on every input, but may take long: that is what the
limits on bundles and inputs and the trial of the load gate are for. An engine that waits for something outside has a deadline.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from ...errors import AIPError, UserError

if TYPE_CHECKING:
    from .bundle import Bundle

DECISION_PATH = "aip/decision"
FAULT = "policy.fault"  # The rule that a denial names when no rule of the bundle made it.
REASONS_MAX = 64  # What a person reads of a refusal, and every error and audit entry carries.
PATH_DEPTH_MAX = 32  # As folders of a bundle.
# More is a policy gone wrong. Dropping one would let through what it should have bound: so it denies.
OBLIGATIONS_MAX = 64
INPUT_BYTES_MAX = 256 * 2**10  # Facts about one message, never its payload; evaluation time grows with it.
_json = msgspec.json.Encoder()
_ordered = msgspec.json.Encoder(order="deterministic")


class Undefined(Enum):
    """No value: no rule of that path holds. Not null, and not false."""

    UNDEFINED = "undefined"


UNDEFINED: Final = Undefined.UNDEFINED


class Reason(msgspec.Struct, frozen=True, order=True):
    """One rule that spoke: its id, its words, and where the bundle has it."""

    rule: str
    text: str
    file: str = ""
    line: int = 0


class Decision(msgspec.Struct, frozen=True):
    allow: bool
    reasons: tuple[Reason, ...] = ()
    obligations: tuple[dict[str, Any], ...] = ()
    revision: str = ""
    id: str = ""
    engine: str = ""


class PolicyError(AIPError):
    """An engine could not evaluate. `decide` turns it into a denial."""

    code = "policy.error"


class PolicyTimeout(PolicyError):
    code = "policy.timeout"
    retryable = True


class BundleRejected(UserError):
    """A bundle that will not be served: unreadable, unsigned, unparsable, or failing its own tests."""

    code = "policy.bundle_rejected"
    default_hint = "`aip policy check FOLDER` says everything that is wrong with a bundle"


class PolicyEngine(Protocol):
    name: str

    @property
    def bundle(self) -> Bundle | None:
        """What it has loaded."""

    def load(self, bundle: Bundle) -> None:
        """Serve this bundle from now on. Raises `BundleRejected`; a second load is a `PolicyError`."""

    def evaluate(self, path: str, input: Any) -> Any:
        """The value of `data.<path>` under this input (plain JSON values), or `UNDEFINED`. Raises `PolicyError`."""


class _Spoken(msgspec.Struct):
    rule: str
    text: str


class _Shape(msgspec.Struct):
    allow: bool
    reasons: list[_Spoken] = []
    obligations: list[dict[str, Any]] = []


def encode_input(input: Any) -> bytes:
    """The input as JSON, as every engine reads it. Raises `PolicyError` where it is none or too large."""
    try:
        body = _json.encode(input)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PolicyError(f"the input is not JSON: {error}") from error
    if len(body) > INPUT_BYTES_MAX:
        raise PolicyError(f"the input has {len(body)} bytes, more than {INPUT_BYTES_MAX}")
    return body


def path_of(path: str) -> tuple[str, ...]:
    """`aip/decision` as its parts."""
    parts = tuple(path.strip("/").split("/"))
    if len(parts) > PATH_DEPTH_MAX or not all(parts):
        raise PolicyError(f"not a path of a rule: {path[:80]!r}", hint="such as aip/decision")
    return parts


def decide(engine: PolicyEngine, input: Any, *, id: str) -> Decision:
    """The engine's decision on this input. Never raises but for what ends the task or the process itself."""
    bundle = (
        engine.bundle
    )  # Once: an engine that is reloaded meanwhile must not lend this decision its newer revision.
    if bundle is None:
        return denial(f"engine {engine.name} has no policy bundle", id=id, engine=engine.name)
    try:
        value = engine.evaluate(DECISION_PATH, input)
    except (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError):
        raise
    except BaseException as error:  # noqa: BLE001 - an engine's panic is no Exception, and must deny all the same.
        return denial(_fault(error), id=id, engine=engine.name, revision=bundle.revision)
    return read_decision(value, bundle, id=id, engine=engine.name)


def read_decision(value: Any, bundle: Bundle, *, id: str, engine: str) -> Decision:
    """What an engine answered at `DECISION_PATH`, as a decision; a denial where it is not one."""
    revision = bundle.revision
    if value is UNDEFINED:
        return denial(
            f"data.{DECISION_PATH.replace('/', '.')} is undefined", id=id, engine=engine, revision=revision
        )
    try:
        shape = msgspec.convert(value, _Shape)
    except msgspec.ValidationError as error:
        return denial(
            f"the policy's decision has the wrong shape: {error}", id=id, engine=engine, revision=revision
        )
    if len(shape.obligations) > OBLIGATIONS_MAX:
        text = f"{len(shape.obligations)} obligations, more than {OBLIGATIONS_MAX}"
        return denial(text, id=id, engine=engine, revision=revision)
    reasons = sorted(
        Reason(spoken.rule, spoken.text, *bundle.place_of(spoken.rule)) for spoken in shape.reasons
    )
    obligations = sorted(shape.obligations, key=_ordered.encode)
    return Decision(shape.allow, tuple(reasons[:REASONS_MAX]), tuple(obligations), revision, id, engine)


def denial(text: str, *, id: str, engine: str, revision: str = "") -> Decision:
    """What is decided where nothing could be."""
    return Decision(False, (Reason(FAULT, text),), (), revision, id, engine)


def _fault(error: BaseException) -> str:
    words = error.message if isinstance(error, AIPError) else f"{type(error).__name__}: {error}"
    return f"the policy could not be evaluated: {words[:500]}"
