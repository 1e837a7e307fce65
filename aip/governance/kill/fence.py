"""The kill fence of one platform, on disk and in shared memory (semantics K1, K4).

    orders file   appended and fsynced before anything else: the order stands, whatever dies next
    fence page    one 64-bit revision in a memory-mapped file, raised after the append; behind it the words of throttles

A reader compares the revision with the one it knows (about 60 ns) and reads the orders file again only when it changed. The
page is written by whoever raises an order - the CLI itself, if no actor of ours is alive - under a file lock.

What it does not guarantee: whoever may write the folder may write into it what they like. Code that is not trusted with that runs
where it cannot (`isolation: container`).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ...errors import Corrupt
from .lineage import Lineage
from .orders import KillOrder, KillOrders

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(KillOrder)


class Fence:
    """The fence in a folder. Any process of its user may read it and raise an order on it. `writer` names who notes births."""

    def __init__(self, folder: Path, writer: str = "") -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._orders_path = folder / "orders.jsonl"
        # As words: a store of one is whole, where `struct` clears the bytes before it writes them.
        self._words = memoryview(self._map(folder / "fence")).cast("Q")
        self._lineage = Lineage(folder / "lineage", writer)

    @staticmethod
    def _map(path: Path) -> mmap.mmap:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(fd).st_size < mmap.PAGESIZE:
                os.ftruncate(fd, mmap.PAGESIZE)
            return mmap.mmap(fd, mmap.PAGESIZE)
        finally:
            os.close(fd)

    def revision(self) -> int:
        return self._words[0]

    @property
    def pace(self) -> MutableSequence[int]:
        """The words in which throttles count."""
        return self._words[1:]  # type: ignore[return-value]  # A memoryview of words is one, but for its registration.

    def identity(self) -> str:
        """A name of this fence and no other: what a reset is signed for."""
        path = self._folder / "identity"
        if not path.exists():
            fresh = path.with_name(f".identity-{secrets.token_hex(8)}")
            fresh.write_text(secrets.token_hex(16))
            try:
                os.link(fresh, path)  # Of two that make one at once the first wins, and both read that.
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_text()

    # Reading --------------------------------------------------------------------------------------------------------

    def orders(self) -> KillOrders:
        """Read from disk. Raises `Corrupt` for anything but a torn last line."""
        orders = KillOrders()
        for order in self.history():
            orders.apply(order)
        if orders.inheritable:
            orders.inherit(self._lineage.children())
        return orders

    def history(self) -> Iterator[KillOrder]:
        """Every order that ever stood and every lift, numbered."""
        try:
            lines = self._orders_path.read_bytes().split(b"\n")
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
                raise Corrupt(f"{self._orders_path}:{number}: {error}") from None
            epoch += 1
            yield msgspec.structs.replace(order, epoch=epoch)

    # Writing --------------------------------------------------------------------------------------------------------

    def write(self, order: KillOrder) -> None:
        """Durable first, then visible. Returns when both hold."""
        with self._locked() as fd:
            self._append(fd, order)

    def lower(self, decide: Callable[[KillOrders], KillOrder]) -> KillOrder:
        """Write the lift that `decide` makes of what stands. Nobody raises an order between the two; what it raises ends it."""
        with self._locked() as fd:
            order = decide(self.orders())
            self._append(fd, order)
        return order

    def _append(self, fd: int, order: KillOrder) -> None:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            whole = os.pread(fd, size, 0).rfind(b"\n") + 1
            os.ftruncate(fd, whole)
        os.write(fd, _encoder.encode(order) + b"\n")
        os.fsync(fd)
        self._words[0] += 1

    @contextmanager
    def _locked(self) -> Iterator[int]:
        fd = os.open(self._orders_path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)

    def born(self, parent: str, child: str) -> None:
        """Note a birth, before it happens (`lineage.py`)."""
        self._lineage.born(parent, child)

    def children(self) -> Mapping[str, Iterable[str]]:
        """Who was born of whom."""
        return self._lineage.children()

    def look_again(self) -> None:
        """Have every reader read again: a child was born under an order that its parent stands under."""
        with self._locked():
            self._words[0] += 1
