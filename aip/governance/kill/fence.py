"""The kill fence of one platform, on disk and in shared memory (semantics K1, K4).

    orders file   appended and fsynced before anything else: the order stands, whatever dies next
    fence page    one 64-bit revision in a memory-mapped file, raised after the append; behind it the words of throttles, and one
                  for the lease (`lease.py`)

A reader compares the revision with the one it knows (about 60 ns) and reads the orders file again only when it changed. The
page is written by whoever raises an order - the CLI itself, if no actor of ours is alive - under a file lock.

On a node that is not the kill switch's the fence *follows* the switch's:

    orders.jsonl   what was raised on this node
    shared.jsonl   the switch's history, entry by entry in its places; nothing of it is ever taken back
    follows        whose history that is

What stands is the stricter of both, for each target; what the switch's history already has of this node's counts there only, so
that a lift, which is done on the switch's node, reaches it. Lowering here is refused.

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
from functools import cached_property
from pathlib import Path

import msgspec

from .authority import checked
from .history import History
from .lease import WORD, FenceChanged, LeaseWord
from .lineage import Lineage
from .orders import KillOrder, KillOrders, not_lifted
from .target import DRILL


class Fence:
    """The fence in a folder. Any process of its user may read it and raise an order on it. `writer` names who notes births."""

    def __init__(self, folder: Path, writer: str = "") -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._own = History(folder / "orders.jsonl")
        self._shared = History(folder / "shared.jsonl")
        # As words: a store of one is whole, where `struct` clears the bytes before it writes them.
        self._words = memoryview(self._map(folder / "fence")).cast("Q")
        self._lineage = Lineage(folder / "lineage", writer)
        self.lease = LeaseWord(self._words)  # type: ignore[arg-type]  # As below.

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
        return self._words[1:WORD]  # type: ignore[return-value]  # A memoryview of words is one, but for its registration.

    def identity(self) -> str:
        """A name of this fence and no other: what a reset is signed for."""
        return self._identity

    @cached_property
    def _identity(self) -> str:
        return self._write_once("identity", secrets.token_hex(16))

    def _write_once(self, name: str, text: str) -> str:
        """What the file holds for good: of two that write it at once the first wins, and both read that."""
        path = self._folder / name
        if not path.exists():
            fresh = path.with_name(f".{name}-{secrets.token_hex(8)}")
            fresh.write_text(text)
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_text()

    # Reading --------------------------------------------------------------------------------------------------------

    def orders(self) -> KillOrders:
        """Read from disk. Raises `Corrupt` for anything but a torn last line."""
        orders, told = KillOrders(), 0
        for order in self._shared.read():
            orders.apply(order)
            told = max(told, self._told(order))
        here = KillOrders()
        for order in not_lifted(self.history(), told) if orders.epoch else self.history():
            here.apply(order)
        orders.join(here)
        if orders.inheritable:
            orders.inherit(self._lineage.children())
        return orders

    def history(self) -> Iterator[KillOrder]:
        """Every order that was ever raised here, and every lift, numbered."""
        return self._own.read()

    # Writing --------------------------------------------------------------------------------------------------------

    def write(self, order: KillOrder) -> None:
        """Durable first, then visible. Returns when both hold."""
        with self._locked():
            self._append(self._own, [order])

    def lower(self, decide: Callable[[KillOrders], KillOrder]) -> KillOrder:
        """Write the lift that `decide` makes of what stands. Nobody raises an order between the two; what it raises ends it."""
        if (switch := self.follows()) is not None:
            raise FenceChanged(
                f"orders are lowered on the kill switch's node: this one follows the fence {switch}",
                hint="`aip kill reset` there; it reaches this node by itself",
            )
        with self._locked():
            order = decide(self.orders())
            self._append(self._own, [order])
        return order

    def _append(self, history: History, orders: list[KillOrder]) -> None:
        history.append(orders)
        self._words[0] += 1

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self._own.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    # Between nodes (`lease.py`) ----------------------------------------------------------------------------------------

    def follows(self) -> str | None:
        """The identity of the fence whose history is merged into this one."""
        path = self._folder / "follows"
        return path.read_text() if path.exists() else None

    def follow(self, fence: str) -> None:
        """Raises `FenceChanged` where this one follows another."""
        if (known := self._write_once("follows", fence)) != fence:
            raise FenceChanged(f"the kill switch has the fence {fence}; this node follows {known}")

    def merged(self) -> int:
        """How far the switch's history is here."""
        return sum(1 for _ in self._shared.read())

    def merge(self, orders: Iterable[KillOrder]) -> int:
        """Take entries of the switch's history, each in its place; known ones are skipped, and nothing behind a gap is taken."""
        with self._locked():
            epoch, fresh = self.merged(), []
            for order in orders:
                if order.epoch == epoch + 1:
                    fresh.append(order)
                    epoch += 1
            if fresh:
                self._append(self._shared, fresh)
        return epoch

    def untold(self) -> list[KillOrder]:
        """What was raised here and is not in the switch's history. A drill is this node's own."""
        told = max((self._told(order) for order in self._shared.read()), default=0)
        return [order for order in not_lifted(self.history(), told) if order.target != DRILL]

    def _told(self, order: KillOrder) -> int:
        return order.origin_epoch if order.origin == self.identity() else 0

    def adopt(self, fence: str, raised: Iterable[KillOrder]) -> int:
        """Take what was raised on another node into this history, once; how many were new. Raises `UsageError`."""
        with self._locked():
            known = max((one.origin_epoch for one in self.history() if one.origin == fence), default=0)
            fresh = [_raised_on(fence, order) for order in raised if order.epoch > known]
            if fresh:
                self._append(self._own, fresh)
        return len(fresh)

    # Births ---------------------------------------------------------------------------------------------------------

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


def _raised_on(fence: str, order: KillOrder) -> KillOrder:
    fields = checked(order.target, order.by, order.reason, order.at, order.level, order.rate)
    return msgspec.structs.replace(fields, origin=fence, origin_epoch=order.epoch)
