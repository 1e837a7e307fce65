"""The outbox forgets nothing, tells in order, and gives up after a day."""

from __future__ import annotations

import json
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kill_kit import order

from aip.governance.kill import Level
from aip.governance.notify import outbox as boxes
from aip.governance.notify.event import encode, event_of, sentence, server_sent
from aip.governance.notify.outbox import Outbox, Settled, decode_record, encode_record

RNG = random.Random(7)


def keep(outbox, *records):
    for record in records:
        outbox.apply(decode_record(encode_record(record)))


def with_queued(*ids, receivers=("pager",), now=0.0):
    outbox = Outbox()
    for id in ids:
        keep(outbox, *outbox.queue(id, b"{}", receivers, now))
    return outbox


def test_a_notification_is_due_at_once_and_told_in_order():
    outbox = with_queued("1", "2")
    assert (outbox.head("pager").id, outbox.head("pager").due_at) == ("1", 0.0)
    keep(outbox, outbox.sent(outbox.head("pager")))
    assert outbox.head("pager").id == "2"
    keep(outbox, outbox.sent(outbox.head("pager")))
    assert outbox.head("pager") is None


def test_the_same_notification_is_queued_once():
    outbox = with_queued("1", "1", "1")
    assert len(outbox) == 1


def test_pauses_double_up_to_five_minutes_and_never_all_at_once():
    outbox, now, pauses = with_queued("1"), 0.0, []
    for _ in range(14):
        parcel = outbox.head("pager")
        keep(outbox, outbox.failed(parcel, now, RNG))
        pauses.append(outbox.head("pager").due_at - now)
        now = outbox.head("pager").due_at
    for attempt, pause in enumerate(pauses):
        assert 0.8 * min(300, 2**attempt) <= pause <= 1.2 * min(300, 2**attempt)
    assert len(set(pauses)) == len(pauses)


def test_after_a_day_it_is_given_up_and_that_is_said():
    outbox = with_queued("1")
    record = outbox.failed(outbox.head("pager"), boxes.AGE_MAX_S, RNG)
    assert record == Settled("pager", "1", told=False)


def test_a_receiver_that_is_down_for_ever_loses_its_oldest_first(monkeypatch):
    monkeypatch.setattr(boxes, "PARCELS_MAX", 3)
    outbox = with_queued(*map(str, range(10)))
    assert [parcel.id for parcel in outbox.parcels()] == ["7", "8", "9"]


def test_one_receiver_does_not_hold_up_another():
    outbox = with_queued("1", receivers=("pager", "mail"))
    keep(outbox, outbox.failed(outbox.head("pager"), 0.0, RNG))
    assert outbox.head("mail").due_at == 0.0


def test_what_waits_for_a_receiver_that_is_no_more_is_given_up():
    outbox = with_queued("1", receivers=("pager", "mail"))
    keep(outbox, *outbox.forget(["mail"]))
    assert [parcel.receiver for parcel in outbox.parcels()] == ["mail"]


ACTS = st.lists(st.tuples(st.sampled_from(["queue", "sent", "failed"]), st.integers(0, 5)), max_size=40)


@given(ACTS)
def test_an_outbox_that_is_made_again_from_its_records_is_the_same(acts):
    outbox, log = Outbox(), []
    for now, (act, number) in enumerate(acts):
        head = outbox.head("pager")
        if act == "queue":
            records = outbox.queue(str(number), b"{}", ["pager"], now)
        elif head is None:
            continue
        else:
            records = [outbox.sent(head) if act == "sent" else outbox.failed(head, now, RNG)]
        log += [encode_record(record) for record in records]
        keep(outbox, *records)
    again = Outbox()
    for record in log:
        again.apply(decode_record(record))
    assert again.parcels() == outbox.parcels() == Outbox.restore(outbox.parcels()).parcels()


# The event


def test_an_order_is_told_as_a_cloud_event():
    told = event_of(order("greeter", epoch=3), "f00d")
    assert told == {
        "specversion": "1.0",
        "id": "f00d-3",
        "source": "urn:aip:fence:f00d",
        "type": "dev.aip.kill.raised",
        "subject": "greeter",
        "time": "1970-01-01T00:00:01Z",
        "datacontenttype": "application/json",
        "data": {
            "target": "greeter",
            "level": "terminate",
            "by": "user:ada",
            "reason": "test",
            "epoch": 3,
            "drill": False,
            "turns": "stopped",
            "effects": "refused",
        },
    }


@pytest.mark.parametrize(
    ("given_order", "words"),
    [
        (order("greeter", Level.PAUSE), "greeter: pause by user:ada"),
        (order("greeter", lifted=True, signers=("ada",)), "greeter: lowered to none by user:ada"),
        (order("greeter", lifted=True, remains=Level.PAUSE), "greeter: lowered to pause by user:ada"),
        (order("aip-drill"), "DRILL aip-drill: terminate by user:ada"),
    ],
)
def test_a_person_reads_it_in_one_line_without_what_somebody_wrote(given_order, words):
    told = event_of(msgspec.structs.replace(given_order, reason="x\r\nBcc: all@example.com"), "f00d")
    assert sentence(told) == words


@given(st.text())
def test_a_reason_never_breaks_out_of_its_line_of_the_event_stream(reason):
    told = event_of(order("greeter", reason=reason, epoch=1), "f00d")
    head, data = server_sent(told).decode().removesuffix("\n\n").split("\ndata: ", 1)
    assert head == "id: f00d-1\nevent: dev.aip.kill.raised"
    assert "\n" not in data
    assert "\r" not in data
    assert json.loads(data) == json.loads(encode(told))
