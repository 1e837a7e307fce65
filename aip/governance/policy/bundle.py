"""A policy bundle: OPA's layout, as a folder or as a `.tar.gz` (https://www.openpolicyagent.org/docs/management-bundles).

    .manifest           JSON: `revision`, `roots` (default: all of `data`), `rego_version` (1, the only one served)
    **/*.rego           modules; `*_test.rego` are the bundle's own tests, which the load gate runs and nothing serves
    **/data.json        data, mounted at the path of its folder
    .signatures.json    optional: who vouches for it, see `signature.py`

Guaranteed of a `Bundle` that exists: every path is plain and inside; every size and count is within the limits below; every
module's package and every datum lies under the roots; no two files give the same datum; where a signature was asked for, it
covers every file. The same files make the same archive, byte for byte, and the same digest. `revision` is the manifest's, or the
digest where it names none.

Not guaranteed: that its Rego is Rego, and right. That is the load gate's to find (`rego.py`).

Other files are not part of a bundle: they are neither read from a folder nor taken from an archive, nor served.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import re
import stat
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .engine import BundleRejected
from .signature import SIGNATURES, Trust, verify
from .source import Kind, package_of, tokens

MANIFEST = ".manifest"
BUNDLE_BYTES_MAX = (
    32 * 2**20
)  # Unpacked, as bundles beside plans: it lies in the memory of every cell, once per engine.
ARCHIVE_BYTES_MAX = 16 * 2**20
MODULE_BYTES_MAX = 2**20  # A person wrote it; a parser reads it in a cell's turn.
FILES_MAX = 2_000  # A folder walk and an archive end somewhere.
ENTRIES_MAX = 20_000  # Files and folders beside them that are only looked at.
DEPTH_MAX = 32
PATH_CHARS_MAX = 512
DATA_DEPTH_MAX = 64  # As payloads: deeper JSON is an attack on recursive readers.
_PART = re.compile(r"[A-Za-z0-9_.@=+-]{1,128}\Z")


@dataclass(frozen=True, slots=True)
class Module:
    path: str
    text: str
    package: tuple[str, ...]

    @property
    def is_test(self) -> bool:
        return self.path.endswith("_test.rego")


@dataclass(frozen=True)
class Bundle:
    """Checked files of one policy. Compared and remembered by `digest`."""

    files: Mapping[str, bytes] = field(repr=False, hash=False, compare=False)
    digest: str
    revision: str
    roots: tuple[str, ...]
    modules: tuple[Module, ...] = field(repr=False, hash=False, compare=False)
    data: Mapping[str, Any] = field(repr=False, hash=False, compare=False)
    signed_by: str = ""  # The key id whose signature was verified.

    @property
    def served(self) -> tuple[Module, ...]:
        """The modules that make decisions: all but the tests."""
        return tuple(module for module in self.modules if not module.is_test)

    def place_of(self, rule: str) -> tuple[str, int]:
        """The file and line where the sources hold this rule's id as a string; ("", 0) where they do not."""
        return self._places.get(rule, ("", 0))

    @cached_property
    def _places(self) -> dict[str, tuple[str, int]]:
        places: dict[str, tuple[str, int]] = {}
        for module in self.served:
            for token in tokens(module.text, module.path):
                if token.kind is Kind.STRING:
                    places.setdefault(token.text, (module.path, token.line))
        return places


def read(path: Path, trust: Trust | None = None) -> Bundle:
    """The bundle in this folder or archive. With `trust`, only if one of its keys signed all of it."""
    if path.is_dir():
        return from_files(_read_folder(path), trust)
    try:
        with path.open("rb") as file:
            archive = file.read(ARCHIVE_BYTES_MAX + 1)
    except OSError as error:
        raise BundleRejected(
            f"no policy bundle at {path}: {error.strerror}", hint="name a folder or a .tar.gz"
        ) from error
    return unpack(archive, trust)


def unpack(archive: bytes, trust: Trust | None = None) -> Bundle:
    return from_files(_read_archive(archive), trust)


