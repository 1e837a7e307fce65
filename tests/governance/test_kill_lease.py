"""Two nodes cut apart: what was raised before the lease ran out stops the other node by then, whatever the link does.

The nodes are two real fences in two folders; clock and link are simulated from a seed.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kill_kit import envelope, order

from aip.errors import Killed
from aip.governance.kill import Fence, KillCheck, KillOrder, Level, lease
from aip.governance.kill.lease import (
    LIFE_S,
    WORD,
    FenceChanged,
    Grant,
    Granter,
    Holder,
    LeaseLapsed,
    LeaseWord,
    Renewal,
)

NANO = 1_000_000_000
ASK_EVERY_S = 0.4
DRIFT_MAX = 0.02
SEEDS = 40
SPAN_S = 20.0
TARGETS = ("greeter", "tenant:acme", "platform", "capability:greet")


@dataclass
class Clock:
    """A node's own: it began at another time than the true one, and is not exactly as fast."""

    world: World
    offset_s: float
    pace: float

    def now_ns(self) -> int:
        return int((self.offset_s + self.world.now_s * self.pace) * NANO)


@dataclass
class World:
    """True time, and a link between the node and the switch that loses, delays and doubles what it carries."""

    rng: random.Random
    now_s: float = 0.0
    cut: bool = False
    queue: list = field(default_factory=list)
    number: int = 0

    def at(self, s: float, act) -> None:
        self.number += 1
        heapq.heappush(self.queue, (s, self.number, act))

    def send(self, act) -> None:
        """Over the link: lost, late, twice, and not in order. What is on its way when the link is cut still arrives."""
        if self.cut:
            return
        for _ in range(self.rng.choices((0, 1, 2), (1, 8, 1))[0]):
            late_s = self.rng.choice((0.001, 0.05, self.rng.random() * 4))
            self.at(self.now_s + late_s, act)

    def run(self, until_s: float) -> None:
        while self.queue and self.queue[0][0] <= until_s:
            self.now_s, _, act = heapq.heappop(self.queue)
            act()
        self.now_s = until_s


class Pair:
    """The kill switch's node and another one."""

    def __init__(self, folder, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World(self.rng)
        self.switch, self.node = Fence(folder / "switch"), Fence(folder / "node")
        clock = Clock(self.world, self.rng.random() * 1e6, 1 + self.rng.uniform(-DRIFT_MAX, DRIFT_MAX))
        self.clock = clock
        self.node.lease = LeaseWord(self.node._words, clock.now_ns)
        self.granter, self.holder = Granter(self.switch), Holder("node-1", self.node, self.node.lease)
        self.check = KillCheck.at(self.node)
        self.ask()

    def ask(self) -> None:
        """As the node agent does: again and again, whether or not it was answered."""
        renewal, asked_ns = self.holder.renewal(), self.clock.now_ns()
        self.world.send(lambda: self.answer(renewal, asked_ns))
        self.world.at(self.world.now_s + ASK_EVERY_S, self.ask)

    def answer(self, renewal: Renewal, asked_ns: int) -> None:
        wire = msgspec.msgpack.encode(self.granter.answer(carried(renewal, Renewal)))
        self.world.send(lambda: self.holder.take(msgspec.msgpack.decode(wire, type=Grant), renewal, asked_ns))

    def refusal(self):
        return self.check.effect(envelope(tenant="acme"), 0.0)


def carried(value, kind):
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind)


