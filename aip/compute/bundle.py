"""Bundles: the code beside a plan, by the digest of its content.

`pack(folder)` copies what belongs to the code into `code/<digest>/` and returns where. The copy is what cells import, so an edit
after `aip submit` reaches nobody who is already at work, and an edited agent is another digest: another pool, other processes.

What belongs to it: every file below the folder, except hidden ones, caches, virtual environments and links that lead outside. The
digest covers paths and contents in sorted order, so the same code has the same digest wherever it lies.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import UsageError
from ..settings import DEFAULT_LIMITS, Limits

SKIPPED = frozenset({"__pycache__", "node_modules", "build", "dist"})
FILES_MAX = 20_000


def files_of(folder: Path, limits: Limits = DEFAULT_LIMITS) -> list[Path]:
    """The files of a bundle, relative, sorted. Raises `UsageError` that names the largest where it is too big."""
    found: list[tuple[int, Path]] = []
    root = folder.resolve()
    for path in _walk(root):
        found.append((path.stat().st_size, path.relative_to(root)))
        if len(found) > FILES_MAX:
            raise UsageError(
                f"{folder} has more than {FILES_MAX} files",
                hint="put the plan and its agents into a folder of their own",
            )
    total = sum(size for size, _ in found)
    if total > limits.bundle_bytes_max:
        size, largest = max(found)
        raise UsageError(
            f"the code beside the plan takes {total >> 20} MiB, the limit is {limits.bundle_bytes_max >> 20} MiB",
            hint=f"the largest file is {largest} ({size >> 20} MiB); keep data outside and pass its path as an input",
        )
    return sorted(path for _, path in found)


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith(".") or entry.name in SKIPPED or entry.name.endswith((".pyc", ".egg-info")):
            continue
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if not (path / "pyvenv.cfg").exists():
                yield from _walk(path)
        elif entry.is_file(follow_symlinks=False):
            yield path


def digest_of(folder: Path, files: list[Path]) -> str:
    whole = hashlib.sha256()
    for path in files:
        name = path.as_posix().encode()
        data = (folder / path).read_bytes()
        whole.update(
            len(name).to_bytes(4, "big") + name + len(data).to_bytes(8, "big") + hashlib.sha256(data).digest()
        )
    return whole.hexdigest()


def pack(folder: Path, store: Path, limits: Limits = DEFAULT_LIMITS) -> tuple[str, Path]:
    """Digest and place of the bundle of `folder` in `store`; copied once, whole or not at all."""
    root = folder.resolve()
    files = files_of(root, limits)
    digest = digest_of(root, files)
    place = store / digest
    if not place.is_dir():
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=store))
        try:
            for path in files:
                (fresh / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / path, fresh / path)
            if digest_of(fresh, files) != digest:
                raise UsageError(f"{folder} changed while it was read", hint="submit again")
            try:
                fresh.rename(place)
            except OSError:
                if not place.is_dir():  # Somebody else packed the same code first.
                    raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return digest, place
