"""`aip kill`: the emergency stop, what stands, and trying it out. Taking orders back with signatures is `kill_reset.py`'s."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from ..errors import UsageError
from . import text
from .command import Noun
from .contract import Json
from .kill_reset import operator, reset
from .kill_status import ORDER_COLUMNS, level_of, recent_trouble, status, trouble_lines
from .kill_watch import watch
from .output import show_rows, show_value
from .run_address import LAST, resolve
from .session import Session, person, session

LEVELS = ("throttle", "pause", "quarantine", "drain", "terminate", "revoke", "lockdown")
RAISE = "raise"


class Kill(Noun):
    """`aip kill TARGET`, and `aip kill status | reset | drill | watch`: what is no command's name is a target, or its options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = [RAISE, *args]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[TARGET | COMMAND] [OPTIONS]"]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.commands[RAISE].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group(
    "kill",
    cls=Kill,
    examples="""
    aip kill greeter/ada --reason "sends nonsense"
    aip kill run/last --level pause
    aip kill tenant:acme --level throttle --rate 2
    aip kill --all --reason "stop everything"
    aip kill --all --local
    aip kill --lift --all
    aip kill --list
    aip kill status
    aip kill watch
    """,
)
def kill() -> None:
    """Stop an agent, an agent type, a run, a pool, a tenant, a capability, a node, or all of it, now.

    From the moment this returns nothing to, from or on behalf of the target is dispatched and no effect of it begins, until the
    order is lifted. Asks nothing: an emergency stop that asks comes late. What does not answer, and effects of the target of
    which nobody knows the outcome, are listed behind it.
    """


@kill.command(
    RAISE,
    hidden=True,
    examples="""
    aip kill raise greeter/ada --level throttle --rate 2
    """,
)
@click.argument("target", metavar="[TARGET]", required=False)
@click.option("--all", "everything", is_flag=True, help="The whole platform.")
@click.option("--level", type=click.Choice(LEVELS), default="terminate", help="How far (default: terminate).")
@click.option("--rate", type=float, default=0.0, metavar="N", help="Of a throttle: turns a second.")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is recorded.")
@click.option(
    "--local", is_flag=True, help="Also SIGKILL the processes that may be at it: when nothing answers."
)
@click.option("--lift", is_flag=True, help="Take the order back, where one signature is enough.")
@click.option("--list", "listing", is_flag=True, help="Show the orders that stand.")
def raise_one(
    target: str | None,
    everything: bool,
    level: str,
    rate: float,
    reason: str,
    local: bool,
    lift: bool,
    listing: bool,
) -> None:
    """What `aip kill TARGET` does."""
    one = session()
    if listing:
        show_rows(one, standing(one), ORDER_COLUMNS, nothing="no kill order stands")
        return
    if everything == (target is not None):
        raise UsageError("name a target, or --all", hint="a target is an address, an agent type, or run/ID")
    meant = "platform" if target is None else named(one, target)
    if lift:
        _lift(one, meant, reason)
    else:
        _raise(one, meant, level, rate, reason, local=local)


def _raise(one: Session, target: str, level: str, rate: float, reason: str, *, local: bool) -> None:
    from ..governance.kill import Level, desk

    if local and Level(level) < Level.TERMINATE:
        raise UsageError(
            f"--local ends processes; {level} lets them go on", hint="--level terminate, or no --local"
        )
    order = desk.raise_order(one.folder, target, reason, person(), one.clock(), Level(level), rate)
    told = _plain(order) | {"unsettled": desk.unsettled(one.folder)}
    if local:
        told |= _end_local(one, target)
    told |= recent_trouble(one, target, ended=told.get("killed", ()))
    word = "killed" if order.level is Level.TERMINATE else f"under {level_of(told)}"
    show_value(one, told, lambda: one.say(text.line(f"{target}: {word}")))
    for gateway in told["unsettled"]:
        one.say(
            text.line(f"{gateway} was inside an effect and does not come out of it: it may commit that one")
        )
    for name in told.get("killed", []):
        one.say(text.line(f"ended  {name}"))
    for name in told.get("left", []):
        one.say(text.line(f"STILL ALIVE  {name}: SIGKILL was sent and did not end it"))
    for line in trouble_lines(told):
        one.say(line)
    one.say(text.line(f"next  aip kill --lift {'--all' if target == 'platform' else target}"))


def _end_local(one: Session, target: str) -> Json:
    from actors import local_kill

    return asdict(local_kill.end(one.folder, target))


def _lift(one: Session, target: str, reason: str) -> None:
    from ..governance.kill import desk

    if target not in {order["target"] for order in standing(one)}:
        raise UsageError(f"no order stands against {target}", hint="see `aip kill --list`")
    order = desk.lift_alone(one.folder, target, reason or "lifted", operator(), one.clock())
    show_value(one, _plain(order), lambda: one.say(text.line(f"{target}: the order is lifted")))


@kill.command(
    "drill",
    examples="""
    aip kill drill
    aip kill drill --live --rounds 5
    """,
)
@click.option(
    "--live",
    is_flag=True,
    help="On this platform's own fence: the orders are recorded and told to receivers.",
)
@click.option("--rounds", type=click.IntRange(1, 10_000), default=20, help="How often (default: 20).")
@click.option("--workers", type=click.IntRange(1, 16), default=2, help="Processes with effects (default: 2).")
@click.option(
    "--rate", type=click.FloatRange(1, 10_000), default=500.0, help="Effects a second of each (default: 500)."
)
def drill(live: bool, rounds: int, workers: int, rate: float) -> None:
    """Stop processes that do nothing but effects, and measure how long it takes. Nobody's work is touched."""
    from ..governance.kill import DRILL, desk
    from ..governance.kill import drill as drills

    one = session()
    if live:
        report = drills.run(
            one.folder.state / "kill",
            lambda: desk.raise_order(one.folder, DRILL, "drill", person(), one.clock()),
            lambda: desk.end_drill(one.folder, person(), one.clock()),
            rounds=rounds,
            workers=workers,
            rate_per_s=rate,
        )
    else:
        report = drills.rehearse(rounds, workers, rate)
    show_value(one, asdict(report), lambda: _show_drill(one, report))


def _show_drill(one: Session, report: Any) -> None:
    one.write(f"{report.effects:,} effects of {report.workers} processes, {report.rounds} orders")
    for title, three in (
        ("order in force after", report.raise_ms),
        ("last effect after that", report.stop_ms),
    ):
        one.write(f"{title}  median {three[0]:.2f} ms  p99 {three[1]:.2f} ms  longest {three[2]:.2f} ms")
    one.write(f"effects after an order had returned  {report.late}")


kill.add_command(reset)
kill.add_command(status)
kill.add_command(watch)


def standing(one: Session) -> list[Json]:
    from ..governance.kill import desk

    return [_plain(order) for order in desk.fence_of(one.folder).orders().standing.values()]


def _plain(order: Any) -> Json:
    import msgspec

    plain: Json = msgspec.to_builtins(order)
    return plain


def named(one: Session, target: str) -> str:
    """The target as orders name it. A run may be abbreviated, from the runs on disk: no platform is asked."""
    from ..governance.kill import check_target

    if target in kill.commands:
        raise UsageError(f"{target!r} is a command", hint=f"the agent type of that name is type:{target}")
    kind, slash, run = target.partition("/")
    if not slash and (target == LAST or target.startswith("r-")):
        kind, run = "run", target
    if kind == "run":
        return f"run/{resolve(run, one.library.stored_runs(one.folder))}"
    return check_target(target)
