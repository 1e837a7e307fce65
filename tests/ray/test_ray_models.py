"""Models, agents that think and outside tools on the real platform: money is held, secrets stay where they belong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from ray_kit import until
from scripted_server import Say, scripted

from aip.secret import keep_in_file

pytestmark = pytest.mark.ray

KEY = "sk-never-to-be-seen-4711"
PLAN = """
apiVersion: aip/v1
kind: Plan
metadata: {{name: thinkers}}
limits: {{budget: {{usd: 1.00}}, on_exceeded: pause}}
models:
  small:
    base_url: {url}
    model: small-1
    api_key: secret:AIP_TEST_KEY
    prices: {{input: 0, output: 1000}}
    max_output_tokens: 10
agents:
  thinker: {{use: "aip.models:LLMAgent", replicas: 200, config: {{model: small, instructions: Be brief.}}}}
tasks:
  think:
    for_each: {items}
    agent: thinker
    capability: ask
    with: {{prompt: "${{{{ 'thought ' + string(item) }}}}"}}
outputs:
  thoughts: "${{{{ tasks.think.outputs }}}}"
"""


def last(views):
    *_, view = views
    return view


def test_two_hundred_agents_share_a_dollar_and_never_overspend_it(platform, home, tmp_path):
    keep_in_file("AIP_TEST_KEY", KEY, home)
    answer = Say("a thought", usage={"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28})
    with scripted(answer) as server:
        plan = tmp_path / "plan.yaml"
        plan.write_text(PLAN.format(url=server.url, items=list(range(200))))
        run = platform.submit(plan, {})
        view = last(platform.watch(run))
        assert (view["state"], view["spend"]["limits"]["usd_micro"]) == ("paused", 1_000_000)
        until(lambda: not platform.run(run)["in_flight"])  # A pause leaves what is under way alone.
        view = platform.run(run)
        paid = 8_000 * len(server.requests)
        assert view["spend"]["spent"]["usd_micro"] == paid <= 1_000_000
        assert paid > 900_000, "it stops when the money is gone, not long before"
        platform.resume(run, {"usd_micro": 2_000_000})
        view = last(platform.watch(run))
        assert view["state"] == "succeeded", view
        assert view["outputs"]["thoughts"] == ["a thought"] * 200
        assert view["spend"]["spent"]["usd_micro"] == 200 * 8_000
        assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    written = [path for path in home.root.rglob("*") if path.is_file() and path.parent.name != "secrets"]
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


def test_a_secret_that_nobody_has_fails_the_task_by_its_name(platform, tmp_path):
    with scripted(Say("x")) as server:
        plan = tmp_path / "plan.yaml"
        text = PLAN.format(url=server.url, items=[1]).replace("AIP_TEST_KEY", "AIP_NONE")
        plan.write_text(text.replace("capability: ask\n", "capability: ask\n    retry: {attempts: 1}\n"))
        view = last(platform.watch(platform.submit(plan, {})))
    assert view["state"] == "failed"
    assert "no secret AIP_NONE" in view["error"]["message"]
    assert not server.requests
