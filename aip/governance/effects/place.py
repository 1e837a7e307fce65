"""Places on the web: how a URL is read, and how a rule matches it. Pure.

A URL that two programs may read in two ways is refused, not put right: dot segments, empty segments, encoded slashes and dots,
backslashes, user names, fragments, anything outside printable ASCII. What is left has one reading (a subset of RFC 3986).

A rule is a URL whose host may begin with `*.` (any name below it, not the name itself), whose path's segments may hold `*` (any
text without a slash) and whose last segment may be `**` (anything that follows, also nothing). A query is free.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from .address import literal

URL_CHARS_MAX = 4_096  # What servers take; a longer one carries data that belongs in a body.
PORTS = {"http": 80, "https": 443}
_PRINTABLE = re.compile(r"[!-~]+\Z")
_NAME = re.compile(
    r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\Z"
)
_AMBIGUOUS = re.compile(r"%(?![0-9a-fA-F]{2})|%2[eEfF]|%5[cC]|%[01][0-9a-fA-F]|%7[fF]")


@dataclass(frozen=True, slots=True)
class Place:
    """A URL with one reading. `target` is what stands in a request line."""

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @classmethod
    def of(cls, url: str) -> Place:
        """Raises `ValueError` that says what is wrong and does not quote the URL."""
        if len(url) > URL_CHARS_MAX:
            raise ValueError(f"longer than {URL_CHARS_MAX} characters")
        if not _PRINTABLE.match(url) or "\\" in url or "#" in url:
            raise ValueError("only printable ASCII without \\ and # (encode the rest)")
        parts = urlsplit(url)
        scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
        if scheme not in PORTS:
            raise ValueError("write it with http:// or https://")
        if "@" in parts.netloc:
            raise ValueError("no user name or password in it: credentials belong to the connector")
        if literal(host) is None and not _NAME.match(host):
            raise ValueError("its host is neither a name nor an address")
        path = parts.path or "/"
        if _AMBIGUOUS.search(path) or any(part in ("", ".", "..") for part in path.split("/")[1:-1]):
            raise ValueError("its path has empty, dot or encoded parts, which not everybody reads alike")
        if path.rpartition("/")[2] in (".", ".."):
            raise ValueError("its path ends in a dot segment")
        return cls(scheme, host, parts.port or PORTS[scheme], path, parts.query)

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """For people and records. A query may hold what is nobody's business."""
        return f"{self.scheme}://{self.authority}{self.path}{'?…' if self.query else ''}"


@dataclass(frozen=True, slots=True)
class Rule:
    """Where requests may go."""

    scheme: str
    host: str
    below: bool  # Names below `host`, not `host` itself.
    port: int
    path: re.Pattern[str]

    @classmethod
    def of(cls, text: str) -> Rule:
        """Raises `ValueError`."""
        head, separator, rest = text.partition("://")
        below = separator != "" and rest.startswith("*.")
        place = Place.of(f"{head}{separator}{rest.removeprefix('*.') if below else rest}")
        if "*" in place.host or (below and (literal(place.host) or "." not in place.host)):
            raise ValueError("in a host, `*.` stands first, before a name with a dot, or nowhere")
        if place.query:
            raise ValueError("a rule has no query")
        return cls(place.scheme, place.host, below, place.port, _pattern(place.path))

    def allows(self, place: Place) -> bool:
        if (place.scheme, place.port) != (self.scheme, self.port):
            return False
        named = place.host.endswith(f".{self.host}") if self.below else place.host == self.host
        return named and self.path.match(place.path) is not None


def _pattern(path: str) -> re.Pattern[str]:
    """No two stars side by side and none but the last across slashes: matching stays linear in practice."""
    rest = path.endswith("/**")
    fixed = path.removesuffix("/**") if rest else path
    if "**" in fixed or fixed.count("*") > 8:
        raise ValueError("`**` stands at the end of a path only, after a slash; at most eight `*`")
    body = "[^/]*".join(re.escape(part) for part in fixed.split("*"))
    return re.compile(f"{body}(/.*)?\\Z" if rest else f"{body}\\Z")
