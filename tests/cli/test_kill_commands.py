"""`aip kill` typed: levels, signatures that pass between two people, status and drill, with no platform running."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from aip.governance.kill import Fence, Level
from aip.governance.kill.nodes import NodeBook
from aip.governance.segments import log_path
from aip.settings import Home

Type = Callable[..., Result]


def standing(home: Home) -> dict[str, Level]:
    return {name: order.level for name, order in Fence(home.state / "kill").orders().standing.items()}


@pytest.mark.parametrize("level", [str(level) for level in Level if level is not Level.THROTTLE])
def test_a_level_is_typed_by_its_name(level: str, typed: Type, home: Home) -> None:
    result = typed(f"kill greeter --level {level}")
    assert result.exit_code == 0, result.output
    assert standing(home) == {"greeter": Level(level)}


def test_a_throttle_is_typed_with_its_rate_and_listed_with_it(typed: Type, home: Home) -> None:
    assert typed("kill tenant:acme --level throttle --rate 2.5").exit_code == 0
    assert "throttle 2.5/s" in typed("kill --list").stdout
    assert typed("kill greeter --level throttle").exit_code == 2
    assert typed("kill greeter --rate 2").exit_code == 2
    assert set(standing(home)) == {"tenant:acme"}


@pytest.mark.parametrize("words", ["kill", "kill -o json", "kill --level pause", "kill --lift"])
def test_a_kill_without_a_target_is_usage(words: str, typed: Type, home: Home) -> None:
    assert typed(words).exit_code == 2
    assert not standing(home)


def test_a_type_that_is_called_like_a_command_is_not_killed_by_accident(typed: Type, home: Home) -> None:
    assert typed("kill -o json status").exit_code == 2
    assert not standing(home)
    assert typed("kill type:status").exit_code == 0
    assert set(standing(home)) == {"status"}


def test_help_tells_the_targets_options_and_the_commands(typed: Type) -> None:
    shown = typed("kill --help").stdout
    for words in (
        "--level",
        "--local",
        "--all",
        "status",
        "reset",
        "drill",
        "aip kill run/last --level pause",
    ):
        assert words in shown


def test_killing_locally_needs_a_level_that_ends_turns(typed: Type, home: Home) -> None:
    result = typed("kill --all --local --level pause")
    assert result.exit_code == 2
    assert not standing(home)
    assert typed("kill --all --local").exit_code == 0
    assert set(standing(home)) == {"platform"}


def test_two_people_lower_an_order_with_a_file_that_passes_between_them(
    typed: Type, home: Home, tmp_path: Path
) -> None:
    home.make()
    (home.root / "kill.yaml").write_text("reset_signers: 2\n")
    assert typed("kill greeter --reason fire").exit_code == 0
    lone = typed("kill --lift greeter")
    assert lone.exit_code != 0
    assert "2 signatures" in lone.stderr
    eves = tmp_path / "eve.key"
    assert typed("kill reset key ada").exit_code == 0
    assert typed("kill", "reset", "key", "eve", "--key", str(eves)).exit_code == 0
    names = [row["operator"] for row in json.loads(typed("kill reset operators -o json").stdout)]
    assert names == ["ada", "eve"]
    file = str(tmp_path / "reset.json")
    made = typed("kill", "reset", "make", "greeter", "--reason", "mended", "--out", file, "--as", "ada")
    assert made.exit_code == 0, made.output
    early = typed("kill", "reset", "submit", file)
    assert early.exit_code != 0
    assert "1 of 2 signatures" in early.stderr
    assert set(standing(home)) == {"greeter"}
    assert typed("kill", "reset", "sign", file, "--as", "eve", "--key", str(eves)).exit_code == 0
    shown = json.loads(typed("kill", "reset", "show", file, "-o", "json").stdout)
    assert (shown["scope"], shown["signed_by"], shown["reason"]) == ("greeter", ["ada", "eve"], "mended")
    done = typed("kill", "reset", "submit", file)
    assert done.exit_code == 0, done.output
    assert not standing(home)
    assert typed("kill", "reset", "submit", file).exit_code != 0


def test_a_file_that_was_changed_on_its_way_lowers_nothing(typed: Type, home: Home, tmp_path: Path) -> None:
    file = tmp_path / "reset.json"
    assert typed("kill --all").exit_code == 0
    assert typed("kill reset key ada").exit_code == 0
    words = ("kill", "reset", "make", "--all", "--to", "quarantine", "--out", str(file), "--as", "ada")
    assert typed(*words).exit_code == 0
    file.write_text(file.read_text().replace('"quarantine"', '"pause"'))
    result = typed("kill", "reset", "submit", str(file))
    assert result.exit_code != 0
    assert "does not hold" in result.stderr
    assert standing(home) == {"platform": Level.TERMINATE}


def test_a_reset_may_leave_a_milder_level(typed: Type, home: Home, tmp_path: Path) -> None:
    file = str(tmp_path / "reset.json")
    assert typed("kill --all").exit_code == 0
    assert typed("kill reset key ada").exit_code == 0
    words = ("kill", "reset", "make", "--all", "--to", "pause", "--out", file, "--as", "ada")
    assert typed(*words).exit_code == 0
    assert typed("kill", "reset", "submit", file).exit_code == 0
    assert standing(home) == {"platform": Level.PAUSE}


@pytest.mark.parametrize("words", ["submit missing.json", "show missing.json", "make --all --out x.json"])
def test_a_reset_of_nothing_says_what_is_missing(words: str, typed: Type) -> None:
    result = typed(f"kill reset {words}")
    assert result.exit_code != 0
    assert result.stderr.startswith("error: ")


def test_status_answers_from_the_files_alone(typed: Type, home: Home) -> None:
    assert typed("kill greeter --level drain --reason fire").exit_code == 0
    found = json.loads(typed("kill status -o json").stdout)
    assert [(row["target"], row["level"], row["epoch"]) for row in found["orders"]] == [
        ("greeter", "drain", 1)
    ]
    assert (found["epoch"], found["reset_signers"], found["in_doubt"]) == (1, 1, [])
    assert "drain" in typed("kill status").stdout


def test_status_lists_the_effects_that_were_begun_and_not_ended(typed: Type, home: Home) -> None:
    from aip.governance.audit import AuditChain, Batch, Noted, log_path

    home.audit.mkdir(parents=True)
    detail = {"effect": "mail", "key": "mail:1", "run": "r-1"}
    notes = [
        Noted(0, 1.0, "effect.begun", "greeter/ada", detail),
        Noted(1, 2.0, "effect.begun", "greeter/eve", detail),
        Noted(2, 3.0, "effect.done", "greeter/eve", detail),
    ]
    log_path(home.audit).write_bytes(AuditChain().lines(Batch("cell-1", notes)))
    shown = typed("kill status").stdout
    assert "OUTCOME UNKNOWN  greeter/ada  mail" in shown
    assert "greeter/eve" not in shown


def test_a_drill_reports_how_long_a_stop_takes(typed: Type, home: Home) -> None:
    words = "kill drill --live --rounds 1 --workers 1 --rate 100 -o json"
    report = json.loads(typed(words).stdout)
    assert report["rounds"] == 1
    assert report["effects"] > 0
    assert report["late"] <= 1
    assert not standing(home)


def entry(index: int, kind: str, agent: str, key: str, run: str = "") -> str:
    detail = {"effect": "tickets", "key": key, "run": run}
    return json.dumps({"index": index, "at": 1.0, "kind": kind, "subject": agent, "detail": detail}) + "\n"


def test_a_kill_lists_the_nodes_it_does_not_reach_and_what_of_its_target_nobody_knows(
    typed: Type, home: Home
) -> None:
    home.make()
    Fence(home.state / "kill")
    NodeBook(home.state / "kill", clock=lambda: time.time() - 60).heard("node-7")
    NodeBook(home.state / "kill").heard("node-8")
    home.audit.mkdir(parents=True, exist_ok=True)
    log = log_path(home.audit)
    log.write_text(
        entry(0, "effect.begun", "greeter@0123456789ab/ada", "a", "r-1")
        + entry(1, "effect.begun", "other@0123456789ab/eve", "b")
        + entry(2, "effect.begun", "greeter@0123456789ab/ada", "c")
        + entry(3, "effect.done", "greeter@0123456789ab/ada", "c")
    )
    told = typed("kill greeter --local")
    assert told.exit_code == 0, told.output
    assert "UNREACHABLE  node-7" in told.stderr
    assert "node-8" not in told.stderr
    assert told.stderr.count("OUTCOME UNKNOWN") == 1
    assert "greeter@0123456789ab/ada  tickets" in told.stderr
    one_alone = json.loads(typed("kill other/eve --json").stdout)
    assert [row["key"] for row in one_alone["in_doubt"]] == ["b"]
    everything = json.loads(typed("kill --all --json").stdout)
    assert [row["key"] for row in everything["in_doubt"]] == ["a", "b"]
    shown = json.loads(typed("kill status --json").stdout)
    assert shown["nodes"] == ["node-7", "node-8"]
    assert shown["unreachable"] == ["node-7"]
    assert shown["lease"] == "not needed"


def test_a_kill_holds_though_the_audit_log_cannot_be_read(typed: Type, home: Home) -> None:
    home.make()
    home.audit.mkdir(parents=True, exist_ok=True)
    log_path(home.audit).write_text("no entry\n")
    told = typed("kill greeter")
    assert told.exit_code == 0
    assert "cannot be read" in told.stderr
    assert set(standing(home)) == {"greeter"}
