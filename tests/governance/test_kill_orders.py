"""What orders reach: raising is a join, descendants are covered, and a thousand orders cost no more than one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kill_kit import ASKER, GREETER, Board, envelope, folded, order

from aip.errors import Denied, Killed, UsageError
from aip.governance.kill import LADDER, Fate, Fence, KillCheck, KillOrder, Level, check_target
from aip.governance.kill.authority import check_raise, checked
from aip.governance.kill.orders import strictest
from aip.governance.kill.target import names

LEVELS = st.sampled_from(list(Level))
ORDERS = st.builds(
    lambda target, level: order(target, level, rate=2.0 if level is Level.THROTTLE else 0.0),
    st.sampled_from(["platform", "greeter", GREETER, "run/r-1", "tenant:acme"]),
    LEVELS,
)


@pytest.mark.parametrize(
    ("target", "message", "covered"),
    [
        ("greeter/ada", {}, True),
        ("greeter/eve", {}, False),
        ("capability:greet", {}, True),
        ("capability:net", {"capability": "net.fetch"}, True),
        ("capability:net.fetch", {"capability": "net.fetch"}, True),
        ("capability:net.send", {"capability": "net.fetch"}, False),
        ("capability:ne", {"capability": "net.fetch"}, False),
        ("tenant:acme", {"tenant": "acme"}, True),
        ("tenant:acme", {"tenant": "acm"}, False),
        ("tenant:acme", {}, False),
        ("asker/1", {"sender": "middle@0123456789ab/7", "chain": (ASKER,)}, True),
        ("run/r-1", {"sender": "run/r-1", "run": ""}, True),
    ],
)
def test_what_an_order_reaches_by_name(target, message, covered):
    orders = folded(order(check_target(target)))
    assert (orders.against(envelope(**message)) is not None) is covered


def test_an_order_on_a_place_reaches_what_is_looked_at_there():
    board = Board(order("node:node-0"), order("pool:p1", Level.PAUSE))
    assert board.check("node:node-0", "pool:p1").peek(envelope(), 0.0).details["target"] == "node:node-0"
    assert board.check("node:node-1", "pool:p1").peek(envelope(), 0.0) is None
    assert board.check("node:node-1", "pool:p1").waits(envelope(), 0.0)
    assert not board.check("node:node-1").waits(envelope(), 0.0)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("plan:r-1", "run/r-1"),
        ("run:r-1", "run/r-1"),
        ("agent:greeter/ada", "greeter/ada"),
        ("type:status", "status"),
        ("tenant:acme", "tenant:acme"),
        ("capability:net.fetch", "capability:net.fetch"),
        ("node:node-0", "node:node-0"),
    ],
)
def test_a_target_can_be_written_by_its_kind(written, meant):
    assert check_target(written) == meant


@pytest.mark.parametrize(
    "target", ["tenant:", "capability:Net", "planet:earth", "pool:a b", "plan:", "type:"]
)
def test_a_kind_without_a_proper_name_is_no_target(target):
    with pytest.raises(UsageError):
        check_target(target)


@given(st.lists(ORDERS, max_size=8), st.randoms(use_true_random=False))
def test_the_order_in_which_orders_are_raised_changes_nothing_of_what_stands(given_orders, rng):
    shuffled = list(given_orders)
    rng.shuffle(shuffled)
    one, other = folded(*given_orders), folded(*shuffled)
    assert {t: o.level for t, o in one.standing.items()} == {t: o.level for t, o in other.standing.items()}
    message = envelope(run="r-1", tenant="acme")
    found, again = one.against(message), other.against(message)
    assert (found and found.level) == (again and again.level)


@given(st.lists(ORDERS, min_size=1, max_size=8))
def test_the_strictest_order_that_covers_a_message_wins(given_orders):
    message = envelope(run="r-1", tenant="acme")
    found = folded(*given_orders).against(message)
    assert found.level == max(one.level for one in given_orders)
    assert {one.target for one in given_orders} <= set(names(message))


def test_a_milder_order_never_softens_a_stricter_one_but_voids_signatures_for_it():
    orders = folded(order("greeter", Level.DRAIN), order("greeter", Level.PAUSE))
    assert orders.standing["greeter"].level is Level.DRAIN
    assert orders.standing["greeter"].epoch == 2


def test_of_two_throttles_the_slower_one_stands():
    orders = folded(order("greeter", Level.THROTTLE, rate=1.0), order("greeter", Level.THROTTLE, rate=9.0))
    assert orders.standing["greeter"].rate == 1.0


def test_a_lift_may_leave_a_milder_level_standing():
    orders = folded(order("greeter"), order("greeter", lifted=True, remains=Level.PAUSE))
    assert orders.standing["greeter"].level is Level.PAUSE
    orders.apply(order("greeter", lifted=True))
    assert not orders.standing


def test_an_order_from_before_there_were_levels_reads_as_terminate():
    line = b'{"target":"greeter","at":1.0,"by":"user:ada","reason":"","lifted":false}'
    assert msgspec.json.decode(line, type=KillOrder).level is Level.TERMINATE


# Descendants


def test_children_of_children_are_covered_and_their_siblings_are_not():
    board = Board(order(ASKER))
    board.births = {ASKER: ["child@0123456789ab/1"], "child@0123456789ab/1": ["grand@0123456789ab/1"]}
    check = board.check()
    for name, covered in [("child", True), ("grand", True), ("cousin", False)]:
        message = envelope(sender="client/c", recipient=f"{name}@0123456789ab/1")
        assert (check.enters(message, 0.0) is not None) is covered


def test_the_runs_that_a_run_started_are_covered():
    board = Board(order("run/r-1"))
    board.births = {"run/r-1": ["run/r-2"]}
    assert board.check().enters(envelope(run="r-2"), 0.0) is not None


def test_a_circle_of_births_ends():
    board = Board(order("a@0123456789ab/1"))
    board.births = {"a@0123456789ab/1": ["b@0123456789ab/1"], "b@0123456789ab/1": ["a@0123456789ab/1"]}
    assert board.check().enters(envelope(recipient="b@0123456789ab/1"), 0.0) is not None


def test_a_child_that_is_born_under_an_order_is_under_it_for_every_process_at_once():
    board = Board(order("asker", Level.PAUSE))
    here, elsewhere = board.check(), board.check()
    message = envelope(sender="client/c", recipient="child@0123456789ab/1")
    assert not elsewhere.waits(message, 0.0)
    assert not here.waits(message, 0.0)
    here.born(ASKER, "child@0123456789ab/1")
    assert here.waits(message, 0.0)
    assert elsewhere.waits(message, 0.0)


# A thousand orders


def test_a_check_looks_up_as_many_names_as_the_message_has_however_many_orders_stand():
    class Counting(dict):
        asked = 0

        def get(self, *key):
            Counting.asked += 1
            return super().get(*key)

    orders = folded(*(order(f"other@0123456789ab/{n}") for n in range(1_000)))
    orders.standing = Counting(orders.standing)
    message = envelope(run="r-1", chain=(ASKER,))
    assert orders.against(message) is None
    assert Counting.asked == len(list(names(message))) < 20


# Who may raise what


BORN = {ASKER: ["child@0123456789ab/1"], "child@0123456789ab/1": ["grand@0123456789ab/1"]}


@pytest.mark.parametrize(
    ("by", "target", "may"),
    [
        ("user:ada", "platform", True),
        ("trigger:breaker_storm", "platform", True),
        (ASKER, ASKER, True),
        (ASKER, "grand@0123456789ab/1", True),
        (ASKER, GREETER, False),
        (ASKER, "platform", False),
        ("child@0123456789ab/1", ASKER, False),
        ("run/r-1", "run/r-2", False),
    ],
)
def test_agents_stop_only_themselves_and_what_descends_from_them(by, target, may):
    if may:
        check_raise(by, target, BORN)
    else:
        with pytest.raises(Denied):
            check_raise(by, target, BORN)


@pytest.mark.parametrize(
    ("level", "rate"), [(Level.THROTTLE, 0.0), (Level.THROTTLE, 1e9), (Level.PAUSE, 1.0)]
)
def test_a_rate_belongs_to_a_throttle_and_is_bounded(level, rate):
    with pytest.raises(UsageError):
        checked("greeter", "user:ada", "", 0.0, level, rate)


def test_nothing_is_strictest_of_nothing():
    assert strictest([]) is None


def test_what_was_revoked_stays_void_when_the_order_is_lowered_until_it_is_issued_anew(tmp_path):
    fence = Fence(tmp_path)
    check = KillCheck.at(fence)
    fence.write(order("nobody"))
    issued = check.orders.epoch
    assert check.credential(envelope(), issued) is None
    fence.write(order("greeter", Level.REVOKE))
    assert isinstance(check.credential(envelope(), issued), Killed)
    fence.write(order("greeter", lifted=True))
    assert check.effect(envelope(), 0.0) is None, "nothing stands"
    assert isinstance(check.credential(envelope(), issued), Killed)
    assert check.credential(envelope(recipient="other/1"), issued) is None
    assert check.credential(envelope(), check.orders.epoch) is None


@pytest.mark.parametrize("level", list(Level))
def test_the_levels_that_make_credentials_void_are_those_of_the_ladder(level):
    orders = folded(order("platform", level))
    assert (orders.void_since(envelope()) > 0) is (LADDER[level].credentials is Fate.VOID)


def test_a_milder_order_on_a_revoked_target_revokes_nothing_again():
    orders = folded(order("greeter", Level.REVOKE), order("greeter", Level.PAUSE))
    assert orders.void_since(envelope()) == 1


def test_credentials_of_descendants_are_revoked_with_their_parent_also_after_the_lift():
    orders = folded(order("parent/1", Level.LOCKDOWN), order("parent/1", lifted=True))
    assert orders.inheritable
    orders.inherit({"parent/1": ["child/1"], "child/1": ["grandchild/1", "parent/1"]})
    assert orders.void_since(envelope(recipient="grandchild/1")) == 1
    assert orders.void_since(envelope(recipient="stranger/1")) == 0


def test_a_node_that_follows_takes_what_it_revoked_itself_for_newer_than_all_it_was_told(tmp_path):
    switch, node = Fence(tmp_path / "switch"), Fence(tmp_path / "node")
    for number in range(3):
        switch.write(order(f"other/{number}"))
    node.follow(switch.identity())
    node.merge(list(switch.history()))
    check = KillCheck.at(node)
    issued = check.orders.epoch
    node.write(order("greeter", Level.REVOKE))
    assert isinstance(check.credential(envelope(), issued), Killed)
    switch.adopt(node.identity(), node.untold())
    node.merge(list(switch.history()))
    assert isinstance(check.credential(envelope(), issued), Killed)
    assert check.credential(envelope(), check.orders.epoch) is None


def test_an_agent_stops_itself_and_its_descendants_only(tmp_path):
    fence = Fence(tmp_path)
    check = KillCheck.at(fence)
    fence.born("a@0123456789ab/1", "b@0123456789ab/1")
    for target in ("c@0123456789ab/1", "platform", "a", "a@0123456789ab/2"):
        with pytest.raises(Denied, match="may stop itself"):
            check.stop("a@0123456789ab/1", target, "no", 1.0)
    check.stop("a@0123456789ab/1", "b@0123456789ab/1", "odd", 1.0)
    check.stop("a@0123456789ab/1", "a@0123456789ab/1", "done", 1.0)
    assert [(one.target, one.by, one.reason) for one in fence.history()] == [
        ("b@0123456789ab/1", "a@0123456789ab/1", "odd"),
        ("a@0123456789ab/1", "a@0123456789ab/1", "done"),
    ]