def levels(fence: Fence) -> dict[str, Level]:
    return {target: one.level for target, one in fence.orders().standing.items()}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_effect_begins_on_a_node_later_than_a_lease_after_an_order(seed: int, tmp_path) -> None:
    pair = Pair(tmp_path, seed)
    world, rng = pair.world, pair.rng
    raised_s: list[float] = []
    raises: list[KillOrder] = []

    def raise_one() -> None:
        one = order(rng.choice(TARGETS), rng.choice([Level.QUARANTINE, Level.TERMINATE, Level.LOCKDOWN]))
        pair.switch.write(one)
        raised_s.append(world.now_s)

    def raise_there() -> None:
        one = order(rng.choice(TARGETS), Level.PAUSE)  # Which lets effects begin, and hides nothing.
        pair.node.write(one)
        raises.append(one)

    def act() -> None:
        begins = pair.refusal() is None
        assert not (begins and raised_s and world.now_s > raised_s[0] + LIFE_S), f"seed {seed}"
        if begins:
            begun.append(world.now_s)
        world.at(world.now_s + 0.02, act)

    begun: list[float] = []
    act()
    for _ in range(2 * rng.randrange(3)):  # Back again by the time it is cut for good.
        world.at(rng.uniform(0.25, 0.5) * SPAN_S, lambda: setattr(world, "cut", not world.cut))
    cut_s = SPAN_S / 2 + rng.random()
    world.at(cut_s, lambda: setattr(world, "cut", True))
    early_s = -0.5 * (seed % 2)
    for _ in range(3):
        world.at(cut_s + rng.uniform(early_s, 1), raise_one)
        world.at(rng.uniform(0.25, 1) * SPAN_S, raise_there)
    world.run(SPAN_S)
    assert begun, f"seed {seed}: a node that is never granted anything proves nothing"
    for one in raises:
        assert levels(pair.node)[one.target] >= one.level
    world.cut = False
    world.run(SPAN_S * 2)
    assert levels(pair.node) == levels(pair.switch)
    assert pair.node.merged() == sum(1 for _ in pair.switch.history())
    assert pair.node.untold() == []
    assert isinstance(pair.refusal(), Killed), "the order itself, not the lease"


class Orderly:
    """A node and its switch, message by message."""

    def __init__(self, folder) -> None:
        self.now_ns = 5 * NANO
        self.switch, self.node = Fence(folder / "switch"), Fence(folder / "node")
        self.node.lease = LeaseWord(self.node._words, lambda: self.now_ns)
        self.granter, self.holder = Granter(self.switch), Holder("node-1", self.node, self.node.lease)
        self.check = KillCheck.at(self.node)

    def renew(self) -> bool:
        renewal = self.holder.renewal()
        return self.holder.take(self.granter.answer(renewal), renewal, self.now_ns)

    def lift(self, target: str) -> None:
        self.switch.lower(lambda _: order(target, lifted=True))


@pytest.fixture
def two(tmp_path) -> Orderly:
    return Orderly(tmp_path)


def test_without_a_lease_mail_waits_and_effects_are_refused_by_name_and_worth_another_try(
    two: Orderly,
) -> None:
    refusal = two.check.effect(envelope(), 0.0)
    assert isinstance(refusal, LeaseLapsed)
    assert refusal.retryable
    assert "lease" in refusal.message
    assert two.check.holds()
    assert two.check.waits(envelope(), 0.0)
    assert two.check.enters(envelope(), 0.0) is None
    assert two.check.peek(envelope(), 0.0) is None, "running turns go on"
    assert two.renew()
    assert two.check.effect(envelope(), 0.0) is None
    assert not two.check.holds()
    two.now_ns += int(LIFE_S * NANO)
    assert isinstance(two.check.effect(envelope(), 0.0), LeaseLapsed)


def test_an_order_that_stands_says_more_than_a_lease_that_lapsed(two: Orderly) -> None:
    two.node.write(order("greeter"))
    assert isinstance(two.check.effect(envelope(), 0.0), Killed)


def test_one_node_alone_needs_no_lease(tmp_path) -> None:
    check = KillCheck.at(Fence(tmp_path))
    assert check.effect(envelope(), 0.0) is None
    assert not check.holds()


@pytest.mark.parametrize(
    ("written_s", "now_s", "lapsed"),
    [(0, 50, False), (51, 50, False), (50, 50, True), (49, 50, True), (52.5, 50, True), (9e6, 50, True)],
    ids=[
        "none is needed",
        "within",
        "at its end",
        "after",
        "longer than any",
        "before the machine was booted",
    ],
)
def test_the_word_of_the_page_is_believed_only_where_a_term_can_be(written_s, now_s, lapsed) -> None:
    words = [0] * 512
    words[WORD] = int(written_s * NANO)
    assert LeaseWord(words, lambda: now_s * NANO).lapsed() is lapsed


def test_an_order_that_a_node_raises_reaches_the_switch_once_and_keeps_who_and_why(two: Orderly) -> None:
    two.node.write(order("greeter", Level.PAUSE, by="user:eve", reason="odd"))
    renewal = two.holder.renewal()
    for _ in range(3):
        two.granter.answer(renewal)
    assert [(one.target, one.by, one.reason, one.origin) for one in two.switch.history()] == [
        ("greeter", "user:eve", "odd", two.node.identity())
    ]
    assert two.renew()
    assert levels(two.node) == {"greeter": Level.PAUSE}


