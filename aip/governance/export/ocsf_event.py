"""An entry of the log as OCSF events: which class, which attributes. `ocsf.py` has the table of what becomes what. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...settings import VERSION
from ..canonical import canonical
from . import fact
from .fact import Entry

SCHEMA_VERSION = "1.9.0"
PRODUCT = {"name": "Agent Infrastructure Platform", "vendor_name": "AIP", "version": VERSION}
LOG_NAME = "aip-audit"

CLASS_NAMES = {
    0: "Base Event",
    2004: "Detection Finding",
    2005: "Incident Finding",
    3004: "Entity Management",
    3007: "User Management",
    6002: "Application Lifecycle",
    6003: "API Activity",
    6008: "Application Error",
}
AI_CLASSES = frozenset((3004, 3007, 6002, 6003, 6008))  # Those that have the profile `ai_operation`.
OTHER = 99
SUCCESS, FAILURE = 1, 2
INFORMATIONAL, LOW, MEDIUM, HIGH, CRITICAL = 1, 2, 3, 4, 5
SEVERITIES = {1: "Informational", 2: "Low", 3: "Medium", 4: "High", 5: "Critical"}
STATUSES = {0: "Unknown", SUCCESS: "Success", FAILURE: "Failure"}
DENIED, BLOCKED = 2, 2  # action_id, disposition_id
SHA_256 = {"algorithm": "SHA-256", "algorithm_id": 3, "encoding": "Hex", "encoding_id": 1}

Event = dict[str, Any]


# The parts of an event ----------------------------------------------------------------------------------------------


def base(class_uid: int, activity: int, name: str, at: float, severity: int) -> Event:
    return {
        "activity_id": activity,
        "activity_name": name,
        "category_uid": class_uid // 1000,
        "class_uid": class_uid,
        "class_name": CLASS_NAMES[class_uid],
        "type_uid": class_uid * 100 + activity,
        "time": round(at * 1000),
        "severity_id": severity,
        "severity": SEVERITIES[severity],
    }


def metadata(kind: str, uid: str) -> Event:
    return {
        "version": SCHEMA_VERSION,
        "product": PRODUCT,
        "profiles": ["record_integrity"],
        "log_name": LOG_NAME,
        "event_code": kind,
        "uid": uid,
    }


def event(entry: Entry, class_uid: int, activity: int, name: str, severity: int, nth: int = 0) -> Event:
    """What every event of an entry has."""
    made = base(class_uid, activity, name, float(entry["at"]), severity)
    about = metadata(str(entry["kind"]), f"{entry['hash']}.{nth}" if nth else str(entry["hash"]))
    about |= {
        "original_event_uid": entry["hash"],
        "sequence": entry["index"],
        "log_source": entry["producer"],
    }
    if run := fact.run_of(entry):
        about["correlation_uid"] = run
    if tenant := fact.tenant_of(entry):
        about["tenant_uid"] = tenant
    made["metadata"] = about
    if class_uid in AI_CLASSES and (agent := next(fact.agents_of(entry), "")):
        about["profiles"] = ["ai_operation", *about["profiles"]]
        made["ai_agent"] = ai_agent(agent)
    return made


def status(made: Event, status_id: int, code: str = "", detail: str = "") -> Event:
    made |= {"status_id": status_id, "status": STATUSES[status_id]}
    if code:
        made["status_code"] = code
    if detail:
        made["status_detail"] = detail
    return made


def denied(made: Event) -> Event:
    """Profile `security_control`: the guard said no before anything was done."""
    about = made["metadata"]
    about["profiles"] = [*about["profiles"], "security_control"]
    return made | {
        "action_id": DENIED,
        "action": "Denied",
        "disposition_id": BLOCKED,
        "disposition": "Blocked",
    }


def ai_agent(address: str) -> Event:
    kind, _, digest = address.partition("/")[0].partition("@")
    return {"uid": address, "name": kind, **({"version": digest} if digest else {})}


def actor(entry: Entry, address: str) -> Event:
    """Who acted: a person where one is named, and the agent or the process."""
    made: Event = {"app_uid": address, "app_name": address.partition("/")[0].partition("@")[0]}
    if person := fact.person_of(entry):
        made["user"] = {"name": person.removeprefix("user:"), "uid": person}
    return made


def resource(uid: str, kind: str) -> Event:
    return {"uid": uid, "type": kind}


# One function a class of events --------------------------------------------------------------------------------------


def calls(entry: Entry) -> Iterator[Event]:
    """One event a call that ended. The entry's line stands in the first."""
    for nth, row in enumerate(fact.rows_of(entry)):
        made = event(entry, 6003, OTHER, "Call", INFORMATIONAL, nth)
        code = str(row["code"] or "")
        made |= {
            "time": round(float(row["started"]) * 1000),
            "ai_agent": ai_agent(str(row["recipient"])),
            "actor": actor(entry, str(row["sender"])),
            "api": {"operation": str(row["capability"]), "request": {"uid": str(row["id"])}},
            "src_endpoint": {"svc_name": str(entry["producer"])},
            "resources": [resource(str(row["recipient"]), "agent")],
            "unmapped": {
                "causation": str(row["causation"]),
                "attempt": str(row["attempt"]),
                "ended_ms": round(float(row["ended"]) * 1000),
            },
        }
        yield status(made, FAILURE if code else SUCCESS, code)


