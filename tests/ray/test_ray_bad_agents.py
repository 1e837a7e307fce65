"""Agents that raise, hang, say what cannot be said, flood, spawn without end: a clear error each, and no neighbour notices.

Circles of calls and agents that block their loop are in test_ray_agents.py.
"""

from __future__ import annotations

import concurrent.futures
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aip.errors import AIPError, CircuitOpen, DeadlineExceeded, MailboxFull
from aip.settings import DEFAULT_LIMITS as LIMITS

pytestmark = pytest.mark.ray

BAD = Path(__file__).parent / "agents_bad"
SLOW_ONES_MAX = 60  # That are served, a second each, before the whole flood has begun.
FLOOD_S = 12.0  # Nobody's time is over before the whole flood has begun, which takes about 3 s.
TOO_MANY = LIMITS.mailbox_max + LIMITS.stalled_max + 1_000
PINGS = 300
NEIGHBOUR_P99_TIMES_MAX = 5  # The goal is 2; two shared cores need the rest.
NEIGHBOUR_P99_FLOOR_S = (
    0.25  # Below it, the ratio measures the scheduler of the machine; who is held up waits for seconds.
)


@pytest.fixture
def bad(platform) -> str:
    return platform.deploy(BAD, "agents:Bad/b")


@pytest.mark.parametrize(
    ("capability", "code", "said"),
    [
        ("fail", "agent.failed", "ValueError: the number is 3"),
        ("unspeakable", "payload.invalid", "object"),
        ("deep", "payload.invalid", "deep"),
        ("huge", "payload.invalid", "bytes"),
    ],
)
def test_what_an_agent_does_wrong_is_said_to_its_caller(platform, bad, capability, code, said):
    with pytest.raises(AIPError) as caught:
        platform.call(bad, capability, timeout_s=10)
    assert caught.value.code == code
    assert said in str(caught.value)
    with pytest.raises(AIPError, match="the number is 3"):
        platform.call(bad, "fail")  # It lives, and fails anew.


def test_an_agent_that_hangs_costs_its_caller_the_deadline_and_no_more(platform):
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        platform.call(platform.deploy(BAD, "agents:Bad/hanging"), "hang", timeout_s=0.5)
    assert time.monotonic() - started < 5


def test_a_flood_fills_one_mailbox_to_its_limit_and_what_is_too_much_is_turned_away(platform, deploy, bad):
    """O3: 1,000 wait in the mailbox and 10,000 with their senders; who comes then is told at once, until the circuit opens."""
    neighbour = deploy("agents:Counter/beside-a-flood")
    target = f"{bad.rpartition('/')[0]}/full"
    platform.call(target, "slow")
    flood = {"target": target, "capability": "slow", "messages": TOO_MANY, "timeout_s": FLOOD_S}
    depths = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(platform.call, bad, "flood", flood, timeout_s=120)
        while not flooding.done():
            depths.append(platform.agent(target)["mailbox"])
            assert platform.call(neighbour, "where", timeout_s=20), "the neighbour answers"
    ended = flooding.result()
    assert max(depths) == LIMITS.mailbox_max, "full, and never fuller"
    assert ended.keys() == {MailboxFull.code, CircuitOpen.code, DeadlineExceeded.code}
    turned_away = ended[MailboxFull.code] + ended[CircuitOpen.code]
    room = LIMITS.mailbox_max + LIMITS.stalled_max
    assert TOO_MANY - room - SLOW_ONES_MAX <= turned_away <= TOO_MANY - room, "nobody else was"
    assert platform.call(target, "slow") is None, "and it is a mailbox like any other afterwards"


def test_spawning_without_end_ends(platform):
    with pytest.raises(AIPError, match=r"spawn|children"):
        platform.call(platform.deploy(BAD, "agents:Bad/parent"), "breed", {"at_once": 500}, timeout_s=50)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_this_name\n", "nothing_of_this_name"),
        ("class Bad(:\n", "SyntaxError"),
        ("raise SystemExit(3)\n", "ended the interpreter"),
        ("x = 1\n", "Bad"),
    ],
)
def test_code_that_cannot_be_imported_says_why(platform, tmp_path, text, said):
    (tmp_path / "agents.py").write_text(text)
    with pytest.raises(AIPError, match=said):
        platform.deploy(tmp_path, "agents:Bad")


def p99_s(call: Callable[[], object]) -> float:
    took = []
    for _ in range(PINGS):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return statistics.quantiles(took, n=100)[98]


def test_a_neighbour_in_another_cell_answers_as_fast_as_before(platform, deploy, bad, capsys):
    quiet = deploy("agents:Counter/neighbour")

    def ping() -> object:
        return platform.call(quiet, "where")

    beside = {"target": "bad/slow2", "capability": "slow_too", "messages": 900, "timeout_s": 5.0}
    ping()
    alone_s = p99_s(ping)
    flood = threading.Thread(target=lambda: platform.call(bad, "flood", beside, timeout_s=30))
    flood.start()
    beside_s = p99_s(ping)
    flood.join()
    with capsys.disabled():
        print(f"\nneighbour's p99: {alone_s * 1e3:.1f} ms alone, {beside_s * 1e3:.1f} ms beside a flood")
    assert beside_s < max(NEIGHBOUR_P99_TIMES_MAX * alone_s, NEIGHBOUR_P99_FLOOR_S)