def from_files(files: Mapping[str, bytes], trust: Trust | None = None) -> Bundle:
    """A bundle of named files. Everything else here ends in this function."""
    files = {name: files[name] for name in sorted(files) if _belongs(name)}
    _check_sizes(files)
    signed_by = verify(files, trust) if trust is not None else ""
    manifest = _manifest(files.get(MANIFEST, b"{}"))
    modules = tuple(_module(name, body) for name, body in files.items() if name.endswith(".rego"))
    data = _data(files)
    _check_roots(manifest.roots, modules, data)
    found = digest(files)
    return Bundle(files, found, manifest.revision or found, manifest.roots, modules, data, signed_by)


def build(bundle: Bundle) -> bytes:
    """The bundle as a `.tar.gz`: sorted, without times, owners or modes of anyone's disk."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as out:
        for name, body in sorted(bundle.files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(body), 0o644
            out.addfile(entry, io.BytesIO(body))
    return gzip.compress(tar.getvalue(), mtime=0)


def digest(files: Mapping[str, bytes]) -> str:
    """`sha256:…` over names and contents, signatures aside: signing a bundle does not make it another one."""
    over = hashlib.sha256()
    for name in sorted(files):
        if name != SIGNATURES:
            over.update(b"%d:%s" % (len(name), name.encode()) + hashlib.sha256(files[name]).digest())
    return f"sha256:{over.hexdigest()}"


# Reading


def _belongs(name: str) -> bool:
    return name in (MANIFEST, SIGNATURES) or name.endswith(".rego") or name.rpartition("/")[2] == "data.json"


def _plain(name: str) -> str:
    """The name inside the bundle. Refuses whatever could mean a place outside it."""
    parts = name.removeprefix("./").lstrip("/").split("/")
    if len(name) > PATH_CHARS_MAX or len(parts) > DEPTH_MAX:
        raise BundleRejected(f"path too long or too deep in the bundle: {name[:80]!r}")
    if any(part in ("", ".", "..") or not _PART.match(part) for part in parts):
        raise BundleRejected(
            f"unsafe path in the bundle: {name[:80]!r}", hint="use letters, digits and . _ - + = @ in names"
        )
    return "/".join(parts)


def _read_folder(folder: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for number, path in enumerate(_walk(folder)):
        if number >= ENTRIES_MAX:
            raise BundleRejected(f"more than {ENTRIES_MAX} files and folders in {folder}")
        name = path.relative_to(folder).as_posix()
        if not _belongs(name):
            continue
        if not stat.S_ISREG(path.lstat().st_mode):
            raise BundleRejected(f"{name} is a link or no plain file", hint="copy the file into the bundle")
        with path.open("rb") as file:
            files[_plain(name)] = file.read(BUNDLE_BYTES_MAX + 1)
        _check_sizes(files)
    return files


def _walk(folder: Path) -> Iterator[Path]:
    """Sorted, depth first; hidden folders and linked folders stay unread."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            if not path.name.startswith("."):
                yield from _walk(path)
        else:
            yield path


def _read_archive(archive: bytes) -> dict[str, bytes]:
    if len(archive) > ARCHIVE_BYTES_MAX:
        raise BundleRejected(f"the archive is larger than {ARCHIVE_BYTES_MAX} bytes")
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(_inflate(archive)), mode="r:") as tar:
            for number, entry in enumerate(tar):
                if number >= ENTRIES_MAX:
                    raise BundleRejected(f"more than {ENTRIES_MAX} entries in the archive")
                if entry.isdir():
                    continue
                name = _plain(entry.name)
                if not entry.isreg():
                    raise BundleRejected(
                        f"{name} is a link or no plain file", hint="bundle files, not links to them"
                    )
                if name in files:
                    raise BundleRejected(f"{name} is in the archive twice")
                body = tar.extractfile(entry) if _belongs(name) else None
                if body is not None:
                    files[name] = body.read()
    except (tarfile.TarError, UnicodeError) as error:
        raise BundleRejected(f"not a .tar.gz of a policy bundle: {error}") from error
    return files


def _inflate(archive: bytes) -> bytes:
    """Unpacked, but never more than the limit: a small archive may hold gigabytes."""
    inflater = zlib.decompressobj(wbits=31)
    room = BUNDLE_BYTES_MAX + ENTRIES_MAX * 1_024  # Contents and the headers around them.
    try:
        tar = inflater.decompress(archive, room)
    except zlib.error as error:
        raise BundleRejected(f"not a .tar.gz of a policy bundle: {error}") from error
    if not inflater.eof:
        raise BundleRejected(f"the archive is cut short or unpacks to more than {room} bytes")
    return tar


