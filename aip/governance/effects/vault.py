"""The secrets of one gateway: opened from their names when they are used, and hidden again in whatever leaves it.

`open` and `expand` turn `secret:NAME` into its value; every value that was ever opened is replaced by `[secret]` in errors,
audit details and results (`hide`), also where the outside echoes it: as it is, as the base64 of HTTP's Basic scheme, and
percent-encoded. What it cannot hide is a value that the outside transforms in other ways; a service that answers with its
caller's key, spelled backwards, has it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from ... import secret
from ...errors import Denied

HIDDEN = "[secret]"
KEPT_S = 60.0  # A changed secret is in use after this time; a keyring is not asked a hundred times a second.
SECRET_CHARS_MIN = 6  # A shorter one occurs in ordinary text, and hiding it would garble every answer.
_REFERENCE = re.compile(r"secret:[A-Za-z_][A-Za-z0-9_]{0,127}(?![A-Za-z0-9_])")

Resolve = Callable[[str], str]


class Vault:
    def __init__(self, resolve: Resolve, clock: Callable[[], float]) -> None:
        self._resolve = resolve
        self._clock = clock
        self._values: dict[str, tuple[float, str]] = {}
        self._hidden: tuple[str, ...] = ()  # The longest first: one may be part of another.

    def open(self, reference: str) -> str:
        """The value of `secret:NAME`. Raises what `aip.secret` raises, which never holds a value."""
        known = self._values.get(reference)
        now = self._clock()
        if known is not None and now < known[0] + KEPT_S:
            return known[1]
        value = self._resolve(reference)
        if len(value) < SECRET_CHARS_MIN:
            raise Denied(
                f"{reference} has fewer than {SECRET_CHARS_MIN} characters", hint="use a longer secret"
            )
        self._values[reference] = now, value
        encoded = base64.b64encode(value.encode()).decode()
        self._hold(value, encoded, encoded.rstrip("="), quote(value, safe=""))
        return value

    def expand(self, text: str) -> str:
        """`Bearer secret:NAME` with the value in its place."""
        return _REFERENCE.sub(lambda found: self.open(found[0]), text)

    def _hold(self, *values: str) -> None:
        self._hidden = tuple(sorted({*self._hidden, *values}, key=len, reverse=True))

    def hide(self, value: Any) -> Any:
        """`value` (plain: texts, bytes, lists, maps) without any secret that was opened here."""
        if not self._hidden:
            return value
        match value:
            case str():
                for text in self._hidden:
                    value = value.replace(text, HIDDEN)
                return value
            case bytes():
                for text in self._hidden:
                    value = value.replace(text.encode(), HIDDEN.encode())
                return value
            case dict():
                return {self.hide(name): self.hide(item) for name, item in value.items()}
            case list() | tuple():
                return [self.hide(item) for item in value]
        return value


def is_secret(text: str) -> bool:
    """Whether a configured text refers to a secret, whole or in part."""
    return _REFERENCE.search(text) is not None


def references(text: str) -> list[str]:
    """The secrets that a configured text refers to."""
    return _REFERENCE.findall(text)


def check_reference(text: str) -> str:
    """For pydantic: the reference itself, or a complaint that does not repeat what may be the secret."""
    if not secret.is_reference(text):
        raise ValueError("write secret:NAME and keep the value with `aip secret set NAME`")
    return text
