"""Where orders are given and taken back, for programs and for the command line: on the files, with no actor alive.

Raising is durable and in force when it returns. Lowering needs the signatures that `AIP_HOME/kill.yaml` asks for; where that is
one (a laptop), `lift_alone` makes, signs and submits the reset in one go, with a key of that person, made on first use.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from ...errors import NotFound, UsageError
from ...settings import Home
from ..effects.barrier import settled
from . import operators, settings
from .authority import checked
from .fence import Fence
from .ladder import Level
from .orders import KillOrder
from .reset import LIFE_DEFAULT_S, Reset, ResetRefused, SignedReset, lift, make
from .target import DRILL, check_target


def fence_of(home: Home) -> Fence:
    home.make()
    return Fence(home.state / "kill")


def raise_order(
    home: Home,
    target: str,
    reason: str,
    by: str,
    now: float,
    level: Level = Level.TERMINATE,
    rate: float = 0.0,
) -> KillOrder:
    order = checked(target, by, reason, now, level, rate)
    fence_of(home).write(order)
    return order


def unsettled(home: Home) -> list[str]:
    """Asked after an order was raised: effect gateways that were inside their one step for all of `barrier.WAIT_S_MAX`.

    With an empty answer whatever was committed was committed before; a name is a process that may commit once more.
    """
    return settled(home.state / "kill")


def reset_of(
    home: Home,
    target: str,
    reason: str,
    now: float,
    life_s: int = LIFE_DEFAULT_S,
    level: Level | None = None,
    rate: int = 0,
) -> Reset:
    """An unsigned reset of what stands against the target. Raises `NotFound`, `ResetRefused`."""
    fence, target = fence_of(home), check_target(target)
    order = fence.orders().standing.get(target)
    if order is None:
        raise NotFound(f"no order stands against {target}", hint="see `aip kill --list`")
    return make(order, fence.identity(), reason, now, secrets.token_hex(16), life_s, level, rate)


def submit(home: Home, signed: SignedReset, by: str, now: float) -> KillOrder:
    """Perform a reset. Raises `ResetRefused` that says what it lacks."""
    fence = fence_of(home)
    keys, needed = operators.public_keys(home), settings.load(home).reset_signers
    identity = fence.identity()
    return fence.lower(
        lambda orders: lift(signed, orders, fence=identity, operators=keys, signers=needed, now=now, by=by)
    )


def lift_alone(
    home: Home, target: str, reason: str, operator: str, now: float, key_path: Path | None = None
) -> KillOrder:
    """Make, sign and submit, where one signature is enough. Raises `ResetRefused` where it is not."""
    needed = settings.load(home).reset_signers
    if needed > 1:
        raise ResetRefused(
            f"lowering an order takes {needed} signatures here",
            hint=f"aip kill reset make {target} --out FILE, then `sign` and `submit` it",
            needed=needed,
        )
    reset = reset_of(home, target, reason, now)
    if operator not in operators.public_keys(home):
        operators.create(home, operator, key_path)
    signed = SignedReset(reset).signed(operator, operators.private_key(home, operator, key_path))
    return submit(home, signed, f"user:{operator}", now)


def end_drill(home: Home, by: str, now: float) -> KillOrder:
    """Take a drill's order back. It stops nobody's work, so it takes no signature."""
    fence = fence_of(home)
    if DRILL not in fence.orders().standing:
        raise UsageError("no drill is under way")
    order = KillOrder(DRILL, now, by, "the drill is over", lifted=True)
    fence.write(order)
    return order
