"""Canonical JSON: the one spelling of a value, so that a hash or a signature over it means something (RFC 8785, JCS).

    objects   members sorted by the UTF-16 code units of their names, no spaces
    strings   escaped only where JSON demands it; UTF-8
    numbers   as ECMAScript prints an IEEE 754 double: the shortest digits that read back as the same number

    bytes     as base64 in a string, with the unused bits of its last letter zero (RFC 4648 section 3.5)

What has no canonical form is refused (`NotCanonical`), never rounded: NaN and infinities, integers that a double cannot hold
exactly, half a surrogate pair, names that are no strings, values deeper than `DEPTH_MAX`. `speakable` is for whoever must not
refuse: it spells such values as strings, so that what happened is on record even if it was said badly.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Any

from ..errors import UserError

INTEGER_MAX = 2**53 - 1  # The last integer whose neighbours a double can tell apart (RFC 7493 section 2.2).
DIGITS_MAX = 100  # Of an integer that is told as a string.
DEPTH_MAX = 100  # Deeper values are no records but attacks on recursive readers.


class NotCanonical(UserError):
    """The value has no canonical form."""

    code = "user.not_canonical"


def canonical(value: Any) -> bytes:
    return _encoded(_text(value, 0))


def from_base64(text: str) -> bytes:
    """Raises ValueError, of another spelling of the same bytes too: two texts for one signature would be two documents."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("base64 with bits that say nothing")
    return data


def number(value: float) -> str:
    """ECMAScript's Number::toString (ECMA-262 section 6.1.6.1.20) of a double."""
    if not math.isfinite(value):
        raise NotCanonical(f"{value} is no JSON number", hint="write null or a string")
    if value == 0:
        return "0"  # Of minus zero too.
    shortest = repr(value)  # Python finds the same shortest digits; only where it puts the point differs.
    size = abs(value)
    if 1e-4 <= size < 1e16:
        return shortest.removesuffix(".0")
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = shortest.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or "0")  # Digits before the point, were there no exponent.
    padded = whole + fraction.removesuffix("0")
    digits = padded.lstrip("0")
    point -= len(padded) - len(digits)
    return sign + _placed(digits, point)


def _large(value: int) -> str:
    """An integer that is the spelling of a double, as a reader of canonical JSON finds in place of 1e16; no other one."""
    spelt = number(float(value)) if abs(value) < 10**21 else ""
    if spelt != str(value):
        raise NotCanonical(f"a double cannot hold the integer {value}", hint="write it as a string")
    return spelt


def _placed(digits: str, point: int) -> str:
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"


def _text(value: Any, depth: int) -> str:
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        if -INTEGER_MAX <= value <= INTEGER_MAX:
            return str(int(value))
        return _large(value)
    if isinstance(value, float):
        return number(value)
    if depth >= DEPTH_MAX:
        raise NotCanonical(f"a value deeper than {DEPTH_MAX}")
    if isinstance(value, Mapping):
        return _object(value, depth + 1)
    if isinstance(value, list | tuple):
        return f"[{','.join([_text(item, depth + 1) for item in value])}]"
    raise NotCanonical(f"{type(value).__name__} is no JSON type")


def _object(value: Mapping[Any, Any], depth: int) -> str:
    try:
        # Code points sort as UTF-16 does, except that those beyond the first plane must come before U+E000 to U+FFFF.
        names = sorted(value) if all(map(str.isascii, value)) else sorted(value, key=_utf16)
    except TypeError:
        raise NotCanonical("the name of an object's member is not a string") from None
    return f"{{{','.join([f'{encode_basestring(name)}:{_text(value[name], depth)}' for name in names])}}}"


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise NotCanonical("half a surrogate pair is no text") from None


def speakable(value: Any, depth: int = 0) -> Any:
    """The value with whatever has no canonical form as a string in its place."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        if -INTEGER_MAX <= value <= INTEGER_MAX:
            return value
        return str(value) if abs(value) < 10**DIGITS_MAX else f"{hex(value)[:DIGITS_MAX]}…"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth >= DEPTH_MAX // 2:
        return "(deeper than a record may be)"
    if isinstance(value, Mapping):
        return {str(speakable(str(name))): speakable(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [speakable(item, depth + 1) for item in value]
    return f"({type(value).__name__})"
