"""The artifact store: bytes under the SHA-256 of themselves, in a folder.

    objects/ab/cdef…      the bytes; written once, never changed
    refs/RUN              which objects a run holds: lines "+ sha256" and "- sha256", only ever appended to
    temp/                 what is being written, and what is being thrown away

Guarantees. A `put` that returned is whole: temporary file, fsync, rename. A `get` returns exactly the bytes that the reference
names, or `Corrupt`, never something else. An object that a run holds is never collected; one that nobody holds is kept for
`grace_s` after its last `put`, so that a writer has time to hold what it has just put. A torn last line of a refs file (a
crash) is ignored: it was never acknowledged.

Not guaranteed: secrecy (a hash is not a permission), nor that two processes may append to one run's refs file; each run has
one writer. Names from outside never become paths: digests and run ids are checked character by character first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..errors import AIPError, Corrupt, InvalidPayload, NotFound, UsageError
from ..ids import KEY

ARTIFACT_BYTES_MAX = (
    256 * 2**20
)  # One object is read whole; a larger thing belongs in a file that is named by its path.
FREE_BYTES_MIN = (
    64 * 2**20
)  # The journal shares this disk, and a journal that cannot grow stops the platform.
GRACE_S = (
    3_600.0  # Between a put and the hold that follows it lies one journal write; an hour outlives any stall.
)

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class ArtifactRef(msgspec.Struct, frozen=True, array_like=True):
    """Names bytes. Two references are equal exactly if their bytes are."""

    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, data: bytes) -> ArtifactRef:
        return cls(hashlib.sha256(data).hexdigest(), len(data))


class StorageFull(AIPError):
    code = "artifact.storage_full"
    default_hint = "free disk space, or drop old runs: `aip run list`"


@dataclass(frozen=True, slots=True)
class StoredObject:
    sha256: str
    size_bytes: int
    touched_s: float


@dataclass(frozen=True, slots=True)
class Collected:
    objects: int
    size_bytes: int


def held(lines: Iterable[str]) -> set[str]:
    """The digests that one refs file holds, by its lines in order. A line that is not whole counts for nothing."""
    digests: set[str] = set()
    for line in lines:
        sign, _, digest = line.rstrip("\n").partition(" ")
        if not line.endswith("\n") or not _SHA256.match(digest):
            continue
        if sign == "+":
            digests.add(digest)
        elif sign == "-":
            digests.discard(digest)
    return digests


def unreferenced(
    objects: Iterable[StoredObject], holds: Iterable[set[str]], now_s: float, grace_s: float
) -> list[StoredObject]:
    """The objects that no run holds and whose grace is over."""
    in_use: set[str] = set().union(*holds)
    return [one for one in objects if one.sha256 not in in_use and now_s - one.touched_s > grace_s]


class ArtifactStore:
    """One folder of artifacts. Any number of processes may put and get; one process collects."""

    def __init__(
        self, root: Path, *, size_bytes_max: int = ARTIFACT_BYTES_MAX, free_bytes_min: int = FREE_BYTES_MIN
    ):
        self.size_bytes_max = size_bytes_max
        self.free_bytes_min = free_bytes_min
        self._objects = root / "objects"
        self._refs = root / "refs"
        self._temp = root / "temp"
        for folder in (self._objects, self._refs, self._temp):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, data: bytes) -> ArtifactRef:
        """Store `data`, durably. Storing it again costs a hash and renews its grace."""
        if len(data) > self.size_bytes_max:
            raise InvalidPayload(
                f"artifact of {len(data)} bytes exceeds the limit of {self.size_bytes_max}",
                hint="write a file and pass its path",
            )
        ref = ArtifactRef.of(data)
        path = self._path(ref.sha256)
        try:
            os.utime(path)
        except FileNotFoundError:
            self._write(path, data)
        _sync_folder(path.parent)  # Also where another process wrote it and may not have come so far.
        return ref

    def get(self, ref: ArtifactRef) -> bytes:
        """The bytes. Raises `NotFound` where they are gone, `Corrupt` where they are not what `ref` names."""
        path = self._path(ref.sha256)
        try:
            size_bytes = path.stat().st_size
            if size_bytes != ref.size_bytes:
                raise Corrupt(
                    f"artifact {ref.sha256} has {size_bytes} bytes, its reference says {ref.size_bytes}"
                )
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFound(
                f"no artifact {ref.sha256}", hint="the run that held it may have been dropped"
            ) from None
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise Corrupt(
                f"artifact {ref.sha256} does not match its digest",
                hint="restore it from a copy, or retry its task",
            )
        return data

    def has(self, ref: ArtifactRef) -> bool:
        return self._path(ref.sha256).is_file()

    def hold(self, run: str, refs: Iterable[ArtifactRef]) -> None:
        """`run` needs these until it drops or releases them."""
        self._append(run, "+", refs)

    def drop(self, run: str, refs: Iterable[ArtifactRef]) -> None:
        """`run` no longer needs these; it may hold them again."""
        self._append(run, "-", refs)

    def release(self, run: str) -> None:
        """`run` no longer needs anything. Releasing twice is fine."""
        self._refs_file(run).unlink(missing_ok=True)

    def held_by(self, run: str) -> set[str]:
        try:
            with self._refs_file(run).open(encoding="ascii", errors="replace") as lines:
                return held(lines)
        except FileNotFoundError:
            return set()

    def objects(self) -> Iterator[StoredObject]:
        for folder in self._objects.iterdir():
            for path in folder.iterdir():
                status = path.stat()
                yield StoredObject(folder.name + path.name, status.st_size, status.st_mtime)

    def collect(self, now_s: float, grace_s: float = GRACE_S) -> Collected:
        """Throw away what no run holds. Holds are read after the listing: what was put and held since is seen as held."""
        listed = list(self.objects())
        holds = [self.held_by(path.name) for path in self._refs.iterdir()]
        gone = [
            one
            for one in unreferenced(listed, holds, now_s, grace_s)
            if self._discard(one.sha256, now_s - grace_s)
        ]
        for path in self._temp.iterdir():
            with contextlib.suppress(FileNotFoundError):  # A put that has just finished has moved it away.
                if path.stat().st_mtime < now_s - grace_s:
                    path.unlink()
        return Collected(len(gone), sum(one.size_bytes for one in gone))

    def _discard(self, sha256: str, touched_before_s: float) -> bool:
        """Move the object aside, then look at its age again: a put may have renewed it between listing and moving.

        A put that comes after the move finds nothing and writes the object anew; moving back then replaces like with like.
        """
        path, aside = self._path(sha256), self._temp / sha256
        path.rename(aside)
        if aside.stat().st_mtime > touched_before_s:
            aside.rename(path)
            return False
        aside.unlink()
        return True

    def _write(self, path: Path, data: bytes) -> None:
        if shutil.disk_usage(self._objects).free - len(data) < self.free_bytes_min:
            raise StorageFull(
                f"no room for an artifact of {len(data)} bytes: {self.free_bytes_min} bytes must stay free"
            )
        handle, name = tempfile.mkstemp(dir=self._temp)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            path.parent.mkdir(exist_ok=True, mode=0o700)
            Path(name).rename(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_folder(self._objects)

    def _append(self, run: str, sign: str, refs: Iterable[ArtifactRef]) -> None:
        path = self._refs_file(run)
        lines = "".join(f"{sign} {self._checked(ref.sha256)}\n" for ref in refs)
        with path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - 1, 0))
            torn = file.read(1) not in (b"", b"\n")
            file.write((f"\n{lines}" if torn else lines).encode())
            file.flush()
            os.fsync(file.fileno())

    def _path(self, sha256: str) -> Path:
        self._checked(sha256)
        return self._objects / sha256[:2] / sha256[2:]

    def _checked(self, sha256: str) -> str:
        if not _SHA256.match(sha256):
            raise UsageError(f"not a SHA-256 in hex: {sha256[:80]!r}")
        return sha256

    def _refs_file(self, run: str) -> Path:
        if not KEY.match(run):
            raise UsageError(f"not a run id: {run[:80]!r}")
        return self._refs / run


def _sync_folder(folder: Path) -> None:
    """A rename is durable once its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
