"""Memberships as they arrive: adopted if newer, and the cell told who is gone."""

from __future__ import annotations

import msgspec

from aip.runtime.cell import Cell
from aip.runtime.placement import Membership, Placement

_memberships = msgspec.msgpack.Decoder(Membership)


def decode(payload: bytes) -> Membership:
    return _memberships.decode(payload)


def adopt(placement: Placement, cell: Cell, payload: bytes) -> bool:
    """True where it was newer than the one at hand."""
    old = placement.membership
    if not placement.offer(decode(payload)):
        return False
    alive = {record.cell_id: record.generation for record in placement.membership.cells()}
    cell.moved([record.cell_id for record in old.cells() if alive.get(record.cell_id) != record.generation])
    return True
