"""A small run as its journal and the audit log have it, for tests of what is made of them."""

from __future__ import annotations

from itertools import count
from typing import Any

RUN = "r-1"
T0 = 1_800_000_000.0
BOOM = {"code": "agent.failed", "message": "boom", "retryable": True, "hint": "", "details": {}}
VIEW: dict[str, Any] = {
    "run": RUN,
    "plan": "market-report",
    "accepted_at_s": T0,
    "tasks": {
        "find": {"agent": "researcher", "capability": "web.search"},
        "ask": {"agent": "models.writer", "capability": "chat"},
        "log": {"agent": "tools.git", "capability": "git_log"},
        "judge": {"agent": None, "capability": "review", "vote": {"voters": ["critic/0", "critic/1"]}},
        "approve": {"agent": None, "capability": None},
    },
}


def event(kind: str, after_s: float, **fields: Any) -> dict[str, Any]:
    return {"event": kind, "at_s": T0 + after_s, **fields}


def started(task: str, lease: int, after_s: float, unit: int = 0, attempt: int = 1, replica: int = 0) -> Any:
    return event(
        "attempt_started",
        after_s,
        task=task,
        unit=unit,
        attempt=attempt,
        lease=lease,
        replica=replica,
        arguments_sha256="",
    )


def succeeded(lease: int, after_s: float, **spent: int) -> dict[str, Any]:
    return event("attempt_succeeded", after_s, lease=lease, value=None, spent=spent)


JOURNAL: list[dict[str, Any]] = [
    event("run_accepted", 0, run_id=RUN, plan_digest="d" * 64, submitted_by="user:ada"),
    event("run_moved", 0, state="running", by="user:ada"),
    event("task_ready", 0, task="find", units=1),
    started("find", 1, 1),
    event("attempt_failed", 3, lease=1, error=BOOM, again_at_s=T0 + 4, spent={"tokens": 7}),
    started("find", 2, 4, attempt=2),
    succeeded(2, 9, input_tokens=100, output_tokens=20),
    event("task_ended", 9, task="find", state="succeeded", error=None),
    event("task_ready", 9, task="approve", units=0),
    event("gate_opened", 9, task="approve", question="Publish?", expires_at_s=None),
    event("gate_decided", 12, task="approve", decision="approve", by="user:bob", note=""),
    event("task_ended", 12, task="approve", state="succeeded", error=None),
    event("run_finished", 13, state="succeeded", outputs=None, error=None),
]

AGENT = f"researcher@0123456789ab/{RUN}.researcher.0"


_numbers = count(1)


def entry(kind: str, after_s: float, subject: str = AGENT, **detail: Any) -> dict[str, Any]:
    number = next(_numbers)
    at = T0 + after_s
    return {"index": number, "at": at, "number": number, "kind": kind, "subject": subject, "detail": detail}
