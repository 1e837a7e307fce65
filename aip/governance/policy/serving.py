"""The policy in force in one process: one engine, its cache, and the swap to the next.

Guaranteed: activation is one assignment. A decision takes the pair (engine, cache) once and uses nothing else, so it is made
wholly by one revision and says which; a decision that is under way ends under the revision that it began with. Nothing is lost in
a swap, because nothing waits. Without a policy in force everything is denied.

Allowed or denied, a decision is cached only if it is one: a failure is asked again.
"""

from __future__ import annotations

import threading
from typing import Any

import msgspec

from .bundle import Bundle
from .cache import DecisionCache
from .certify import is_fault
from .engine import Decision, PolicyEngine, decide, denial
from .input import Input


class _InForce(threading.local):
    """One engine, with a cache in every thread that decides by it."""

    def __init__(self, engine: PolicyEngine, bundle: Bundle) -> None:
        self.engine = engine
        self.cache = DecisionCache(bundle)


class Serving:
    """What a cell asks."""

    def __init__(self) -> None:
        self._in_force: _InForce | None = None

    @property
    def bundle(self) -> Bundle | None:
        in_force = self._in_force
        return in_force.engine.bundle if in_force else None

    @property
    def engine(self) -> str:
        in_force = self._in_force
        return in_force.engine.name if in_force else ""

    @property
    def reads(self) -> frozenset[tuple[str, ...]]:
        """Fields of the input that the rules in force may read: only these facts need be found out."""
        in_force = self._in_force
        return in_force.cache.reads if in_force else frozenset()

    def activate(self, engine: PolicyEngine) -> None:
        """From the next decision on, this engine decides. It comes ready, from `rego.prepare`."""
        if engine.bundle is None:
            raise ValueError(f"{engine.name} has no bundle")
        self._in_force = _InForce(engine, engine.bundle)

    def decide(self, input: Input | dict[str, Any], *, id: str) -> Decision:
        """The decision of the policy in force. Only an `Input` can be found in the cache: a plain document is read anew."""
        in_force = self._in_force
        if in_force is None:
            return denial("no policy is in force", id=id, engine="none")
        if not isinstance(input, Input):
            return decide(in_force.engine, input, id=id)
        cache = in_force.cache
        key = cache.key(input)
        if key is None:
            return decide(in_force.engine, input, id=id)
        found = cache.get(key)
        if found is None:
            found = decide(in_force.engine, input, id=id)
            if not is_fault(found):
                cache.put(key, found)
            return found
        return msgspec.structs.replace(found, id=id)  # The same decision, of this question.
