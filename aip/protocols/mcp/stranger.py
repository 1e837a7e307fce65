"""What a stranger wrote, made fit to be shown: bounded, without control characters, without our secrets.

Names, descriptions and error texts of an outside server are read by people in terminals and by language models. Escape sequences
repaint the one's screen; characters that no person sees (format and tag characters, private use) carry orders to the other.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs", "Cn"})
_KEPT = frozenset("\n\t")
_SECRET_CHARS_MIN = 4  # Shorter values (a port, a flag) stand in every text by chance.


def clean(text: object, chars_max: int) -> str:
    """`text` without what cannot be seen, and no longer than `chars_max`."""
    # Cut before looking at each character, so that a megabyte costs no more than what is kept of it.
    cut = str(text)[: chars_max + 1]
    seen = "".join(c for c in cut if c in _KEPT or unicodedata.category(c) not in _INVISIBLE)
    return seen if len(cut) <= chars_max else seen[: chars_max - 1] + "…"


class Redaction:
    """Takes the secrets that a server was given out of what it writes about errors."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: one secret may begin with another.
        self._secrets = sorted({s for s in secrets if len(s) >= _SECRET_CHARS_MIN}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text
