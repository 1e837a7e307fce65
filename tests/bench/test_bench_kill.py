"""The kill benchmark measures what it says: what arrives is noted once and when it came, and rows tell what was seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from bench_rows import kill, sink

from aip.governance.effects.configuration import read
from aip.orchestration.parse import parse

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"


class Transport:
    def __init__(self) -> None:
        self.answers = 0

    def write(self, data: bytes) -> None:
        self.answers += data.count(b"204")


@pytest.mark.parametrize(
    "parts",
    [
        [POST] * 3,
        [POST * 3],
        [POST[:10], POST[10:] + POST, POST],
        [POST * 2 + POST[:-1], POST[-1:]],
        [bytes([byte]) for byte in POST * 3],
    ],
)
def test_the_sink_notes_each_request_once_however_its_bytes_come(parts: list[bytes], tmp_path: Path) -> None:
    words, transport = sink.page(tmp_path / "page"), Transport()
    connection = sink.Sink(words)
    connection.connection_made(cast(Any, transport))
    for part in parts:
        connection.data_received(part)
    assert (words[0], transport.answers) == (3, 3)
    assert 0 < words[1] <= words[2] <= words[3]


def test_what_came_after_a_moment_is_found_from_the_newest_back(tmp_path: Path) -> None:
    words = sink.page(tmp_path / "page")
    for index, moment in enumerate([10, 20, 30, 40], 1):
        words[index] = moment
    words[0] = 4
    assert kill._after(words, 25) == [40, 30]
    assert kill._after(words, 40) == []
    assert kill._after(words, 5) == [40, 30, 20, 10]


def test_the_sink_answers_in_a_process_of_its_own_and_its_page_is_seen_here(tmp_path: Path) -> None:
    import http.client

    with kill._sink(tmp_path / "page") as (port, words):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(3):
            connection.request("POST", "/", b"abc")
            assert connection.getresponse().read() == b""
        connection.close()
        assert words[0] == 3


def test_its_plan_and_its_connectors_can_be_read() -> None:
    text = kill.PLAN.format(density=10, agents=10, per_s=5, folder="/tmp/x", url="http://127.0.0.1:1/")
    assert parse(text.encode(), "plan.yaml").agents["hitter"].effects == ("sink",)
    assert list(read(kill.EFFECTS.format(port=1).encode()).connectors) == ["sink"]


def heard(way: str, late_ms: float, *, named: bool = False) -> kill.Heard:
    return kill.Heard(way, 1.0, late_ms, int(late_ms > 0), 7, named)


def test_rows_tell_the_worst_of_few_orders_and_do_not_count_a_gateway_that_was_named() -> None:
    orders = [heard(way, late) for way in kill.WAYS for late in (0.0, 2.0, 4.0)]
    orders.append(heard("the gateway is frozen", 900.0, named=True))
    tally = {"offered": 100, "done": 20, "refused.killed": 80}
    found = kill.Measured(10_000, 2, 2.0, 30, tally, orders, stale=1, done=20, raced=3)
    rows = {row.row: row for row in kill.rows_of(found)}
    for way in kill.WAYS:
        row = rows[f"last arrival after `aip kill`, {way}, p99"]
        assert (row.value, row.goal, row.high) == (4.0, kill.GOAL_MS, 4.0)
    assert "not counted" in row.note
    assert rows["effects committed with a stale epoch"].plain()["met"] is False
    assert (rows["effects offered"].value, rows["effects committed"].value) == (50.0, 15.0)
    assert "80 refused.killed" in rows["effects committed"].note
