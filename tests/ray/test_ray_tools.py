"""Outside tool servers on the real platform: supervised, held to what the plan says of them, paid from the run's budget."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ray_kit import kill9, until

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from scripted_server import Say, scripted

from aip.errors import PlanInvalid

pytestmark = pytest.mark.ray

EXAMPLE = Path(__file__).parents[2] / "examples" / "tools"
HEAD = "apiVersion: aip/v1\nkind: Plan\nmetadata: {name: tools-on-ray}\ndefaults: {retry: {backoff: {initial: 100ms}}}\n"
SERVER = '''
"""Tools that leave a line in a file wherever they are called."""

import os
import sys
import time

from mcp.server import MCPServer

app = MCPServer("marker", version="1")


@app.tool()
def mark(path: str) -> int:
    """Writes this process's id; the first that does so on a file never answers."""
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\\n")
    with open(path) as file:
        first = len(file.readlines()) == 1
    if first:
        time.sleep(600)
    return os.getpid()


@app.tool()
def add(number: int) -> int:
    return number + 1


@app.tool()
def wipe() -> str:
    """Not for plans that do not allow it."""
    sys.exit("wiped")


app.run("stdio")
'''
AGENTS = '''
import aip


class Injected(aip.Agent):
    """Does what the text that it read told it to do."""

    @aip.capability
    async def obey(self, ctx: aip.Context) -> str:
        try:
            await ctx.tool("marker").wipe()
        except aip.AIPError as error:
            return error.code
        return "wiped"
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "agents.py").write_text(AGENTS)
    return tmp_path


def planned(folder, tasks, keys="", more=""):
    """The plan of these tasks, whose one server is `tools.marker`."""
    command = f"command: [python, {folder / 'server.py'}]"
    tool = f"tools:\n  marker: {{{command}, allow: [mark, add]{keys and ', ' + keys}}}\n"
    (folder / "plan.yaml").write_text(f"{HEAD}{more}{tool}tasks:\n{tasks}")
    return folder / "plan.yaml"


def last(views):
    *_, view = views
    return view


def lines(path):
    return path.read_text().split() if path.exists() else []


@pytest.fixture
def repository(tmp_path):
    place = tmp_path / "repository"
    place.mkdir()
    who = {
        f"GIT_{role}_{what}": "ada@example.org"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    for words in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "-m", "a poem about bees"]):
        subprocess.run(["git", *words], cwd=place, env=os.environ | who, check=True)
    return place


def test_the_example_asks_git_and_the_clock_and_is_charged_for_each_call(platform, repository):
    given = {"repository": str(repository), "timezone": "UTC"}
    view = last(platform.watch(platform.submit(EXAMPLE / "plan.yaml", given)))
    assert view["state"] == "succeeded", view
    assert "a poem about bees" in str(view["outputs"]["log"])
    assert view["outputs"]["asked_at"].endswith("+00:00")
    assert view["spend"]["spent"]["tool_calls"] == 3


def test_kill_9_of_a_server_is_told_to_its_caller_and_the_call_is_made_again_by_a_new_one(platform, folder):
    path = folder / "marks"
    task = f"  mark: {{agent: tools.marker, capability: mark, with: {{path: {path}}}}}\n"
    plan = planned(folder, task, more="limits: {budget: {tool_calls: 10}}\n")
    run = platform.submit(plan, {})
    (first,) = until(lambda: lines(path))
    kill9(int(first))
    view = last(platform.watch(run))
    assert view["state"] == "succeeded", view
    assert view["tasks"]["mark"]["attempts"] == 2
    assert len(set(lines(path))) == 2
    assert view["spend"]["spent"]["tool_calls"] == 2, "both reached a server"


def test_an_effect_whose_server_was_killed_is_in_doubt_and_not_made_again(platform, folder):
    path = folder / "marks"
    task = f"  mark: {{agent: tools.marker, capability: mark, with: {{path: {path}}}}}\n"
    run = platform.submit(planned(folder, task, "effects: [mark]"), {})
    (first,) = until(lambda: lines(path))
    kill9(int(first))
    view = last(platform.watch(run))
    assert (view["state"], view["error"]["code"]) == ("failed", "effect.in_doubt")
    assert "whether it did its work is not known" in view["error"]["message"]
    assert lines(path) == [first]


