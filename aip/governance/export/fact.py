"""What one entry of the log says, whoever wrote it: its run, its agents, its tenant, whether it is a refusal, whose policy.

Producers put these where they naturally stand (the subject, a field of the detail); here is the one table of where that is. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Entry = Mapping[str, Any]

# Kinds whose subject is the run itself, where the detail does not say another.
RUN_KINDS = ("run.", "gate.", "messages")
# Fields of a detail that hold addresses of agents.
AGENT_FIELDS = ("sender", "recipient", "agent", "target")
# Columns of a row of a `messages` entry: one call that ended.
ROW = ("id", "causation", "attempt", "sender", "recipient", "capability", "started", "ended", "code")
POLICY_CODES = ("refused.policy", "refused.denied")


def detail_of(entry: Entry) -> Mapping[str, Any]:
    detail = entry.get("detail")
    return detail if isinstance(detail, Mapping) else {}


def text_of(entry: Entry, name: str) -> str:
    """A text of the detail; "" where there is none."""
    value = detail_of(entry).get(name)
    return value if isinstance(value, str) else ""


def run_of(entry: Entry) -> str:
    """The run that an entry belongs to; "" for none."""
    return run_said(text_of(entry, "run"), str(entry["kind"]), str(entry["subject"]))


def run_said(stated: str, kind: str, subject: str) -> str:
    if stated:
        return stated
    if kind.startswith(RUN_KINDS):
        return subject.removeprefix("run/")
    return subject.removeprefix("run/") if subject.startswith("run/") else ""


def agents_of(entry: Entry) -> Iterator[str]:
    """Every agent's address that an entry names."""
    subject = str(entry["subject"])
    if "/" in subject and not subject.startswith("run/"):
        yield subject
    for name in AGENT_FIELDS:
        if "/" in (address := text_of(entry, name)):
            yield address
    for row in rows_of(entry):
        yield str(row["sender"])
        yield str(row["recipient"])


def names_agent(address: str, wanted: str) -> bool:
    """Whether an address is of an agent (`greeter/ada`) or of a type (`greeter`); a code digest need not be said."""
    kind, _, key = address.partition("/")
    wanted_kind, slash, wanted_key = wanted.partition("/")
    same_kind = kind == wanted_kind or kind.partition("@")[0] == wanted_kind
    return same_kind and (not slash or key == wanted_key)


def tenant_of(entry: Entry) -> str:
    return text_of(entry, "tenant")


def code_of(entry: Entry) -> str:
    return text_of(entry, "code")


def is_refusal(entry: Entry) -> bool:
    """The same rule as the index's (`aip/governance/index.py`)."""
    return "refused" in str(entry["kind"]).split(".")


def is_policy_refusal(entry: Entry) -> bool:
    """A refusal that a policy made, as opposed to a budget, a breaker or a kill order."""
    return is_refusal(entry) and code_of(entry).startswith(POLICY_CODES)


def revision_of(entry: Entry) -> str:
    """The policy revision that an entry puts in force; "" where it puts none."""
    if not str(entry["kind"]).startswith(("policy.activated", "policy.rolled_back")):
        return ""
    return text_of(entry, "revision") or str(entry["subject"])


def person_of(entry: Entry) -> str:
    """Who did it, where somebody did."""
    return text_of(entry, "by")


def reason_of(entry: Entry) -> str:
    """Why it came so, in whichever of its words a producer says it."""
    return text_of(entry, "error") or text_of(entry, "why") or text_of(entry, "reason")


def rows_of(entry: Entry) -> Iterator[Mapping[str, Any]]:
    """The calls of a `messages` entry."""
    if entry["kind"] != "messages":
        return
    rows = detail_of(entry).get("rows")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, list) and len(row) == len(ROW):
            yield dict(zip(ROW, row, strict=True))
