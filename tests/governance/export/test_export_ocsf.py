"""What becomes of entries in OCSF: every event fits the published schema, and the table of the module holds.

`ocsf/ocsf.schema.json` is made by `ocsf/build_schema.py` from github.com/ocsf/ocsf-schema, 1.9.0-dev at
a5cfc68e3ca6d5b4468c33f8d7ebb76da967975f (Apache License 2.0, see `ocsf/NOTICE.ocsf`).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_log import EVERY_KIND, T0, WrittenLog

from aip.governance.canonical import canonical
from aip.governance.entry import AuditChain, Batch, Noted
from aip.governance.export.ocsf import Ocsf, spelt
from aip.governance.export.ocsf_event import BY_KIND, events_of

SCHEMA = json.loads((Path(__file__).parent / "ocsf" / "ocsf.schema.json").read_text("utf-8"))


def validator(class_uid: int) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**SCHEMA["events"][str(class_uid)], "$defs": SCHEMA["$defs"]})


VALIDATORS = {int(uid): validator(int(uid)) for uid in SCHEMA["events"]}


def entry(kind: str, subject: str, detail: dict[str, Any]) -> dict[str, Any]:
    (line,) = AuditChain().entered(Batch("cell-1", [Noted(1, T0, kind, subject, detail)]))
    found: dict[str, Any] = json.loads(line)
    return found


def check(event: dict[str, Any]) -> None:
    problems = [
        f"{'/'.join(map(str, e.path))}: {e.message}"
        for e in VALIDATORS[event["class_uid"]].iter_errors(event)
    ]
    assert not problems


def exported(*said: tuple[str, str, dict[str, Any]]) -> list[dict[str, Any]]:
    form = Ocsf()
    chain = AuditChain()
    data = form.begin()
    for number, (kind, subject, detail) in enumerate(said, 1):
        (line,) = chain.entered(Batch("cell-1", [Noted(number, T0 + number, kind, subject, detail)]))
        data += form.encode(line, json.loads(line))
    data += form.end("aip.test\n1\nroot\n\n— aip.test sig\n", T0)
    return [json.loads(line) for line in data.splitlines()]


def test_every_event_of_every_kind_fits_the_published_schema() -> None:
    events = exported(*EVERY_KIND)
    assert len(events) > len(EVERY_KIND)
    for event in events:
        check(event)
    assert {event["class_uid"] for event in events} == set(VALIDATORS), "a class that no kind becomes"


def test_the_schema_finds_what_does_not_fit() -> None:
    event = exported(EVERY_KIND[7])[0]
    for harm in (
        {"class_uid": 6003, "colour": "red"},
        {"type_uid": 600301, "severity_id": 9},
        {"time": "noon"},
    ):
        with pytest.raises(AssertionError):
            check({**event, **harm})
    del event["actor"]
    with pytest.raises(AssertionError):
        check(event)


@given(
    st.sampled_from([*BY_KIND, "flush", "audit.gap", ""]),
    st.sampled_from(["", "started", "ended", "refused", "failed", "decide", "lifted"]),
    st.text(max_size=20),
    st.dictionaries(
        st.sampled_from(
            [
                "run",
                "code",
                "by",
                "sender",
                "effect",
                "key",
                "error",
                "rows",
                "revision",
                "tenant",
                "exit",
                "role",
            ]
        ),
        st.none()
        | st.booleans()
        | st.integers(-9, 9)
        | st.floats(-1, 1)
        | st.text(max_size=9)
        | st.lists(st.text(max_size=3)),
    ),
)
def test_whatever_a_producer_says_becomes_events_that_fit(
    kind: str, rest: str, subject: str, detail: dict[str, Any]
) -> None:
    for event in exported((kind + rest, subject, detail)):
        check(event)
        assert spelt(event) == canonical(event)


@pytest.mark.parametrize(
    ("kind", "detail", "wanted"),
    [
        ("effect.done", {"effect": "mail"}, [(6003, 99, "Success")]),
        ("effect.failed", {"effect": "mail", "error": "x"}, [(6003, 99, "Failure")]),
        ("effect.begun", {"effect": "mail"}, [(6003, 99, "Unknown")]),
        ("message.refused", {"code": "refused.budget"}, [(6003, 99, "Failure")]),
        ("message.refused", {"code": "refused.policy"}, [(6003, 99, "Failure"), (2004, 1, "New")]),
        ("kill", {"by": "user:ada"}, [(2005, 1, "New")]),
        ("kill.lifted", {"by": "user:ada"}, [(2005, 3, "Closed")]),
        ("policy.activated", {"revision": "r"}, [(3004, 8, "Success")]),
        ("role.granted", {"role": "operator"}, [(3007, 16, "Success")]),
        ("credential.revoked", {"credential": "c"}, [(3007, 19, "Success")]),
        ("process.started", {"pid": 1}, [(6002, 3, "Success")]),
        ("process.ended", {"exit": "abnormal"}, [(6002, 4, "Failure")]),
        ("agent.start_failed", {"error": "x"}, [(6008, 1, "Failure")]),
        ("messages", {"rows": []}, [(0, 99, None)]),
        ("flush", {"admitted": 1}, [(0, 99, None)]),
    ],
)
def test_what_becomes_what(
    kind: str, detail: dict[str, Any], wanted: list[tuple[int, int, str | None]]
) -> None:
    events = list(events_of(entry(kind, "greeter/ada", detail)))
    assert [(one["class_uid"], one["activity_id"], one.get("status")) for one in events] == wanted
    assert all(one["type_uid"] == one["class_uid"] * 100 + one["activity_id"] for one in events)


def test_a_refusal_is_an_action_denied_and_names_who_asked_for_what() -> None:
    refused, finding = events_of(entry(*EVERY_KIND[6]))
    assert (refused["action"], refused["disposition"], refused["status_code"]) == (
        "Denied",
        "Blocked",
        "refused.policy",
    )
    assert refused["actor"]["app_uid"] == "mallory@3f2a9c01d2e4/1"
    assert refused["api"]["operation"] == "mail.send"
    assert refused["metadata"]["correlation_uid"] == "r-1"
    assert refused["metadata"]["tenant_uid"] == "acme"
    assert finding["policy"]["uid"] == "rev-1"
    assert finding["finding_info"]["related_events"][0]["uid"] == refused["metadata"]["uid"]


def test_calls_are_events_of_their_own_and_the_first_carries_the_entry() -> None:
    first, second, _ = exported(EVERY_KIND[4])
    assert (first["status"], second["status"], second["status_code"]) == (
        "Success",
        "Failure",
        "agent.failed",
    )
    assert "raw_data" in first
    assert "raw_data" not in second
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    assert first["metadata"]["original_event_uid"] == second["metadata"]["original_event_uid"]


def test_events_are_fingerprinted_and_chained(log: WrittenLog) -> None:
    previous = None
    for event in exported(*EVERY_KIND):
        (attestation,) = event.pop("attestation_list")
        assert attestation["fingerprint"]["value"] == hashlib.sha256(canonical(event)).hexdigest()
        assert attestation.get("prev_event", {}).get("fingerprint") == previous
        previous = attestation["fingerprint"]
        if "raw_data" in event:
            assert event["raw_data_hash"]["value"] == hashlib.sha256(event["raw_data"].encode()).hexdigest()
