"""A sandboxed process as its parent holds it: started, confined, spoken to, ended, and why it ended.

When `start` returns, every mean that was ordered is in force (`launcher.py`) and no line of the agent's has run. What it gets: a
clean environment, one socket, one output. The output is read slowly, and only its end is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys

import msgspec

from ...errors import AgentLost
from .launcher import BOOT, Event
from .limits import OUTPUT_BYTES_PER_S, OUTPUT_KEPT_BYTES, START_S, STOP_S, SandboxLimits
from .means import TRANSIENT, Demand, Means, MeansMissing
from .order import TMP, Order, interpreter_view
from .wire import line

_INNER_UID = 1_000
_CHUNK_BYTES = 64 * 2**10
# All that an agent finds in its environment. One arena: each of malloc's maps 64 MiB of address space, which is limited.
_ENVIRONMENT = {
    "HOME": TMP,
    "TMPDIR": TMP,
    "LANG": "C.UTF-8",
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class SandboxLost(AgentLost):
    """The sandboxed process ended before it answered. `details` say how, and with what last words."""

    code = "undelivered.agent_lost.sandbox"


class SandboxProcess:
    def __init__(
        self, process: asyncio.subprocess.Process, talk: socket.socket, limits: SandboxLimits
    ) -> None:
        self._process = process
        self._limits = limits
        self._tail = b""
        self._output = asyncio.ensure_future(self._read_output())
        self.talk = talk

    @classmethod
    async def start(
        cls, means: Means, demand: Demand, limits: SandboxLimits, code_root: str, rng: random.Random
    ) -> SandboxProcess:
        """Raises `MeansMissing` where the machine falls short, also where it only shows now."""
        means.require(demand)
        ours, theirs = socket.socketpair()
        try:
            process = await _spawn(theirs, _order(means, limits, code_root, theirs.fileno(), rng))
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        started = cls(process, ours, limits)
        try:
            async with asyncio.timeout(START_S):
                event = await started._next_event()
        except BaseException as error:
            ours.close()
            started.kill()
            if isinstance(error, TimeoutError):
                raise SandboxLost(f"a sandbox was not ready within {START_S:g} s") from None
            raise
        if event.event == "failed":
            ours.close()
            await started.close()
            raise MeansMissing(
                f"the sandbox could not be closed at step {event.step}: {event.error}",
                hint="`aip doctor` lists what this machine has",
                step=event.step,
            )
        if event.event != "ready":
            ours.close()
            raise await started.ended()
        return started

    @property
    def last_words(self) -> str:
        return self._tail.decode(errors="replace").strip()

    async def _next_event(self) -> Event:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        return msgspec.json.decode(line, type=Event) if line else Event("gone")

    async def _read_output(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(_CHUNK_BYTES):
            self._tail = (self._tail + chunk)[-OUTPUT_KEPT_BYTES:]
            await asyncio.sleep(len(chunk) / OUTPUT_BYTES_PER_S)

    async def ended(self) -> SandboxLost:
        """Kill what is left of it; why it ended."""
        self._kill_child()
        try:
            async with asyncio.timeout(STOP_S):
                event = await self._next_event()
        except TimeoutError:
            event = Event("gone")
        await asyncio.wait([self._output], timeout=STOP_S / 4)  # Its last words may still be in the pipe.
        self.kill()
        await self.close()
        reason, words = _reason(event, self._limits), self.last_words
        return SandboxLost(
            f"its sandbox ended: {reason}" + (f": {line(words.splitlines()[-1][:500])}" if words else ""),
            reason=reason,
            signal=event.signal,
            exit=event.exit,
            output=words,
        )

    def _kill_child(self) -> None:
        """The end of the launcher's input: it kills the child and tells how that ended."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """At once: the launcher and the child, by their group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Who closed its socket has told it to end; where it does not, it is killed. Nothing of it is left after this."""
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            self._kill_child()
            self.kill()
            await self._process.wait()
        finally:
            self._output.cancel()


def _order(means: Means, limits: SandboxLimits, code_root: str, talk: int, rng: random.Random) -> Order:
    view, imports = interpreter_view()
    return Order(
        means=sorted(mean.value for mean in means.has),
        user=means.user,
        uid=rng.randint(*means.uids) if means.user == TRANSIENT else _INNER_UID,
        machine=means.machine,
        landlock_abi=means.landlock_abi,
        socket=talk,
        code_root=code_root,
        view=view,
        imports=imports,
        limits=limits,
    )


async def _spawn(theirs: socket.socket, order: Order) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-B", "-c", BOOT, *order.imports,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_ENVIRONMENT,
        cwd="/",
        pass_fds=(theirs.fileno(),),
        start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(order) + b"\n")
    return process


def _reason(event: Event, limits: SandboxLimits) -> str:
    if event.cpu_s >= limits.cpu_s:
        return f"it used up its {limits.cpu_s} s of processor time"
    if event.signal == signal.SIGSYS:
        return "it made a system call that no agent needs, and was killed for it"
    if event.signal == signal.SIGKILL:
        return "it was killed"
    if event.signal:
        return f"signal {event.signal} ({_signal_name(event.signal)})"
    if event.event == "ended":
        return f"it exited with {event.exit}"
    return "its launcher is gone"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
