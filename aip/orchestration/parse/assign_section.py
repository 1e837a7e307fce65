"""`assign:` of a task: one agent, a vote of several, or an auction among them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..plan import AgentSpec, Market, Method, Vote
from ..suggestion import nearest
from .document import Node
from .problem import quoted
from .reader import Reader
from .vocabulary import (
    AGENT_FORM,
    ASSIGN_FIELDS,
    ASSIGN_MODES,
    AUCTIONS,
    NOT_YET_VALUES,
    PRICE_MAX,
    VOTE_METHODS,
    VOTERS_MAX,
    WEIGHT_MAX,
    WEIGHTS,
)

BID_TIMEOUT_S = (
    5.0  # Long enough to look at the work, short enough that a bidder that is gone delays nobody for long.
)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Whom a task can be assigned to: the `agent` it names, and all agents of the plan."""

    node: Node | None
    name: str | None
    agents: Mapping[str, AgentSpec]


def assign(reader: Reader, node: Node, what: str, who: Candidates) -> Vote | Market | None:
    """How the task is assigned; None where one agent does it."""
    where = f"{what}.assign"
    found = reader.fields(node, "assign", where)
    mode: str | None = "direct"
    if "mode" in found:
        mode = reader.choice(found["mode"], f"{where}.mode", ASSIGN_MODES, NOT_YET_VALUES["mode"])
    elif isinstance(node.value, dict):
        reader.missing(node, f"{where}.mode", f"one of {', '.join(ASSIGN_MODES)}")
    if mode is None:
        return None
    for key in found:
        if key != "mode" and key not in ASSIGN_FIELDS[mode]:
            modes = " and ".join(one for one, keys in ASSIGN_FIELDS.items() if key in keys)
            reader.problem(
                "plan.value", node.keys[key], f"{where}.{key} is for mode: {modes} only", "leave it out"
            )
    match mode:
        case "vote":
            return _vote(reader, node, found, where, who)
        case "market":
            return _market(reader, node, found, where, who)
    return None


def _vote(reader: Reader, node: Node, found: Mapping[str, Node], where: str, who: Candidates) -> Vote | None:
    if "voters" not in found:
        reader.missing(node, f"{where}.voters", "a number of replicas, or a list of agents")
        return None
    voters = _voters(reader, found["voters"], where, who)
    quorum, threshold = len(voters) // 2 + 1, 0.5
    if "quorum" in found and voters:
        quorum = reader.integer(found["quorum"], f"{where}.quorum", 1, len(voters)) or quorum
    if "threshold" in found:
        given = reader.number(found["threshold"], f"{where}.threshold", 0.5, math.nextafter(1, 0))
        threshold = threshold if given is None else given
    weights = _weights(reader, found["weights"], where, voters) if "weights" in found else None
    by_reputation = (
        "weight" in found and reader.choice(found["weight"], f"{where}.weight", WEIGHTS) is not None
    )
    method = _method(reader, found, where)
    deadline_s = reader.duration_s(found["deadline"], f"{where}.deadline") if "deadline" in found else None
    return Vote(voters, quorum, threshold, method, weights, by_reputation, deadline_s)


def _method(reader: Reader, found: Mapping[str, Node], where: str) -> Method:
    """What the plan says. Votes are weighed where the plan says how, and in no other case."""
    ways = [key for key in ("weights", "weight") if key in found]
    if len(ways) > 1:
        reader.problem("plan.value", found["weight"], f"{where} has weights and weight", "keep one of them")
    method = Method.WEIGHTED if ways else Method.MAJORITY
    if "method" in found:
        chosen = reader.choice(found["method"], f"{where}.method", VOTE_METHODS, NOT_YET_VALUES["method"])
        method = Method(chosen) if chosen else method
    if method is Method.WEIGHTED and not ways:
        message = f"{where} does not say how votes weigh"
        reader.problem("plan.missing", found["method"], message, "add weights, or weight: reputation")
    elif ways and method is Method.RANKED:
        message = f"{where}.{ways[0]} is for votes that are weighed; rankings count one each"
        reader.problem("plan.value", found[ways[0]], message, "leave it out, or write method: weighted")
    elif ways:
        method = Method.WEIGHTED
    return method


