"""`aip audit witness`: remembering how far a log was seen to grow, in a folder that its keeper does not control.

The rules are `governance/witness.py`'s; here are the folder and the log. One file a log holds the last cosigned checkpoint, which
`aip audit verify --checkpoint` takes; contradictions go to `evidence/`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import click

from ..errors import Corrupt
from .audit_options import PATH, trust, verifiers_of
from .command import Command
from .output import show_value
from .session import session


class Folder:
    """A witness's `Memory` in a folder; what is kept is on disk before it is cosigned for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, origin: str) -> Path:
        return self._root / f"{hashlib.sha256(origin.encode()).hexdigest()[:16]}.checkpoint"

    def kept(self, origin: str) -> str | None:
        path = self.path(origin)
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def keep(self, origin: str, note: str) -> None:
        self._write(self.path(origin), note)

    def evidence(self, origin: str, kept: str, refused: str) -> None:
        folder = self._root / "evidence"
        folder.mkdir(mode=0o700, exist_ok=True)
        name = hashlib.sha256(refused.encode()).hexdigest()[:16]
        self._write(folder / f"{name}.txt", f"kept:\n{kept}\nrefused:\n{refused}")

    def _write(self, path: Path, text: str) -> None:
        part = path.with_suffix(".part")
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # A rename is durable when its folder is.
        finally:
            os.close(folder)


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
    with exit code 8, and both checkpoints are kept as evidence. Without --trust the key beside the log is believed.
    """
    from ..governance import note
    from ..governance.export.log_files import LogFiles
    from ..governance.key_file import signer_of
    from ..governance.tree import consistency_proof
    from ..governance.verification import verifiers
    from ..governance.witness import Inconsistent, NotTheLog, Witness
    from .audit import log_of

    one = session()
    found = log_of(one, path)
    log = LogFiles(found)
    folder = Folder(memory)
    signer = signer_of(memory / "witness.key", "witness", os.urandom, note.COSIGNATURE)
    known = next((key for key in verifiers_of(keys) or verifiers(found) if key.name == log.origin), None)
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
