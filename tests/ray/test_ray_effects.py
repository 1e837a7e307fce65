"""Effects through the gateway on the real platform: done once, recorded before, stopped by the kill fence."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray_kit import kill9, pids, until

from aip.errors import Killed
from aip.governance.audit import entries

pytestmark = pytest.mark.ray

FOLDER = Path(__file__).parent / "agents_effects"


@pytest.fixture(scope="module")
def reports(running, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    (running.home.root / "effects.yaml").write_text(
        f"connectors:\n  reports: {{connector: file, root: {folder}}}\n"
        "  outside: {connector: http, allow: [{url: 'https://sink.invalid/**', methods: [POST]}]}\n"
    )
    return folder


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
