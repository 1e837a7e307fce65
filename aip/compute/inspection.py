"""What agents can do, found out in a process of its own: importing somebody's module runs it.

`inspect_code(folder, entries)` starts `python -m aip.compute.inspection`, which imports each entry with `folder` first on the
path and writes the manifests to a file; what the module prints goes nowhere. The answer is kept beside the bundle by digest, so
the same code is asked once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ErrorRecord, PlanInvalid, UsageError, from_record, to_record

TIMEOUT_S = 60.0  # Importing a large framework takes ten seconds on a slow disk; this is a hang.


def inspect_code(
    folder: Path, entries: Sequence[str], cache: Path | None = None
) -> dict[str, dict[str, Any]]:
    """entry ("module:Class") -> manifest. Raises `PlanInvalid` that says which entry cannot be had, and why."""
    return remembered(cache, entries, lambda missing: _asked(folder, missing))


def remembered(
    cache: Path | None, entries: Sequence[str], find: Callable[[list[str]], Mapping[str, dict[str, Any]]]
) -> dict[str, dict[str, Any]]:
    """What the file knows of these entries, and what `find` says of the others, which the file then knows too."""
    known: dict[str, dict[str, Any]] = {}
    if cache is not None and cache.exists():
        known = json.loads(cache.read_text())
    missing = sorted(set(entries) - known.keys())
    if missing:
        known.update(find(missing))
        if cache is not None:
            fresh = cache.with_suffix(f".{os.getpid()}")
            fresh.write_text(json.dumps(known))
            fresh.replace(cache)
    return {entry: known[entry] for entry in entries}


def _asked(folder: Path, entries: Sequence[str]) -> dict[str, dict[str, Any]]:
    found = _ask(folder, entries)
    broken = {entry: answer["error"] for entry, answer in found.items() if "error" in answer}
    if broken:
        problems = [f"{entry}: {error['message']}" for entry, error in sorted(broken.items())]
        raise PlanInvalid("; ".join(problems), hint=next(iter(broken.values()))["hint"], entries=broken)
    return found


def _ask(folder: Path, entries: Sequence[str]) -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="aip-inspect-") as scratch:
        answer = Path(scratch) / "manifests.json"
        command = [
            sys.executable,
            "-m",
            "aip.compute.inspection",
            str(folder.resolve()),
            str(answer),
            *entries,
        ]
        environment = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter and module; entries are arguments, never a shell's
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PlanInvalid(
                f"importing {', '.join(entries)} did not end within {TIMEOUT_S:g} s",
                hint="move work out of the module's top level",
            ) from None
        if not answer.exists():
            tail = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
            raise PlanInvalid(
                f"importing {', '.join(entries)} ended the interpreter (exit {done.returncode}): {' | '.join(tail)}"
            )
        found: dict[str, dict[str, Any]] = json.loads(answer.read_text())
        return found


def _manifest(folder: Path, entry: str) -> Mapping[str, Any]:
    from ..agent import manifest
    from ..runtime.activation import AgentType

    if entry.count(":") != 1:
        raise UsageError(f"use: {entry!r} is not module:Class", hint="for example `use: agents:Greeter`")
    return manifest(AgentType(entry, entry, str(folder)).load())


def main() -> None:
    """Entry of the inspecting process."""
    folder, answer, *entries = sys.argv[1:]
    sys.path.insert(0, folder)
    found: dict[str, Any] = {}
    for entry in entries:
        try:
            found[entry] = _manifest(Path(folder), entry)
        except Exception as error:  # noqa: BLE001 - whatever the user's module raises is the answer
            record: ErrorRecord = to_record(error)
            text = from_record(record)
            found[entry] = {"error": {"code": record.code, "message": text.message, "hint": record.hint}}
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
