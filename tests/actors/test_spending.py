"""A run tells the spend-rate trigger what it spends: each amount once, whatever becomes of the kill switch meanwhile."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from actors.spending import Spending, watched
from aip.governance.kill.settings import KillSettings, SpendRate, Triggers
from aip.governance.kill.trigger import Detectors, Spent
from aip.runtime.ports import NotSent
from aip.settings import Home


class Switch:
    """Takes what it is told, unless it is away, and feeds its detectors."""

    def __init__(self) -> None:
        rate = SpendRate(enabled=True, per_minute={"tokens": 1_000})
        self.detectors = Detectors(KillSettings(triggers=Triggers(spend_rate=rate)).triggers)
        self.away = False
        self.amounts: list[int] = []
        self.raised: list[str] = []

    async def tell(self, payload: bytes) -> bytes:
        if self.away:
            raise NotSent("kill")
        event = msgspec.msgpack.decode(payload)
        assert event.pop("kind") == "spent"
        self.amounts.append(event["amount"])
        order = self.detectors.feed(Spent(**event), 1.0)
        if order is not None:
            self.raised.append(order.target)
        return b"\xc0"


async def test_a_run_that_spends_too_fast_is_stopped_while_its_work_goes_on() -> None:
    switch, totals = Switch(), {"tokens": 0, "usd_micro": 5}
    spending = Spending("r-1", frozenset({"tokens"}), lambda: totals, switch.tell)
    await spending.look()
    assert switch.amounts == []
    totals["tokens"] = 900
    await spending.look()
    await spending.look()
    assert (switch.amounts, switch.raised) == ([900], [])
    switch.away, totals["tokens"] = True, 1_000
    await spending.look()
    switch.away, totals["tokens"] = False, 1_100
    await spending.look()
    assert (switch.amounts, switch.raised) == ([900, 200], ["run/r-1"])


@pytest.mark.parametrize(
    ("text", "units"),
    [
        (None, set()),
        ("triggers: {spend_rate: {per_minute: {tokens: 5}}}", set()),
        ("triggers: {spend_rate: {enabled: true, per_minute: {tokens: 5}}}", {"tokens"}),
        ("triggers: {spend_rate: 7}", set()),
    ],
)
def test_nothing_is_told_where_no_trigger_watches(tmp_path: Path, text: str | None, units: set[str]) -> None:
    if text is not None:
        (tmp_path / "kill.yaml").write_text(text)
    assert watched(Home(tmp_path)) == units
