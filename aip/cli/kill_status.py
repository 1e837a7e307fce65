"""`aip kill status`, and what `aip kill` itself lists: what stands, what cannot be reached, what nobody knows the outcome of.

Read from the files alone: it answers when no process of ours does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import click

from ..errors import Corrupt
from . import measure, text
from .command import Command
from .contract import Json
from .output import Column, show_rows, show_value
from .session import Session, session

ORDER_COLUMNS = (
    Column("TARGET", lambda row: row.get("target", "")),
    Column("LEVEL", lambda row: level_of(dict(row))),
    Column("SINCE", lambda row: measure.moment(row.get("at"))),
    Column("BY", lambda row: row.get("by", "")),
    Column("REASON", lambda row: row.get("reason", "")),
)
LISTED_MAX = 20


@click.command(
    "status",
    cls=Command,
    examples="""
    aip kill status
    aip kill status -o json
    """,
)
def status() -> None:
    """What stands, what does not answer, and which effects nobody knows the outcome of.

    Read from the files alone: it answers when no process of ours does. A node that is not heard for longer than its lease is
    unreachable; its effects have stopped by then.
    """
    one = session()
    found = _status(one)

    def render() -> None:
        one.write(
            f"epoch {found['epoch']}; lowering takes {found['reset_signers']} of {len(found['operators'])} operators"
        )
        show_rows(one, found["orders"], ORDER_COLUMNS, nothing="no kill order stands")
        for line in trouble_lines(found):
            one.write(line)

    show_value(one, found, render)


def _status(one: Session) -> Json:
    import msgspec

    from ..governance.kill import desk, operators, settings
    from ..governance.kill.in_doubt import in_doubt
    from ..governance.segments import log_path, read

    fence = desk.fence_of(one.folder)
    orders = fence.orders()
    reach = _reach(one)
    return {
        "epoch": orders.epoch,
        "revision": fence.revision(),
        "orders": [msgspec.to_builtins(order) for order in orders.standing.values()],
        "reset_signers": settings.load(one.folder).reset_signers,
        "operators": sorted(operators.public_keys(one.folder)),
        "follows": fence.follows(),
        "lease": "lapsed" if fence.lease.lapsed() else "holds" if fence.follows() else "not needed",
        **reach,
        "in_doubt": in_doubt(read(log_path(one.folder.audit))),
    }


def _reach(one: Session) -> Json:
    """Nodes and processes, by who was heard lately."""
    from actors.health import read_all
    from actors.platform_record import read_record

    from ..governance.kill.nodes import NodeBook

    pages = read_all(one.folder.platform / "health") if read_record(one.folder) is not None else []
    others = NodeBook(one.folder.state / "kill").nodes()
    here = [page.name for page in pages if page.name.startswith("node-")]
    away = [node.name for node in others if not node.reachable]
    return {
        "nodes": sorted({*here, *(node.name for node in others)}),
        "unreachable": [*away, *(page.name for page in pages if not page.ok and page.name not in away)],
    }


def recent_trouble(one: Session, target: str, ended: Collection[str]) -> Json:
    """Behind an order that was just raised: what cannot be reached, and open effects of its target in the log's newest part."""
    from ..governance.kill.in_doubt import in_doubt
    from ..governance.segments import entries, log_path, sealed

    # An emergency stop does not read years of log: what is under way now began in the last segments.
    segments = sealed(log_path(one.folder.audit))
    unreachable = [name for name in _reach(one)["unreachable"] if name not in ended]
    found: Json = {"unreachable": unreachable, "in_doubt": []}
    try:
        rows = in_doubt(entries(one.folder.audit, segments[-1].first if segments else 0))
    except (Corrupt, ValueError) as error:  # The order stands all the same, and that was asked for.
        return found | {"unread": str(error)}
    return found | {"in_doubt": [row for row in rows if _touches(target, row)]}


def _touches(target: str, row: Json) -> bool:
    """Whether this effect may be the target's. Its tenant, capability, pool and node are not in the entry."""
    from ..governance.kill import PLATFORM
    from ..governance.kill.target import names_of

    return (
        target == PLATFORM
        or ":" in target
        or target == f"run/{row['run']}"
        or target in names_of(str(row["agent"]))
    )


def trouble_lines(found: Json) -> Iterator[str]:
    yield from _listed("UNREACHABLE", found["unreachable"])
    yield from _listed("OUTCOME UNKNOWN", [_effect(row) for row in found["in_doubt"]])
    if "unread" in found:
        yield text.line(f"OUTCOME UNKNOWN  the audit log cannot be read: {found['unread']}")


def _listed(title: str, lines: Iterable[str]) -> Iterator[str]:
    lines = list(lines)
    for line in lines[:LISTED_MAX]:
        yield text.line(f"{title}  {line}")
    if len(lines) > LISTED_MAX:
        yield f"{title}  and {len(lines) - LISTED_MAX} more (aip kill status -o json)"


def _effect(row: Any) -> str:
    return f"{row['agent']}  {row['effect']}  since {measure.moment(row['at'])}  key {row['key']}"


def level_of(row: Json) -> str:
    return f"throttle {row['rate']:g}/s" if row.get("level") == "throttle" else str(row.get("level", ""))
