"""The process connector: programs that the operator listed, with arguments that fit, and no shell anywhere.

    deploy:
      connector: process
      commands:
        release:
          argv: [/usr/local/bin/deploy, --env, "{env}", --version=v{version}]
          arguments: {env: "staging|production", version: '[0-9]+\\.[0-9]+'}

    ctx.effect("deploy", {"command": "release", "arguments": {"env": "staging", "version": "1.4"}})
    → {"exit": 0, "stdout": "…", "stderr": "…", "complete": true}

An argument fits its whole pattern or is refused; one that would stand first in a word may not begin with a dash, so no value
becomes an option. The program runs in a session of its own under resource limits, with the environment that is configured and
nothing else, and its whole group is ended with it, at the deadline at the latest. It is started behind a gate
(`process_gate.py`): the commit is one byte, and until then nothing has been run.

Any exit code is a known outcome. A program that had to be ended is in doubt: nobody knows how far it came. Output beyond the
limit is read and let go. It is not a sandbox: the program has the files and the network of the gateway's user.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .connector import ConnectorConfig, Prepared, Request
from .failure import EffectFailed, NotAllowed
from .vault import Vault

COMMANDS_MAX = 256
WORDS_MAX = 64
VALUE_CHARS_MAX = 4_096
PATTERN_CHARS_MAX = 500
OUTPUT_BYTES_MAX = 4 * 2**20
START_S = 10.0  # For an interpreter to reach its gate on a busy machine.
_POLL_S = 0.02
_GATE = Path(__file__).with_name("process_gate.py")
_HOLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
# Repeats inside repeats: the shape that makes a backtracking matcher take for ever. A pattern here never needs one.
_NESTED = re.compile(r"\([^()]*[*+}][^()]*\)[*+{]")
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class Command(BaseModel):
    """One program and the holes that a request may fill."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    argv: tuple[str, ...] = Field(min_length=1, max_length=WORDS_MAX)
    arguments: dict[str, str] = Field(default_factory=dict)

    @field_validator("arguments")
    @classmethod
    def _are_patterns(cls, value: dict[str, str]) -> dict[str, str]:
        for name, pattern in value.items():
            if len(pattern) > PATTERN_CHARS_MAX or _NESTED.search(pattern):
                raise ValueError(f"{name}: a short pattern without repeats inside repeats")
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{name}: not a pattern: {error.msg}") from None
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Command:
        if not self.argv[0].startswith("/") or _HOLE.search(self.argv[0]):
            raise ValueError("the program is written from /, without holes")
        holes = {name for word in self.argv for name in _HOLE.findall(word)}
        if holes != set(self.arguments):
            odd = ", ".join(sorted(holes ^ set(self.arguments)))
            raise ValueError(f"each hole of argv has a pattern, and each pattern a hole: {odd}")
        return self

    def words(self, values: dict[str, str]) -> list[str]:
        return [_HOLE.sub(lambda hole: values[hole[1]], word) for word in self.argv]


class ProcessConfig(ConnectorConfig):
    connector: Literal["process"] = "process"
    commands: dict[str, Command] = Field(min_length=1, max_length=COMMANDS_MAX)
    cwd: Path = Path("/")
    env: dict[str, str] = Field(default_factory=dict)  # Values may hold secret:NAME.
    output_bytes_max: int = Field(
        default=256 * 2**10, ge=0, le=OUTPUT_BYTES_MAX
    )  # Of each of its two outputs.
    cpu_s: int = Field(default=60, ge=1, le=36_000)
    memory_bytes: int = Field(default=2 * 2**30, ge=2**24)  # Of address space.
    file_bytes: int = Field(default=2**30, ge=0)  # Of one file that it writes.
    files: int = Field(default=256, ge=8, le=65_536)
    concurrency: int = Field(default=4, ge=1, le=64)  # A program costs a core, not a socket.

    @field_validator("env")
    @classmethod
    def _are_variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _ENVIRONMENT.match(name) or "\0" in text:
                raise ValueError("a variable is a name and a text without NUL")
        return value

    @property
    def limits(self) -> str:
        """As `process_gate.py` takes them."""
        return (
            f"RLIMIT_CPU={self.cpu_s},RLIMIT_AS={self.memory_bytes},RLIMIT_FSIZE={self.file_bytes},"
            f"RLIMIT_NOFILE={self.files},RLIMIT_CORE=0"
        )


class ProcessRequest(Request):
    command: str
    arguments: dict[str, str] = Field(default_factory=dict)


