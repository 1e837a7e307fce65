"""What a distribution says about itself: METADATA (or PKG-INFO), WHEEL, INSTALLER, direct_url.json, entry_points.txt.

Everything here is a claim by whoever made the distribution. Lists and texts are cut to limits, so that a hostile METADATA costs
no more than an honest one.
"""

from __future__ import annotations

import configparser
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from email.parser import HeaderParser
from typing import Any

from packaging.utils import canonicalize_name

from .environment import Environment, Unreadable, read
from .finding import printable

METADATA_BYTES_MAX = 4 << 20  # Long descriptions are part of it.
SMALL_FILE_BYTES_MAX = 1 << 20
ITEMS_MAX = 2_000  # Requirements, classifiers, entry points: `botocore`-sized lists fit many times.
FIELD_CHARS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Metadata:
    name: str  # Normalised (PEP 503).
    version: str
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    licence_expression: str = ""
    licence: str = ""
    classifiers: tuple[str, ...] = ()  # Only those of licences.
    urls: tuple[str, ...] = ()
    author: str = ""
    summary: str = ""
    installer: str = ""
    purelib: bool | None = None  # Root-Is-Purelib of WHEEL; None where there is no WHEEL.
    tags: tuple[str, ...] = ()
    direct_url: str = ""
    direct_pinned: bool = (
        True  # Has a hash, a commit, or is a local folder: what was installed can be named again.
    )
    editable: bool = False
    top_level: tuple[str, ...] = ()  # top_level.txt of setuptools; most wheels have none.
    scripts: tuple[str, ...] = ()  # "group name = module:attribute"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Metadata:
        known: dict[str, Any] = {item.name: value[item.name] for item in fields(cls) if item.name in value}
        lists = {key: tuple(item) for key, item in known.items() if isinstance(item, list)}
        return cls(**{**known, **lists})


def load(environment: Environment, folder: str, fallback: str) -> Metadata:
    """The metadata of one `*.dist-info` or `*.egg-info` folder (or file); `fallback` is its folder's name-version."""
    headers = _headers(_text(environment, folder, ("METADATA", "PKG-INFO"), METADATA_BYTES_MAX))
    wheel = _headers(_text(environment, folder, ("WHEEL",)))
    name, _, version = fallback.partition("-")
    url, pinned, editable = _direct(_text(environment, folder, ("direct_url.json",)))
    licences = tuple(item for item in headers.get("classifier", ()) if item.startswith("License ::"))
    return Metadata(
        name=canonicalize_name(_one(headers, "name") or name or "unknown"),
        version=_one(headers, "version") or version.partition("-")[0] or "0",
        requires=headers.get("requires-dist", ()),
        extras=headers.get("provides-extra", ()),
        licence_expression=_one(headers, "license-expression"),
        licence=_one(headers, "license"),
        classifiers=licences,
        urls=headers.get("project-url", ()) + headers.get("home-page", ()),
        author=_one(headers, "author") or _one(headers, "author-email"),
        summary=_one(headers, "summary"),
        installer=_text(environment, folder, ("INSTALLER",)).strip()[:100],
        purelib=_purelib(wheel),
        tags=wheel.get("tag", ()),
        direct_url=url,
        direct_pinned=pinned,
        editable=editable,
        top_level=tuple(_text(environment, folder, ("top_level.txt",)).split())[:ITEMS_MAX],
        scripts=_entry_points(_text(environment, folder, ("entry_points.txt",))),
    )


def _text(
    environment: Environment, folder: str, names: tuple[str, ...], bytes_max: int = SMALL_FILE_BYTES_MAX
) -> str:
    candidates = [f"{folder}/{name}" for name in names] + ([folder] if "PKG-INFO" in names else [])
    for path in candidates:
        try:
            return read(environment, path, bytes_max).decode("utf-8", "replace")
        except Unreadable:
            continue  # Absence is an answer here: every one of these files but METADATA is optional.
    return ""


def _headers(text: str) -> dict[str, tuple[str, ...]]:
    """Header fields by lower-case name. The body (a description) is not needed."""
    found: dict[str, list[str]] = {}
    for key, value in HeaderParser().parsestr(text, headersonly=True).items():
        values = found.setdefault(key.lower(), [])
        if len(values) < ITEMS_MAX and str(value).strip() not in ("", "UNKNOWN"):
            values.append(printable(" ".join(str(value)[:FIELD_CHARS_MAX].split()), FIELD_CHARS_MAX))
    return {key: tuple(values) for key, values in found.items()}


def _one(headers: Mapping[str, tuple[str, ...]], name: str) -> str:
    values = headers.get(name, ())
    return values[0] if values else ""


def _purelib(wheel: Mapping[str, tuple[str, ...]]) -> bool | None:
    value = _one(wheel, "root-is-purelib").lower()
    return value == "true" if value else None


def _direct(text: str) -> tuple[str, bool, bool]:
    """(url, pinned, editable) of direct_url.json (PEP 610)."""
    try:
        value = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return "unreadable direct_url.json", False, False
    if not isinstance(value, dict):
        return "", True, False
    folder, archive, vcs = (value.get(key) for key in ("dir_info", "archive_info", "vcs_info"))
    url = str(value.get("url", ""))[:FIELD_CHARS_MAX]
    pinned = (
        isinstance(folder, dict)
        or (isinstance(archive, dict) and bool(archive.get("hash") or archive.get("hashes")))
        or (isinstance(vcs, dict) and bool(vcs.get("commit_id")))
    )
    return url, pinned, isinstance(folder, dict) and folder.get("editable") is True


def _entry_points(text: str) -> tuple[str, ...]:
    parser = configparser.ConfigParser(
        delimiters=("=",), interpolation=None, strict=False, allow_no_value=True
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # Names are case-sensitive; the class says so this way.
    try:
        parser.read_string(text)
    except configparser.Error:
        return ()
    rows = [
        f"{group} {name} = {value}"
        for group in parser.sections()
        for name, value in parser.items(group)
        if value
    ]
    return tuple(sorted(row[:FIELD_CHARS_MAX] for row in rows))[:ITEMS_MAX]
