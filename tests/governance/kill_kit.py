"""What the tests of the kill switch share."""

from __future__ import annotations

from typing import Any

from aip.governance.kill import KillCheck, KillOrder, KillOrders, Level
from aip.runtime.envelope import Envelope

ASKER, GREETER = "asker@0123456789ab/1", "greeter@0123456789ab/ada"


def envelope(**fields: Any) -> Envelope:
    base: dict[str, Any] = {"id": "m", "kind": 0, "sender": ASKER, "recipient": GREETER}
    return Envelope(**{**base, "capability": "greet", "payload": b"", **fields})


def order(target: str, level: Level = Level.TERMINATE, **fields: Any) -> KillOrder:
    base: dict[str, Any] = {"at": 1.0, "by": "user:ada", "reason": "test", "level": level}
    return KillOrder(target, **{**base, **fields})


def folded(*given: KillOrder) -> KillOrders:
    orders = KillOrders()
    for one in given:
        orders.apply(one)
    return orders


class Board:
    """A fence in memory: what the simulator has, too."""

    def __init__(self, *given: KillOrder) -> None:
        self.history = list(given)
        self.births: dict[str, list[str]] = {}
        self.revision = 0

    def write(self, one: KillOrder) -> None:
        self.history.append(one)
        self.revision += 1

    def lift(self, target: str) -> None:
        self.write(order(target, lifted=True))

    def orders(self) -> KillOrders:
        orders = folded(*self.history)
        orders.inherit(self.births)
        return orders

    def born(self, parent: str, child: str) -> None:
        self.births.setdefault(parent, []).append(child)

    def look_again(self) -> None:
        self.revision += 1

    def check(self, *places: str) -> KillCheck:
        return KillCheck(
            lambda: self.revision,
            self.orders,
            places=places,
            on_birth=self.born,
            look_again=self.look_again,
        )
