"""Where texts lie: the folder of documents, the drafts of runs, what is published. The only module that touches files."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from aip.errors import InvalidPayload, UsageError

DOCUMENTS_MAX = 1_000
DOCUMENT_BYTES_MAX = 2**20  # A longer text is a book; cut it into chapters.
SUFFIXES = frozenset({".md", ".txt"})
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Unreadable(InvalidPayload):
    """This document is no text. Another attempt would read the same bytes, so it must not look like a failure in passing.

    It has no code of its own: where this class is unknown it arrives as `InvalidPayload`, which nobody tries again.
    """

    default_hint = "save it as UTF-8, or let the plan do without it (`allow_failures`)"


def names(folder: Path) -> list[str]:
    """The documents of a folder, by name. Raises `UsageError` where there is none."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", hint="-i documents=FOLDER with .md or .txt files")
    found = sorted(path.name for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
    if not found:
        raise UsageError(f"{folder} has no .md or .txt file", hint="-i documents=FOLDER")
    if len(found) > DOCUMENTS_MAX:
        raise UsageError(f"{folder} has {len(found)} documents, and {DOCUMENTS_MAX} are looked through")
    return found


def text_of(folder: Path, name: str) -> str:
    """A document, exactly. What is quoted must be what it says, so bytes that are no text are an error."""
    try:
        return _bytes(folder, name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"{name}: byte {error.start} is not UTF-8", document=name, offset=error.start
        ) from None


def gist_of(folder: Path, name: str) -> str:
    """A document well enough to decide whether to read it."""
    return _bytes(folder, name).decode("utf-8", "replace")


def _bytes(folder: Path, name: str) -> bytes:
    path = folder / checked(name)
    try:
        with path.open("rb") as file:
            data = file.read(DOCUMENT_BYTES_MAX + 1)
    except OSError as error:
        raise Unreadable(f"{name}: {error.strerror}", document=name) from None
    if len(data) > DOCUMENT_BYTES_MAX:
        raise Unreadable(f"{name}: longer than {DOCUMENT_BYTES_MAX} bytes", document=name)
    return data


def checked(name: str) -> str:
    """A plain name: not a path out of its folder, whoever wrote it."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name[:100]!r} is not the name of a file", hint="letters, digits, `.`, `_` and `-`"
        )
    return name


def put(folder: Path, name: str, content: str) -> Path:
    """A whole file or none."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / checked(name)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(content, encoding="utf-8")
    fresh.replace(path)
    return path


def discard(folder: Path, slot: str) -> bool:
    """Whether there was something. Twice does no harm."""
    place = folder / checked(slot)
    there = place.is_dir()
    shutil.rmtree(place, ignore_errors=True)
    return there


def slug(title: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", title.lower()))[:80].strip("-") or "report"
