"""A file of kill orders: one line of JSON each, appended and fsynced, never rewritten. An order's epoch is its place in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ...errors import Corrupt
from .orders import KillOrder

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(KillOrder)


class History:
    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Iterator[KillOrder]:
        """Raises `Corrupt` for anything but a torn last line."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        epoch = 0
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                order = _decoder.decode(line)
            except msgspec.DecodeError as error:
                if number == len(lines):
                    return  # The writer died inside this line, so it never said that the order stands.
                raise Corrupt(f"{self.path}:{number}: {error}") from None
            epoch += 1
            yield msgspec.structs.replace(order, epoch=epoch)

    def append(self, orders: Iterable[KillOrder]) -> None:
        """Durable when it returns. Its caller sees to it that nobody else appends meanwhile."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                whole = os.pread(fd, size, 0).rfind(b"\n") + 1
                os.ftruncate(fd, whole)
            os.write(fd, b"".join(_encoder.encode(order) + b"\n" for order in orders))
            os.fsync(fd)
        finally:
            os.close(fd)
