"""The file beside an export that proves it: `FILE.proof.jsonl`.

    {"is":"header", …}     what was asked for, the signed checkpoint, how the export is written
    {"is":"gap", …}        leaves that the export does not hold, as the nodes that stand for them (`pruned_tree.py`)
    {"is":"context", …}    an entry that is not in the export but was in force for it: the policy revision at its beginning
    {"is":"end", …}        how many entries, which moments, which policy revisions, the digest of the export file

Gaps and contexts stand in the order of the log; every index between them is an entry of the export. The header and the end are
what the exporter *says*; only what `verify_export` comes to by itself counts, and a difference is a finding. Reading and writing
stream: nothing here grows with the export.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ..canonical import from_base64
from ..entry import LINE_BYTES_MAX
from ..note import NOTE_BYTES_MAX
from ..tree import HASH_BYTES
from .form import NotVerified
from .pruned_tree import GAP_NODES_MAX

SUFFIX = ".proof.jsonl"
VERSION = 1
PROOF_LINE_BYTES_MAX = 2 * LINE_BYTES_MAX + 2 * NOTE_BYTES_MAX  # A context holds an entry, escaped once more.
CONTEXTS_MAX = 1_000  # Policy revisions that are told of beside an export; a log with more says so.


class Revision(msgspec.Struct, frozen=True):
    """A policy revision that came into force with the entry `index`."""

    index: int
    at: float
    revision: str


class Header(msgspec.Struct, frozen=True, tag_field="is", tag="header"):
    aip_export: int
    form: str
    form_version: int
    file: str
    made_at: float
    made_by: str
    asked: dict[str, Any]
    first: int
    """Entries [first, end) are the range of the export; it lies inside the checkpoint's tree."""
    end: int
    checkpoint: str


class Gap(msgspec.Struct, frozen=True, tag_field="is", tag="gap"):
    first: int
    end: int
    nodes: list[str]

    def digests(self) -> list[bytes]:
        return [from_base64(node) for node in self.nodes]


class Context(msgspec.Struct, frozen=True, tag_field="is", tag="context"):
    index: int
    entry: str


class End(msgspec.Struct, frozen=True, tag_field="is", tag="end"):
    entries: int
    left_out: int
    lost: int
    """Entries that producers numbered and that never came, as `audit.gap` entries of the export say."""
    first_at: float | None
    last_at: float | None
    revisions: list[Revision]
    statement: str
    bytes: int
    sha256: str


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Header | Gap | Context | End, strict=True)


def path_of(export: Path) -> Path:
    return export.with_name(export.name + SUFFIX)


def gap(first: int, end: int, nodes: list[bytes]) -> Gap:
    return Gap(first, end, [base64.b64encode(node).decode() for node in nodes])


def write(file: BinaryIO, part: Header | Gap | Context | End) -> None:
    file.write(_encoder.encode(part) + b"\n")


def read(file: BinaryIO) -> Iterator[Header | Gap | Context | End]:
    """The parts in order: one header, gaps and contexts, one end. Raises `NotVerified` for anything else."""
    ended = False
    number = 0
    for number, line in enumerate(iter(lambda: file.readline(PROOF_LINE_BYTES_MAX), b""), 1):
        if not line.endswith(b"\n"):
            raise NotVerified(f"the proof is cut off or too long in line {number}")
        try:
            part = _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise NotVerified(f"line {number} of the proof cannot be read: {error}") from None
        if ended or isinstance(part, Header) != (number == 1):
            raise NotVerified(f"line {number} of the proof does not belong there")
        _check(part, number)
        ended = isinstance(part, End)
        yield part
    if not ended:
        raise NotVerified(f"the proof ends after line {number}, without its last line: it was cut off")


def _check(part: Header | Gap | Context | End, number: int) -> None:
    if isinstance(part, Header):
        if part.aip_export != VERSION:
            raise NotVerified(
                f"the proof has version {part.aip_export}, and this AIP reads {VERSION}",
                hint="verify it with the version of AIP that made it",
            )
        if len(part.checkpoint) > NOTE_BYTES_MAX:
            raise NotVerified("the checkpoint in the proof is too long to be one")
    if isinstance(part, Gap):
        if not 0 <= part.first < part.end or len(part.nodes) > GAP_NODES_MAX:
            raise NotVerified(f"line {number} of the proof is no gap")
        try:
            good = all(len(node) == HASH_BYTES for node in part.digests())
        except ValueError:
            good = False
        if not good:
            raise NotVerified(f"line {number} of the proof holds something that is no hash")
