"""What the tests of the audit log share: notes, keys, and a log that was written as the audit process writes it."""

from __future__ import annotations

from aip.governance.audit import Batch, Noted, log_path
from aip.governance.log_writer import LogWriter
from aip.governance.note import COSIGNATURE, Signer

LOG_KEY = Signer("log.example/audit", bytes(range(32)))
WITNESS_KEY = Signer("witness.example/w", bytes(range(1, 33)), COSIGNATURE)


def notes(first, count, kind="kind", at=1_000.0, **detail):
    return [
        Noted(n, at + n, kind, f"subject-{n % 7}", {"n": n, "ü": "€", **detail})
        for n in range(first, first + count)
    ]


def batch(first, count, producer="cell-1#1", **how):
    return Batch(producer, notes(first, count, **how))


class Log:
    """A log in a folder, with a writer that is opened and closed as tests ask."""

    def __init__(self, folder, segment_bytes_max=2_000):
        self.folder, self.path = folder, log_path(folder)
        self._segment_bytes_max = segment_bytes_max
        self._number = 0
        self.writer = self.open()

    def open(self):
        self.writer = LogWriter(self.folder, LOG_KEY, segment_bytes_max=self._segment_bytes_max)
        return self.writer

    def reopen(self):
        self.writer.close()
        return self.open()

    def write(self, count, **how):
        for _ in range(count):
            self.writer.take(batch(self._number, 1, **how))
            self._number += 1

    def sign(self):
        """As the process does: durable, then signed, then kept. Returns the note."""
        self.writer.sync()
        statement = self.writer.statement()
        if statement is not None:
            self.writer.publish(*statement)
        return self.writer.note
