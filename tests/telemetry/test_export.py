"""Spans on their way to a collector: a real OTLP/HTTP receiver on loopback."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from trace_kit import JOURNAL, RUN, VIEW

from aip.errors import UsageError
from aip.telemetry import export as exporting
from aip.telemetry.export import ExportFailed, endpoint, export
from aip.telemetry.spans import Span, spans_of
from aip.telemetry.trace import trace_of


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP, or answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.status = 200
        self.requests: list[tuple[str, ExportTraceServiceRequest]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def spans(self) -> list[object]:
        return [
            span
            for _, request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        collector = self.server
        assert isinstance(collector, Collector)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if collector.status == 200:
            assert self.headers["Content-Type"] == "application/x-protobuf"
            collector.requests.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(collector.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """The test's output is pytest's."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def made() -> list[Span]:
    return list(spans_of(trace_of(RUN, VIEW, JOURNAL)))


def sent(collector: Collector) -> int:
    return export(made(), {"service.name": "aip"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})


def test_a_collector_receives_every_span_with_its_ids_times_and_attributes(collector: Collector) -> None:
    assert sent(collector) == len(made())
    assert {path for path, _ in collector.requests} == {"/v1/traces"}
    for want, got in zip(made(), collector.spans, strict=True):
        assert got.name == want.name
        assert int.from_bytes(got.trace_id, "big") == want.trace_id
        assert int.from_bytes(got.span_id, "big") == want.span_id
        assert int.from_bytes(got.parent_span_id, "big") == (want.parent_id or 0)
        assert (got.start_time_unix_nano, got.end_time_unix_nano) == (want.start_ns, want.end_ns)
        assert got.kind == int(want.kind)
        assert (got.status.code == 2) == (want.error is not None)
        assert {pair.key for pair in got.attributes} == set(want.attributes)


def test_the_resource_is_ours_and_the_environment_has_the_last_word(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "reports")
    sent(collector)
    resource = collector.requests[0][1].resource_spans[0].resource
    assert {pair.key: pair.value.string_value for pair in resource.attributes}["service.name"] == "reports"


def test_sending_twice_is_the_same_trace_twice(collector: Collector) -> None:
    sent(collector)
    sent(collector)
    half = len(collector.spans) // 2
    assert [one.span_id for one in collector.spans[:half]] == [one.span_id for one in collector.spans[half:]]


def test_many_spans_go_in_batches(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "BATCH_SPANS_MAX", 4)
    sent(collector)
    assert [len(one.resource_spans[0].scope_spans[0].spans) for _, one in collector.requests] == [4, 2]


def test_a_collector_that_refuses_is_an_error_and_no_silence(collector: Collector) -> None:
    collector.status = 400
    with pytest.raises(ExportFailed) as told:
        sent(collector)
    assert told.value.details == {"sent": 0}
    assert told.value.retryable


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, "http://a:4318"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b"},
            "http://b",
        ),
    ],
)
def test_where_to_is_said_by_opentelemetrys_own_variables(environment: dict[str, str], place: str) -> None:
    assert endpoint(environment) == place


def test_without_an_endpoint_nothing_is_sent_and_the_variable_is_named() -> None:
    with pytest.raises(UsageError) as told:
        export(made(), {}, {})
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in told.value.hint
