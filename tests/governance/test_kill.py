"""The kill fence: durable before visible, and it reaches whatever travels on behalf of its target."""

from __future__ import annotations

import multiprocessing

import pytest

from aip.errors import Corrupt, UsageError
from aip.governance.kill import Fence, KillCheck, KillOrder, KillOrders, check_target
from aip.runtime.envelope import Envelope


def envelope(**fields):
    base = {"id": "m", "kind": 0, "sender": "asker@0123456789ab/1", "recipient": "greeter@0123456789ab/ada"}
    return Envelope(**{**base, "capability": "greet", "payload": b"", **fields})


def order(target, lifted=False):
    return KillOrder(target, 1.0, "user:ada", "test", lifted)


@pytest.mark.parametrize(
    ("target", "message", "killed"),
    [
        ("platform", {}, True),
        ("greeter@0123456789ab/ada", {}, True),
        ("greeter@0123456789ab/eve", {}, False),
        ("greeter@0123456789ab", {}, True),
        ("greeter", {}, True),
        ("asker@0123456789ab/1", {}, True),
        ("run/r-1", {"run": "r-1"}, True),
        ("run/r-1", {"run": "r-2"}, False),
        ("run/r-1", {}, False),
        ("middle@0123456789ab/7", {"chain": ("middle@0123456789ab/7", "asker@0123456789ab/1")}, True),
    ],
)
def test_what_an_order_reaches(target, message, killed):
    orders = KillOrders()
    orders.apply(order(target))
    assert (orders.against(envelope(**message)) is not None) is killed
    orders.apply(order(target, lifted=True))
    assert orders.against(envelope(**message)) is None


def test_an_order_is_seen_by_every_reader_at_once_and_stands_after_a_restart(tmp_path):
    writer, reader = Fence(tmp_path), Fence(tmp_path)
    check = KillCheck(reader.revision, reader.orders)
    assert check.peek(envelope(), 0.0) is None
    writer.write(order("greeter"))
    refusal = check.peek(envelope(), 0.0)
    assert refusal is not None
    assert refusal.details["target"] == "greeter"
    again = Fence(tmp_path)
    assert KillCheck(again.revision, again.orders).peek(envelope(), 0.0) is not None
    writer.write(order("greeter", lifted=True))
    assert check.peek(envelope(), 0.0) is None


def _write_many(folder, name):
    fence = Fence(folder)
    for number in range(50):
        fence.write(order(f"{name}/{number}"))


def test_two_processes_that_write_at_once_lose_no_order(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(tmp_path, name)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    assert len(Fence(tmp_path).orders().standing) == 100


def test_a_torn_last_order_never_stood_and_a_damaged_one_is_refused(tmp_path):
    fence = Fence(tmp_path)
    fence.write(order("greeter"))
    path = tmp_path / "orders.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"target": "pla')
    assert set(fence.orders().standing) == {"greeter"}
    fence.write(order("asker"))
    assert set(fence.orders().standing) == {"greeter", "asker"}
    path.write_bytes(b"garbage\n" + whole)
    with pytest.raises(Corrupt, match=":1:"):
        fence.orders()


@pytest.mark.parametrize("target", ["", "Platform", "run/", "a b", "greeter/../x", "RUN/r-1"])
def test_a_wrong_target_is_refused(target):
    with pytest.raises(UsageError):
        check_target(target)


def test_a_fence_has_one_name_for_all_that_open_it_and_no_other_has_it(tmp_path):
    assert Fence(tmp_path / "a").identity() == Fence(tmp_path / "a").identity()
    assert Fence(tmp_path / "a").identity() != Fence(tmp_path / "b").identity()


def test_births_are_read_with_the_orders_and_survive_their_writer(tmp_path):
    parent, child = "asker@0123456789ab/1", "child@0123456789ab/1"
    Fence(tmp_path, "cell-0").born(parent, child)
    with (tmp_path / "lineage" / "cell-0").open("ab") as torn:
        torn.write(b"asker@0123456789ab/1 hal")
    fence = Fence(tmp_path)
    fence.write(order("asker"))
    orders = fence.orders()
    assert orders.against(envelope(sender="client/c", recipient=child)) is not None
    assert orders.against(envelope(sender="client/c", recipient="hal")) is None


def test_an_order_and_a_birth_that_meet_end_in_a_covered_child(tmp_path):
    """Whoever checks after the birth was noted sees either the order, or a fence that will tell of both."""
    fence = Fence(tmp_path, "cell-0")
    check = KillCheck(fence.revision, fence.orders, on_birth=fence.born, look_again=fence.look_again)
    parent, child = "asker@0123456789ab/1", "child@0123456789ab/1"
    check.born(parent, child)
    assert check.enters(envelope(sender=parent, recipient=child), 0.0) is None
    Fence(tmp_path).write(order("asker"))
    assert check.peek(envelope(sender="client/c", recipient=child), 0.0) is not None


def test_a_lineage_is_bounded_and_keeps_the_younger_half(tmp_path, monkeypatch):
    from aip.governance.kill import lineage

    monkeypatch.setattr(lineage, "BYTES_MAX", 1_000)
    kept = lineage.Lineage(tmp_path, "cell-0")
    for number in range(500):
        kept.born("asker/1", f"child/{number}")
    children = list(kept.children()["asker/1"])
    assert "child/499" in children
    assert 40 < len(children) < 120
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_200


def test_a_lift_decides_on_what_stands_at_that_moment(tmp_path):
    fence = Fence(tmp_path)
    fence.write(order("greeter"))
    seen = []

    def decide(orders):
        seen.extend(orders.standing)
        return order("greeter", lifted=True)

    before = fence.revision()
    fence.lower(decide)
    assert seen == ["greeter"]
    assert fence.revision() == before + 1
    assert not fence.orders().standing


@pytest.mark.parametrize("chunk", [b"{", b'"', b"\xff", b"[]"])
def test_no_damage_in_the_middle_of_the_orders_passes_for_an_order(tmp_path, chunk):
    fence = Fence(tmp_path)
    fence.write(order("greeter"))
    path = tmp_path / "orders.jsonl"
    path.write_bytes(chunk + b"\n" + path.read_bytes())
    with pytest.raises(Corrupt):
        fence.orders()
