"""A witness: who remembers how far it has seen a log grow, and puts its name to nothing else (C2SP tlog-witness).

A hash chain and a signature cannot show that the log tells two readers two stories, or went back to an earlier one and grew
again from there. A witness can: it keeps the last checkpoint per log and cosigns another only with a proof that it continues that
one. Whoever asks for a witness's cosignature sees the same log as everybody else who does.

    what comes                                             what is answered
    an origin it was not told of                           UnknownLog          (404 in the HTTP form of the protocol)
    no signature of the log's key, or one that fails       NotTheLog           (403)
    an old size above the checkpoint's                     BadRequest          (400)
    an old size that is not the one it keeps               Conflict, with the size it keeps: ask again from there   (409)
    a root that differs at the same size: a split view     Inconsistent        (422)
    a proof that does not hold: history was changed        Inconsistent        (422)
    a continuation                                         a cosignature, after the new checkpoint is kept

Pure: `Memory` is storage, and `now_s` comes in. `Memory.keep` must be durable when it returns, and one `Witness` at a time may
use a memory: between the check and the keeping nothing else may be kept. A checkpoint that was refused for inconsistency is
handed to `Memory.evidence`: two notes signed by one key that cannot both be true.

What a witness does not do: read entries, judge them, or keep the log. One that forgets (`Memory` lost) starts over with trust in
what it is shown first; one under the same account as the log is as honest as that account.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..errors import AIPError
from .note import Checkpoint, Signer, Unverified, Verifier, opened, parse
from .tree import EMPTY_ROOT, PROOF_HASHES_MAX, verify_consistency


class WitnessRefused(AIPError):
    """The witness does not put its name to this checkpoint."""

    code = "witness.refused"


class UnknownLog(WitnessRefused):
    code = "witness.unknown_log"


class NotTheLog(WitnessRefused):
    """The checkpoint is not signed by the log that it names."""

    code = "witness.not_the_log"


class BadRequest(WitnessRefused):
    code = "witness.bad_request"


class Conflict(WitnessRefused):
    """The proof starts elsewhere than where the witness is. Details: `size`, the one it keeps."""

    code = "witness.conflict"
    retryable = True


class Inconsistent(WitnessRefused):
    """The checkpoint does not continue the one that the witness keeps: the log has two histories."""

    code = "witness.inconsistent"
    default_hint = "the log was put back, cut or rewritten: `aip audit verify`"


class Memory(Protocol):
    """What a witness remembers: one note per log."""

    def kept(self, origin: str) -> str | None: ...

    def keep(self, origin: str, note: str) -> None:
        """Durable when it returns."""

    def evidence(self, origin: str, kept: str, refused: str) -> None:
        """Two notes of one log that contradict each other."""


class Witness:
    def __init__(self, signer: Signer, memory: Memory) -> None:
        self._signer = signer
        self._memory = memory

    @property
    def verifier(self) -> Verifier:
        return self._signer.verifier

    def add_checkpoint(
        self, old_size: int, proof: Sequence[bytes], note: str, log: Verifier | None, now_s: int
    ) -> str:
        """The witness's signature line on `note`, whose log is known by the key `log`; or one of the refusals above."""
        checkpoint = _by_the_log(note, log)
        if not 0 <= old_size <= checkpoint.size or len(proof) > PROOF_HASHES_MAX:
            raise BadRequest(f"a proof from {old_size} to {checkpoint.size} with {len(proof)} hashes")
        kept = self._memory.kept(checkpoint.origin)
        before = parse(kept) if kept is not None else Checkpoint(checkpoint.origin, 0, EMPTY_ROOT)
        if old_size != before.size:
            raise Conflict(f"the last checkpoint seen here has {before.size} entries", size=before.size)
        try:
            _check_continues(before, checkpoint, proof)
        except Unverified as error:
            self._memory.evidence(checkpoint.origin, kept or "", note)
            raise Inconsistent(f"{checkpoint.origin}: {error}", size=before.size) from None
        line = self._signer.line(checkpoint.text, now_s)
        self._memory.keep(checkpoint.origin, note + line)
        return line


def _by_the_log(note: str, log: Verifier | None) -> Checkpoint:
    try:
        claimed = parse(note)
        if log is None or log.name != claimed.origin:
            raise UnknownLog(f"{claimed.origin} is no log that is witnessed here")
        opened(note, [log])
    except Unverified as error:
        raise NotTheLog(str(error)) from None
    return claimed


def _check_continues(before: Checkpoint, after: Checkpoint, proof: Sequence[bytes]) -> None:
    if before.size == 0:
        if proof:
            raise Unverified("from an empty log nothing needs to be proved")
        return
    verify_consistency(before.size, after.size, before.root, after.root, proof)
