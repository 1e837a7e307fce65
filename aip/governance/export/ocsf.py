"""OCSF 1.9 events, one JSON object a line, for what collects security events of everything else.

    what the log says                          OCSF class                              activity
    a call that ended (rows of `messages`)     API Activity 6003                       99 Call
    effect.begun | done | failed               API Activity 6003, success or failure   99 Effect
    *.refused                                  API Activity 6003, failure, denied      99 Call | Effect
      and where a policy refused               + Detection Finding 2004                1 Create
    kill…                                      Incident Finding 2005                   1 Create | 2 Update | 3 Close
    run.*, gate.* by a person                  API Activity 6003                       99 the act
    policy.*                                   Entity Management 3004 (a policy)       3 Update | 8 Enable …
    credential.*, role.*                       User Management 3007                    16-19
    process.*, agent.*, supervisor.*, cell.*   Application Lifecycle 6002              3 Start | 4 Stop
      and what failed                          Application Error 6008                  1 General Error
    anything else                              Base Event 0                            99 the kind

The first event of an entry carries the entry's own line in `raw_data`, so that it can be proved (`form.py`). Profile
`record_integrity`: each event is fingerprinted (SHA-256 over its RFC 8785 form without `attestation_list`) and names the event
before it, so a stream that lost or gained an event on its way shows. The signed checkpoint is the last event's `raw_data`: it
signs the tree of entries, not OCSF events, and `digital_signature` has no attribute for the signature's own bytes.

3005 User Access Management is deprecated since 1.9.0 in favour of 3007, hence 3007. Validated in the tests against the schema's
repository (1.9.0-dev of 2026-07-22).
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from .ocsf_event import INFORMATIONAL, LOG_NAME, OTHER, SHA_256, Event, base, events_of, metadata

# RFC 8785's spelling of events, ten times as fast as `canonical`: their names are ASCII, and they hold no float.
spelt = msgspec.json.Encoder(order="sorted").encode


class Ocsf:
    """The events of an export, each chained to the one before."""

    name = "ocsf"
    version = 1

    def __init__(self) -> None:
        self._previous: dict[str, Any] | None = None

    def begin(self) -> bytes:
        return b""

    def encode(self, line: bytes, entry: dict[str, Any]) -> bytes:
        events = list(events_of(entry))
        events[0] |= raw(line)
        return b"".join(self._attested(event, entry["hash"]) for event in events)

    def extract(self, record_line: bytes) -> bytes:
        event = msgspec.json.decode(record_line)
        line = event.get("raw_data") if isinstance(event, dict) else None
        if not isinstance(line, str):
            raise ValueError("an event without the entry that it was made of")
        return line.encode()

    def end(self, checkpoint: str, at: float) -> bytes:
        event = base(0, OTHER, "Checkpoint", at, INFORMATIONAL) | raw(checkpoint.encode())
        event["message"] = "the signed checkpoint that every entry of this export is proved against"
        event["metadata"] = metadata("audit.checkpoint", "checkpoint")
        return self._attested(event, "checkpoint")

    def _attested(self, event: Event, chain: str) -> bytes:
        metadata = event["metadata"]
        fingerprint = {
            **SHA_256,
            "serialization": "JCS",
            "serialization_id": 2,
            "value": hashlib.sha256(spelt(event)).hexdigest(),
        }
        attestation = {"uid": metadata["uid"], "chain_uid": LOG_NAME, "fingerprint": fingerprint}
        if self._previous is not None:
            attestation["prev_event"] = self._previous
        self._previous = {"uid": metadata["uid"], "type_uid": event["type_uid"], "fingerprint": fingerprint}
        return spelt({**event, "attestation_list": [attestation]}) + b"\n"


def raw(line: bytes) -> Event:
    return {
        "raw_data": line.decode(),
        "raw_data_size": len(line),
        "raw_data_hash": {**SHA_256, "value": hashlib.sha256(line).hexdigest()},
    }
