"""Run a snippet in its cage and say how it ended.

`run` starts `confine` in a session of its own, hands it the request, reads what comes out up to its bound, and whatever happens
(the end, the wall clock, too much output, a cancellation) leaves no process of it behind: the group is killed, init in it dies
with its parent, and the namespace with init. What the snippet wrote to its folder is gone with it.

It never decides what must hold: `Bounds.may_lack` does. Where the kernel cannot give a hold that must be, `Unenforceable` is
raised and nothing ran.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aip.errors import AgentFailed, InvalidPayload, Unavailable

from .bounds import Bounds

ROOT = Path(__file__).parents[1]
END_S_MAX = 5.0  # From SIGKILL until its pipes are closed: the kernel's work, and it has other work too.
REPORT_BYTES_MAX = 16_384
CHUNK_BYTES = 16_384

WITHOUT = {  # What a missing hold means, for whoever reads the result.
    "namespaces": "its processes are bounded with all others of their user, and one that left its group may outlive it; "
    "its files lie on disk until it ends",
    "landlock": "it can read whatever its user can read",
    "filter": "it can reach Unix sockets that are open to its user",
}


class Unenforceable(Unavailable):
    """The kernel cannot hold what must be held, so nothing was run."""

    code = "sandbox.unenforceable"
    default_hint = (
        "run it where the kernel allows it, or name under `may_lack` what you can do without (README)"
    )


class CageBroke(AgentFailed):
    """The cage ended without saying how. The snippet may have begun; nothing of it is left."""

    code = "sandbox.broke"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`ended` is one of: finished, signal, cpu, wall_clock, output. `exit_code` is minus the signal, where one ended it."""

    ended: str
    exit_code: int | None
    stdout: str
    stderr: str
    cut: bool
    cpu_s: float | None
    memory_bytes: int | None
    held: list[str]
    not_held: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def run(code: str, bounds: Bounds) -> Outcome:
    """Raises `InvalidPayload` for a text that is no argument, `Unenforceable`, `CageBroke`."""
    size = len(code.encode("utf-8", "surrogatepass"))
    if size > bounds.source_bytes_max:
        raise InvalidPayload(f"code: {size} bytes, and at most {bounds.source_bytes_max} are taken")
    if "\0" in code or any("\ud800" <= letter <= "\udfff" for letter in code):
        raise InvalidPayload("code: it is no text that a program can be (a null or a lone surrogate)")
    if sys.platform != "linux":
        raise Unenforceable(f"this cage is built of Linux, and here is {sys.platform}")
    with tempfile.TemporaryDirectory(prefix="aip-snippet-", ignore_cleanup_errors=True) as folder:
        return await _in(folder, code, bounds)


async def _in(folder: str, code: str, bounds: Bounds) -> Outcome:
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-E", "-s", "-S", "-B", "-m", "sandbox.confine", str(writing)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={"LC_ALL": "C.UTF-8"},  # Ours may hold secrets.
            pass_fds=(writing,),
            start_new_session=True,
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        request = {
            "code": code,
            "folder": folder,
            "parent": os.getpid(),
            "bounds": bounds.model_dump(mode="json"),
        }
        streams = [bytearray(), bytearray()]
        stopped = ""
        try:
            async with asyncio.timeout(bounds.wall_s):
                if await _follow(process, json.dumps(request).encode(), streams, bounds.output_bytes_max):
                    stopped = "output"
        except TimeoutError:
            stopped = "wall_clock"
        finally:
            await asyncio.shield(asyncio.ensure_future(_end(process)))
        report = await asyncio.to_thread(pipe.read, REPORT_BYTES_MAX)
    return _outcome(report, streams, stopped)


async def _follow(
    process: asyncio.subprocess.Process, request: bytes, streams: list[bytearray], bytes_max: int
) -> bool:
    """Until it has ended; whether that was because of too much output."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    # A child that gave up reading has said why in its report.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(request)
        await process.stdin.drain()
    process.stdin.close()
    async with asyncio.TaskGroup() as group:
        pumps = [
            group.create_task(_keep(process, stream, kept, bytes_max))
            for stream, kept in zip((process.stdout, process.stderr), streams, strict=True)
        ]
    await process.wait()
    return any(pump.result() for pump in pumps)


async def _keep(
    process: asyncio.subprocess.Process, stream: asyncio.StreamReader, kept: bytearray, bytes_max: int
) -> bool:
    """The first `bytes_max` of a stream; whether there was more, which ends the process."""
    cut = False
    while part := await stream.read(CHUNK_BYTES):
        room = bytes_max - len(kept)
        kept += part[:room]
        if len(part) > room:
            cut = True
            _kill(process)
    return cut


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Nothing of it runs when this returns; it is done whether or not somebody still waits for the answer."""
    _kill(process)
    async with asyncio.timeout(END_S_MAX):
        await process.wait()


def _outcome(report: bytes, streams: list[bytearray], stopped: str) -> Outcome:
    facts: dict[str, Any] = {}
    for line in report.splitlines():
        facts.update(json.loads(line))
    stdout, stderr = (bytes(stream).decode("utf-8", "replace") for stream in streams)
    if "broken" in facts:
        raise CageBroke(facts["broken"])
    if facts.get("refused"):
        what = "; ".join(f"{hold}: {why}" for hold, why in facts["lacks"].items())
        raise Unenforceable(f"this kernel cannot hold it, and nothing was run ({what})", lacks=facts["lacks"])
    if "held" not in facts or not (stopped or {"code", "signal"} & facts.keys()):
        if stopped:
            raise CageBroke(f"the cage was not ready in time: {stopped}")
        raise CageBroke(f"the cage ended without a word: {stderr[-500:]}")
    code = facts.get("code", -facts["signal"] if "signal" in facts else None)
    return Outcome(
        ended=stopped or _ending(code),
        exit_code=None if stopped else code,
        stdout=stdout,
        stderr=stderr,
        cut=stopped == "output",
        cpu_s=facts.get("cpu_s"),
        memory_bytes=facts.get("memory_bytes"),
        held=facts["held"],
        not_held={hold: f"{WITHOUT[hold]} ({why})" for hold, why in facts["lacks"].items()},
    )


def _ending(code: int | None) -> str:
    assert code is not None, "a cage that was not stopped says how it ended"
    if code == -signal.SIGXCPU:
        return "cpu"
    return "signal" if code < 0 else "finished"
