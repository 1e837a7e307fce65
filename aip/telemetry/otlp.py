"""Spans as OTLP/JSON: the document that an OTLP/HTTP receiver takes with `Content-Type: application/json`.

The JSON mapping of OTLP 1 differs from protobuf's own in two places: ids are hex, and enums are numbers. 64-bit integers are
text, as in all of protobuf's JSON (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .spans import Span, SpanEvent, Value

SCOPE = "aip.telemetry"
STATUS_ERROR = 2


def document(spans: Iterable[Span], resource: Mapping[str, Value], version: str = "") -> dict[str, Any]:
    """The ExportTraceServiceRequest of these spans."""
    scope = {"name": SCOPE, **({"version": version} if version else {})}
    scoped = {"scope": scope, "spans": [_span(span) for span in spans]}
    return {"resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scoped]}]}


def _span(span: Span) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "traceId": f"{span.trace_id:032x}",
        "spanId": f"{span.span_id:016x}",
        "name": span.name,
        "kind": int(span.kind),
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes(span.attributes),
    }
    if span.parent_id is not None:
        plain["parentSpanId"] = f"{span.parent_id:016x}"
    if span.events:
        plain["events"] = [_event(event) for event in span.events]
    if span.error is not None:
        plain["status"] = {"code": STATUS_ERROR, "message": span.error}
    return plain


def _event(event: SpanEvent) -> dict[str, Any]:
    return {
        "timeUnixNano": str(event.at_ns),
        "name": event.name,
        "attributes": _attributes(event.attributes),
    }


def _attributes(attributes: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Value) -> dict[str, Any]:
    match value:
        case bool():  # Before int: a bool is one.
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case _:
            return {"stringValue": value}
