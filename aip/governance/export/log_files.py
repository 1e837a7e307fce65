"""The log on disk as an export takes it: as far as its last signed checkpoint reaches, however much is written behind it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from ...errors import NotFound
from .. import note, segments
from ..entry import decode_head
from ..merkle import leaf_hash
from ..tree import Tree, Unverified
from ..tree_files import open_tree
from .form import NotVerified


class LogFiles:
    """`export.Log` over the files of `segments.py`. Reads only; a platform may be writing."""

    def __init__(self, path: Path, *, witnessed: bool = False) -> None:
        """`witnessed`: as far as the last checkpoint that witnesses cosigned, which may be a little shorter."""
        self._path = path
        found = segments.witnessed_path(path) if witnessed else segments.checkpoint_path(path)
        if not found.is_file():
            raise NotFound(
                f"the log {path} has no {'witnessed' if witnessed else 'signed'} checkpoint yet",
                hint="a running platform signs one every second and asks its witnesses: `aip up`, then try again",
            )
        self.note = found.read_text(encoding="utf-8", errors="replace")
        try:
            checkpoint = note.parse(self.note)
        except Unverified as error:
            raise NotVerified(
                f"{found} is no checkpoint: {error.message}", hint="see `aip audit verify`"
            ) from None
        self.origin, self.size, self.root = checkpoint.origin, checkpoint.size, checkpoint.root

    @cached_property
    def tree(self) -> Tree:
        """The tree that the writer keeps; of a copy that came without it, made again from the entries (32 bytes each)."""
        folder = segments.tree_path(self._path)
        if folder.is_dir():
            return open_tree(folder, self.size)
        return Tree.of(leaf_hash(line) for line in self.lines(0, self.size))

    def lines(self, first: int, end: int) -> Iterator[bytes]:
        """Entries [first, end), as far as their bodies are kept, without their newlines."""
        following = first
        for line in segments.lines(self._path, first):
            if not line.endswith(b"\n"):
                break  # Torn: nobody was told that it stands.
            index = decode_head(line).index
            if index >= end:
                return
            following = index + 1
            yield line[:-1]
        if following < end:
            # Retention drops what is old, never the end.
            raise NotVerified(
                f"the log {self._path} ends with entry {following - 1}, and its checkpoint signs {self.size}: it was cut",
                hint="see `aip audit verify`",
            )

    def line(self, index: int) -> bytes:
        """One entry."""
        if not 0 <= index < self.size:
            raise NotFound(
                f"the log's checkpoint signs entries 0 to {self.size - 1}, not {index}",
                hint="an entry is signed for within a second of being entered",
            )
        found = next(self.lines(index, index + 1), None)
        if found is None:
            raise NotFound(
                f"the body of entry {index} was dropped by retention",
                hint="its hash is kept, and is all there is",
            )
        return found
