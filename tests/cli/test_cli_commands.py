"""What each command does, as a person types it and as a script reads it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from platform_double import GREETER, T0, Double, failed, one_json, run_view, task

from actors.ray_head import LaunchOptions
from aip.cli.command import Command
from aip.cli.main import aip
from aip.cli.session import Session
from aip.errors import AgentFailed, Denied, PlanInvalid
from aip.governance.kill import Fence
from aip.settings import Home

Type = Callable[..., Result]


def every_command(group: click.Group = aip, path: str = "aip") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from every_command(command, f"{path} {name}")


COMMANDS = dict(every_command())


@pytest.fixture
def hello(typed: Type, platform: Double, tmp_path: Path) -> Path:
    """A plan as `aip init` writes it."""
    assert typed("init", str(tmp_path / "hello")).exit_code == 0
    inputs = {
        "count": {"type": "integer"},
        "name": {"type": "string"},
        "word": {"type": "string", "default": "hello"},
    }
    platform.manifests["agents:Greeter"] = {
        "capabilities": {
            "pick_words": {
                "input": {"type": "object", "properties": {"count": inputs["count"]}, "required": ["count"]},
                "output": {"type": "array", "items": {"type": "string"}},
                "kind": "async",
            },
            "greet": {
                "input": {
                    "type": "object",
                    "properties": {"name": inputs["name"], "word": inputs["word"]},
                    "required": ["name"],
                },
                "output": {"type": "string"},
                "kind": "async",
            },
        }
    }
    return tmp_path / "hello" / "plan.yaml"


# Help


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_explains_itself_with_an_example(path: str, typed: Type) -> None:
    result = typed(*path.split()[1:], "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert COMMANDS[path].help


@pytest.mark.parametrize("path", [path for path, command in COMMANDS.items() if isinstance(command, Command)])
def test_every_example_in_the_help_can_be_typed(path: str) -> None:
    command = COMMANDS[path]
    assert isinstance(command, Command)
    for example in command.examples:
        words = shlex.split(example.partition(" >")[0])
        name = path.split()
        assert words[: len(name)] == name
        command.make_context(name[-1], words[len(name) :])


def test_help_is_quick_since_it_imports_neither_ray_nor_what_a_screen_needs() -> None:
    heavy = "ray pydantic yaml cel networkx psutil rich asyncio"
    code = f"import sys, aip.cli.main; print([name for name in {heavy.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Usage and errors


@pytest.mark.parametrize(
    "words",
    [
        "frob",
        "run frob",
        "run show",
        "run show a/b",
        "retry last",
        "submit plan.yaml -i novalue",
        "resume last --budget tokens=many",
        "up --idle-stop soon",
        "kill",
        "kill greeter/ada --all",
        "completion powershell",
    ],
)
def test_what_cannot_be_typed_is_usage_and_names_the_help(words: str, typed: Type) -> None:
    result = typed(words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert "next" in result.stderr
    assert result.stdout == ""


def test_a_usage_error_is_json_for_whoever_asked_for_json(typed: Type) -> None:
    for words in (
        "run list --frob -o json",
        "-o json frob",
        "run list --json --frob",
        "run list --output=json --frob",
    ):
        result = typed(words)
        told = one_json(result.stderr)
        assert result.exit_code == told["exit_code"] == 2
        assert told["error"]["code"] == "user.usage"


def test_an_error_says_what_why_and_what_to_type_next(typed: Type, platform: Double) -> None:
    platform.up = False
    result = typed("agents list")
    assert result.exit_code == 7
    assert result.stderr.splitlines() == [
        "error: no platform is running  [platform.unavailable]",
        "  next  start one with `aip up`, or see `aip doctor`",
    ]


def test_the_same_error_is_one_json_object_for_a_program(typed: Type, platform: Double) -> None:
    platform.up = False
    told = one_json(typed("agents list -o ndjson").stderr)
    assert told["error"]["code"] == "platform.unavailable"
    assert told["error"]["retryable"] is True
    assert told["exit_code"] == 7


def test_a_defect_is_told_as_one_and_not_as_a_failed_run(typed: Type, platform: Double) -> None:
    platform.error = ZeroDivisionError("oops")
    result = typed("agents call greeter/ada.greet -i name=Ada")
    assert result.exit_code == 70
    assert "ZeroDivisionError: oops" in result.stderr
    assert "defect of AIP" in result.stderr


# init and plans


def test_init_writes_a_plan_that_checks(hello: Path, typed: Type) -> None:
    result = typed("plan", "check", str(hello))
    assert result.exit_code == 0, result.output
    assert result.stdout == "hello: 2 tasks, 1 agent, longest chain 2: no problem found\n"


def test_init_writes_agents_whose_own_test_passes(hello: Path) -> None:
    command = [sys.executable, "-c", "import test_agents; test_agents.test_a_greeter_greets()"]
    subprocess.run(command, cwd=hello.parent, check=True, timeout=30)


def test_init_writes_agents_that_can_do_what_its_plan_asks(
    hello: Path, typed: Type, platform: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(hello.parent))
    monkeypatch.delitem(sys.modules, "agents", raising=False)  # A package has this name too.
    from agents import Greeter

    from aip.agent import manifest

    sys.modules.pop("agents")
    platform.manifests["agents:Greeter"] = manifest(Greeter)
    assert typed("plan", "check", str(hello)).exit_code == 0


def test_init_never_overwrites_anything(typed: Type, tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text("mine")
    result = typed("init", str(tmp_path))
    assert result.exit_code == 2
    assert "agents.py" in result.stderr
    assert (tmp_path / "agents.py").read_text() == "mine"
    assert not (tmp_path / "plan.yaml").exists()


def test_a_wrong_plan_is_shown_with_its_lines_and_exits_with_3(hello: Path, typed: Type) -> None:
    hello.write_text(hello.read_text().replace("agent: greeter", "agent: greter", 1))
    result = typed("plan", "check", str(hello))
    assert result.exit_code == 3
    assert f"{hello}:" in result.stderr
    assert "^" in result.stderr
    assert "1 problem in the plan" in result.stderr


def test_a_wrong_plan_is_a_list_of_problems_for_a_program(hello: Path, typed: Type) -> None:
    hello.write_text(hello.read_text().replace("agent: greeter", "agent: greter"))
    told = one_json(typed("plan", "check", str(hello), "-o", "json").stderr)
    assert told["exit_code"] == 3
    assert [sorted(problem) for problem in told["error"]["details"]["problems"]] == [
        ["code", "column", "file", "line", "message", "suggestion"]
    ] * 2


def test_a_call_that_no_agent_can_take_is_found_before_the_run(hello: Path, typed: Type) -> None:
    hello.write_text(hello.read_text().replace("capability: greet", "capability: great"))
    result = typed("plan", "check", str(hello))
    assert result.exit_code == 3
    assert "great" in result.stderr
    assert typed("plan", "check", "--no-code", str(hello)).exit_code == 0


def test_a_plan_that_is_not_there_is_usage(typed: Type, tmp_path: Path) -> None:
    assert typed("plan", "check", str(tmp_path / "none.yaml")).exit_code == 2
    assert typed("plan", "check", str(tmp_path)).exit_code == 2


@pytest.mark.parametrize(("form", "sign"), [("tree", "pick"), ("mermaid", "flowchart"), ("dot", "digraph")])
def test_a_plan_is_drawn(form: str, sign: str, hello: Path, typed: Type) -> None:
    result = typed("plan", "graph", str(hello), "--format", form)
    assert result.exit_code == 0
    assert sign in result.stdout


def test_the_schema_is_json(typed: Type) -> None:
    assert one_json(typed("plan schema").stdout)["type"] == "object"


# submit


def test_submit_gives_the_inputs_their_types(hello: Path, typed: Type, platform: Double) -> None:
    assert (
        typed("submit", str(hello), "-i", "count=2", "-i", "name=7", "--idempotency-key", "k").exit_code == 0
    )
    assert ("submit", "plan.yaml", {"name": "7", "count": 2}, "k") in platform.acts


def test_submit_starts_a_platform_and_says_what_that_costs(
    hello: Path, typed: Type, platform: Double
) -> None:
    platform.up = False
    result = typed("submit", str(hello))
    assert result.exit_code == 0
    assert platform.started == [{}]
    assert (
        "the platform stays up until it was idle for 30:00 (1 process, 100 MiB); end it now with: aip down"
        in result.stderr
    )


def test_a_wrong_plan_starts_no_platform(hello: Path, typed: Type, platform: Double) -> None:
    platform.up = False
    hello.write_text(hello.read_text().replace("capability: greet", "capability: great"))
    assert typed("submit", str(hello)).exit_code == 3
    assert platform.started == []


def test_an_input_that_the_plan_does_not_have_is_usage(hello: Path, typed: Type, platform: Double) -> None:
    result = typed("submit", str(hello), "-i", "nme=Ada")
    assert result.exit_code == 2
    assert "nme" in result.stderr
    assert typed("submit", str(hello), "-i", "name=a", "-i", "name=b").exit_code == 2
    assert not [act for act in platform.acts if act[0] == "submit"]


def test_detach_prints_the_id_alone_on_stdout(hello: Path, typed: Type, platform: Double) -> None:
    assert typed("submit", str(hello), "--detach").stdout == "r-new\n"
    assert one_json(typed("submit", str(hello), "--detach", "-o", "json").stdout) == {"run": "r-new"}
    assert platform.watched == 0


RESTS: list[tuple[dict[str, Any], int, str]] = [
    (run_view("r-new", "succeeded", outputs={"greetings": ["hi"]}), 0, ""),
    (run_view("r-new", "failed", error=failed()), 1, "failed: ValueError: no page"),
    (run_view("r-new", "failed", error=failed("undelivered.deadline", "too late")), 6, "too late"),
    (run_view("r-new", "failed", error=failed("user.not_found", "no such book")), 1, "no such book"),
    (run_view("r-new", "failed", error=failed("gate.denied", "denied by ada")), 4, "denied by ada"),
    (run_view("r-new", "cancelled", reason="enough"), 5, "enough"),
    (run_view("r-new", "killed", reason="a kill order"), 5, "a kill order"),
    (
        run_view(
            "r-new",
            "held",
            gates=[{"task": "ask", "question": "Publish?", "approvers": [], "expires_at_s": None}],
        ),
        4,
        "next  aip approve r-new/ask   or   aip approve --deny r-new/ask",
    ),
    (run_view("r-new", "paused", reason="by ada"), 4, "next  aip resume r-new"),
    (
        run_view(
            "r-new",
            "paused",
            reason="not enough tokens",
            spend={"spent": {"tokens": 9}, "reserved": {}, "limits": {"tokens": 10}},
        ),
        6,
        "next  aip resume r-new --budget tokens=AMOUNT",
    ),
]


@pytest.mark.parametrize(("view", "code", "words"), RESTS, ids=lambda value: str(value)[:40])
def test_submit_ends_as_its_run_does(
    view: dict[str, Any], code: int, words: str, hello: Path, typed: Type, platform: Double
) -> None:
    platform.next_views = [run_view("r-new", "running"), view]
    by = "budget" if "tokens" in view["reason"] else "user:ada"
    platform.journal = [{"event": "run_moved", "by": by, "state": view["state"]}]
    result = typed("submit", str(hello))
    assert result.exit_code == code, result.output
    assert words in result.stderr


def test_the_outputs_of_a_run_are_the_only_thing_on_stdout(
    hello: Path, typed: Type, platform: Double
) -> None:
    platform.next_views = [run_view("r-new", "succeeded", outputs={"greetings": ["hi"]})]
    assert one_json(typed("submit", str(hello)).stdout) == {"greetings": ["hi"]}
    told = one_json(typed("submit", str(hello), "-o", "json").stdout)
    assert told["state"] == "succeeded"
    assert told["outputs"] == {"greetings": ["hi"]}


def test_without_a_terminal_each_change_is_a_line(hello: Path, typed: Type, platform: Double) -> None:
    platform.next_views = [
        run_view("r-new", tasks={"find": task("running", started_at_s=T0), "read": task()}),
        run_view(
            "r-new",
            tasks={"find": task("succeeded", started_at_s=T0, finished_at_s=T0 + 4), "read": task("running")},
        ),
        run_view("r-new", "succeeded", tasks={"find": task("succeeded"), "read": task("succeeded")}),
    ]
    lines = [line.split(" ", 1)[1] for line in typed("submit", str(hello)).stderr.splitlines()[1:]]
    assert lines == [
        "find running",
        "run r-new running",
        "find succeeded 4.0 s",
        "read running",
        "read succeeded",
        "run r-new succeeded",
    ]


def test_ctrl_c_cancels_the_run_and_waits_for_its_end(hello: Path, typed: Type, platform: Double) -> None:
    def interrupt(watch: int) -> None:
        if watch == 1:
            raise KeyboardInterrupt

    platform.on_watch = interrupt
    result = typed("submit", str(hello))
    assert result.exit_code == 5
    assert ("cancel", "r-new", "Ctrl-C") in platform.acts
    assert platform.watched == 2
    assert result.stderr.endswith("Ctrl-C\n")


def test_a_second_ctrl_c_leaves_at_once(hello: Path, typed: Type, platform: Double) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    platform.on_watch = interrupt
    result = typed("submit", str(hello))
    assert result.exit_code == 5
    assert platform.watched == 2
    assert "left; its cancellation goes on" in result.stderr


def test_ctrl_c_outside_a_run_is_an_interruption(typed: Type, platform: Double) -> None:
    platform.error = KeyboardInterrupt()  # type: ignore[assignment]
    assert typed("agents call greeter/ada.greet -i name=Ada").exit_code == 130


def test_a_failed_task_is_told_whole(hello: Path, typed: Type, platform: Double) -> None:
    error = failed(location="agents.py:41 in read", input={"url": "https://example.org"}, attempt=3)
    tasks = {"read": task("failed", attempts=3, started_at_s=T0, finished_at_s=T0 + 7, error=error)}
    platform.next_views = [run_view("r-new", "failed", tasks, error=error)]
    platform.log = [
        {"at": T0 + n, "agent": "reader/1", "task": "read", "level": "INFO", "text": f"line {n}"}
        for n in range(20)
    ]
    result = typed("submit", str(hello))
    assert result.exit_code == 1
    told = result.stderr[result.stderr.index("✗ read") :].splitlines()
    assert [line.rstrip() for line in told[:4]] == [
        "✗ read  attempt 3 of 3",
        "  what   ValueError: no page  [agent.failed]",
        "  where  agents.py:41 in read",
        '  input  {"url":"https://example.org"}',
    ]
    assert "line 12" in told[4]
    assert "line 19" in told[11]
    assert told[12] == "  next   aip logs r-new/read   or, when it is mended:   aip retry r-new/read"


def test_what_a_cancellation_cut_off_is_not_told_as_a_failure(
    hello: Path, typed: Type, platform: Double
) -> None:
    tasks = {
        "slow": task("failed", error=failed("undelivered.cancelled", "was cancelled")),
        "bad": task("failed", error=failed()),
    }
    platform.next_views = [run_view("r-new", "cancelled", tasks, reason="enough")]
    told = typed("submit", str(hello)).stderr
    assert "✗ bad" in told
    assert "✗ slow" not in told


def test_what_an_agent_says_cannot_act_on_the_terminal(hello: Path, typed: Type, platform: Double) -> None:
    evil = "\x1b]52;c;ZXZpbA==\x07\x1b[2J[red]x[/red]\u202egpj\r"
    tasks = {"read": task("failed", error=failed(message=evil))}
    platform.next_views = [run_view("r-new", "failed", tasks, error=failed(message=evil))]
    platform.log = [{"at": T0, "agent": "a/1", "task": "read", "level": "info", "text": evil}]
    result = typed("submit", str(hello))
    assert not set("\x1b\x07\r\u202e") & set(result.output)
    assert "[red]x[/red]" in result.stderr


# Runs


@pytest.fixture
def three_runs(platform: Double) -> Double:
    platform.views = {
        "r-01a": [run_view("r-01a", "succeeded")],
        "r-01b": [
            run_view("r-01b", "failed", {"read": task("failed", error=failed()), "find": task("succeeded")})
        ],
        "r-02c": [run_view("r-02c", "running", {"read": task("running"), "find": task()})],
    }
    platform.journal = [
        {"event": "run_accepted", "at_s": T0, "run_id": "r-02c", "plan_source": "apiVersion…"},
        {"event": "task_ready", "at_s": T0, "task": "find", "units": 1},
    ]
    platform.log = [
        {"at": T0, "agent": "reader/1", "task": "read", "level": "INFO", "text": "page 1"},
        {"at": T0, "agent": "finder/1", "task": "find", "level": "INFO", "text": "looking"},
    ]
    return platform


@pytest.mark.usefixtures("three_runs")
@pytest.mark.parametrize("up", [True, False], ids=["with a platform", "after aip down"])
def test_the_records_of_runs_answer(up: bool, typed: Type, platform: Double) -> None:
    platform.up = up
    assert [row["run"] for row in one_json(typed("run list -o json").stdout)] == ["r-02c", "r-01b", "r-01a"]
    assert one_json(typed("run show last -o json").stdout)["run"] == "r-02c"
    assert len(typed("run events last -o ndjson").stdout.splitlines()) == 2
    assert len(typed("run events last -o ndjson --after 1").stdout.splitlines()) == 1
    assert typed("logs last/read").stdout.endswith("info    read             page 1\n")
    assert len(typed("logs last").stdout.splitlines()) == 2


@pytest.mark.usefixtures("three_runs")
def test_a_list_is_a_table_for_a_person_and_lines_of_json_for_a_program(typed: Type) -> None:
    lines = typed("run list --state failed").stdout.splitlines()
    assert lines[0].split() == ["RUN", "PLAN", "STATE", "STARTED", "TOOK", "BY"]
    assert lines[1].split()[:3] == ["r-01b", "market-report", "failed"]
    assert len(typed("run list -o ndjson").stdout.splitlines()) == 3
    assert one_json(typed("run list -n 1 -o ndjson").stdout)["run"] == "r-02c"


def test_no_runs_is_an_empty_list_and_no_error(typed: Type) -> None:
    result = typed("run list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "aip submit" in result.stderr
    assert one_json(typed("run list -o json").stdout) == []


@pytest.mark.usefixtures("three_runs")
@pytest.mark.parametrize(
    ("name", "meant"),
    [("last", "r-02c"), ("r-02", "r-02c"), ("r-01b", "r-01b"), ("02", "r-02c"), ("run/last", "r-02c")],
)
def test_a_run_may_be_abbreviated(name: str, meant: str, typed: Type) -> None:
    assert one_json(typed("run", "show", name, "--json").stdout)["run"] == meant


@pytest.mark.usefixtures("three_runs")
@pytest.mark.parametrize(("name", "words"), [("r-01", "fits 2 runs: r-01b, r-01a"), ("r-9", "no run 'r-9'")])
def test_an_abbreviation_that_fits_no_run_or_several_is_usage(name: str, words: str, typed: Type) -> None:
    result = typed("run", "show", name)
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.usefixtures("three_runs")
def test_a_run_is_shown_with_what_failed(typed: Type) -> None:
    result = typed("run show r-01b")
    assert result.exit_code == 0
    assert "✗ read" in result.stdout
    assert "aip retry r-01b/read" in result.stderr


@pytest.mark.usefixtures("three_runs")
@pytest.mark.parametrize(
    ("words", "act"),
    [
        ("cancel last --reason enough", ("cancel", "r-02c", "enough")),
        ("pause last", ("pause", "r-02c")),
        ("resume last", ("resume", "r-02c", {})),
        (
            "resume last --budget tokens=500_000 --budget usd_micro=7",
            ("resume", "r-02c", {"tokens": 500_000, "usd_micro": 7}),
        ),
        ("retry last/read", ("retry", "r-02c", "read")),
    ],
)
def test_a_person_steers_a_run(words: str, act: tuple[Any, ...], typed: Type, platform: Double) -> None:
    result = typed(words)
    assert result.exit_code == 0, result.output
    assert act in platform.acts
    assert "r-02c: " in result.stderr


@pytest.mark.usefixtures("three_runs")
def test_a_task_that_the_run_does_not_have_is_named_with_those_it_has(typed: Type) -> None:
    for words in ("retry last/raed", "logs last/raed", "approve last/raed"):
        result = typed(words)
        assert result.exit_code == 2
        assert "read, find" in result.stderr


GATES = [{"task": name, "question": "?", "approvers": [], "expires_at_s": None} for name in ("ask", "sign")]


@pytest.mark.parametrize(
    ("words", "gates", "outcome"),
    [
        ("approve last", GATES[:1], ("decide", "r-1", "ask", True, "")),
        ("approve last/sign --deny --comment no", GATES, ("decide", "r-1", "sign", False, "no")),
        ("approve last", GATES, 2),
        ("approve last", [], 2),
        ("approve last/read", GATES, 2),
    ],
)
def test_a_question_is_answered_by_name_or_where_there_is_only_one(
    words: str, gates: list[Any], outcome: Any, typed: Type, platform: Double
) -> None:
    platform.views = {
        "r-1": [run_view("r-1", "held", {"ask": task(), "sign": task(), "read": task()}, gates=gates)]
    }
    result = typed(words)
    if outcome == 2:
        assert result.exit_code == 2
    else:
        assert result.exit_code == 0, result.output
        assert outcome in platform.acts


# Agents


def test_agents_are_listed_and_shown(typed: Type, three_runs: Double) -> None:
    assert len(one_json(typed("agents list -o json").stdout)) == 2
    three_runs.views["r-1"] = [run_view("r-1")]
    assert [row["address"] for row in one_json(typed("agents list --run r-1 -o json").stdout)] == [
        "greeter/ada"
    ]
    assert "greet(name: string, times: integer) -> string" in typed("agents show greeter/ada").stdout


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("agents:Greeter.greet -i name=7", ("call", "agents:Greeter", "greet", {"name": "7"}, 60.0)),
        (
            "my.agents:Greeter.greet -i name=Ada",
            ("call", "my.agents:Greeter", "greet", {"name": "Ada"}, 60.0),
        ),
        (
            "greeter/ada.greet -i name=Ada -i times=2",
            ("call", "greeter/ada", "greet", {"name": "Ada", "times": 2}, 60.0),
        ),
        (
            "greeter/a.b greet -i name=Ada --timeout 1m30s",
            ("call", "greeter/a.b", "greet", {"name": "Ada"}, 90.0),
        ),
    ],
)
def test_an_agent_is_called_with_typed_arguments(
    words: str, call: tuple[Any, ...], typed: Type, platform: Double
) -> None:
    platform.manifests = {"agents:Greeter": GREETER, "my.agents:Greeter": GREETER}
    result = typed(f"agents call {words}")
    assert result.exit_code == 0, result.output
    assert result.stdout == "hello, Ada\n"
    assert call in platform.acts


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("greeter/ada.great -i name=Ada", 2),
        ("greeter/ada.greet -i times=two", 2),
        ("greeter/ada", 2),
        ("agents:Greeter", 2),
        (".greet", 2),
    ],
)
def test_a_call_that_cannot_be_meant_is_usage(words: str, code: int, typed: Type, platform: Double) -> None:
    platform.manifests = {"agents:Greeter": GREETER}
    assert typed(f"agents call {words}").exit_code == code
    assert not [act for act in platform.acts if act[0] == "call"]


@pytest.mark.parametrize(("error", "code"), [(AgentFailed("boom", location="a.py:3"), 1), (Denied("no"), 4)])
def test_an_agents_failure_is_told_with_its_place(
    error: Exception, code: int, typed: Type, platform: Double
) -> None:
    platform.error = error
    result = typed("agents call greeter/ada.greet -i name=Ada")
    assert result.exit_code == code
    assert str(error) in result.stderr
    assert ("a.py:3" in result.stderr) == (code == 1)


# The platform


def test_up_starts_with_the_options_given_and_says_what_it_costs(typed: Type, platform: Double) -> None:
    platform.up = False
    result = typed("up --dashboard --idle-stop 2h")
    assert result.exit_code == 0
    assert platform.started == [{"options": LaunchOptions(dashboard=True), "idle_stop_s": 7200.0}]
    assert "aip down" in result.stderr
    assert one_json(typed("up -o json").stdout)["platform_id"] == "p-1"


def test_status_shows_the_tree_the_cost_and_the_orders(typed: Type, platform: Double) -> None:
    shown = typed("status").stdout
    for words in (
        "up 1:00",
        "root  up  pid 11",
        "  registry  up  pid 12  restarted 1 time",
        "killed   greeter/ada",
        "100 MiB",
    ):
        assert words in shown
    assert one_json(typed("status -o json").stdout)["agents"] == 3
    platform.up = False
    assert typed("status").exit_code == 7


def test_down_without_a_platform_does_nothing_and_says_so(typed: Type) -> None:
    result = typed("down")
    assert result.exit_code == 0
    assert "no platform was running" in result.stderr
    assert one_json(typed("down -o json").stdout)["left"] == []


# Kill and audit


def test_a_kill_is_recorded_with_who_and_why(typed: Type, home: Home) -> None:
    result = typed("kill", "greeter/ada", "--reason", "sends nonsense")
    assert result.exit_code == 0
    assert "aip kill --lift greeter/ada" in result.stderr
    order = Fence(home.state / "kill").orders().standing["greeter/ada"]
    assert order.reason == "sends nonsense"
    assert order.by.startswith("user:")


@pytest.mark.parametrize("target", ["Not A Type", "greeter/", "run/r-9", "a/b/c"])
def test_what_cannot_be_killed_is_usage(target: str, typed: Type, home: Home) -> None:
    assert typed("kill", target).exit_code == 2
    assert not Fence(home.state / "kill").orders().standing


@pytest.mark.usefixtures("three_runs")
def test_a_kill_needs_no_platform_and_stands_until_it_is_lifted(
    typed: Type, platform: Double, home: Home
) -> None:
    platform.up = False
    assert typed("kill --all --reason fire").exit_code == 0
    assert typed("kill last").exit_code == 0
    assert set(Fence(home.state / "kill").orders().standing) == {"platform", "run/r-02c"}
    assert [row["target"] for row in one_json(typed("kill --list -o json").stdout)] == [
        "platform",
        "run/r-02c",
    ]
    assert typed("kill --lift --all").exit_code == 0
    assert set(Fence(home.state / "kill").orders().standing) == {"run/r-02c"}


def test_lifting_what_does_not_stand_is_usage(typed: Type) -> None:
    result = typed("kill --lift greeter/ada")
    assert result.exit_code == 2
    assert "aip kill --list" in result.stderr


def audit_log(home: Home) -> Path:
    from aip.governance.audit import AuditChain, Batch, Noted, log_path

    home.audit.mkdir(parents=True)
    path = log_path(home.audit)
    notes = [Noted(n, T0 + n, "refused" if n % 2 else "effect", f"greeter/{n}", {"n": n}) for n in range(6)]
    path.write_bytes(AuditChain().lines(Batch("cell-1", notes)))
    return path


def test_a_whole_audit_log_verifies(typed: Type, home: Home) -> None:
    audit_log(home)
    result = typed("audit verify")
    assert result.exit_code == 0
    assert result.stdout.startswith("holds: 6 entries\n")
    assert one_json(typed("audit verify -o json").stdout)["ok"] is True


def test_a_changed_audit_log_exits_with_8_and_says_where(typed: Type, home: Home) -> None:
    path = audit_log(home)
    path.write_bytes(path.read_bytes().replace(b"greeter/3", b"greeter/9"))
    result = typed("audit verify")
    assert result.exit_code == 8
    assert "DOES NOT HOLD" in result.stdout
    assert "line 4" in result.stderr
    assert one_json(typed("audit verify -o json").stdout)["ok"] is False


def test_the_end_of_the_audit_log_is_printed(typed: Type, home: Home) -> None:
    audit_log(home)
    assert [row["index"] for row in one_json(typed("audit tail -n 2 -o json").stdout)] == [4, 5]
    assert [row["index"] for row in one_json(typed("audit tail --kind ref -o json").stdout)] == [1, 3, 5]
    assert len(typed("audit tail").stdout.splitlines()) == 7


def test_no_audit_log_is_said(typed: Type) -> None:
    assert typed("audit verify").exit_code == 2


# About


def test_the_version_is_data(typed: Type) -> None:
    assert typed("version").stdout.startswith("aip 0.1.0\n")
    assert set(one_json(typed("version -o json").stdout)) >= {"aip", "python", "ray"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(shell: str, typed: Type) -> None:
    result = typed("completion", shell)
    assert result.exit_code == 0
    assert f"_AIP_COMPLETE={shell}_complete" in result.stdout


def test_a_plan_that_the_platform_refuses_exits_with_3(hello: Path, typed: Type, platform: Double) -> None:
    platform.error = PlanInvalid(
        "no", problems=[{"file": "plan.yaml", "line": 3, "column": 1, "message": "bad", "suggestion": "x"}]
    )
    result = typed("submit", str(hello))
    assert result.exit_code == 3
    assert "plan.yaml:3:1: bad (x)" in result.stderr


def test_a_terminal_that_knows_only_latin_1_ends_no_command(platform: Double, home: Home) -> None:
    platform.views = {"r-1": [run_view("r-1", "running", {"読む": task("running")}, plan="日本")]}

    def typed_in_latin_1(*words: str) -> Result:
        return CliRunner(charset="latin-1").invoke(aip, words, obj=Session(home=home, client=platform))

    assert b"??" in typed_in_latin_1("run", "list").stdout_bytes
    assert typed_in_latin_1("run", "show", "last").exit_code == 0
    assert "日本".encode() in typed_in_latin_1("run", "list", "-o", "json").stdout_bytes
