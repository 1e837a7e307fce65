"""`aip kill`: the emergency stop, and lifting it."""

from __future__ import annotations

import click

from ..errors import UsageError
from . import measure, text
from .command import Command
from .output import Column, show_rows, show_value
from .run_address import LAST, resolve
from .session import Session, person, session

ORDER_COLUMNS = (
    Column("TARGET", lambda row: row.get("target", "")),
    Column("SINCE", lambda row: measure.moment(row.get("at"))),
    Column("BY", lambda row: row.get("by", "")),
    Column("REASON", lambda row: row.get("reason", "")),
)


@click.command(
    "kill",
    cls=Command,
    examples="""
    aip kill greeter/ada --reason "sends nonsense"
    aip kill run/last
    aip kill --all --reason "stop everything"
    aip kill --lift --all
    aip kill --list
    """,
)
@click.argument("target", metavar="[TARGET]", required=False)
@click.option("--all", "everything", is_flag=True, help="The whole platform.")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is recorded.")
@click.option("--lift", is_flag=True, help="Take the order back.")
@click.option("--list", "listing", is_flag=True, help="Show the orders that stand.")
def kill(target: str | None, everything: bool, reason: str, lift: bool, listing: bool) -> None:
    """Stop an agent, an agent type, a run, or all of it, now.

    From the moment this returns nothing to, from or on behalf of the target is dispatched and no effect of it begins, until the
    order is lifted. Asks nothing: an emergency stop that asks comes late.
    """
    one = session()
    if listing:
        orders = one.library.standing_orders(one.folder)
        show_rows(one, orders, ORDER_COLUMNS, nothing="no kill order stands")
        return
    if everything == (target is not None):
        raise UsageError("name a target, or --all", hint="a target is an address, an agent type, or run/ID")
    meant = "platform" if target is None else named(one, target)
    if lift and meant not in {order["target"] for order in one.library.standing_orders(one.folder)}:
        raise UsageError(f"no order stands against {meant}", hint="see `aip kill --list`")
    order = one.library.raise_order(one.folder, meant, reason, person(), lift)
    words = f"{meant}: {'the order is lifted' if lift else 'killed'}"
    show_value(one, order, lambda: one.say(text.line(words)))
    if not lift:
        one.say(text.line(f"next  aip kill --lift {'--all' if target is None else meant}"))


def named(one: Session, target: str) -> str:
    """The target as orders name it. A run may be abbreviated, from the runs on disk: no platform is asked."""
    from ..governance.kill import check_target

    kind, slash, run = target.partition("/")
    if not slash and (target == LAST or target.startswith("r-")):
        kind, run = "run", target
    if kind == "run":
        return f"run/{resolve(run, one.library.stored_runs(one.folder))}"
    return check_target(target)
