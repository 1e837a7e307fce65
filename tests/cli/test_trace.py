"""`aip run trace`, as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from platform_double import T0, Double, run_view, task

from aip.governance.audit import AuditChain, Batch, Noted, log_path
from aip.settings import Home

Type = Callable[..., Result]
RUN = "r-01a"
AGENT = f"reader@0123456789ab/{RUN}.reader.0"


@pytest.fixture(autouse=True)
def a_run(platform: Double, home: Home) -> None:
    """One task, one attempt, one effect, one refusal."""
    platform.views = {RUN: [run_view(RUN, "succeeded", {"read": task("succeeded")})]}
    started = {"task": "read", "unit": 0, "attempt": 1, "lease": 1, "replica": 0, "arguments_sha256": ""}
    events: list[dict[str, Any]] = [
        {"event": "run_accepted", "plan_digest": "d", "submitted_by": "user:ada"},
        {"event": "task_ready", "task": "read", "units": 1},
        {"event": "attempt_started", **started},
        {"event": "attempt_succeeded", "lease": 1, "value": None, "spent": {"usd_micro": 30_000}},
        {"event": "task_ended", "task": "read", "state": "succeeded"},
        {"event": "run_finished", "state": "succeeded"},
    ]
    platform.journal = [{**event, "at_s": T0 + 10 * number} for number, event in enumerate(events)]
    refused = {"sender": AGENT, "capability": "send\x1b[2J", "code": "refused.denied", "run": RUN}
    notes = [
        Noted(1, T0 + 22, "effect.begun", AGENT, {"effect": "mail", "key": f"mail:{RUN}/read/0", "run": RUN}),
        Noted(2, T0 + 23, "effect.done", AGENT, {"effect": "mail", "key": f"mail:{RUN}/read/0", "run": RUN}),
        Noted(3, T0 + 24, "message.refused", "mailer@0123456789ab/any", refused),
        Noted(4, T0 + 25, "agent.started", "other@0123456789ab/r-9.other.0", {"incarnation": 1}),
    ]
    home.audit.mkdir(parents=True)
    log_path(home.audit).write_bytes(AuditChain().lines(Batch("cell-1", notes)))


def test_a_person_sees_the_tree_of_causes(typed: Type) -> None:
    result = typed("run trace last")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"run  market-report {RUN}  succeeded  50 s",
        "  task  read  succeeded  30 s",
        "    attempt  1 at reader.0  succeeded  10 s  usd 0.03",
        "      effect  mail  done  1.0 s",
        "      refusal  send  refused  [refused.denied]",
    ]
    assert "`messages` entries" in result.stderr


def test_a_program_gets_the_same_tree(typed: Type) -> None:
    found = json.loads(typed("run trace last -o json").stdout)
    attempt = found["tree"]["children"][0]["children"][0]
    assert [child["kind"] for child in attempt["children"]] == ["effect", "refusal"]
    assert attempt["spent"] == {"usd_micro": 30_000}
    assert found["messages_recorded"] is False


@pytest.mark.parametrize("words", ["run trace last -o otlp-json", "run trace --output=otlp-json last"])
def test_a_tracing_tool_gets_otlp(words: str, typed: Type) -> None:
    found = json.loads(typed(words).stdout)
    (scope,) = found["resourceSpans"][0]["scopeSpans"]
    assert [span["name"] for span in scope["spans"]] == [
        "invoke_workflow market-report",
        "task read",
        "invoke_agent reader",
        "execute_tool mail",
    ]


def test_without_an_audit_log_the_journal_tells_what_it_knows(typed: Type, home: Home) -> None:
    log_path(home.audit).unlink()
    assert "effect" not in typed("run trace last").stdout
    assert "attempt  1 at reader.0" in typed("run trace last").stdout


def test_a_log_that_does_not_read_exits_with_8(typed: Type, home: Home) -> None:
    log_path(home.audit).write_bytes(b"{not json\n")
    result = typed("run trace last")
    assert result.exit_code == 8
    assert "aip audit verify" in result.stderr


def test_without_a_collector_the_variable_to_set_is_named(
    typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    result = typed("run trace last --export")
    assert result.exit_code == 2
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in result.stderr


def test_an_output_format_that_there_is_not_is_usage(typed: Type) -> None:
    assert typed("run trace last -o svg").exit_code == 2
    assert typed("run show last -o otlp-json").exit_code == 2
