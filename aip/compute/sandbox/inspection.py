"""What agents of strangers can do, found out inside a sandbox: importing somebody's module runs it.

`inspect_sandboxed(folder, entries)` answers as `aip.compute.inspection.inspect_code` does, for agents of `isolation: container`.
Their code has then not run outside a sandbox, from the submission of a plan on. Nothing is cached here: who keeps the answer
keeps it apart from those that were found without a sandbox.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ...errors import AIPError, PlanInvalid
from ...ids import check_capability
from ...runtime import codec
from .limits import SandboxLimits
from .means import Demand, Means
from .sandbox import Sandbox


class _Capability(msgspec.Struct):
    doc: str
    kind: Literal["async", "sync", "stream"]
    cost: dict[str, Annotated[int, Meta(ge=0)]]
    timeout_s: Annotated[float, Meta(gt=0)] | None
    input: dict[str, Any]
    output: dict[str, Any]


class _Manifest(msgspec.Struct):
    """`aip.agent.manifest`, of which a stranger may have made anything. Its type becomes part of addresses."""

    type: Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9-]*\Z", max_length=128)]
    doc: str
    reentrant: bool
    open_ended: bool
    config: dict[str, Any] | None
    capabilities: Annotated[dict[str, _Capability], Meta(max_length=1_000)]


def inspect_sandboxed(
    folder: Path, entries: Sequence[str], means: Means, demand: Demand, rng: random.Random
) -> dict[str, dict[str, Any]]:
    """entry ("module:Class") -> manifest. Raises `PlanInvalid` for what cannot be had, `MeansMissing` before anything is run."""
    return asyncio.run(_inspect(folder.resolve(), entries, means, demand, rng))


async def _inspect(
    folder: Path, entries: Sequence[str], means: Means, demand: Demand, rng: random.Random
) -> dict[str, dict[str, Any]]:
    means.require(demand)
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        # One sandbox each: what one module did to its interpreter is not what the next one is seen by.
        sandbox = await Sandbox.open(means, demand, SandboxLimits(), str(folder), rng)
        try:
            found[entry] = _formed(entry, await sandbox.load(entry, None))
        except AIPError as error:
            raise PlanInvalid(f"{entry}: {error.message}", hint=error.hint, entry=entry) from None
        finally:
            await sandbox.close()
    return found


def _formed(entry: str, told: dict[str, Any]) -> dict[str, Any]:
    """What it says of itself, if that has the form of a manifest; what else it says is left out."""
    codec.encode(told)  # Within the depth of a value, before anything walks through it.
    try:
        formed = msgspec.convert(told, _Manifest)
    except msgspec.ValidationError as error:
        raise PlanInvalid(f"{entry} describes itself wrongly: {error}") from None
    for name in formed.capabilities:
        check_capability(name)
    plain: dict[str, Any] = msgspec.to_builtins(formed)
    return plain
