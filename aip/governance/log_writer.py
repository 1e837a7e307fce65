"""Writing the audit log: lines to the active segment, their leaves to the tree, a signed checkpoint over what is durable.

What is guaranteed
  - `take` returns after one `write()` of the batch into the kernel: it survives kill -9. `sync` returns after an fdatasync: it
    survives a power cut.
  - A checkpoint covers durable entries only. A crash cannot take back what was signed for, so the log never contradicts itself.
  - Opening goes on behind the last whole line; a torn one is cut. What the tree's files lack is made again from the lines.
  - Opening refuses (`Corrupt`) a log that is not what its last checkpoint signed for: cut, changed, put back from a copy. To go
    on would be to sign the damage.
  - One writer: a second one is refused (`LogHeld`).
  - A write that fails is undone, and may be tried again. A failed fdatasync ends the writer (`LogUnwritable` from
    then on), since the kernel may have dropped the pages and a second one would report success over lost entries.

What is not: that unsynced entries survive a power cut, or that a checkpoint is there the moment its entries are (see
`actors/audit_log.py` for how often one is signed).

Order of effects: lines, leaves; fdatasync, signature, checkpoint file (temporary, fsync, rename). Sealing a segment: fdatasync
of the lines and of the tree, rename, fsync of the folder, a new file whose first line says what came before.

Threads: one appends, signs, seals and drops; `sync` and `publish` may run beside it in another.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..errors import AIPError, Corrupt
from .durable_file import replace, sync_folder
from .entry import DROPPED, AuditChain, Batch
from .note import Checkpoint, Signer, Unverified, sign
from .retention import Kept
from .segments import (
    checkpoint_path,
    kept_segments,
    lines,
    log_path,
    resume,
    sealed,
    sealed_path,
    tree_path,
    verifier_path,
    witnessed_path,
)
from .tree import Tree
from .tree_files import FileLevels
from .verification import own_checkpoint, verifiers

SEGMENT_BYTES_MAX = (
    64 * 2**20
)  # A quarter of a million entries: what opening reads, and what retention drops at a time.
LEAVES_AT_ONCE = 4_096
SEGMENTS_AT_ONCE_MAX = 32  # Of retention: some ten seconds of hashing, which whoever asked can wait for.
Mark = tuple[int, str, str, int | None]
_HINT = "`aip audit verify` says what; keep the folder as evidence, move it away, and the next start begins a new log"


class LogUnwritable(AIPError):
    """The audit log's disk refuses. Nothing that waits for a record may go on."""

    code = "audit.unwritable"
    retryable = True
    default_hint = "look at the disk that holds AIP_HOME: full, read-only or failing"


class LogHeld(AIPError):
    """Another writer has this log open."""

    code = "audit.held"
    retryable = True
    default_hint = "one writer at a time: it ends with the process that has it"


