"""`aip run trace`: what caused what in a run, as a tree, as JSON, or as OpenTelemetry spans."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import Corrupt
from . import measure, text
from .command import Command
from .contract import Json
from .records import records
from .run_address import RUN, RunAddress
from .session import Format, Session, session

if TYPE_CHECKING:
    from ..telemetry.trace import Node, Trace

OTLP = "otlp-json"
ROOT_ONLY = "each message's own line needs `messages` entries in the audit log, and this run has none"


def _set_format(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Session).format = Format.JSON if value == OTLP else Format(value)
        ctx.meta[OTLP] = value == OTLP


class TraceCommand(Command):
    """A command that can also print OTLP/JSON."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for option in self.params:
            if option.name == "output":
                option.type = click.Choice([*(one.value for one in Format), OTLP])
                option.callback = _set_format


@click.command(
    "trace",
    cls=TraceCommand,
    examples="""
    aip run trace last
    aip run trace last -o otlp-json > run.json
    aip run trace last --export
    """,
)
@click.argument("address", metavar="RUN", type=RUN)
@click.option(
    "--export", "send", is_flag=True, help="Send spans to the collector of OTEL_EXPORTER_OTLP_ENDPOINT."
)
def trace(address: RunAddress, send: bool) -> None:
    """Show what caused what in a run: tasks, attempts, messages, effects, refusals, spending.

    Made from the run's journal and the audit log. Spans follow OpenTelemetry's conventions for generative AI; their ids are the
    run's, so sending them twice adds nothing.
    """
    one = session()
    with records(one) as known:
        run_id = known.id_of(address)
        found = collected(one, run_id, known.run(run_id), known.events(run_id))
    if send:
        _export(one, found)
    elif click.get_current_context().meta.get(OTLP):
        from ..telemetry.otlp import document
        from ..telemetry.spans import spans_of

        one.write(text.pretty_json(document(spans_of(found), resource(), _version())))
    else:
        _show(one, found)


def collected(one: Session, run_id: str, view: Json, events: Iterator[Json]) -> Trace:
    from ..telemetry.trace import trace_of

    return trace_of(run_id, view, events, _entries(one.folder.audit))


def _entries(folder: Path) -> Iterator[Json]:
    """The audit log's entries; none where there is no log, for a run's journal tells most of it alone."""
    from ..governance.audit import log_path, read

    path = log_path(folder)
    if not path.is_file():
        return
    try:
        yield from read(path)
    except ValueError as error:
        raise Corrupt(f"{path} cannot be read: {error}", hint="see `aip audit verify`") from None


def resource() -> dict[str, str | bool | int | float]:
    """What the spans come from; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say more."""
    return {"service.name": "aip", "service.version": _version()}


def _version() -> str:
    from .. import __version__

    return __version__


def _export(one: Session, found: Trace) -> None:
    from ..telemetry.export import endpoint, export
    from ..telemetry.spans import spans_of, trace_id
    from .output import show_value

    place = endpoint(os.environ)
    sent = export(spans_of(found), resource(), os.environ)
    told = {"run": found.run, "trace_id": f"{trace_id(found.run):032x}", "spans": sent, "endpoint": place}
    show_value(one, told, lambda: one.write(f"{told['trace_id']}  {measure.count(sent, 'span')}"))
    one.say(f"sent to {place}")
    if found.root.ended_at_s is None:
        one.say("the run is at work: what has not ended is not sent; export again when it has")


def _show(one: Session, found: Trace) -> None:
    from .output import show_value

    plain = {
        "run": found.run,
        "plan": found.plan,
        "messages_recorded": found.messages_recorded,
        "left_out": found.left_out,
    }

    def draw() -> None:
        for line in lines(found.root, one.clock()):
            one.write(line)
        if found.left_out:
            one.say(f"{found.left_out:,} more are not shown: the tree is bounded")
        if not found.messages_recorded:
            one.say(ROOT_ONLY)

    show_value(one, {**plain, "tree": found.root.to_json()}, draw)


def lines(node: Node, now_s: float, depth: int = 0) -> Iterator[str]:
    """The tree, a line for each node, what was caused below what caused it."""
    yield "  " * depth + line(node, now_s)
    for child in node.children:
        yield from lines(child, now_s, depth + 1)


def line(node: Node, now_s: float) -> str:
    facts = node.facts
    parts = [node.kind, _name(node)]
    if node.kind not in ("note", "refusal"):
        ended_s = now_s if node.ended_at_s is None else node.ended_at_s
        parts += [node.outcome, measure.duration(ended_s - node.started_at_s)]
    elif node.outcome:
        parts.append(node.outcome)
    if node.error is not None:
        parts.append(f"[{node.error.get('code')}] {node.error.get('message') or ''}")
    parts += [
        f"{measure.unit_name(unit)} {measure.amount(unit, spent)}"
        for unit, spent in (facts.get("spent") or {}).items()
    ]
    if facts.get("attributed") is False:
        parts.append("(which attempt it belongs to is not recorded)")
    return text.line("  ".join(part for part in parts if part))


def _name(node: Node) -> str:
    facts = node.facts
    match node.kind:
        case "run":
            return f"{node.name} {facts['run']}"
        case "attempt":
            unit = f" unit {facts['unit']}" if facts["unit"] else ""
            return f"{facts['attempt']}{unit} at {node.name}.{facts['replica']}"
        case "message":
            return f"{facts['recipient']} {node.name}"
        case "task" if facts["generation"] > 1:
            return f"{node.name} (again, {facts['generation']})"
        case "note":
            return f"{node.name} {text.compact_json(told)}" if (told := _told(node)) else node.name
        case _:
            return node.name


def _told(node: Node) -> dict[str, Any]:
    return {key: value for key, value in node.facts.items() if key != "attributed"}
