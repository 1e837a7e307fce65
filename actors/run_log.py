"""What agents say while they work, by run: `aip logs RUN`.

Every line an agent logs (`ctx.log`, `logging`) or prints goes to `runs/<run>/log.jsonl` with its agent and task; the turn it
belongs to is found through a context variable, in threads too. One `write()` a line in append mode, so that the cells of a run
share the file without a lock. A run's log is bounded; the line that would exceed it says so, once.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import TextIO

from aip.runtime.turn import CURRENT

LINE_CHARS_MAX = 8_000
LOG_BYTES_MAX = 64 * 2**20
OPEN_FILES_MAX = 64


def log_path(runs: Path, run: str) -> Path:
    return runs / run / "log.jsonl"


class RunLogs:
    """The open log files of one process."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._files: dict[str, int] = {}
        self._full: set[str] = set()

    def write(self, level: str, text: str) -> bool:
        """One line of the current turn. False where no run is at work: it is the process's own line then."""
        turn = CURRENT.get()
        if turn is None or not turn.run:
            return False
        run = turn.run
        entry = {
            "at": round(time.time(), 3),
            "agent": turn.agent,
            "task": turn.labels.get("task", ""),
            "level": level,
            "text": text[:LINE_CHARS_MAX],
        }
        fd = self._open(run)
        if run not in self._full and os.fstat(fd).st_size > LOG_BYTES_MAX:
            self._full.add(run)
            entry.update(
                level="WARNING", text="this run's log is full; what its agents say from here on is not kept"
            )
        elif run in self._full:
            return True
        os.write(fd, json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        return True

    def _open(self, run: str) -> int:
        fd = self._files.get(run)
        if fd is None:
            if len(self._files) >= OPEN_FILES_MAX:
                os.close(self._files.pop(next(iter(self._files))))
            path = log_path(self._runs, run)
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = self._files[run] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return fd


class RunLogHandler(logging.Handler):
    def __init__(self, logs: RunLogs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        self._logs.write(record.levelname, self.format(record))


class RunLogStream(io.TextIOBase):
    """Stands in for stdout and stderr of a cell: whole lines of a turn go to its run's log, the rest where it always went."""

    def __init__(self, logs: RunLogs, beneath: TextIO, level: str) -> None:
        self._logs = logs
        self._beneath = beneath
        self._level = level
        self._rest = ""

    def write(self, text: str) -> int:
        if CURRENT.get() is None:
            return self._beneath.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line and not self._logs.write(self._level, line):
                self._beneath.write(line + "\n")
        if len(self._rest) > LINE_CHARS_MAX:
            self._logs.write(self._level, self._rest)
            self._rest = ""
        return len(text)

    def flush(self) -> None:
        self._beneath.flush()

    def fileno(self) -> int:
        return self._beneath.fileno()


def capture(runs: Path) -> None:
    """From here on this process's logging and prints inside turns go to run logs."""
    logs = RunLogs(runs)
    handler = RunLogHandler(logs)
    handler.setFormatter(logging.Formatter("%(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    logging.getLogger("aip.agent").setLevel(logging.INFO)
    sys.stdout = RunLogStream(logs, sys.stdout, "STDOUT")
    sys.stderr = RunLogStream(logs, sys.stderr, "STDERR")