def test_what_is_not_allowed_is_refused_before_the_run_and_on_the_way(platform, folder):
    wrong = planned(folder, "  x: {agent: tools.marker, capability: wipe}\n")
    with pytest.raises(PlanInvalid) as caught:
        platform.submit(wrong, {})
    (problem,) = caught.value.details["problems"]
    assert "`wipe` is not among the tools that tools.marker allows" in problem["message"]

    agent = 'agents: {injected: {use: "agents:Injected"}}\n'
    tasks = "  obey: {agent: injected, capability: obey}\noutputs: {told: '${{ tasks.obey.output }}'}\n"
    view = last(platform.watch(platform.submit(planned(folder, tasks, more=agent), {})))
    assert view["outputs"] == {"told": "capability.unknown"}


def test_a_call_ends_at_its_timeout_and_the_server_serves_on(platform, folder):
    path = folder / "marks"
    tasks = (
        f"  mark: {{agent: tools.marker, capability: mark, with: {{path: {path}}}, retry: {{attempts: 1}}}}\n"
        "  add: {agent: tools.marker, capability: add, with: {number: 1}, needs: [mark], when: always}\n"
    )
    view = last(platform.watch(platform.submit(planned(folder, tasks, "timeout: 1s"), {})))
    assert (view["state"], view["error"]["code"]) == ("failed", "undelivered.deadline")
    assert "marker.mark did not answer within 1 s" in view["error"]["message"]
    assert view["tasks"]["add"]["state"] == "succeeded", view["tasks"]


def test_calls_are_drawn_from_the_budget_and_the_run_waits_for_more(platform, folder):
    task = "  add: {for_each: [1, 2, 3, 4], agent: tools.marker, capability: add, with: {number: '${{ item }}'}}\n"
    more = "limits: {budget: {tool_calls: 2}, on_exceeded: pause}\n"
    outputs = "outputs: {sums: '${{ tasks.add.outputs }}'}\n"
    run = platform.submit(planned(folder, task + outputs, more=more), {})
    view = last(platform.watch(run))
    assert view["state"] == "paused", view
    until(lambda: not platform.run(run)["in_flight"])
    assert platform.run(run)["spend"]["spent"]["tool_calls"] == 2
    platform.resume(run, {"tool_calls": 4})
    view = last(platform.watch(run))
    assert view["state"] == "succeeded", view
    assert [one["result"] if isinstance(one, dict) else one for one in view["outputs"]["sums"]] == [
        2,
        3,
        4,
        5,
    ]
    assert view["spend"]["spent"]["tool_calls"] == 4


def test_a_model_that_was_talked_into_a_tool_gets_no_further_than_what_its_agent_was_given(platform, folder):
    calls = [("wipe", {}), ("git_push", {}), ("add", {"number": "one"}), ("add", {"number": 41})]
    script = [*(Say(calls=(call,)) for call in calls), Say("42")]
    with scripted(*script) as server:
        more = (
            f"models: {{small: {{base_url: '{server.url}', model: small-1}}}}\n"
            "agents: {thinker: {use: 'aip.models:LLMAgent', config: {model: small, tools: [tools.marker]}}}\n"
        )
        tasks = "  ask: {agent: thinker, capability: ask, with: {prompt: x}, retry: {attempts: 1}}\n"
        outputs = "outputs: {answer: '${{ tasks.ask.output }}'}\n"
        view = last(platform.watch(platform.submit(planned(folder, tasks + outputs, more=more), {})))
    assert view["outputs"] == {"answer": "42"}, view
    assert {tool["function"]["name"] for tool in server.requests[0]["tools"]} == {"mark", "add"}
    read = [message["content"] for message in server.requests[-1]["messages"] if message["role"] == "tool"]
    assert [words.partition(":")[0] for words in read[:3]] == ["refused", "refused", "error"]
    assert "42" in read[3]
