"""The `data` document: read, written and patched by path, as OPA's storage does it. Pure: a write returns the next document.

A path is what stands behind `/v1/data`; in a patch it may go through lists, with `-` behind the last item. Writing makes the
objects on the way that are not there, and goes through nothing else. Patches are OPA's part of RFC 6902: add, remove, replace;
all of one request or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .failure import CONFLICT, Rejected, invalid, not_found

DEPTH_MAX = 64  # As payloads: deeper JSON is an attack on recursive readers.
PATCHES_MAX = 1_000
Path = tuple[str, ...]
_INDEX = re.compile(r"(?:0|[1-9]\d{0,8})\Z")


class Missing:
    """No value at that path."""


MISSING = Missing()


def get(document: Any, path: Path) -> Any:
    """The value at the path, or `MISSING`."""
    for part in path:
        if isinstance(document, Mapping) and part in document:
            document = document[part]
        elif isinstance(document, list) and _INDEX.match(part) and int(part) < len(document):
            document = document[int(part)]
        else:
            return MISSING
    return document


def put(document: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """The document with this value there, and objects made on the way."""
    if not path:
        if not isinstance(value, dict):
            raise invalid("the whole document must be an object")
        return value
    head, rest = path[0], path[1:]
    inner = document.get(head, {})
    if rest and not isinstance(inner, dict):
        raise Rejected(404, CONFLICT, f"storage_write_conflict_error: {head} is not an object")
    return {**document, head: put(inner, rest, value) if rest else value}


def remove(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The document without what stands there."""
    if not path:
        return {}
    if get(document, path) is MISSING:
        raise not_found("document does not exist")
    changed = _patched(document, path, "remove", None)
    assert isinstance(changed, dict)
    return changed


def patch(document: Mapping[str, Any], base: Path, patches: Any) -> dict[str, Any]:
    """The document after all of these patches below `base`."""
    if not isinstance(patches, list) or len(patches) > PATCHES_MAX:
        raise invalid(f"a patch is a list of at most {PATCHES_MAX} operations")
    changed: Any = document
    for one in patches:
        operation, path, value = _operation(one)
        changed = _patched(changed, (*base, *path), operation, value)
    if not isinstance(changed, dict):
        raise invalid("the whole document must be an object")
    return changed


def _operation(one: Any) -> tuple[str, Path, Any]:
    if not isinstance(one, dict) or not isinstance(one.get("path"), str):
        raise invalid("a patch operation is an object with op, path and, but for remove, value")
    operation = one.get("op")
    if operation not in ("add", "remove", "replace"):
        raise invalid(f"patch operation {operation!r} is none of add, remove, replace")
    if operation != "remove" and "value" not in one:
        raise invalid(f"patch operation {operation} has no value")
    text = one["path"].strip("/")
    parts = text.split("/") if text else []
    return operation, tuple(part.replace("~1", "/").replace("~0", "~") for part in parts), one.get("value")


def _patched(document: Any, path: Path, operation: str, value: Any) -> Any:
    if not path:
        return {} if operation == "remove" else value
    head, rest = path[0], path[1:]
    if isinstance(document, Mapping):
        if (rest or operation != "add") and head not in document:
            raise not_found("document does not exist")
        if rest:
            return {**document, head: _patched(document[head], rest, operation, value)}
        kept = {key: item for key, item in document.items() if key != head or operation != "remove"}
        return kept if operation == "remove" else {**kept, head: value}
    if isinstance(document, list):
        return _patched_list(document, head, rest, operation, value)
    raise not_found("document does not exist")


def _patched_list(items: Sequence[Any], head: str, rest: Path, operation: str, value: Any) -> list[Any]:
    if head == "-" and not rest and operation == "add":
        return [*items, value]
    if not _INDEX.match(head):
        raise invalid(f"{head!r} is no place in a list")
    index = int(head)
    last = len(items) if operation == "add" and not rest else len(items) - 1
    if index > last:
        raise not_found("array index out of range")
    if rest:
        return [*items[:index], _patched(items[index], rest, operation, value), *items[index + 1 :]]
    behind = items[index if operation == "add" else index + 1 :]
    return [*items[:index], *([] if operation == "remove" else [value]), *behind]


def too_deep(value: Any, left: int = DEPTH_MAX) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return left == 0 or any(too_deep(item, left - 1) for item in inner)