def test_a_lift_reaches_the_node_and_lowers_only_what_its_signers_saw(two: Orderly) -> None:
    two.switch.write(order("greeter"))
    two.renew()
    two.lift("greeter")
    two.node.write(order("greeter", Level.QUARANTINE))
    renewal = two.holder.renewal()
    bare = msgspec.structs.replace(renewal, raised=())  # The answer to one that was sent before.
    two.holder.take(two.granter.answer(bare), bare, two.now_ns)
    assert levels(two.node) == {"greeter": Level.QUARANTINE}
    two.renew()
    assert levels(two.switch) == {"greeter": Level.QUARANTINE}
    two.lift("greeter")
    two.renew()
    assert levels(two.node) == {}


def test_what_a_node_had_raised_before_it_joined_stands_everywhere_but_for_what_was_lifted(
    two: Orderly,
) -> None:
    two.node.write(order("greeter"))
    two.node.write(order("tenant:acme", Level.LOCKDOWN))
    two.node.write(order("greeter", lifted=True))
    two.node.write(order("tenant:acme", Level.LOCKDOWN, lifted=True, remains=Level.PAUSE))
    two.renew()
    assert levels(two.switch) == {"tenant:acme": Level.PAUSE}


def test_a_node_that_follows_lowers_nothing_by_itself(two: Orderly) -> None:
    two.switch.write(order("greeter"))
    two.renew()
    with pytest.raises(FenceChanged, match="kill switch's node"):
        two.node.lower(lambda _: order("greeter", lifted=True))
    assert levels(two.node) == {"greeter": Level.TERMINATE}


def test_a_node_takes_no_term_until_it_has_every_order(two: Orderly, monkeypatch) -> None:
    monkeypatch.setattr(lease, "ORDERS_MAX", 2)
    for number in range(5):
        two.switch.write(order(f"greeter/{number}"))
    assert [two.renew() for _ in range(3)] == [False, False, True]
    assert len(levels(two.node)) == 5


def test_nothing_behind_a_gap_is_merged(two: Orderly) -> None:
    for name in ("one", "two", "three"):
        two.switch.write(order(name))
    first, _, third = two.switch.history()
    assert two.node.merge([third]) == 0
    assert two.node.merge([first, third, first]) == 1
    assert set(levels(two.node)) == {"one"}


def test_a_switch_that_lost_orders_or_is_another_one_grants_nothing(two: Orderly, tmp_path) -> None:
    two.switch.write(order("greeter"))
    assert two.renew()
    renewal = two.holder.renewal()
    with pytest.raises(FenceChanged, match="told this node 1 before"):
        two.holder.take(Grant(two.switch.identity(), 0, (), LIFE_S), renewal, two.now_ns)
    other = Granter(Fence(tmp_path / "other"))
    with pytest.raises(FenceChanged, match="follows"):
        two.holder.take(other.answer(renewal), renewal, two.now_ns)
    assert levels(two.node) == {"greeter": Level.TERMINATE}


def test_a_late_answer_never_makes_a_term_shorter_nor_one_that_is_over_longer(two: Orderly) -> None:
    renewal = two.holder.renewal()
    grant = two.granter.answer(renewal)
    two.now_ns += NANO
    two.holder.take(grant, renewal, two.now_ns)
    until_ns = two.node._words[WORD]
    two.holder.take(grant, renewal, two.now_ns - NANO)
    assert two.node._words[WORD] == until_ns
    two.now_ns += int(LIFE_S * NANO)
    two.holder.take(grant, renewal, 5 * NANO)
    assert two.node.lease.lapsed()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["node", "switch", "renew", "lift"]),
            st.sampled_from(TARGETS),
            st.sampled_from(list(Level)[1:]),
        ),
        max_size=12,
    )
)
def test_no_merge_loses_or_lowers_what_was_raised_on_the_node(tmp_path_factory, steps) -> None:
    two = Orderly(tmp_path_factory.mktemp("pair"))
    for what, target, level in steps:
        before = levels(two.node)
        lifted = False
        match what:
            case "node":
                two.node.write(order(target, level))
            case "switch":
                two.switch.write(order(target, level))
            case "lift":
                two.lift(target)
                lifted = True
            case "renew":
                told = two.holder.renewal().raised
                two.renew()
                after = levels(two.node)
                assert all(after[one.target] >= one.level for one in told)
                assert after == levels(two.switch)
        if what != "renew" or lifted:
            assert all(levels(two.node)[name] >= old for name, old in before.items())
