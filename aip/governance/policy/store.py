"""Versions of the policy: what is staged, what is in force, what to go back to.

    stage(v)     staged = v                            looked at, diffed, not in force
    activate()   active = staged, good = old active    one swap; a version that was in force is known good
    rollback()   active = good, failed = old active    and `good` is the version before, so that one can go back further

`Versions` is pure: each act returns the next value. The folder functions keep it, the bundles and their certificates on disk:

    versions.json          the value above; replaced whole, by rename, after fsync
    <digest>.tar.gz        a bundle, written and fsynced before a version names it
    <digest>.json          its certificate, if any

Guaranteed: after a crash the folder holds the old versions or the new ones, and every bundle that they name; a bundle that is not
what its digest says is `Corrupt`, never served. Bundles that no version names are removed by `tidy`, and nothing else.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ...errors import Corrupt, NotFound, UsageError
from .bundle import Bundle, build, unpack
from .certify import Certificate
from .engine import BundleRejected
from .signature import Trust

GOOD_MAX = 8  # Versions to go back to: a day of a bad week.
VERSIONS = "versions.json"


class Version(msgspec.Struct, frozen=True):
    revision: str
    digest: str

    @classmethod
    def of(cls, bundle: Bundle) -> Version:
        return cls(bundle.revision, bundle.digest)


class Versions(msgspec.Struct, frozen=True):
    """What one platform knows of its policies. `good` has the newest first."""

    staged: Version | None = None
    active: Version | None = None
    good: tuple[Version, ...] = ()
    failed: Version | None = None  # What the last rollback left.
    number: int = 0  # Of activations: a cell takes a higher one and refuses a lower.

    def stage(self, version: Version) -> Versions:
        return msgspec.structs.replace(self, staged=version)

    def activate(self) -> Versions:
        """What is staged comes into force."""
        if self.staged is None:
            raise UsageError(
                "no policy is staged", hint="`aip policy reload FOLDER` stages and activates one"
            )
        good = self.good
        if self.active is not None and self.active != self.staged:
            good = (self.active, *(one for one in good if one not in (self.active, self.staged)))[:GOOD_MAX]
        return Versions(active=self.staged, good=good, failed=None, number=self.number + 1)

    def rollback(self) -> Versions:
        """Back to what was in force before."""
        if not self.good:
            raise UsageError("there is no earlier policy to go back to")
        return Versions(
            staged=self.staged,
            active=self.good[0],
            good=self.good[1:],
            failed=self.active,
            number=self.number + 1,
        )

    def named(self) -> frozenset[str]:
        """Digests that must stay on disk."""
        versions = (self.staged, self.active, self.failed, *self.good)
        return frozenset(version.digest for version in versions if version is not None)


# The folder


def load(folder: Path) -> Versions:
    try:
        return msgspec.json.decode((folder / VERSIONS).read_bytes(), type=Versions)
    except FileNotFoundError:
        return Versions()
    except msgspec.DecodeError as error:
        raise Corrupt(f"{folder / VERSIONS} cannot be read: {error}") from error


def save(folder: Path, versions: Versions) -> None:
    """Durable when it returns. Raises `NotFound` for a version whose bundle is not in the folder."""
    for digest in versions.named():
        if not _bundle_path(folder, digest).exists():
            raise NotFound(f"no bundle {digest} in {folder}", hint="put the bundle there first")
    _write(folder / VERSIONS, msgspec.json.encode(versions))


def put(folder: Path, bundle: Bundle, certificate: Certificate | None = None) -> Version:
    """The bundle into the folder, durable when it returns."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(_bundle_path(folder, bundle.digest), build(bundle))
    if certificate is not None:
        _write(_certificate_path(folder, bundle.digest), msgspec.json.encode(certificate))
    return Version.of(bundle)


def get(folder: Path, version: Version, trust: Trust | None = None) -> tuple[Bundle, Certificate | None]:
    """The bundle of this version, verified again, and its certificate."""
    try:
        bundle = unpack(_bundle_path(folder, version.digest).read_bytes(), trust)
    except FileNotFoundError as error:
        raise NotFound(f"no bundle {version.digest} in {folder}") from error
    except BundleRejected as error:
        raise Corrupt(f"bundle {version.digest} in {folder}: {error.message}") from error
    if bundle.digest != version.digest:
        raise Corrupt(f"bundle {version.digest} in {folder} is not what its name says")
    return bundle, _certificate(_certificate_path(folder, version.digest))


def tidy(folder: Path, versions: Versions) -> list[str]:
    """Remove bundles that no version names. Returns their digests."""
    kept = {_stem(digest) for digest in versions.named()}
    gone = [
        path
        for path in sorted(folder.glob("sha256-*.tar.gz"))
        if path.name.removesuffix(".tar.gz") not in kept
    ]
    for path in gone:
        path.unlink(missing_ok=True)
        path.with_name(path.name.removesuffix(".tar.gz") + ".json").unlink(missing_ok=True)
    return [path.name.removesuffix(".tar.gz").replace("-", ":", 1) for path in gone]


def _certificate(path: Path) -> Certificate | None:
    """None where there is none, or one of another version of AIP: then the engines are compared again."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Certificate)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _stem(digest: str) -> str:
    return digest.replace(":", "-", 1)


def _bundle_path(folder: Path, digest: str) -> Path:
    return folder / f"{_stem(digest)}.tar.gz"


def _certificate_path(folder: Path, digest: str) -> Path:
    return folder / f"{_stem(digest)}.json"


def _write(path: Path, body: bytes) -> None:
    """The file is the old one or the new one, whatever happens; the new one is on disk when this returns."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
