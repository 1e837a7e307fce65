"""`aip audit export | verify-export | prove | report | key`: what leaves the log, and how others check it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import msgspec

from ..errors import NotFound, UsageError
from . import measure
from .audit_options import PATH, filters, selection_of, times, trust, verifiers_of
from .command import Command
from .contract import Json
from .output import show_value
from .session import Session, person, session

if TYPE_CHECKING:
    from ..governance.export.compliance import Basis, Standing
    from ..governance.note import Verifier

FORMS = ("jsonl", "csv", "ocsf")
FRAMEWORKS = ("ai-act", "soc2", "iso42001")


@click.command(
    "export",
    cls=Command,
    examples="""
    aip audit export --format jsonl --since 2027-01-01 --until 2027-02-01 --out january.jsonl
    aip audit export --format csv --refused --since 7d --out refusals.csv
    aip audit export --format ocsf --out events.ocsf.jsonl
    """,
)
@click.argument("path", metavar="[LOG]", type=PATH, required=False)
@click.option(
    "--format", "form", type=click.Choice(FORMS), default="jsonl", show_default=True, help="How to write it."
)
@click.option("--out", type=PATH, required=True, help="The file to write; its proof goes beside it.")
@click.option("--witnessed", is_flag=True, help="Only as far as the last checkpoint that witnesses cosigned.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@filters
def export(path: Path | None, form: str, out: Path, witnessed: bool, force: bool, **asked: Any) -> None:
    """Write entries to a file, and beside it the proof that they are the log's.

    The proof is FILE.proof.jsonl: the signed checkpoint, what stands for the entries left out, the policy revisions in force, and
    a statement of completeness. `aip audit verify-export` checks both without a platform.
    """
    from ..governance.export import proof_file
    from ..governance.export.export import Order
    from ..governance.export.export import export as make
    from ..governance.export.log_files import LogFiles

    one = session()
    log = LogFiles(_log_of(one, path), witnessed=witnessed)
    order = Order(selection_of(asked), form, out.name, one.clock(), person())
    proof = proof_file.path_of(out)
    with _private(out, force) as data, _private(proof, force) as parts:
        end = make(log, order, data, parts)

    def tell() -> None:
        one.write(f"{out}: {measure.count(end.entries, 'record')}, {measure.size(end.bytes)}")
        one.write(f"from {measure.moment(end.first_at)} to {measure.moment(end.last_at)}")
        one.write(f"{proof}: its proof")
        one.write(end.statement)

    show_value(one, {"file": str(out), "proof": str(proof), **msgspec.to_builtins(end)}, tell)


@click.command(
    "verify-export",
    cls=Command,
    examples="""
    aip audit verify-export january.jsonl --trust audit.vkey
    aip audit verify-export refusals.csv --trust audit.vkey --trust witness.vkey --witnesses 1
    aip audit verify-export entry-42.tlog-proof --trust audit.vkey
    """,
)
@click.argument("file", metavar="FILE", type=PATH)
@trust
@click.option(
    "--witnesses",
    type=click.IntRange(0, 16),
    default=0,
    help="How many trusted witnesses must have cosigned.",
)
def verify_export(file: Path, keys: tuple[str, ...], witnesses: int) -> None:
    """Check an export, or the proof of one entry, with nothing but the file and a key. Exit code 8 if it does not hold."""
    from ..governance.export.entry_proof import SUFFIX

    one = session()
    trusted = verifiers_of(keys)
    if not trusted:
        raise UsageError("--trust is missing", hint="the key of the log, as `aip audit key` prints it there")
    if file.suffix == SUFFIX:
        _verify_entry(one, file, trusted, witnesses)
    else:
        _verify_file(one, file, trusted, witnesses)


def _verify_file(one: Session, file: Path, trusted: list[Verifier], witnesses: int) -> None:
    from ..governance.export.verify_export import verify_export as verify

    found = verify(file, trusted, witnesses)

    def tell() -> None:
        one.write(
            f"holds: {file}, {measure.count(found.entries, 'record')}, {'complete' if found.complete else 'partial'}"
        )
        one.write(found.statement)
        one.write(f"from  {measure.moment(found.first_at)} to {measure.moment(found.last_at)}")
        one.write(f"log   {found.origin}, {found.size} entries, root {found.root}")
        if found.lost:
            one.write(f"lost  {found.lost} entries that producers numbered and the log never got")
        for revision in found.revisions:
            one.write(
                f"policy {revision.revision} since {measure.moment(revision.at)} (entry {revision.index})"
            )
        for name in found.witnesses:
            one.write(f"witness {name}")

    show_value(one, msgspec.to_builtins(found), tell)


def _verify_entry(one: Session, file: Path, trusted: list[Verifier], witnesses: int) -> None:
    from ..governance.export.entry_proof import PROOF_CHARS_MAX, verify_proof

    if not file.is_file():
        raise NotFound(f"there is no {file}")
    with file.open("rb") as data:
        text = data.read(PROOF_CHARS_MAX + 1).decode("utf-8", "replace")
    found = verify_proof(text, trusted, witnesses)
    entry, checkpoint = found.entry, found.checkpoint

    def tell() -> None:
        one.write(f"holds: entry {entry['index']} of {checkpoint.origin}, of {measure.moment(entry['at'])}")
        one.write(f"       {entry['kind']} {entry['subject']}")

    value = {
        "entry": entry,
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
    }
    show_value(one, {**value, "witnesses": found.witnesses}, tell)


@click.command(
    "prove",
    cls=Command,
    examples="""
    aip audit prove 42 --out entry-42.tlog-proof
    aip audit prove 42 > entry-42.tlog-proof
    """,
)
@click.argument("index", metavar="INDEX", type=click.IntRange(min=0))
@click.argument("path", metavar="[LOG]", type=PATH, required=False)
@click.option("--out", type=PATH, help="The file to write, best named .tlog-proof.")
@click.option("--witnessed", is_flag=True, help="Only as far as the last checkpoint that witnesses cosigned.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def prove(index: int, path: Path | None, out: Path | None, witnessed: bool, force: bool) -> None:
    """Write one entry with the proof that the signed log holds it (C2SP tlog-proof)."""
    from ..governance.export.entry_proof import prove as make
    from ..governance.export.log_files import LogFiles

    one = session()
    proof = make(LogFiles(_log_of(one, path), witnessed=witnessed), index)
    if out is None:
        click.echo(proof, nl=False)
        return
    with _private(out, force) as file:
        file.write(proof.encode())
    one.say(f"{out}: entry {index} and its proof")


@click.command(
    "key",
    cls=Command,
    examples="""
    aip audit key
    aip audit key > audit.vkey
    """,
)
@click.argument("path", metavar="[LOG]", type=PATH, required=False)
def key(path: Path | None) -> None:
    """Print the log's public key: what others pass as --trust. Hand it over by a way that the log's keeper does not control."""
    from ..governance.verification import verifiers

    one = session()
    log = _log_of(one, path)
    found = verifiers(log)
    if not found:
        raise NotFound(f"the log {log} has no key yet", hint="a platform makes one when it starts: `aip up`")
    rows: list[Json] = [
        {"key": str(verifier), "name": verifier.name, "id": verifier.key_id.hex()} for verifier in found
    ]
    show_value(one, rows, lambda: one.write("\n".join(row["key"] for row in rows)))


@click.command(
    "report",
    cls=Command,
    examples="""
    aip audit report --for ai-act --since 2027-01-01 --out ai-act.html
    aip audit report --for soc2 --since 90d --out soc2.md --trust audit.vkey
    aip audit report --for iso42001
    """,
)
@click.argument("path", metavar="[LOG]", type=PATH, required=False)
@click.option("--for", "framework", type=click.Choice(FRAMEWORKS), required=True, help="Whose clauses.")
@click.option("--out", type=PATH, help="A file that ends in .md or .html; without it, Markdown on stdout.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@times
@trust
def report(
    path: Path | None,
    framework: str,
    out: Path | None,
    force: bool,
    since: float | None,
    until: float | None,
    keys: tuple[str, ...],
) -> None:
    """Say what the log shows for clauses of a law or a standard, how to check it, and what it does not show."""
    from ..governance.export import report_html, report_markdown
    from ..governance.export.clauses import FRAMEWORKS as KNOWN
    from ..governance.export.compliance import report as make

    if out is not None and out.suffix not in (".md", ".html"):
        raise UsageError(
            f"--out: {out.name} is neither .md nor .html", hint="the ending decides how it is written"
        )
    one = session()
    asked = selection_of({"since": since, "until": until})
    made = make(
        KNOWN[framework], _basis(one, _log_of(one, path), asked.since, asked.until, verifiers_of(keys))
    )
    if out is None:
        click.echo(report_markdown.render(made), nl=False)
        return
    render = report_html.render if out.suffix == ".html" else report_markdown.render
    with _private(out, force) as file:
        file.write(render(made).encode())
    one.say(f"{out}: {made.framework.title}, {measure.count(len(made.findings), 'clause')}")


def _basis(
    one: Session, log: Path, since: float | None, until: float | None, trusted: list[Verifier]
) -> Basis:
    from ..governance.export.compliance import Basis
    from ..governance.export.record_facts import gather
    from ..governance.export.selection import Selection
    from .audit import GrowingLog

    standing = _standing(log, trusted)
    facts = gather(GrowingLog(log).new(), Selection(since=since, until=until))
    return Basis(facts, standing, since, until, one.clock(), person())


def _standing(log: Path, trusted: list[Verifier]) -> Standing:
    """How the log stands by itself: verified from its first entry to its last."""
    from ..governance import note
    from ..governance.export.compliance import Standing
    from ..governance.segments import checkpoint_path
    from ..governance.verification import verifiers
    from .audit import PROBLEMS_SHOWN_MAX, examined

    found = examined(log, trusted)
    signed = checkpoint_path(log)
    opened = None
    if signed.is_file() and found.ok:
        opened = note.opened(signed.read_text(encoding="utf-8"), trusted or verifiers(log))
    problems = list(found.problems[:PROBLEMS_SHOWN_MAX])
    if not signed.is_file():
        problems.append("no signed checkpoint: who can rewrite the file can rewrite all of it")
    return Standing(
        origin=opened.checkpoint.origin if opened else str(log),
        size=opened.checkpoint.size if opened else found.first + found.entries,
        root=opened.checkpoint.root.hex() if opened else found.root,
        verified=found.ok and opened is not None,
        problems=tuple(problems),
        trusted_key=bool(trusted),
        witnesses=len(opened.witnessed) if opened else 0,
        oldest_at=found.first_at,
        dropped=found.first,
    )


def _log_of(one: Session, path: Path | None) -> Path:
    from .audit import log_of

    return log_of(one, path)


@contextmanager
def _private(path: Path, force: bool) -> Iterator[BinaryIO]:
    """A file for its owner only, under its name when it is whole and on disk, or not at all."""
    if path.exists() and not force:
        raise UsageError(f"{path} is there already", hint="choose another name, or say --force")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    try:
        with open(fd, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


COMMANDS = (export, verify_export, prove, report, key)
