"""Text from agents, made safe for a terminal.

What an agent says, logs or raises is a stranger's text. On a terminal it could move the cursor, set the title, paste into the
clipboard (OSC 52), forge a line of ours, or turn the reading direction of what follows (CVE-2021-42574). So every such text
passes here before it is shown:

    escape sequences (ECMA-48: CSI, OSC, DCS, SOS, PM, APC; 7-bit and 8-bit forms)     dropped, whole
    other control characters                                                         shown as their pictures (U+2400 …)
    marks that change reading direction, lone surrogates                             shown as U+FFFD
    tabs; line ends where one line is wanted                                         a space
    what is longer than its limit                                                    cut, with a mark that says so

The result holds no markup: it is put on screen as `rich.text.Text`, which reads none.
"""

from __future__ import annotations

import json
import re
from typing import Any

LINE_CHARS_MAX = 400  # One line on a screen or in a log; more is read with `-o json`.
BLOCK_CHARS_MAX = 4_000

_STRINGS = r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
_CSI = r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
_OTHER = r"\x1b[ -/]*[0-~]?"
_SEQUENCES = re.compile(f"{_STRINGS}|{_CSI}|{_OTHER}")
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]"
)


def block(text: object, chars_max: int = BLOCK_CHARS_MAX) -> str:
    """Several lines, safe to print."""
    raw = str(text)
    cut = raw[: chars_max + 1].replace("\r\n", "\n")
    safe = _UNSAFE.sub(_picture, _SEQUENCES.sub("", cut)).replace("\t", " ")
    return safe if len(raw) <= chars_max else safe[: chars_max - 1] + "…"


def line(text: object, chars_max: int = LINE_CHARS_MAX) -> str:
    """One line, safe to print; line ends become spaces."""
    return " ".join(block(text, chars_max).split("\n")).strip()


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"


def compact_json(value: Any) -> str:
    """JSON on one line, safe on a terminal and exact for a program: what is unsafe is escaped, not dropped."""
    return _escaped(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str))


def pretty_json(value: Any) -> str:
    return _escaped(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def _escaped(document: str) -> str:
    # Only strings can hold such characters, and in strings \uXXXX means the same. Line ends outside strings are JSON's own.
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", document)
