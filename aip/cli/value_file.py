"""`-i name=@file`: a value that stands in a file.

    NAME=@values.json        the JSON in it
    NAME=@values.yaml, .yml  the YAML in it, read as a plan is: no tags, no second document, no alias bombs
    NAME=@notes.txt          any other file: its text, as it stands, byte order mark aside
    NAME=@@handle            the text `@handle`

Files are named from the current folder on. A secret has no business on a command line, nor in a file that is named on one:
the value travels in the run's inputs, which the journal keeps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import NotFound, PlanInvalid, UsageError
from ..settings import DEFAULT_LIMITS

MARK = "@"
FILE_BYTES_MAX = (
    DEFAULT_LIMITS.payload_bytes_max
)  # What a message may carry; more is a path that the agent reads.
YAML_ENDINGS = (".yaml", ".yml")


def value_of(name: str, given: str) -> Any:
    """What was typed behind `NAME=`: the text itself, or what the file that it names holds."""
    if not given.startswith(MARK):
        return given
    if given.startswith(MARK * 2):
        return given[1:]
    if given == MARK:
        raise UsageError(
            f"{name}=@ names no file", hint=f"write {name}=@FILE, or {name}=@@ for the text `@`", input=name
        )
    return _read(name, Path(given[1:]).expanduser())


def _read(name: str, path: Path) -> Any:
    text = _text(name, path)
    match path.suffix.lower():
        case ".json":
            return _json(name, path, text)
        case ending if ending in YAML_ENDINGS:
            return _yaml(name, path, text)
        case _:
            return text


def _text(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        hint = f"for a text that begins with @ write it twice: {name}=@@…"
        raise NotFound(f"{name}: there is no file {path}", hint=hint, input=name) from None
    except OSError as error:
        raise UsageError(f"{name}: cannot read {path}: {error.strerror}", input=name) from None
    if len(data) > FILE_BYTES_MAX:
        raise UsageError(
            f"{name}: {path} is larger than {FILE_BYTES_MAX} bytes",
            hint="give the path itself, and let an agent read the file",
            input=name,
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name}: {path} is not UTF-8 text (byte {error.start})",
            hint="give the path itself, and let an agent read the file",
            input=name,
        ) from None


def _json(name: str, path: Path, text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise UsageError(f"{name}: {path}: {constant} is no JSON", input=name)

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        raise UsageError(
            f"{name}: {place}: {error.msg}",
            hint="mend it, or give the file another ending to pass its text",
            input=name,
        ) from None
    except (RecursionError, ValueError) as error:  # Nested without end; an integer of a million digits.
        what = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{name}: {path}: {what}", input=name) from None


def _yaml(name: str, path: Path, text: str) -> Any:
    from ..orchestration.parse.document import read

    try:
        return read(text.encode(), str(path), DEFAULT_LIMITS).plain()
    except PlanInvalid as error:
        problems = error.details.get("problems") or [{"line": 1, "column": 1, "message": error.message}]
        first = problems[0]
        place = f"{path}:{first['line']}:{first['column']}"
        raise UsageError(
            f"{name}: {place}: {first['message']}", hint=str(first.get("suggestion") or ""), input=name
        ) from None
