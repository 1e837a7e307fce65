"""`aip effects` typed: connectors in force or in the file, what an effect would do, and effects whose outcome nobody knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from platform_double import Double

from aip.errors import PlatformUnavailable
from aip.governance.audit import Batch, Noted
from aip.governance.effects.configuration import connect, read
from aip.governance.effects.vault import Vault
from aip.governance.log_writer import LogWriter
from aip.governance.note import Signer
from aip.settings import Home

Type = Callable[..., Result]
FILE = """
connectors:
  tickets:
    connector: http
    allow: [{url: "https://api.example.com/v1/tickets", methods: [POST]}]
    headers: {Authorization: "Bearer secret:TICKETS_TOKEN"}
  reports: {connector: file, root: ROOT}
"""
POST = '{"method": "POST", "url": "https://api.example.com/v1/tickets", "json": {"title": "Broken"}}'


class Gateway:
    """The platform's root and effect gateway, as the command line asks them."""

    def __init__(self, home: Home, *, runs: bool = True) -> None:
        self.file = home.root / "effects.yaml"
        self.config: Any = None
        self.runs = runs
        if runs:
            self.reload()

    def reload(self) -> list[str]:
        self.config = read(self.file.read_bytes())
        return sorted(self.config.connectors)

    def ask(self, name: str, method: str, timeout_s: float = 30.0, /, **arguments: Any) -> Any:
        if (name, method) == ("orchestrator", "want_effects"):
            self.runs = True
            return None
        assert name == "effects"
        if not self.runs:
            raise PlatformUnavailable("effects does not answer")
        match method:
            case "connectors":
                return self.config.model_dump(mode="json")["connectors"]
            case "reload":
                return self.reload()
            case "describe":
                doors = connect(self.config, Vault(str, lambda: 0.0))
                door = doors[arguments["connector"]]
                return "in force: " + door.describe(door.check(arguments["request"]))
        raise AssertionError(method)


@pytest.fixture
def file(home: Home, tmp_path: Path) -> Path:
    home.make()
    path = home.root / "effects.yaml"
    path.write_text(FILE.replace("ROOT", str(tmp_path)))
    return path


def running(platform: Double, home: Home, **how: Any) -> Gateway:
    gateway = Gateway(home, **how)
    platform.ask = gateway.ask  # type: ignore[attr-defined]
    return gateway


def test_connectors_are_listed_from_the_file_where_no_gateway_runs_and_that_is_said(
    typed: Type, platform: Double, file: Path
) -> None:
    platform.up = False
    shown = typed("effects list")
    assert shown.exit_code == 0
    assert "POST https://api.example.com/v1/tickets" in shown.stdout
    assert "no effect gateway runs" in shown.stderr
    file.unlink()
    assert "no connector is configured" in typed("effects list").stderr


def test_what_is_in_force_is_what_the_gateway_says_whatever_the_file_says_by_now(
    typed: Type, platform: Double, home: Home, file: Path
) -> None:
    running(platform, home)
    file.write_text("connectors: {}")
    rows = json.loads(typed("effects list -o json").stdout)
    assert [row["name"] for row in rows] == ["tickets", "reports"]
    assert rows[0]["headers"] == {"Authorization": "Bearer secret:TICKETS_TOKEN"}


def test_reload_brings_the_file_into_force_and_starts_the_gateway_for_it(
    typed: Type, platform: Double, home: Home, file: Path
) -> None:
    gateway = running(platform, home, runs=False)
    assert json.loads(typed("effects reload -o json").stdout) == {"connectors": ["reports", "tickets"]}
    assert gateway.runs


def test_a_file_that_is_invalid_is_refused_with_every_problem_and_what_is_in_force_stays(
    typed: Type, platform: Double, home: Home, file: Path
) -> None:
    gateway = running(platform, home)
    before = gateway.config
    file.write_text("connectors: {A: {connector: file, root: /}, b: {connector: file}}")
    for words in ("effects reload", "effects check"):
        shown = typed(words)
        assert shown.exit_code == 3
        assert "connectors.b.file.root: Field required" in shown.stderr
    told = json.loads(typed("effects check -o json").stderr)
    assert (told["exit_code"], told["error"]["code"]) == (3, "effects.invalid")
    assert gateway.config is before


def test_reload_without_a_platform_says_so(typed: Type, platform: Double, file: Path) -> None:
    platform.up = False
    assert typed("effects reload").exit_code == 7


@pytest.mark.parametrize("up", [True, False])
def test_an_effect_is_described_and_not_done(
    up: bool, typed: Type, platform: Double, home: Home, file: Path
) -> None:
    platform.up = up
    running(platform, home)
    shown = typed("effects", "describe", "tickets", POST)
    assert shown.exit_code == 0
    assert "POST https://api.example.com/v1/tickets with 18 bytes" in shown.stdout
    assert ("in force: " in shown.stdout) is up


@pytest.mark.parametrize(
    ("connector", "request_", "code"),
    [
        ("tickets", POST.replace("POST", "PUT"), 4),
        ("tickets", POST.replace("/tickets", "/users"), 4),
        ("reports", '{"path": "../x", "text": ""}', 2),
        ("tickets", "{", 2),
        ("nothing", POST, 2),
    ],
)
def test_what_the_connector_would_refuse_is_refused(
    connector: str, request_: str, code: int, typed: Type, platform: Double, file: Path
) -> None:
    platform.up = False
    assert typed("effects", "describe", connector, request_).exit_code == code


def test_what_a_file_refers_to_and_this_machine_has_not_is_a_warning(
    typed: Type, file: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = typed("effects check")
    assert (shown.exit_code, "2 connectors, no problem found, 1 warning" in shown.stdout) == (0, True)
    assert "TICKETS_TOKEN" in shown.stderr
    monkeypatch.setenv("TICKETS_TOKEN", "a long enough value")
    assert "warning" not in typed("effects check").output
    file.write_text(file.read_text().replace("root: ", "root: /nowhere"))
    told = json.loads(typed("effects check -o json").stdout)
    assert [warning["where"] for warning in told["warnings"]] == ["reports.root"]
    assert "a long enough value" not in json.dumps(told)


def test_a_file_that_is_not_there_is_usage(typed: Type) -> None:
    assert typed("effects check").exit_code == 2
    assert typed("effects check nowhere.yaml").exit_code == 2


def test_effects_of_which_nobody_knows_the_outcome_are_listed_without_a_platform(
    typed: Type, platform: Double, home: Home
) -> None:
    platform.up = False
    assert "is known" in typed("effects in-doubt").stderr
    writer = LogWriter(home.audit, Signer("test.example/audit", bytes(32)))
    notes = [
        Noted(1, 10.0, "effect.begun", "clerk/1", {"effect": "tickets", "key": "tickets:a", "run": "r-1"}),
        Noted(2, 11.0, "effect.begun", "clerk/1", {"effect": "tickets", "key": "tickets:b", "run": "r-1"}),
        Noted(3, 12.0, "effect.done", "clerk/1", {"effect": "tickets", "key": "tickets:a", "run": "r-1"}),
        Noted(4, 13.0, "effect.unknown", "clerk/1", {"effect": "tickets", "key": "tickets:b", "run": "r-1"}),
    ]
    writer.take(Batch("cell-1#1", notes, durable=True))
    writer.sync()
    writer.close()
    rows = json.loads(typed("effects in-doubt -o json").stdout)
    assert [(row["agent"], row["key"]) for row in rows] == [("clerk/1", "tickets:b")]