def _check_sizes(files: Mapping[str, bytes]) -> None:
    if len(files) > FILES_MAX:
        raise BundleRejected(f"more than {FILES_MAX} files in the bundle")
    if sum(map(len, files.values())) > BUNDLE_BYTES_MAX:
        raise BundleRejected(f"the bundle is larger than {BUNDLE_BYTES_MAX} bytes")
    for name, body in files.items():
        _plain(name)
        if name.endswith(".rego") and len(body) > MODULE_BYTES_MAX:
            raise BundleRejected(f"{name} is larger than {MODULE_BYTES_MAX} bytes")


# What the files say


@dataclass(frozen=True, slots=True)
class _Manifest:
    revision: str
    roots: tuple[str, ...]


def _manifest(body: bytes) -> _Manifest:
    stated = _json(MANIFEST, body)
    revision, roots = stated.get("revision", ""), stated.get("roots", [""])
    if not isinstance(revision, str) or len(revision) > 256:
        raise BundleRejected(f"{MANIFEST}: revision must be a text of at most 256 characters")
    if not isinstance(roots, list) or not all(isinstance(root, str) for root in roots):
        raise BundleRejected(f"{MANIFEST}: roots must be a list of paths, such as ['aip']")
    if stated.get("rego_version", 1) != 1 or stated.get("file_rego_versions"):
        raise BundleRejected(
            f"{MANIFEST}: only rego_version 1 is served", hint="rewrite with `opa fmt --v0-v1`"
        )
    plain = tuple(sorted(root.strip("/") for root in roots))
    for root, after in itertools.pairwise(plain):
        if _under(after, (root,)):
            raise BundleRejected(f"{MANIFEST}: the roots {root!r} and {after!r} overlap")
    return _Manifest(revision, plain)


def _json(name: str, body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BundleRejected(f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BundleRejected(f"{name} must hold a JSON object")
    _check_depth(name, value, DATA_DEPTH_MAX)
    return value


def _check_depth(name: str, value: Any, left: int) -> None:
    if left == 0:
        raise BundleRejected(f"{name} is nested more than {DATA_DEPTH_MAX} deep")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(name, item, left - 1)


def _module(name: str, body: bytes) -> Module:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BundleRejected(f"{name} is not UTF-8: {error}") from error
    return Module(name, text, package_of(text, name))


def _data(files: Mapping[str, bytes]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for name, body in files.items():
        if name.rpartition("/")[2] != "data.json":
            continue
        value: Any = _json(name, body)
        for part in reversed(name.split("/")[:-1]):
            value = {part: value}
        _merge(data, value, name)
    return data


def _merge(into: dict[str, Any], value: Mapping[str, Any], name: str) -> None:
    for key, item in value.items():
        if key not in into:
            into[key] = item
        elif isinstance(into[key], dict) and isinstance(item, dict):
            _merge(into[key], item, name)
        else:
            raise BundleRejected(f"{name}: {key!r} is in another data.json already")


def _check_roots(roots: tuple[str, ...], modules: tuple[Module, ...], data: Mapping[str, Any]) -> None:
    for module in modules:
        if not _under("/".join(module.package), roots):
            raise BundleRejected(
                f"{module.path}: package {'.'.join(module.package)} is outside the roots {list(roots)}"
            )
    for path in _data_paths(data, roots, ""):
        raise BundleRejected(f"data at {path!r} is outside the roots {list(roots)}")


def _data_paths(data: Any, roots: tuple[str, ...], path: str) -> Iterator[str]:
    """Paths of data that lie under no root: goes down only where a root may still lie below."""
    if _under(path, roots):
        return
    if isinstance(data, dict) and (path == "" or any(_under(root, (path,)) for root in roots)):
        for key, item in data.items():
            yield from _data_paths(item, roots, f"{path}/{key}".strip("/"))
    else:
        yield path


def _under(path: str, roots: tuple[str, ...]) -> bool:
    return any(root == "" or path == root or path.startswith(f"{root}/") for root in roots)