def activity(entry: Entry) -> Iterator[Event]:
    """An effect, a refusal, an act of a person: somebody asked for an operation, and this became of it."""
    kind, detail, subject = str(entry["kind"]), fact.detail_of(entry), str(entry["subject"])
    refused = fact.is_refusal(entry)
    name = "Effect" if kind.startswith("effect.") else "Call" if kind.startswith("message.") else kind
    made = event(entry, 6003, OTHER, name, MEDIUM if refused else INFORMATIONAL)
    operation = fact.text_of(entry, "effect") or fact.text_of(entry, "capability") or kind
    request = str(detail.get("key") or detail.get("id") or entry["hash"])
    made["actor"] = actor(entry, fact.text_of(entry, "sender") or subject)
    made["api"] = {"operation": operation, "request": {"uid": request}}
    made["src_endpoint"] = {"svc_name": str(entry["producer"])}
    made["resources"] = [resource(subject, "run" if subject == fact.run_of(entry) else "agent")]
    yield _became(made, entry, kind, refused)
    if fact.is_policy_refusal(entry):
        yield finding(entry, operation)


def _became(made: Event, entry: Entry, kind: str, refused: bool) -> Event:
    if refused:
        return denied(status(made, FAILURE, fact.code_of(entry), fact.reason_of(entry)))
    if kind.endswith((".failed", ".lost")):
        return status(made, FAILURE, fact.code_of(entry), fact.reason_of(entry))
    if kind.endswith((".begun", ".opened", ".unknown", ".unrecorded")):
        return status(made, 0, detail=fact.reason_of(entry))  # Nobody knows yet, or ever.
    return status(made, SUCCESS)


def finding(entry: Entry, operation: str) -> Event:
    """A policy refused: what a person who watches over the agents wants to see."""
    made = denied(event(entry, 2004, 1, "Create", MEDIUM, 1))
    title = f"a policy refused {operation} to {entry['subject']}"
    made |= {
        "finding_info": {
            "uid": str(entry["hash"]),
            "title": title,
            "types": [fact.code_of(entry)],
            "related_events": [{"uid": str(entry["hash"]), "type_uid": 600399}],
        },
        "resources": [resource(str(entry["subject"]), "agent")],
        "is_alert": True,
        "status_id": 1,
        "status": "New",
    }
    if revision := fact.text_of(entry, "revision"):
        made["policy"] = {"uid": revision, "name": "aip", "is_applied": True}
    return made


MILD_LEVELS = ("throttle", "pause")  # Orders that end nothing (aip/governance/kill/ladder.py).


def incident(entry: Entry) -> Iterator[Event]:
    """A kill order: raised, carried out, or lowered again."""
    kind, subject = str(entry["kind"]), str(entry["subject"])
    lowered, raised = kind == "kill.lifted", kind == "kill"
    activity_id, name = (3, "Close") if lowered else (1, "Create") if raised else (2, "Update")
    level = fact.text_of(entry, "level") or "terminate"
    severity = INFORMATIONAL if lowered else MEDIUM if level in MILD_LEVELS else HIGH
    made = event(entry, 2005, activity_id, name, severity)
    person = fact.person_of(entry) or str(entry["producer"])
    words = {
        "Create": f"order {level} on {subject}",
        "Close": f"order lifted on {subject}",
        "Update": f"{kind}: {subject}",
    }
    state_id, state = (5, "Closed") if lowered else (1, "New") if raised else (2, "In Progress")
    made |= {
        "assignee": {"name": person.removeprefix("user:"), "uid": person},
        "desc": f"{words[name]}: {fact.reason_of(entry)}",
        "finding_info_list": [{"uid": subject, "title": f"kill order on {subject}"}],
        "status_id": state_id,
        "status": state,
    }
    yield made


