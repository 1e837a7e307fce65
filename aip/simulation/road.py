"""`scripts/simulate road`: one seed, or many, and what they came to."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .clock import Stalled, VirtualLoop
from .witness import Violation
from .world import World


@dataclass(slots=True)
class Result:
    """What became of one seed."""

    seed: int
    profile: str
    events: int
    digest: str
    violations: list[Violation]
    tail: list[tuple[float, str]]
    checked: Counter[str] = field(default_factory=Counter)
    blown: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)


def simulate(seed: int, *, verbose: bool = False, stop_at_first: bool = True) -> Result:
    """One world from its seed to its end, or to its first violation."""
    collecting = gc.isenabled()
    gc.disable()  # A collection closes forgotten generators, at a moment that depends on what ran before.
    loop = VirtualLoop(random.Random(f"{seed} loop"))
    world = World(seed, loop)
    if verbose:
        world.witness.tail = deque()
    loop.set_exception_handler(world.uncaught)
    try:
        _drive(loop, world, stop_at_first)
        return Result(
            seed,
            world.profile.name,
            world.witness.events,
            world.witness.digest,
            list(world.witness.violations),
            list(world.witness.tail),
            world.witness.checked,
            world.blown,
            Counter({fate.value: count for fate, count in world.network.fates.items()}),
            world.witness.outcomes,
        )
    finally:
        _bury(loop)
        if collecting:
            gc.enable()


def _drive(loop: VirtualLoop, world: World, stop_at_first: bool) -> None:
    life = loop.create_task(world.live())
    if stop_at_first:
        violate = world.witness.violate

        def and_stop(row: str, text: str) -> None:
            violate(row, text)
            life.cancel()

        world.witness.violate = and_stop  # type: ignore[method-assign]
    try:
        loop.run_until_complete(life)
    except asyncio.CancelledError:
        assert world.witness.violations, "the simulation was cancelled without a violation"
    except Stalled as error:
        world.witness.violations.append(
            Violation("internal", f"the world stands still: {error}", loop.time())
        )


def _bury(loop: VirtualLoop) -> None:
    """End what is left of the world, unheard."""
    loop.set_exception_handler(lambda _loop, _context: None)
    for _ in range(3):
        left = asyncio.all_tasks(loop)
        if not left:
            break
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait(left, timeout=60.0))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def simulate_many(seeds: Iterable[int]) -> tuple[dict[str, Any], list[Result]]:
    """The row that outsiders script against (seeds, events, violations, first_seed), and the seeds that failed."""
    count = events = 0
    failed: list[Result] = []
    for seed in seeds:
        result = simulate(seed)
        count += 1
        events += result.events
        if result.violations:
            failed.append(result)
        if count % 20 == 0:
            gc.collect()
    first_seed = failed[0].seed if failed else None
    return {"seeds": count, "events": events, "violations": len(failed), "first_seed": first_seed}, failed