def _weights(reader: Reader, node: Node, where: str, voters: tuple[str, ...]) -> dict[str, int]:
    found = reader.entries(node, f"{where}.weights", AGENT_FORM, "a voter's name")
    for name in found:
        if name not in voters and voters:
            hint = nearest(name, voters) or f"voters are {', '.join(dict.fromkeys(voters))}"
            reader.problem("plan.voters", node.keys[name], f"{quoted(name)} is none of the voters", hint)
    read = {
        name: reader.integer(one, f"{where}.weights.{name}", 0, WEIGHT_MAX) for name, one in found.items()
    }
    return {name: weight for name, weight in read.items() if weight is not None}


def _market(reader: Reader, node: Node, found: Mapping[str, Node], where: str, who: Candidates) -> Market:
    """Bidders are the agents that the plan names, or all that are the author's own: models and tools do not bid."""
    if who.node is not None:
        reader.problem(
            "plan.value", who.node, f"{where} finds the agent itself", "leave `agent` out, or name bidders"
        )
    if "auction" in found:
        reader.choice(found["auction"], f"{where}.auction", AUCTIONS)
    max_price = None
    if "max_price" in found:
        max_price = reader.integer(found["max_price"], f"{where}.max_price", 1, PRICE_MAX)
    else:
        reader.missing(node, f"{where}.max_price", "the most credits that one piece of the work may cost")
    timeout_s = (
        reader.duration_s(found["bid_timeout"], f"{where}.bid_timeout") if "bid_timeout" in found else None
    )
    if "bidders" in found:
        bidders = _named(reader, found["bidders"], f"{where}.bidders", who)
    else:
        bidders = tuple(name for name in who.agents if not name.startswith(("models.", "tools.")))
        if not bidders:
            reader.missing(
                node, f"{where}.bidders", "there is no agent that could bid: add some under `agents`"
            )
    return Market(bidders[:VOTERS_MAX], max_price or 0, timeout_s or BID_TIMEOUT_S)


def _named(reader: Reader, node: Node, what: str, who: Candidates) -> tuple[str, ...]:
    found = reader.texts(node, what)
    for name, item in found:
        if name not in who.agents:
            refuse_unknown_agent(reader, item, name, who.agents)
    if isinstance(node.value, list) and not 1 <= len(node.value) <= VOTERS_MAX:
        reader.problem("plan.value", node, f"{what} must name 1 to {VOTERS_MAX} agents")
    return tuple(name for name, _ in found)


def _voters(reader: Reader, node: Node, where: str, who: Candidates) -> tuple[str, ...]:
    if isinstance(node.value, list):
        if who.node is not None:
            reader.problem(
                "plan.value", who.node, f"{where}.voters names the agents already", "leave `agent` out"
            )
        return _named(reader, node, f"{where}.voters", who)
    number = reader.integer(node, f"{where}.voters", 1, VOTERS_MAX)
    if number is None:
        return ()
    if who.node is None:
        message = f"{where.removesuffix('.assign')}.agent is missing: whose replicas vote?"
        reader.problem("plan.missing", node, message, "name it, or list the voters")
        return ()
    if who.name is not None and who.agents[who.name].replicas_max < number:
        most = who.agents[who.name].replicas_max
        message = f"{number} voters are asked for, but {quoted(who.name)} has at most {most} replicas"
        reader.problem("plan.voters", node, message, f"set agents.{who.name}.replicas to {number}")
    return (who.name or "",) * number


def refuse_unknown_agent(reader: Reader, node: Node, name: str, agents: Mapping[str, AgentSpec]) -> None:
    hint = nearest(name, agents) or (
        f"known are {', '.join(list(agents)[:10])}" if agents else "add it under `agents`"
    )
    reader.problem("plan.unknown_agent", node, f"there is no agent {quoted(name)}", hint)
