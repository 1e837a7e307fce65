"""Effects through the gateway on the real platform: done once, recorded before, stopped by the kill fence."""

from __future__ import annotations

import http.server
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest
from ray_kit import kill9, pids, until

from aip.errors import Killed
from aip.governance.audit import entries
from aip.governance.effects.grant import NotGranted
from aip.governance.kill import desk

pytestmark = pytest.mark.ray

FOLDER = Path(__file__).parent / "agents_effects"


@pytest.fixture(scope="module")
def reports(running, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    (running.home.root / "effects.yaml").write_text(
        f"connectors:\n  reports: {{connector: file, root: {folder}}}\n"
        "  outside: {connector: http, allow: [{url: 'https://sink.invalid/**', methods: [POST]}]}\n"
    )
    running.ask("orchestrator", "want_effects")
    running.ask("effects", "reload")  # It may have begun before there was such a file.
    return folder


class Sink(http.server.BaseHTTPRequestHandler):
    """Notes what reached it, in order."""

    protocol_version = "HTTP/1.1"
    arrived: ClassVar[list[str]] = []

    def do_POST(self):
        Sink.arrived.append(self.rfile.read(int(self.headers["content-length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words):
        return


@pytest.fixture
def sink(running, reports):
    """A connector to an outside HTTP server, brought into force on a platform that is at work."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    with (running.home.root / "effects.yaml").open("a") as file:
        file.write(f"  sink: {{connector: http, allow: [{{url: '{url}**', methods: [POST]}}],")
        file.write(" private: [127.0.0.0/8], rate_per_s: 100000, burst: 100000, keep_alive_s: 5}\n")
    running.ask("orchestrator", "want_effects")
    assert running.ask("effects", "reload") == ["outside", "reports", "sink"]
    yield url
    server.shutdown()
    server.server_close()


def last(views):
    *_, view = views
    return view


def report(platform, path):
    return last(platform.watch(platform.submit(FOLDER / "report.yaml", {"path": path})))


def test_an_effect_of_a_plan_is_done_and_stands_in_the_log_before_and_after(platform, reports):
    view = report(platform, "one.txt")
    assert view["outputs"] == {"written": {"path": "one.txt", "bytes": 4}}
    assert (reports / "one.txt").read_text() == "done"

    def kinds():
        found = [e["kind"] for e in entries(platform.home.audit) if view["run"] in str(e["detail"])]
        return [kind for kind in found if kind.startswith("effect.")]

    assert until(lambda: kinds() if len(kinds()) >= 2 else None) == ["effect.begun", "effect.done"]


def test_a_gateway_that_was_killed_is_back_for_the_next_effect(platform, reports):
    report(platform, "two.txt")
    kill9(pids(platform)["effects"])
    assert report(platform, "three.txt")["state"] == "succeeded"
    assert (reports / "three.txt").read_text() == "done"


def test_nothing_is_committed_under_an_order(platform, reports):
    view = report(platform, "four.txt")
    assert view["state"] == "succeeded"
    platform.kill("capability:report", "test")
    try:
        view = report(platform, "five.txt")
        assert view["state"] != "succeeded"
        assert Killed.code in str(view["error"])
        assert not (reports / "five.txt").exists()
    finally:
        platform.lift("capability:report")
    assert report(platform, "six.txt")["state"] == "succeeded"


def test_what_has_read_a_secret_says_nothing_to_the_world_any_more(platform, reports):
    view = last(platform.watch(platform.submit(FOLDER / "leak.yaml", {})))
    assert view["tasks"]["read"]["state"] == "succeeded"
    assert view["state"] == "failed"
    assert "sequence.external_after_secret" in view["error"]["message"]


ENDED = {"effect.done", "effect.failed", "effect.refused", "effect.unknown"}


def test_what_reached_the_outside_was_committed_before_the_order_with_the_kill_switch_dead(platform, sink):
    """The log is the judge: each arrival has its commit there, none under the order, and nothing is under way any more."""
    run, before = platform.submit(FOLDER / "hammer.yaml", {"url": sink}), pids(platform)["kill"]
    until(lambda: len(Sink.arrived) > 20)
    kill9(before)
    desk.raise_order(platform.home, f"run/{run}", "test", "user:ada", time.time())
    assert desk.unsettled(platform.home) == []
    order = desk.fence_of(platform.home).revision()
    assert last(platform.watch(run))["state"] == "killed"

    def known():
        """Outcomes by key, once every effect that was begun has one."""
        found = [e for e in entries(platform.home.audit) if e["detail"].get("run") == run]
        begun = {e["detail"]["key"] for e in found if e["kind"] == "effect.begun"}
        outcomes = {e["detail"]["key"]: e for e in found if e["kind"] in ENDED and "key" in e["detail"]}
        return outcomes if begun == set(outcomes) else None

    outcomes = until(known)
    committed = {key for key, entry in outcomes.items() if entry["kind"] in ("effect.done", "effect.unknown")}
    assert {f"sink:{key}" for key in Sink.arrived} <= committed
    assert all(int(outcomes[key]["detail"]["fence"]) < order for key in committed)
    platform.lift(f"run/{run}")
    until(lambda: pids(platform).get("kill") not in (None, before))


def test_an_agent_may_use_what_its_plan_grants_and_nothing_else(platform, reports):
    view = last(platform.watch(platform.submit(FOLDER / "ungranted.yaml", {})))
    assert view["state"] == "failed"
    assert NotGranted.code in str(view["error"])
    assert not (reports / "never.txt").exists()