class ProcessConnector:
    kind: ClassVar[str] = "process"

    def __init__(self, config: ProcessConfig, vault: Vault) -> None:
        self.config = config
        self._vault = vault

    def check(self, request: Any) -> ProcessRequest:
        wish: ProcessRequest = ProcessRequest.of(request)
        command = self.config.commands.get(wish.command)
        if command is None:
            known = ", ".join(sorted(self.config.commands))
            raise NotAllowed(f"there is no command {wish.command!r}", hint=f"this connector has: {known}")
        if set(wish.arguments) != set(command.arguments):
            named = ", ".join(sorted(command.arguments)) or "none"
            raise NotAllowed(f"{wish.command} takes exactly these arguments: {named}")
        for name, value in wish.arguments.items():
            pattern = command.arguments[name]
            if len(value) > VALUE_CHARS_MAX or "\0" in value or not re.fullmatch(pattern, value):
                raise NotAllowed(f"{wish.command}: {name} does not fit its pattern {pattern!r}")
        for template, word in zip(command.argv, command.words(wish.arguments), strict=True):
            if word.startswith("-") and not template.startswith("-"):
                raise NotAllowed(f"{wish.command}: {template} may not become an option")
        return wish

    def describe(self, wish: ProcessRequest) -> str:
        return "run " + " ".join(self.config.commands[wish.command].words(wish.arguments))

    async def prepare(self, wish: ProcessRequest, key: str, now: float) -> Prepared:
        words = self.config.commands[wish.command].words(wish.arguments)
        environment = {name: self._vault.expand(text) for name, text in self.config.env.items()}
        started = await _start(self.config, words, {**environment, "AIP_EFFECT_KEY": key}, self._vault)
        try:
            await started.ready()
        except BaseException:
            await started.discard()
            raise
        return started


async def _start(
    config: ProcessConfig, words: list[str], environment: dict[str, str], vault: Vault
) -> _Started:
    """A process behind its gate."""
    gate_read, gate = os.pipe()
    fault, fault_write = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(_GATE),
            str(os.getpid()), str(gate_read), str(fault_write), config.limits, *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd=config.cwd,
            pass_fds=(gate_read, fault_write),
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        os.close(gate)
        os.close(fault)
        raise EffectFailed(f"{words[0]} cannot be started: {error.strerror}") from None
    finally:
        os.close(gate_read)
        os.close(fault_write)
    return _Started(process, gate, fault, config.output_bytes_max, vault)


class _Started:
    """A program that waits for its byte."""

    def __init__(
        self, process: asyncio.subprocess.Process, gate: int, fault: int, output_bytes_max: int, vault: Vault
    ) -> None:
        self._process = process
        self._gate = gate
        self._fault = fault
        self._output_bytes_max = output_bytes_max
        self._vault = vault

    def commit(self) -> None:
        if self._process.returncode is not None:
            raise EffectFailed(f"it ended before it was started (exit code {self._process.returncode})")
        try:
            os.write(self._gate, b"g")
        except BrokenPipeError:
            raise EffectFailed("it ended before it was started") from None

    async def ready(self) -> None:
        """Returns once it stands at its gate with its limits set."""
        try:
            async with asyncio.timeout(START_S):
                said = await asyncio.to_thread(os.read, self._fault, 1)
        except TimeoutError:
            raise EffectFailed(f"it was not ready to start in {START_S:g} s") from None
        if said != b"r":
            raise EffectFailed("it cannot be started under its limits")

    async def result(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        reading = [
            asyncio.ensure_future(self._read(stream))
            for stream in (self._process.stdout, self._process.stderr)
        ]
        try:
            while (await asyncio.wait(reading, timeout=_POLL_S))[1]:
                if self._process.returncode is not None:
                    self._end_group()  # It has ended; what it left behind holds its outputs open.
            (stdout, whole), (stderr, whole_too) = [await task for task in reading]
        finally:
            for task in reading:
                task.cancel()
        status = await self._process.wait()
        if number := os.read(self._fault, 16):
            raise EffectFailed(f"it could not be run: {os.strerror(int(number))}")
        if status < 0:
            raise ChildProcessError(f"it was ended by signal {-status}")
        told = {"exit": status, "stdout": self._text(stdout), "stderr": self._text(stderr)}
        return {**told, "complete": whole and whole_too}

    async def discard(self) -> None:
        os.close(self._gate)
        self._end_group()
        await self._process.wait()
        os.close(self._fault)

    def _end_group(self) -> None:
        """The group, not the process: what it started ends with it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _read(self, stream: asyncio.StreamReader) -> tuple[bytes, bool]:
        kept, whole = bytearray(), True
        while chunk := await stream.read(65_536):
            room = self._output_bytes_max - len(kept)
            kept += chunk[:room]
            whole = whole and len(chunk) <= room
        return bytes(kept), whole

    def _text(self, output: bytes) -> str:
        hidden: bytes = self._vault.hide(output)
        return hidden.decode(errors="replace")
