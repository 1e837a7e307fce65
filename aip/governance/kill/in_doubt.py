"""Effects whose outcome is unknown: begun, and not ended, according to the audit log. Pure.

An effect is entered before it begins, and again when it is done, failed or refused. What a kill cut off has the first entry only:
whoever stopped it has to look at the outside (semantics E3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

BEGUN = "effect.begun"
ENDED = frozenset({"effect.done", "effect.failed", "effect.refused"})
OPEN_MAX = 100_000  # Of a log in which more are open the oldest are not listed.


def in_doubt(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The effects that are open at the end of these entries, in the order in which they began."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in entries:
        kind, detail = entry["kind"], entry.get("detail") or {}
        name = entry["subject"], detail.get("key", "")
        if kind in ENDED:
            found.pop(name, None)
        elif kind == BEGUN:
            found[name] = {
                "agent": entry["subject"],
                "effect": detail.get("effect", ""),
                "key": detail.get("key", ""),
                "run": detail.get("run", ""),
                "at": entry["at"],
            }
            if len(found) > OPEN_MAX:
                del found[next(iter(found))]
    return list(found.values())
