"""What a run was submitted with: everything its process needs to begin, or to begin again, on disk beside its journal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from aip.errors import Corrupt, NotFound
from aip.settings import Home

from .pool_spec import PoolSpec

FILE = "spec.msgpack"


class PoolUse(msgspec.Struct, frozen=True):
    """A pool that this run's agents live in, what its types can do, and the addresses that want a process each."""

    spec: PoolSpec
    manifests: dict[str, dict[str, Any]]
    dedicated: tuple[str, ...] = ()
    warm: tuple[str, ...] = ()  # Agents that are to live from the beginning: `replicas.min` of each.


class RunSpec(msgspec.Struct, frozen=True):
    run: str
    plan_source: bytes
    plan_file: str
    inputs: bytes  # MessagePack of the checked inputs.
    types: dict[str, str]  # the plan's agent name -> type@digest
    pools: list[PoolUse]
    submitted_by: str
    submitted_at: float
    idempotency_key: str = ""
    plans: dict[str, RunSpec] = {}  # Other plans that this one's tasks run, by the path it names them with.
    budget: dict[str, int] = {}  # What a parent lends: the plan's own limits hold beside it.
    rank_by: str = "measured"  # What is ready starts by measured time, where there is any; "hops": by tasks.


def folder(home: Home, run: str) -> Path:
    return home.runs / run


def write_spec(home: Home, spec: RunSpec) -> None:
    """Whole or not at all, and on disk when this returns."""
    place = folder(home, spec.run)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = place / f"{FILE}.new"
    with fresh.open("wb") as file:
        file.write(msgspec.msgpack.encode(spec))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(place / FILE)
    for path in (place, place.parent):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def read_spec(home: Home, run: str) -> RunSpec:
    try:
        return msgspec.msgpack.decode((folder(home, run) / FILE).read_bytes(), type=RunSpec)
    except FileNotFoundError:
        raise NotFound(f"there is no run {run!r}", hint="see `aip run list`") from None
    except msgspec.DecodeError as error:
        raise Corrupt(f"{folder(home, run) / FILE}: {error}") from None


def address_of(kind: str, run: str, agent: str, replica: int) -> str:
    """Replica `replica` of a plan's agent in one run: agents of different runs are different agents."""
    return f"{kind}/{run}.{agent}.{replica}"


def renamed(use: PoolUse, old: str, new: str) -> PoolUse:
    """The pool with the agents of another run: each address of an agent names its run."""

    def moved(addresses: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(address.replace(f"/{old}.", f"/{new}.", 1) for address in addresses)

    return msgspec.structs.replace(use, dedicated=moved(use.dedicated), warm=moved(use.warm))
