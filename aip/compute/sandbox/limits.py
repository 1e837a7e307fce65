"""What one sandboxed process may use, and how much may pass between it and its parent. The reason stands beside each number."""

from __future__ import annotations

import msgspec

from ...settings import DEFAULT_LIMITS

MIB = 2**20

# The pipe between parent and child ----------------------------------------------------------------------------------

FRAME_BYTES_MAX = (
    DEFAULT_LIMITS.checkpoint_bytes_max + 64 * 2**10
)  # The largest value that travels, and its frame.
ASKS_MAX = 64  # Requests of one child that its parent works on. The child keeps the others back.
ASKED_BYTES_MAX = 64 * MIB  # Of their arguments together; beyond, an ask is answered with an error.
EFFECTS_MAX = 16  # Of them, effects: counted apart, as an effect's action asks too and must find room.
PARTS_MAX = 256  # Budgets split off in one turn, as in a cell.
NOTES_PER_S = (
    2_000  # Frames a second, averaged over one second; beyond, the child's socket is read more slowly.
)
BYTES_PER_S = 128 * MIB
STREAM_WINDOW = 8  # Parts of one stream that may be on the way to its reader.
UNSENT_BYTES_MAX = 2 * FRAME_BYTES_MAX  # Behind this a child does not read, and is ended.
ERROR_BYTES_MAX = 64 * 2**10  # Of the details of an error; beyond, it travels without them.
CODE_CHARS_MAX = 128  # Of an error's code.
MANIFEST_BYTES_MAX = 2**20  # What an agent says it can do: it goes into plans' checks and the registry.
LOG_CHARS_MAX = 2_000  # Of one line.
OUTPUT_KEPT_BYTES = 4 * 2**10  # The end of what it printed, for the error when it dies.
OUTPUT_BYTES_PER_S = 256 * 2**10  # Faster printing waits: the pipe is read no faster than this.

# Time ---------------------------------------------------------------------------------------------------------------

START_S = 30.0  # For an interpreter to be confined and the agent's module imported, on a busy machine.
CANCEL_S = 1.0  # From the word that a turn is over to its end; then the process is killed.
STOP_S = 2.0  # From the closing of its socket to its end.
PROBE_S = 20.0


class SandboxLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one sandboxed process. It has no children, so these bound all that the agent uses."""

    memory_bytes: int = (
        1_024 * MIB
    )  # Of address space: interpreter and `aip` map 41 MiB, each thread's stack 8.
    cpu_s: int = (
        3_600  # Of its whole life. A turn has its deadline; this ends what keeps computing between turns.
    )
    files: int = 64  # Open at the same time.
    threads: int = (
        32  # `limits.threads_max` of a cell for synchronous capabilities, and as many of the agent's own.
    )
    tmp_bytes: int = 64 * MIB  # /tmp, in memory.
    tmp_files: int = 4_096
    code_bytes: int = DEFAULT_LIMITS.bundle_bytes_max  # The agent's code, copied in.

    def problems(self) -> list[str]:
        return [
            f"limits.{name}: {getattr(self, name)} is less than {least}"
            for name, least in _LEAST.items()
            if getattr(self, name) < least
        ]


# Below these the interpreter itself does not start.
_LEAST = {
    "memory_bytes": 128 * MIB,
    "cpu_s": 2,
    "files": 16,
    "threads": 2,
    "tmp_bytes": MIB,
    "tmp_files": 16,
    "code_bytes": 4_096,
}
