"""Tasks that a plan implies: what undoes a task, and the bids for it, as tasks of their own.

An implied task takes the same road as a written one: attempts, retries, fencing, results, records. Its name is the task's with a
suffix that no written name can have, since those have no dot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .plan import Market, Method, Plan, Retry, Role, TaskSpec, Tolerance, Vote, When
from .template import Template

UNDO_SUFFIX = ".compensate"
BIDS_SUFFIX = ".bids"
BID = "bid"  # The capability of every agent that takes part in auctions.
CREDITS = "credits"  # The unit of a budget that awards are paid in.


def with_bids(tasks: Mapping[str, TaskSpec]) -> list[TaskSpec]:
    """The tasks; before each that is auctioned off the round of bids for it, on which it waits."""
    specs: list[TaskSpec] = []
    for task in tasks.values():
        if task.market is not None:
            specs.append(bids_spec(task, task.market))
            task = replace(task, needs=(*task.needs, task.name + BIDS_SUFFIX))
        specs.append(task)
    return specs


def bids_spec(task: TaskSpec, market: Market) -> TaskSpec:
    """The round of bids: a vote on each item, in which every bidder answers with a price and the lowest decides.

    It succeeds without bids, too: who has no winner is an item of the task itself, which fails with the reason.
    """
    asked = {"capability": task.capability, "arguments": task.arguments.source, "max_price": market.max_price}
    return replace(
        task,
        name=task.name + BIDS_SUFFIX,
        agent=None,
        capability=BID,
        arguments=Template(asked),
        retry=Retry(attempts=1),  # Who does not bid in time does not bid.
        timeout_s=market.bid_timeout_s,
        deadline_s=None,
        idempotency_key=None,
        vote=Vote(market.bidders, quorum=1, method=Method.AUCTION, max_price=market.max_price),
        budget={},
        role=Role.BIDS,
        max_parallel=None,
        allow_failures=Tolerance(percent=100.0),
        heartbeat_s=None,
        output=None,
        compensate=None,
        market=None,
    )


def undo_spec(task: TaskSpec, after: tuple[str, ...]) -> TaskSpec:
    """What undoes `task`, once `after` has ended in whichever way."""
    how = task.compensate
    assert how is not None, f"nothing is said of how to undo {task.name}"
    return TaskSpec(
        name=task.name + UNDO_SUFFIX,
        agent=how.agent,
        capability=how.capability,
        arguments=how.arguments,
        needs=after,
        for_each=None,
        condition=None,
        when=When.ALWAYS,
        retry=how.retry,
        timeout_s=how.timeout_s,
        deadline_s=None,
        idempotency_key=None,
        gate=None,
        vote=None,
        budget={},
        position=how.position,
        role=Role.UNDO,
        priority=task.priority,
        labels=task.labels,
    )


def kept_to_the_end(plan: Plan) -> frozenset[str]:
    """Tasks whose results something asks for after the work: outputs, compensations, closing tasks."""
    templates = list(plan.outputs.values())
    templates += [task.compensate.arguments for task in plan.tasks.values() if task.compensate]
    for task in plan.closing.values():
        asked = (task.arguments, task.condition, task.for_each, task.idempotency_key)
        templates += [template for template in asked if template is not None]
    return frozenset(name for template in templates for name in template.tasks)
