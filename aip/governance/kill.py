"""The kill fence: orders on disk, a word in shared memory, a check in every guard (semantics K1-K4).

An order names a target: `platform`, `run/<id>`, an agent's address, or an agent type (with or without digest). Raising one is a
monotone merge: orders are only added; lifting one is a second record, never an erasure.

    orders file   appended and fsynced before anything else: the order stands, whatever dies next
    fence page    one 64-bit revision in a memory-mapped file, raised after the append

A reader compares the revision with the one it knows (about 60 ns) and reads the orders file again only when it changed. The
page is written by whoever raises an order - the CLI itself, if no actor of ours is alive - under a file lock.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ..errors import Corrupt, Killed, UsageError
from ..ids import KEY, TYPE, base_type, check_address, type_of
from ..runtime.envelope import Envelope

PLATFORM = "platform"


class KillOrder(msgspec.Struct, frozen=True):
    target: str
    at: float
    by: str
    reason: str
    lifted: bool = False


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(KillOrder)


def check_target(target: str) -> str:
    """The target itself, or `UsageError` that says what one looks like."""
    if target == PLATFORM or TYPE.match(target):
        return target
    kind, slash, key = target.partition("/")
    if slash and kind == "run" and KEY.match(key):
        return target
    if slash:
        return check_address(target)
    raise UsageError(
        f"not a kill target: {target!r}", hint="platform, run/ID, an agent's address, or an agent type"
    )


class KillOrders:
    """The orders that stand, and what they reach. Pure."""

    def __init__(self) -> None:
        self.standing: dict[str, KillOrder] = {}

    def apply(self, order: KillOrder) -> None:
        if order.lifted:
            self.standing.pop(order.target, None)
        else:
            self.standing[order.target] = order

    def against(self, envelope: Envelope) -> KillOrder | None:
        """The order that forbids this message: to, from, or on behalf of a target."""
        standing = self.standing
        if not standing:
            return None
        if PLATFORM in standing:
            return standing[PLATFORM]
        if envelope.run and (order := standing.get(f"run/{envelope.run}")) is not None:
            return order
        for address in (envelope.recipient, envelope.sender, *envelope.chain):
            for name in (address, type_of(address), base_type(address)):
                if (order := standing.get(name)) is not None:
                    return order
        return None


class Fence:
    """The fence of one platform in a folder. Any process of its user may read it and raise an order on it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._orders_path = folder / "orders.jsonl"
        # As words: a store of one is whole, where `struct` clears the bytes before it writes them.
        self._words = memoryview(self._map(folder / "fence")).cast("Q")

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

    def orders(self) -> KillOrders:
        """Read from disk. Raises `Corrupt` for anything but a torn last line."""
        orders = KillOrders()
        for order in self.history():
            orders.apply(order)
        return orders

    def history(self) -> Iterator[KillOrder]:
        try:
            lines = self._orders_path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                yield _decoder.decode(line)
            except msgspec.DecodeError as error:
                if number == len(lines):
                    return  # The writer died inside this line, so it never said that the order stands.
                raise Corrupt(f"{self._orders_path}:{number}: {error}") from None

    def write(self, order: KillOrder) -> None:
        """Durable first, then visible. Returns when both hold."""
        with self._locked() as fd:
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


class KillCheck:
    """The guard's first check. Re-reads the orders when the fence's revision moves, and otherwise costs two comparisons."""

    name = "kill"

    def __init__(self, revision: Callable[[], int], orders: Callable[[], KillOrders]) -> None:
        self._revision = revision
        self._read = orders
        self._known = -1
        self._orders = KillOrders()

    def peek(self, envelope: Envelope, now: float) -> Killed | None:
        if self._revision() != self._known:
            self.refresh()
        order = self._orders.against(envelope) if self._orders.standing else None
        if order is None:
            return None
        return Killed(f"{order.target} was killed by {order.by}: {order.reason}", target=order.target)

    def refresh(self) -> None:
        # The revision first: an order written while we read makes us read again, never overlook it.
        known = self._revision()
        self._orders = self._read()
        self._known = known

    @property
    def standing(self) -> dict[str, KillOrder]:
        if self._revision() != self._known:
            self.refresh()
        return self._orders.standing
