"""Agents on the real platform: calls, typed errors, deaths of any process of ours."""

from __future__ import annotations

import concurrent.futures
import time

import pytest
from ray_kit import kill9, pids, until

from aip.errors import AgentLost, AIPError, Deadlock, Killed, NotFound

pytestmark = pytest.mark.ray


def test_an_agent_beside_the_code_answers(platform, deploy):
    address = deploy("agents:Counter/a")
    assert platform.call(address, "add", {"amount": 2}) == 2
    assert platform.call("counter/a", "add", {"amount": 3}) == 5


def test_typed_errors_cross_processes(platform, deploy):
    with pytest.raises(AIPError) as caught:
        platform.call(deploy("agents:Counter/a"), "fail")
    assert caught.value.details["code"] == "test.short"
    assert caught.value.details["by"] == 3
    assert caught.value.details["location"].startswith("agents.py:")


def test_agents_call_each_other_by_address_and_by_capability(platform, deploy):
    address = deploy("agents:Counter/b")
    assert (
        platform.call(
            address, "ask", {"target": "counter/c", "capability": "add", "arguments": {"amount": 1}}
        )
        == 1
    )
    answer = platform.call(address, "ask", {"target": "", "capability": "where", "arguments": {}})
    assert isinstance(answer, int)


def test_a_call_in_a_circle_is_named(platform, deploy):
    address = deploy("agents:Counter/d")
    inner = {"target": "counter/d", "capability": "where", "arguments": {}}
    with pytest.raises(Deadlock, match=r"counter@.*/d → counter@.*/e → counter@.*/d"):
        platform.call(address, "ask", {"target": "counter/e", "capability": "ask", "arguments": inner})


def test_an_unknown_type_is_named(platform):
    with pytest.raises(NotFound):
        platform.call("ghost/1", "boo")


@pytest.mark.parametrize(
    "name", ["audit", "kill", "registry", "node-0", "checkpoint-0", "orchestrator", "cell"]
)
def test_kill_9_of_any_process_of_ours_heals_and_agents_come_back_as_they_were(platform, deploy, name):
    address = deploy(f"agents:Counter/kept-{name}")
    assert platform.call(address, "add", {"amount": 5}) == 5
    before = pids(platform)
    victim = next(
        child for child in before if child == name or (name == "cell" and child.startswith("cell-"))
    )
    kill9(before[victim])

    def healed() -> bool:
        # Only this one: idle pools of earlier tests may leave meanwhile.
        return pids(platform).get(victim) not in (None, before[victim])

    until(healed)
    after = pids(platform)
    # Nobody else was restarted for it.
    assert {child for child in before if child in after and before[child] != after[child]} == {victim}
    assert platform.call(address, "add", {"amount": 1}) == 6


def test_a_caller_learns_of_its_agents_death_at_once(platform, deploy):
    address = deploy("agents:Counter/victim")
    pid = platform.call(address, "where")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(platform.call, address, "sleep", {"seconds": 30})
        time.sleep(0.3)
        kill9(pid)
        with pytest.raises(AgentLost):  # Not the call's own deadline, which is a minute away.
            call.result(timeout=20)
    assert platform.call(address, "add", {"amount": 1}) == 1


def test_a_killed_agent_answers_nobody_until_the_order_is_lifted(platform, deploy):
    address = deploy("agents:Counter/bad")
    platform.call(address, "add", {"amount": 1})
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(platform.call, address, "sleep", {"seconds": 30})
        time.sleep(0.3)
        platform.kill(address, "test")
        try:
            with pytest.raises(Killed):
                running.result(timeout=5)
            with pytest.raises(Killed):
                platform.call(address, "add", {"amount": 1})
            assert platform.call("counter/good", "add", {"amount": 1}) >= 1
        finally:
            platform.lift(address)
    assert platform.call(address, "add", {"amount": 1}) == 2


def test_an_agent_that_blocks_its_loop_is_named_and_its_neighbours_go_on_after(platform, deploy):
    address = deploy("agents:Counter/blocker")
    from actors.health import read_all

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(platform.call, address, "block", {"seconds": 3})
        health = platform.home.platform / "health"
        named = until(lambda: [p.blocked_by for p in read_all(health) if p.blocked_by], 5)
        assert "/blocker blocks its cell's loop at agents.py:" in named[0]
        assert call.result(timeout=10) == "blocked"
    until(lambda: not [p.blocked_by for p in read_all(health) if p.blocked_by], 5)
