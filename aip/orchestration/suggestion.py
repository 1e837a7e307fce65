"""The question "did you mean `topic`?", asked wherever a name is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The question, or nothing where no known name is near."""
    found = difflib.get_close_matches(name[:64], list(known)[:1_000], n=1, cutoff=0.6)
    return f"did you mean `{found[0]}`?" if found else ""
