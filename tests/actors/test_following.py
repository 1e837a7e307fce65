"""Two nodes in two processes: the kill switch's own, and one that follows it over a real socket; the link is cut by SIGSTOP."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from actors.effect_key import KEY_FILE, platform_key
from actors.kill_switch import KillSwitch
from actors.node_agent import NodeAgent
from actors.site import Site
from aip.errors import AIPError, Killed
from aip.governance.kill import Fence, KillCheck, KillOrder, Level
from aip.governance.kill.lease import LIFE_S, LeaseLapsed
from aip.governance.kill.nodes import NodeBook
from aip.runtime.envelope import Envelope, Kind

MESSAGE = Envelope("m", Kind.CALL, "asker@0123456789ab/1", "greeter@0123456789ab/ada", "greet", b"")


def serve_switch(site: Site) -> None:
    async def serve() -> None:
        switch = KillSwitch(site, "kill", 1)
        await switch.open()
        await asyncio.Event().wait()

    asyncio.run(serve())


class TwoNodes:
    def __init__(self, switch: Site, node: Site, pid: int) -> None:
        self.pid = pid
        self.switch = Fence(switch.fence)
        self.node = Fence(node.fence)
        self.book = NodeBook(switch.fence)
        self._check = KillCheck.at(self.node)

    def refusal(self) -> AIPError | None:
        return self._check.effect(MESSAGE, time.time())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[TwoNodes]:
    with tempfile.TemporaryDirectory() as sockets:  # A socket's path must be short.
        switch, node = (Site("p", str(tmp_path / name), sockets) for name in ("switch", "node"))
        for site in (switch, node):
            site.home.make()
            site.health.mkdir(parents=True, exist_ok=True)
        platform_key(switch.home)
        shutil.copy(switch.home.platform / KEY_FILE, node.home.platform / KEY_FILE)
        process = multiprocessing.get_context("spawn").Process(target=serve_switch, args=(switch,))
        process.start()
        agent = NodeAgent(node, "node-1", 1)
        await agent.open()
        try:
            assert process.pid is not None
            yield TwoNodes(switch, node, process.pid)
        finally:
            process.kill()
            process.join()
            for task in list(agent._tasks):
                task.cancel()
            await agent.endpoint.close()


async def test_a_node_that_hears_nothing_stops_its_effects_by_itself_and_goes_on_when_it_hears_again(
    two: TwoNodes,
) -> None:
    assert isinstance(two.refusal(), LeaseLapsed), "nothing was granted yet"
    await until(lambda: two.refusal() is None)
    assert [(one.name, one.reachable) for one in two.book.nodes()] == [("node-1", True)]
    os.kill(two.pid, signal.SIGSTOP)
    two.switch.write(KillOrder("greeter", time.time(), "user:ada", "cut off", level=Level.QUARANTINE))
    raised_s = time.monotonic()
    await until(lambda: two.refusal() is not None)
    assert time.monotonic() - raised_s < LIFE_S + 1, "the lease, and what a busy machine adds to a look"
    assert isinstance(two.refusal(), LeaseLapsed)
    await until(lambda: [one.reachable for one in two.book.nodes()] == [False])
    os.kill(two.pid, signal.SIGCONT)
    await until(lambda: isinstance(two.refusal(), Killed))


async def test_what_stands_on_one_node_stands_on_the_other_whoever_raised_it(two: TwoNodes) -> None:
    two.node.write(KillOrder("greeter", time.time(), "user:eve", "seen here", level=Level.PAUSE))
    two.switch.write(KillOrder("asker", time.time(), "user:ada", "seen there", level=Level.LOCKDOWN))
    await until(lambda: two.node.orders().standing.keys() == two.switch.orders().standing.keys() != set())
    await until(lambda: len(two.switch.orders().standing) == 2)
    told = two.switch.orders().standing["greeter"]
    assert (told.by, told.level, told.origin) == ("user:eve", Level.PAUSE, two.node.identity())
