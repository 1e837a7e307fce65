"""A log on disk as a platform leaves it: entries of every kind there is, segments, tree, signed checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aip.governance import note, segments
from aip.governance.entry import AuditChain, Batch, Noted
from aip.governance.merkle import leaf_hash
from aip.governance.tree import Tree

T0 = 1_795_370_000.0
SIGNER = note.Signer("aip.test/audit", bytes(range(32)))
TRUSTED = [SIGNER.verifier]

Said = tuple[str, str, dict[str, Any]]

CELL = "cell-3f2a9c01d2e4-p0#1048576"
ADA = "greeter@3f2a9c01d2e4/ada"
ROW = ["m-1", "m-0", "greet.0", "run/r-1", ADA, "greet", T0 + 1, T0 + 1.25, ""]
# One of every kind that the platform writes, with the detail it writes.
EVERY_KIND: tuple[Said, ...] = (
    ("policy.activated", "laptop", {"revision": "rev-1", "by": "user:root"}),
    ("process.started", "audit", {"generation": 1048576, "pid": 4711}),
    ("agent.started", ADA, {"incarnation": 1}),
    ("flush", CELL, {"admitted": 2, "root": "ab" * 32}),
    ("messages", "r-1", {"run": "r-1", "rows": [ROW, [*ROW[:-1], "agent.failed"]]}),
    ("message.refused", ADA, {"sender": "run/r-1", "capability": "greet", "code": "refused.budget", "run": "r-1"}),
    (
        "message.refused",
        ADA,
        {
            "sender": "mallory@3f2a9c01d2e4/1",
            "capability": "mail.send",
            "code": "refused.policy",
            "run": "r-1",
            "revision": "rev-1",
            "tenant": "acme",
        },
    ),
    ("effect.begun", ADA, {"effect": "mail", "key": "mail:1", "run": "r-1"}),
    ("effect.done", ADA, {"effect": "mail", "key": "mail:1", "run": "r-1"}),
    ("effect.failed", ADA, {"effect": "mail", "key": "mail:2", "run": "r-1", "error": "no route"}),
    ("effect.refused", ADA, {"effect": "mail", "code": "refused.killed", "run": "r-1"}),
    ("tell.failed", ADA, {"id": "m-9", "sender": "run/r-1", "capability": "greet", "code": "agent.failed", "error": "boom"}),
    ("tell.lost", ADA, {"id": "m-9", "cell": CELL, "sender": "run/r-1"}),
    ("gate.opened", "r-1", {"task": "approve", "question": "=HYPERLINK(\"http://evil\")"}),
    ("run.decide", "r-1", {"by": "user:ada", "task": "approve", "decision": "approved"}),
    ("run.ended", "r-1", {"state": "succeeded"}),
    ("run.not_started", "r-2", {"error": "no such plan"}),
    ("kill", "run/r-1", {"by": "user:ada", "reason": "it loops", "ordered_at": T0}),
    ("kill.lifted", "run/r-1", {"by": "user:bob", "reason": "fixed", "ordered_at": T0}),
    ("policy.activated", "strict", {"revision": "rev-2", "by": "user:root"}),
    ("policy.rejected", "broken", {"revision": "rev-3", "code": "policy.rejected"}),
    ("role.granted", "user:ada", {"by": "user:root", "role": "operator"}),
    ("credential.issued", ADA, {"credential": "c-1", "by": "user:root"}),
    ("credential.revoked", ADA, {"credential": "c-1", "by": "user:root"}),
    ("process.ended", CELL, {"exit": "abnormal", "reason": "died"}),
    ("process.start_failed", CELL, {"error": "no memory"}),
    ("agent.fenced", ADA, {"incarnation": 1}),
    ("agent.start_failed", ADA, {"error": "raised"}),
    ("agent.blocked_loop", "something that is no agent", {"where": "a.py:1", "seconds": 1.01}),
    ("supervisor.gave_up", "cells", {"reason": "too often"}),
    ("registry.lease_expired", CELL, {"agents": 1}),
    ("schedule.started", "nightly", {"run": "r-7"}),
    ("something.new", "nobody knows", {"\U0001f600": "ü", "n": 1.5, "deep": {"a": [1, None, True]}}),
)  # fmt: skip


class WrittenLog:
    """Says things to a log in a folder; `sign` makes the checkpoint over what was said."""

    def __init__(self, folder: Path, signer: note.Signer = SIGNER) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = segments.log_path(folder)
        self.path.touch()
        self.signer = signer
        self._chain = AuditChain()
        self._number = 0
        self._leaves: list[bytes] = []

    def say(self, *said: Said, producer: str = CELL, step_s: float = 1.0) -> WrittenLog:
        """Each entry a second after the one before."""
        for kind, subject, detail in said:
            self._number += 1
            self._enter(Noted(self._number, T0 + step_s * self._chain.index, kind, subject, detail), producer)
        return self

    def lose(self, count: int) -> WrittenLog:
        """Numbers that a producer gave and that never come."""
        self._number += count
        return self

    def _enter(self, noted: Noted, producer: str) -> None:
        lines = self._chain.entered(Batch(producer, [noted]))
        self._leaves += [leaf_hash(line) for line in lines]
        with self.path.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))

    @property
    def checkpoint(self) -> note.Checkpoint:
        return note.Checkpoint(self.signer.name, len(self._leaves), Tree.of(self._leaves).root())

    def sign(self) -> WrittenLog:
        segments.checkpoint_path(self.path).write_text(
            note.sign(self.checkpoint, self.signer), encoding="utf-8"
        )
        segments.verifier_path(self.path).write_text(f"{self.signer.verifier}\n", encoding="utf-8")
        return self