class LogWriter:
    def __init__(self, folder: Path, signer: Signer, *, segment_bytes_max: int = SEGMENT_BYTES_MAX) -> None:
        self._path = log_path(folder)
        self._signer = signer
        self._segment_bytes_max = segment_bytes_max
        self._switching = threading.Lock()  # Held while the active file is synced, and while it is exchanged.
        self._failed = ""
        self._signed = 0
        self._file = -1
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = self._hold(folder)
        self._levels = FileLevels(tree_path(self._path), writable=True)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    @property
    def origin(self) -> str:
        return self._signer.name

    @property
    def size(self) -> int:
        """Entries that were written."""
        return self._chain.index

    @property
    def durable(self) -> int:
        return self._durable

    @property
    def signed(self) -> int:
        """Entries that the last checkpoint covers."""
        return self._signed

    @property
    def head(self) -> str:
        return self._chain.head

    @property
    def tree(self) -> Tree:
        return self._tree

    def take(self, batch: Batch) -> int:
        """Write what is new in the batch. Returns how many entries it became."""
        self._check()
        if not batch.notes:
            return 0
        self._make_room(batch.notes[-1].at)
        mark = self._chain.mark(batch.producer)
        return self._write(self._chain.entered(batch), mark)

    def enter(self, at: float, kind: str, subject: str, detail: dict[str, Any]) -> None:
        """What the log says of itself."""
        self._check()
        self._make_room(at)
        mark = self._chain.mark("")
        self._write([self._chain.own(at, kind, subject, detail)], mark)

    def sync(self) -> int:
        """Make durable what was written before the call; returns how many entries are."""
        with self._switching:
            self._check()
            return self._sync_locked()

    @property
    def note(self) -> str:
        """The last checkpoint as it was signed."""
        return self._note

    def statement(self) -> tuple[str, int] | None:
        """A signed checkpoint over what is durable, and its size; none where the last one says as much."""
        size = self._durable
        if size <= self._signed:
            return None
        return sign(Checkpoint(self.origin, size, self._tree.root(size)), self._signer), size

    def publish(self, note: str, size: int) -> None:
        """Keep this note as the log's checkpoint."""
        replace(checkpoint_path(self._path), note)
        self._signed, self._note = size, note

    def publish_witnessed(self, note: str) -> None:
        """Keep this note as the last checkpoint that witnesses cosigned: one that is older than the log's own, under load."""
        replace(witnessed_path(self._path), note)

    def droppable(self, end: int) -> list[Kept]:
        """The first sealed segments before entry `end` that a checkpoint covers; their leaves are checked once more."""
        covered = [one for one in kept_segments(self._path) if one.end <= min(end, self._signed)]
        going = covered[:SEGMENTS_AT_ONCE_MAX]
        for segment in going:
            self._check_leaves(sealed_path(self._path, segment.first), segment.first, segment.end)
        return going

    def drop(self, going: Sequence[Kept], at: float, by: str = "") -> None:
        """Drop the bodies of these segments (`droppable`). The entry about it is durable before they are gone."""
        if not going:
            return
        paths = [sealed_path(self._path, segment.first) for segment in going]
        detail = {"first": going[0].first, "end": going[-1].end, "files": [path.name for path in paths]}
        if by:
            detail["by"] = by
        self._levels.sync()
        self.enter(at, DROPPED, self.origin, detail)
        self.sync()
        for path in paths:
            path.unlink()
        sync_folder(self._path.parent)

    def close(self) -> None:
        """Lets go of the log. Does not sync: what must be durable was waited for."""
        with self._switching:
            self._failed = self._failed or "it was closed"
            self._levels.close()
            for file in (self._file, self._lock):
                if file >= 0:
                    os.close(file)
            self._file = self._lock = -1

    # Opening

    @staticmethod
    def _hold(folder: Path) -> int:
        lock = os.open(folder / "audit.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise LogHeld(f"the audit log in {folder} has a writer already") from None
        return lock

    def _open(self) -> None:
        """From the files alone, whatever state this writer was in."""
        self._chain, self._bytes = resume(self._path)
        self._open_active()
        os.ftruncate(self._file, self._bytes)
        self._first = self._chain.index if not self._bytes else self._first_of(self._path)
        self._tree = Tree(self._levels)
        self._tree.cut(
            min(self._tree.size, self._first)
        )  # Leaves of the active segment are made anew, always.
        self._grow_tree()
        self._check_checkpoint()
        self._sync_locked()

    def _open_active(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)

    def _first_of(self, path: Path) -> int:
        with path.open("rb") as file:
            return AuditChain().follow(file.readline()).index

    def _grow_tree(self) -> None:
        """Append the leaves of all lines that the tree does not have yet."""
        for leaves in _leaves_at_once(_whole(lines(self._path, self._tree.size))):
            self._tree.append(leaves)
        if self._tree.size != self._chain.index:
            raise Corrupt(
                f"{self._path.parent}: the log ends with entry {self._chain.index - 1}, and {self._tree.size} can be found",
                hint=_HINT,
            )

    def _check_checkpoint(self) -> None:
        self._signed = 0
        try:
            known = [*verifiers(self._path)]
            if self._signer.verifier not in known:
                if checkpoint_path(self._path).exists():
                    raise Unverified(f"the last checkpoint was signed with another key than {self._signer}")
                replace(
                    verifier_path(self._path), "".join(f"{one}\n" for one in [*known, self._signer.verifier])
                )
            own = own_checkpoint(self._path)
        except Unverified as error:
            raise Corrupt(f"{self._path.parent}: {error}", hint=_HINT) from None
        if own is None:
            return
        if own.size > self._tree.size:
            raise Corrupt(
                f"{self._path.parent}: {own.size} entries were signed for, {self._tree.size} are there: the tail was cut",
                hint=_HINT,
            )
        if self._tree.root(own.size) != own.root:
            self._rebuild_tree()
        if self._tree.root(own.size) != own.root:
            raise Corrupt(f"{self._path.parent}: the entries are not those that were signed for", hint=_HINT)
        self._signed, self._note = own.size, checkpoint_path(self._path).read_text()

    def _rebuild_tree(self) -> None:
        """The tree's files may be what is damaged: the lines that are kept know better."""
        segments = sealed(self._path)
        self._tree.cut(segments[0].first if segments else self._first)
        self._grow_tree()

    # Writing

    def _make_room(self, at: float) -> None:
        if self._bytes >= self._segment_bytes_max:
            self._seal()
        if self._bytes == 0 and self._chain.index:
            before = sealed(self._path)
            self._first = self._chain.index
            mark = self._chain.mark("")
            self._write([self._chain.segment(at, before[-1].path.name if before else "")], mark)

    def _write(self, found: Sequence[bytes], mark: Mark) -> int:
        if not found:
            return 0
        data = b"\n".join(found) + b"\n"
        try:
            written = os.write(self._file, data)
            if written != len(data):
                raise OSError(f"wrote {written} of {len(data)} bytes")
            self._tree.append([hashlib.sha256(b"\x00" + line).digest() for line in found])
        except OSError as error:
            self._undo(error, mark)
        self._bytes += len(data)
        return len(found)

    def _undo(self, error: OSError, mark: Mark) -> NoReturn:
        """The log as it was before the write: its producer sends all of it again."""
        try:
            os.ftruncate(self._file, self._bytes)
            self._chain.back(mark)
            self._tree.cut(self._chain.index)
        except OSError as second:
            self._failed = f"{error}; then {second}"
        raise LogUnwritable(f"audit log: {error}") from error

    def _seal(self) -> None:
        with self._switching:
            self._sync_locked()
            try:
                self._levels.sync()
                os.rename(self._path, sealed_path(self._path, self._first))
                self._open_active()
                sync_folder(self._path.parent)
            except OSError as error:
                self._fail(error)
            self._bytes, self._first = 0, self._chain.index

    def _sync_locked(self) -> int:
        upto = self._chain.index  # Read before the fdatasync: what is written during it is not covered.
        try:
            os.fdatasync(self._file)
        except OSError as error:
            self._fail(error)
        self._durable = upto
        return upto

    def _fail(self, error: OSError) -> NoReturn:
        self._failed = str(error)
        raise LogUnwritable(f"the disk failed under the audit log: {error}") from error

    def _check(self) -> None:
        if self._failed:
            raise LogUnwritable(f"the audit log failed earlier: {self._failed}")

    def _check_leaves(self, path: Path, first: int, end: int) -> None:
        at = first
        with path.open("rb") as file:
            for leaves in _leaves_at_once(file):
                if self._tree.leaves(at, len(leaves)) != leaves:
                    raise Corrupt(
                        f"{path}: entries that are not those of the tree are evidence; not dropped",
                        hint=_HINT,
                    )
                at += len(leaves)
        if at != end:
            raise Corrupt(f"{path}: holds entries {first} to {at - 1}, not to {end - 1}", hint=_HINT)


def _leaves_at_once(found: Iterator[bytes] | Any) -> Iterator[list[bytes]]:
    leaves: list[bytes] = []
    for line in found:
        leaves.append(hashlib.sha256(b"\x00" + line.removesuffix(b"\n")).digest())
        if len(leaves) == LEAVES_AT_ONCE:
            yield leaves
            leaves = []
    if leaves:
        yield leaves


def _whole(found: Iterator[bytes]) -> Iterator[bytes]:
    return (line for line in found if line.endswith(b"\n"))
