"""A pool as it is declared: agents that share processes because they share code, environment and isolation."""

from __future__ import annotations

import msgspec


class PoolSpec(msgspec.Struct, frozen=True):
    """What a pool's cells are told: which types, from which code."""

    pool: str
    types: dict[str, str]  # type@digest -> "module:Class"
    code_root: str
    density: int = 500
    isolation: str = "cell"
