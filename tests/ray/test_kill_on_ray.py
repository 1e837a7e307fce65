"""The kill switch on the real platform: its own death on the way, a receiver told, an agent that does not let go."""

from __future__ import annotations

import concurrent.futures
import http.server
import json
import os
import signal
import threading
import time
from typing import ClassVar

import pytest
from ray_kit import kill9, pids, until

from aip.errors import AgentLost, AIPError, Killed
from aip.governance.kill import Level, desk
from aip.governance.segments import log_path, read

pytestmark = pytest.mark.ray


class Pager(http.server.BaseHTTPRequestHandler):
    heard: ClassVar[list[dict]] = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        Pager.heard.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words):
        return


@pytest.fixture
def pager(home):
    """A receiver of notifications, in the platform's configuration."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Pager)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings, secret = home.root / "notify.yaml", home.root / "secrets" / "PAGER"
    secret.parent.mkdir(mode=0o700, exist_ok=True)
    secret.touch(mode=0o600)
    secret.write_text("a shared secret of twenty-four bytes and more")
    url = f"http://127.0.0.1:{server.server_port}/"
    settings.write_text(f"receivers: {{pager: {{webhook: {{url: '{url}', secret: 'secret:PAGER'}}}}}}\n")
    Pager.heard.clear()
    yield Pager.heard
    settings.unlink()
    secret.unlink()
    server.shutdown()
    server.server_close()


def restart_kill_switch(platform):
    before = pids(platform)["kill"]
    kill9(before)
    until(lambda: pids(platform).get("kill") not in (None, before))


def test_a_pause_that_is_raised_while_the_kill_switch_is_dead_holds_is_told_and_is_recorded(
    platform, deploy, home, pager
):
    address = deploy("agents:Counter/paused")
    assert platform.call(address, "add", {"amount": 1}) == 1
    kill9(pids(platform)["kill"])
    desk.raise_order(home, address, "test", "user:ada", time.time(), Level.PAUSE)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        try:
            waiting = pool.submit(platform.call, address, "add", {"amount": 1})
            assert platform.call("counter/free", "add", {"amount": 1}) >= 1
            told = until(lambda: [event for event in pager if event["subject"] == address])
            assert not waiting.done()
        finally:
            desk.lift_alone(home, address, "test", "ada", time.time())
        assert waiting.result(timeout=20) == 2
    assert told[0]["data"]["level"] == "pause"
    until(lambda: [event for event in pager if event["type"] == "dev.aip.kill.lowered"])
    log = log_path(home.audit)
    until(lambda: {"kill", "kill.lifted"} <= {e["kind"] for e in read(log) if e["subject"] == address})
    pager.clear()
    restart_kill_switch(platform)
    desk.raise_order(home, "nobody/here", "test", "user:ada", time.time(), Level.PAUSE)
    desk.lift_alone(home, "nobody/here", "test", "ada", time.time())
    until(lambda: len(pager) == 2)
    assert [event["subject"] for event in pager] == ["nobody/here"] * 2


def test_a_cell_whose_agent_holds_on_after_its_kill_is_ended_and_its_neighbours_come_back(
    platform, deploy, home
):
    address = deploy("agents:Counter/deaf")
    before = platform.call(address, "where")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(platform.call, address, "block", {"seconds": 29})
        time.sleep(0.5)
        desk.raise_order(home, address, "test", "user:ada", time.time())
        try:
            with pytest.raises(AIPError):
                call.result(timeout=20)
            # Sooner than it would have let go by itself, and than the watchdog would have ended it.
            with pytest.raises(AgentLost):
                platform.call("counter/neighbour", "where", timeout_s=25)
            after = platform.call("counter/neighbour", "where", timeout_s=25)
        finally:
            desk.lift_alone(home, address, "test", "ada", time.time())
    assert after != before
    ended = [e for e in read(log_path(home.audit)) if e["kind"] == "cell.killed_by_order"]
    assert address in ended[-1]["detail"]["agents"]


def test_a_frozen_cell_is_ended_for_its_agent_that_was_killed_and_comes_back(platform, deploy, home):
    address = deploy("agents:Counter/frozen")
    before = platform.call(address, "where")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(platform.call, address, "sleep", {"seconds": 50})
        time.sleep(0.5)
        os.kill(before, signal.SIGSTOP)
        desk.raise_order(home, address, "test", "user:ada", time.time())
        try:
            with pytest.raises(Killed):
                call.result(timeout=5)
            # Its neighbours do not wait for the watchdog: a thread of a process that is stopped as a whole.
            until(lambda: pids(platform).get(cell_of(home, before)) not in (None, before), timeout_s=25)
        finally:
            desk.lift_alone(home, address, "test", "ada", time.time())
    assert platform.call(address, "where", timeout_s=25) != before
    ended = [e for e in read(log_path(home.audit)) if e["kind"] == "cell.killed_by_order"]
    assert ended[-1]["detail"]["pid"] == before


def cell_of(home, pid: int) -> str:
    """The name of the cell that this was, whichever generation lives by now."""
    ended = [e for e in read(log_path(home.audit)) if e["kind"] == "process.started"]
    return next(e["subject"] for e in ended if e["detail"]["pid"] == pid)
