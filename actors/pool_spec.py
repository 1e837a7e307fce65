"""A pool as it is declared: agents that share processes because they share code, environment and isolation."""

from __future__ import annotations

from typing import Any

import msgspec


class PoolSpec(msgspec.Struct, frozen=True):
    """What a pool's cells are told: which types, from which code."""

    pool: str
    types: dict[str, str]  # type@digest -> "module:Class"
    code_root: str
    density: int = 500
    isolation: str = "cell"
    cpu: float = 0.0  # What each of its processes asks of Ray; 0: nothing.
    memory_bytes: int = 0
    runtime_env: dict[str, Any] = {}  # Ray's, for each of its processes.
    strategy: str = "one_for_one"
    restarts_max: int = 20
    window_s: float = 60.0
    configs: dict[
        str, dict[str, Any]
    ] = {}  # type@digest -> what its agents are configured with, where there is any.
