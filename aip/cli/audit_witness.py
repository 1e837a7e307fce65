"""`aip audit witness`: remembering how far a log was seen to grow, in a folder that its keeper does not control.

The rules are `governance/witness.py`'s, the folder is `governance/witness_memory.py`'s, the same as a node agent's. One file a
log holds the last cosigned checkpoint, which `aip audit verify --checkpoint` takes; contradictions are kept beside it.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..errors import Corrupt
from .audit_options import PATH, trust, verifiers_of
from .command import Command
from .output import show_value
from .session import session


@click.command(
    "witness",
    cls=Command,
    examples="""
    aip audit witness --memory /mnt/other/witness --trust audit.vkey
    aip audit witness copy/audit.jsonl --memory witness --trust audit.vkey
    """,
)
@click.argument("path", metavar="[LOG]", type=PATH, required=False)
@click.option(
    "--memory", type=PATH, required=True, help="The witness's folder: its key, and the checkpoints it saw."
)
@trust
def witness(path: Path | None, memory: Path, keys: tuple[str, ...]) -> None:
    """Check that the log continues what this witness saw last, cosign its checkpoint, and remember it.

    Run it regularly, best from another machine over a copy of the log. A log that was cut, put back or rewritten since is refused
    with exit code 8, and both checkpoints are kept as evidence. Without --trust the key beside the log is believed
    when the log first comes, and no other one from then on.
    """
    from ..governance import note
    from ..governance.export.log_files import LogFiles
    from ..governance.key_file import signer_of
    from ..governance.tree import consistency_proof
    from ..governance.verification import verifiers
    from ..governance.witness import Inconsistent, NotTheLog, Witness
    from ..governance.witness_memory import WitnessMemory
    from .audit import log_of

    one = session()
    found = log_of(one, path)
    log = LogFiles(found)
    folder = WitnessMemory(memory)
    signer = signer_of(memory / "witness.key", "witness", os.urandom, note.COSIGNATURE)
    trusted = verifiers_of(keys)
    known = next((key for key in trusted or verifiers(found) if key.name == log.origin), None)
    if known is not None and not trusted and folder.trusted(known) != known:
        raise Corrupt(
            f"{log.origin} came with another key before", hint="is it the same log? say --trust KEY"
        )
    kept = folder.kept(log.origin)
    before = note.parse(kept).size if kept is not None else 0
    proof = consistency_proof(log.tree, before, log.size) if 0 < before <= log.size else []
    try:
        if before > log.size:
            folder.evidence(log.origin, kept or "", log.note)
            raise Inconsistent(
                f"{log.origin}: {before} entries were seen, and the log now signs {log.size}: a rollback"
            )
        line = Witness(signer, folder).add_checkpoint(before, proof, log.note, known, int(one.clock()))
    except (Inconsistent, NotTheLog) as error:
        raise Corrupt(error.message, hint=error.hint or "is --trust the key of this log?") from None

    def tell() -> None:
        one.write(f"{log.origin} continues: {before} entries were seen before, {log.size} now")
        one.write(f"checkpoint  {folder.path(log.origin)}")
        one.write(f"witness     {signer.verifier}")

    told = {"origin": log.origin, "before": before, "size": log.size, "cosignature": line.strip()}
    show_value(one, {**told, "checkpoint": str(folder.path(log.origin)), "key": str(signer.verifier)}, tell)