# The last word of a kind, to the activity of Entity Management 3004.
POLICY_ACTIVITIES = {
    "staged": (1, "Create"),
    "activated": (8, "Enable"),
    "rolled_back": (3, "Update"),
    "rejected": (3, "Update"),
}


def policy(entry: Entry) -> Iterator[Event]:
    last = str(entry["kind"]).rpartition(".")[2]
    activity_id, name = POLICY_ACTIVITIES.get(last, (OTHER, str(entry["kind"])))
    rejected = last == "rejected"
    made = event(entry, 3004, activity_id, name, MEDIUM if rejected else INFORMATIONAL)
    revision = fact.text_of(entry, "revision") or str(entry["subject"])
    made["entity"] = {
        "type_id": 5,
        "type": "Policy",
        "uid": revision,
        "policy": {"uid": revision, "name": str(entry["subject"])},
    }
    made["actor"] = actor(entry, str(entry["producer"]))
    yield status(made, FAILURE if rejected else SUCCESS, fact.code_of(entry))


# The kind, to the activity of User Management 3007.
USER_ACTIVITIES = {
    "role.granted": (16, "Assign Roles"),
    "role.removed": (17, "Remove Roles"),
    "credential.issued": (18, "Add Programmatic Credentials"),
    "credential.revoked": (19, "Remove Programmatic Credentials"),
}


def user(entry: Entry) -> Iterator[Event]:
    kind, subject = str(entry["kind"]), str(entry["subject"])
    activity_id, name = USER_ACTIVITIES.get(kind, (OTHER, kind))
    made = event(entry, 3007, activity_id, name, LOW)
    made["user"] = {"uid": subject, "name": subject.removeprefix("user:")}
    if credential := fact.text_of(entry, "credential"):
        made["user"]["programmatic_credentials"] = [{"uid": credential}]
    if role := fact.text_of(entry, "role"):
        made["iam_roles"] = [{"name": role}]
    made["actor"] = actor(entry, str(entry["producer"]))
    yield status(made, SUCCESS)


STARTED, STOPPED = (".started", ".adopted"), (".ended", ".fenced", ".killed_blocked", ".stopped")


def lifecycle(entry: Entry) -> Iterator[Event]:
    """Processes and agents that come, go and fail."""
    kind, subject = str(entry["kind"]), str(entry["subject"])
    if fact.text_of(entry, "error") or kind.endswith(("_failed", ".escalated", ".gave_up")):
        made = event(entry, 6008, 1, "General Error", MEDIUM)
        made["message"] = f"{kind}: {subject}"
        yield status(made, FAILURE, fact.code_of(entry), fact.reason_of(entry))
        return
    activity_id, name = OTHER, kind
    if kind.endswith(STARTED):
        activity_id, name = 3, "Start"
    elif kind.endswith(STOPPED):
        activity_id, name = 4, "Stop"
    abnormal = fact.text_of(entry, "exit") == "abnormal"
    made = event(entry, 6002, activity_id, name, LOW if abnormal else INFORMATIONAL)
    made["app"] = {"name": subject.partition("/")[0], "uid": subject}
    yield status(made, FAILURE if abnormal else SUCCESS, detail=fact.text_of(entry, "reason"))


def other(entry: Entry) -> Iterator[Event]:
    kind = str(entry["kind"])
    made = event(entry, 0, OTHER, kind, HIGH if kind == "audit.gap" else INFORMATIONAL)
    made["message"] = f"{kind}: {entry['subject']}"
    made["unmapped"] = {"detail": canonical(fact.detail_of(entry)).decode()}
    yield made


# The beginning of a kind, to who makes its events. The longest beginning wins.
BY_KIND: Mapping[str, Callable[[Entry], Iterator[Event]]] = {
    "messages": calls,
    "effect.": activity,
    "effect.connectors": other,
    "message.": activity,
    "tell.": activity,
    "run.": activity,
    "gate.": activity,
    "kill": incident,
    "policy.": policy,
    "credential.": user,
    "role.": user,
    "process.": lifecycle,
    "agent.": lifecycle,
    "cell.": lifecycle,
    "supervisor.": lifecycle,
}
_LONGEST_FIRST = sorted(BY_KIND, key=len, reverse=True)


def events_of(entry: Entry) -> Iterator[Event]:
    """The events of one entry: at least one, whatever the entry says."""
    kind = str(entry["kind"])
    beginning = next((one for one in _LONGEST_FIRST if kind.startswith(one)), None)
    made = False
    for one in BY_KIND[beginning](entry) if beginning is not None else ():
        made = True
        yield one
    if not made:
        yield from other(entry)
