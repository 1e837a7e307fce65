"""How much a snippet may use, and what its cage may lack."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Hold = Literal["namespaces", "landlock", "filter"]

MIB = 2**20


class Bounds(BaseModel):
    """What a plan may say under `config`. Everything has a bound; the upper ones keep a typing mistake from lifting it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wall_s: float = Field(default=10.0, gt=0, le=600)
    cpu_s: int = Field(default=5, ge=1, le=600)  # Of each process; the wall clock bounds them together.
    memory_bytes: int = Field(default=256 * MIB, ge=64 * MIB, le=4096 * MIB)  # Address space of each process.
    processes_max: int = Field(default=4, ge=1, le=64)  # Threads count too: that is how the kernel counts.
    disk_bytes: int = Field(default=16 * MIB, ge=MIB, le=1024 * MIB)  # Lies in memory, beside the above.
    files_max: int = Field(default=256, ge=8, le=10_000)
    output_bytes_max: int = Field(default=64 * 1024, ge=256, le=4 * MIB)  # Of each of the two streams.
    source_bytes_max: int = Field(default=64 * 1024, ge=1, le=100_000)  # It is an argument: 128 KiB at most.
    may_lack: frozenset[Hold] = frozenset()  # What may be missing; without it, such a kernel runs nothing.
