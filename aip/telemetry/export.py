"""Sending spans to an OpenTelemetry collector over OTLP/HTTP, with OpenTelemetry's own exporter (extra `otel`).

Where to, with which headers, certificates, compression and time-out is said by OpenTelemetry's environment variables, which its
exporter reads itself; here only whether one is set is looked at. Nothing is sent where none is: a platform that reports to
nobody is the default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from ..errors import Unavailable, Undelivered, UsageError
from .otlp import SCOPE
from .spans import Span, SpanKind, Value

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
BATCH_SPANS_MAX = (
    512  # The SDK's own batch: some 500 KB, well below the 4 MiB that collectors take by default.
)


class ExportFailed(Undelivered):
    """The collector did not take the spans; whether it has some of them is not known. Their ids make a repeat harmless."""

    code = "undelivered.export"
    retryable = True
    default_hint = "is a collector at that address? it must take OTLP over HTTP (mostly port 4318)"


def endpoint(environment: Mapping[str, str]) -> str:
    """Where spans go. Raises `UsageError` where nobody said."""
    for name in ENDPOINTS:
        if environment.get(name):
            return environment[name]
    raise UsageError(
        "where to? no OpenTelemetry collector is named",
        hint=f"set {ENDPOINTS[-1]}, for example to http://localhost:4318",
    )


def export(spans: Iterable[Span], resource: Mapping[str, Value], environment: Mapping[str, str]) -> int:
    """Send all spans and return how many they were. Raises `UsageError`, `Unavailable`, `ExportFailed`."""
    place = endpoint(environment)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace.export import SpanExportResult
    except ImportError as error:
        raise Unavailable(
            f"sending spans needs OpenTelemetry's exporter: {error}",
            hint="pip install 'agent-infrastructure-platform[otel]'",
        ) from None
    # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say comes last: the person who exports knows better.
    whole = Resource.create(dict(resource)).merge(OTELResourceDetector().detect())
    exporter = OTLPSpanExporter()
    sent, left = 0, iter(spans)
    try:
        while batch := list(islice(left, BATCH_SPANS_MAX)):
            if exporter.export([_readable(span, whole) for span in batch]) is not SpanExportResult.SUCCESS:
                raise ExportFailed(
                    f"{place} did not take the spans; {sent} of them were sent before", sent=sent
                )
            sent += len(batch)
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]
    return sent


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    """The span as the exporter reads it. The SDK's own spans have random ids and begin now; these have neither."""
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanKind as Kind
    from opentelemetry.trace import Status, StatusCode

    status = Status() if span.error is None else Status(StatusCode.ERROR, span.error)
    return ReadableSpan(
        span.name,
        context=_context(span.trace_id, span.span_id),
        parent=None if span.parent_id is None else _context(span.trace_id, span.parent_id),
        resource=resource,
        attributes=dict(span.attributes),
        events=[Event(event.name, dict(event.attributes), event.at_ns) for event in span.events],
        kind=Kind.CLIENT if span.kind is SpanKind.CLIENT else Kind.INTERNAL,
        status=status,
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=InstrumentationScope(SCOPE),
    )


def _context(trace: int, span: int) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(trace, span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
