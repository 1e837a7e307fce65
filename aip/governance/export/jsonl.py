"""JSON lines: the log's own lines, untouched. `sha256sum`, `jq` and `aip audit verify` read them too."""

from __future__ import annotations

from typing import Any


class JsonLines:
    name = "jsonl"
    version = 1

    def begin(self) -> bytes:
        return b""

    def encode(self, line: bytes, entry: dict[str, Any]) -> bytes:
        return line + b"\n"

    def extract(self, record_line: bytes) -> bytes:
        return record_line.removesuffix(b"\n")

    def end(self, checkpoint: str, at: float) -> bytes:
        return b""
