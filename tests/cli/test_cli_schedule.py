"""`aip schedule`, as a person types it and as a script reads it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from platform_double import T0, Double, one_json

import aip.client
from aip.cli.main import aip as command
from aip.cli.schedule import Scheduler
from aip.cli.session import Session
from aip.errors import NotFound
from aip.orchestration import timetable
from aip.orchestration.timetable import CatchUp, Overlap, Progress, Schedule
from aip.settings import Home

Json = dict[str, Any]
Type = Callable[..., Result]
PLAN = """
apiVersion: aip/v1
kind: Plan
metadata: {name: report}
agents: {counter: {use: "agents:Counter"}}
tasks: {count: {agent: counter, capability: add}}
"""


class WithSchedules(Double):
    """The platform in memory, with schedules that only time and these commands move."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, tuple[Schedule, Progress]] = {}

    def create_schedule(self, plan_path: Path, inputs: Json, schedule: Schedule, *, by: str = "") -> Json:
        self.acts.append(("create", plan_path.name, inputs))
        made = msgspec.structs.replace(schedule, plan="report", by=by)
        self.known[made.name] = made, Progress(made.created_at)
        return self.schedule(made.name)

    def schedules(self) -> list[Json]:
        return [timetable.view(*one, T0) for one in self.known.values()]

    def schedule(self, name: str) -> Json:
        if name not in self.known:
            raise NotFound(f"there is no schedule {name!r}", hint="see `aip schedule list`")
        return timetable.view(*self.known[name], T0, 5)

    def pause_schedule(self, name: str) -> Json:
        schedule, progress = self.known[name]
        self.known[name] = schedule, timetable.paused(progress)
        return self.schedule(name)

    def resume_schedule(self, name: str) -> Json:
        schedule, progress = self.known[name]
        self.known[name] = schedule, timetable.resumed(progress, T0)
        return self.schedule(name)

    def remove_schedule(self, name: str) -> Json:
        shown = self.schedule(name)
        del self.known[name]
        return shown

    def run_schedule(self, name: str) -> str:
        self.acts.append(("run", name))
        return "r-new"


@pytest.fixture
def platform() -> WithSchedules:
    return WithSchedules()


@pytest.fixture
def typed(platform: WithSchedules, tmp_path: Path) -> Type:
    (tmp_path / "plan.yaml").write_text(PLAN)

    def type_words(*words: str) -> Result:
        one = Session(home=Home(tmp_path / "home"), client=platform, clock=lambda: T0)
        where = [word.replace("plan.yaml", str(tmp_path / "plan.yaml")) for word in words]
        return CliRunner().invoke(command, ["schedule", *where], obj=one)

    return type_words


@pytest.fixture
def report(typed: Type) -> Json:
    made = typed("create", "plan.yaml", "--cron", "0 9 * * 1-5", "--timezone", "Europe/Zurich", "-o", "json")
    assert made.exit_code == 0, made.output
    shown: Json = one_json(made.stdout)
    return shown


def test_the_client_has_every_method_that_these_commands_call() -> None:
    for name, method in vars(Scheduler).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            for real in (aip.client.Platform, WithSchedules):
                assert inspect.signature(getattr(real, name)).parameters.keys() == (
                    inspect.signature(method).parameters.keys()
                )


def test_the_rules_that_can_be_typed_are_those_that_there_are() -> None:
    options = {one.name: one for one in command.commands["schedule"].commands["create"].params}
    assert set(options["overlap"].type.choices) == set(Overlap)
    assert set(options["catch_up"].type.choices) == set(CatchUp)


def test_a_schedule_is_named_after_its_plan_and_says_when_it_comes(report: Json) -> None:
    assert (report["name"], report["state"], report["overlap"]) == ("report", "active", "skip")
    assert report["next"][0]["at"] == "2027-01-18T09:00:00+01:00"  # The next Monday.
    assert len(report["next"]) == 5


def test_what_is_typed_reaches_the_platform(typed: Type, platform: WithSchedules) -> None:
    words = "--name yearly --overlap queue --catch-up all --starts 2027-02-01 --ends 2027-12-31 --jitter 10m"
    result = typed("create", "plan.yaml", "--cron", " 0  3 1 * *", "-i", "topic=bees", *words.split())
    assert result.exit_code == 0, result.output
    made, _ = platform.known["yearly"]
    assert (made.cron, made.overlap, made.catch_up, made.jitter_s) == ("0 3 1 * *", "queue", "all", 600.0)
    assert made.starts_at == timetable.moment("2027-02-01T00:00Z", "UTC", "starts")
    assert ("create", "plan.yaml", {"topic": "bees"}) in platform.acts
    assert "2027-02-01T03:00:00Z" in result.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--cron", "every day"], 2, "cron:"),
        (["--cron", "0 0 30 2 *"], 2, "cron:"),
        (["--cron", "0 9 * * *", "--timezone", "Zurich"], 2, "timezone:"),
        (["--cron", "0 9 * * *", "--ends", "soon"], 2, "ends:"),
        (["--cron", "0 9 * * *", "--jitter", "2h"], 2, "jitter:"),
        (["--cron", "0 9 * * *", "--name", "My Report"], 2, "name:"),
        (["--cron", "0 9 * * *", "--overlap", "maybe"], 2, "overlap"),
        ([], 2, "--cron"),
    ],
)
def test_what_cannot_be_scheduled_is_usage_and_names_the_field(
    words: list[str], code: int, said: str, typed: Type, platform: WithSchedules
) -> None:
    result = typed("create", "plan.yaml", *words)
    assert result.exit_code == code
    assert said in result.stderr
    assert platform.known == {}


def test_a_wrong_plan_is_never_scheduled(typed: Type, platform: WithSchedules, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(PLAN.replace("agent: counter", "agent: counnter"))
    assert typed("create", str(tmp_path / "bad.yaml"), "--cron", "0 9 * * *").exit_code == 3
    assert platform.known == {}


def test_a_schedule_is_listed_shown_paused_resumed_run_and_removed(
    report: Json, typed: Type, platform: WithSchedules
) -> None:
    assert typed("list").stdout.splitlines()[1].split()[:2] == ["report", "active"]
    assert "2027-01-18T09:00:00+01:00" in typed("show", "report").stdout
    assert one_json(typed("pause", "report", "-o", "json").stdout)["state"] == "paused"
    assert one_json(typed("list", "-o", "json").stdout)[0]["next"] == []
    assert one_json(typed("resume", "report", "-o", "json").stdout)["state"] == "active"
    assert typed("run", "report").stdout == "r-new\n"
    assert typed("rm", "report").exit_code == 0
    assert one_json(typed("list", "-o", "json").stdout) == []


def test_a_schedule_that_is_not_there_is_usage(typed: Type) -> None:
    result = typed("show", "none")
    assert result.exit_code == 2
    assert "aip schedule list" in result.stderr


def test_without_a_platform_there_is_nothing_to_list(typed: Type, platform: WithSchedules) -> None:
    platform.up = False
    assert typed("list").exit_code == 7
