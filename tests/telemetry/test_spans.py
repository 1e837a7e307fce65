"""A trace as OpenTelemetry spans, by the conventions for generative AI."""

from __future__ import annotations

from base64 import b64encode

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from trace_kit import AGENT, JOURNAL, RUN, T0, VIEW, entry, event, started, succeeded

from aip.telemetry.otlp import document
from aip.telemetry.spans import Span, SpanKind, span_id, spans_of, trace_id
from aip.telemetry.trace import trace_of


def spans(journal: list[dict[str, object]] = JOURNAL, *entries: dict[str, object]) -> list[Span]:
    return list(spans_of(trace_of(RUN, VIEW, journal, entries)))


def named(name: str, *entries: dict[str, object], journal: list[dict[str, object]] = JOURNAL) -> Span:
    return next(span for span in spans(journal, *entries) if span.name == name)


def test_a_run_is_a_workflow_its_attempts_are_invoked_agents() -> None:
    assert [span.name for span in spans()] == [
        "invoke_workflow market-report",
        "task find",
        "invoke_agent researcher",
        "invoke_agent researcher",
        "task approve",
        "gate approve",
    ]
    workflow = spans()[0]
    assert workflow.parent_id is None
    assert workflow.attributes["gen_ai.operation.name"] == "invoke_workflow"
    assert workflow.attributes["gen_ai.workflow.name"] == "market-report"


def test_an_attempt_names_its_agent_and_its_conversation_is_the_run() -> None:
    attempt = spans()[3]
    assert attempt.kind is SpanKind.INTERNAL
    assert {key: attempt.attributes[key] for key in attempt.attributes if key.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "researcher",
        "gen_ai.agent.id": "r-1.researcher.0",
        "gen_ai.conversation.id": RUN,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
    }


def test_a_failed_attempt_is_an_error_with_its_code_and_its_spending() -> None:
    failed = spans()[2]
    assert failed.error == "boom"
    assert failed.attributes["error.type"] == "agent.failed"
    assert failed.attributes["aip.spent.tokens"] == 7
    assert spans()[3].error is None


@pytest.mark.parametrize(
    ("task", "name", "kind", "expected"),
    [
        (
            "ask",
            "chat writer",
            SpanKind.CLIENT,
            {"gen_ai.operation.name": "chat", "gen_ai.request.model": "writer"},
        ),
        (
            "log",
            "execute_tool git_log",
            SpanKind.INTERNAL,
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "git_log",
                "gen_ai.tool.type": "extension",
                "aip.tool_server": "tools.git",
            },
        ),
    ],
)
def test_a_model_is_a_chat_and_a_tool_is_executed(
    task: str, name: str, kind: SpanKind, expected: dict[str, str]
) -> None:
    journal = [*JOURNAL[:2], event("task_ready", 1, task=task, units=1), started(task, 1, 1), succeeded(1, 2)]
    span = named(name, journal=journal)
    assert span.kind is kind
    assert expected.items() <= dict(span.attributes).items()


def test_an_effect_is_an_executed_tool_below_its_attempt() -> None:
    key = f"mail:{RUN}/find/0"
    begun = entry("effect.begun", 5, effect="mail", key=key)
    ended = entry("effect.done", 6, effect="mail", key=key)
    effect = named("execute_tool mail", begun, ended)
    assert effect.parent_id == span_id(RUN, "attempt/2")
    assert effect.attributes["gen_ai.tool.call.id"] == key
    assert effect.attributes["gen_ai.tool.type"] == "function"


def test_refusals_and_notes_are_events_of_the_span_above() -> None:
    refused = entry(
        "message.refused", 5, "m/any", sender=AGENT, capability="send", code="refused.denied", run=RUN
    )
    (told,) = spans(JOURNAL, refused)[3].events
    assert told.name == "aip.refusal.send"
    assert told.attributes["aip.code"] == "refused.denied"


def test_only_what_has_ended_is_a_span_and_its_parent_is_known_before_it_ends() -> None:
    at_work = spans(JOURNAL[:8])
    assert [span.name for span in at_work] == [
        "task find",
        "invoke_agent researcher",
        "invoke_agent researcher",
    ]
    assert at_work[0].parent_id == spans()[0].span_id


def test_the_same_run_gives_the_same_ids_and_another_run_others() -> None:
    assert [span.span_id for span in spans()] == [span.span_id for span in spans()]
    assert trace_id("r-1") != trace_id("r-2")
    assert span_id("r-1", "run") != span_id("r-2", "run")


def test_a_clock_that_was_set_back_gives_no_span_that_ends_before_it_starts() -> None:
    journal = [*JOURNAL[:3], started("find", 1, 5), succeeded(1, 2)]
    attempt = named("invoke_agent researcher", journal=journal)
    assert attempt.end_ns == attempt.start_ns


@given(st.text(max_size=40), st.text(max_size=40))
def test_ids_are_never_all_zeros_and_fit_their_width(run: str, node: str) -> None:
    assert 0 < trace_id(run.encode("utf-8", "replace").decode()) < 2**128
    assert (
        0 < span_id(run.encode("utf-8", "replace").decode(), node.encode("utf-8", "replace").decode()) < 2**64
    )


def test_the_otlp_json_is_what_the_protocol_defines() -> None:
    plain = document(spans(), {"service.name": "aip"}, "0.1")
    for one in plain["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        # OTLP writes ids as hex where protobuf's own JSON writes base64: nothing else may differ.
        for key in ("traceId", "spanId", "parentSpanId"):
            if key in one:
                one[key] = b64encode(bytes.fromhex(one[key])).decode()
    read = ParseDict(plain, ExportTraceServiceRequest())
    (scope,) = read.resource_spans[0].scope_spans
    assert [span.name for span in scope.spans] == [span.name for span in spans()]
    assert scope.spans[0].start_time_unix_nano == int(T0) * 10**9
    assert scope.spans[1].parent_span_id == scope.spans[0].span_id
    assert scope.spans[2].status.code == 2
    assert {pair.key for pair in scope.spans[3].attributes} >= {"gen_ai.agent.name", "aip.lease"}
