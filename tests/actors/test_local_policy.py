"""The policy of one process, without the process: a folder of versions, messages, and what becomes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from actors import local_policy
from actors.local_policy import LocalPolicy
from aip.errors import PlatformUnavailable
from aip.governance.kill.ladder import LADDER
from aip.governance.kill.lineage import Lineage
from aip.governance.policy import rollout, store
from aip.governance.policy.bundle import from_files
from aip.governance.policy.engine import Decision
from aip.governance.policy.input import Level
from aip.runtime.envelope import Envelope, Kind
from aip.settings import Home

CALL = Envelope(
    "m-1", Kind.CALL, "asker@0123456789ab/a", "greeter@0123456789ab/b", "greet", b"", run="r-1", budget="r-1/t"
)  # fmt: skip
YES = '{"allow": true}'


def decision(value: str, revision: str = "r1") -> dict[str, bytes]:
    """A bundle whose decision is this Rego term."""
    return {
        "aip/rules.rego": f"package aip\n\ndecision := {value}\n".encode(),
        ".manifest": json.dumps({"revision": revision, "roots": ["aip"]}).encode(),
    }


def bring(home: Home, files: dict[str, bytes]) -> None:
    """Into force, as `aip policy reload` does it, but that no engines are compared."""
    place = rollout.folder(home)
    versions = store.load(place).stage(store.put(place, from_files(files))).activate()
    store.save(place, versions)


class Notes:
    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, kind: str, subject: str, detail: Any) -> None:
        self.told.append((kind, dict(detail)))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_policy, "LOOK_EVERY_S", 0.001)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def policy(home: Home, notes: Notes) -> Iterator[LocalPolicy]:
    one = LocalPolicy(home, notes, lambda _: "cell")
    yield one
    one.close()


async def serving(policy: LocalPolicy, home: Home, value: str, revision: str = "r1") -> LocalPolicy:
    """This decision is in force."""
    bring(home, decision(value, revision))
    return await taken(policy, revision)


async def taken(policy: LocalPolicy, revision: str) -> LocalPolicy:
    following = asyncio.ensure_future(policy.follow())
    async with asyncio.timeout(20):
        while policy.revision != revision:
            await asyncio.sleep(0.001)
    following.cancel()
    return policy


def passes(policy: LocalPolicy, now: float = 0.0, **changes: Any) -> bool:
    return policy.check.peek(msgspec.structs.replace(CALL, **changes), now) is None


# Which policy is in force ---------------------------------------------------------------------------------------------


def test_before_the_first_policy_nothing_passes(policy: LocalPolicy) -> None:
    refusal = policy.check.peek(CALL, 0.0)
    assert refusal is not None
    assert "no policy is in force" in refusal.message


async def test_a_process_waits_for_the_first_policy_of_a_new_home(policy: LocalPolicy, home: Home) -> None:
    opening = asyncio.ensure_future(policy.open())
    await asyncio.sleep(0.01)
    assert not opening.done()
    bring(home, decision(YES))
    await asyncio.wait_for(opening, 20)
    assert passes(policy)


async def test_a_home_that_never_gets_one_is_no_platform(
    policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_policy, "FIRST_S", 0.0)
    with pytest.raises(PlatformUnavailable, match="no policy came into force"):
        await policy.open()


async def test_another_policy_decides_the_very_next_message(policy: LocalPolicy, home: Home) -> None:
    await serving(policy, home, YES)
    assert passes(policy)
    assert passes(policy)
    await serving(policy, home, '{"allow": false}', "r2")
    assert not passes(policy)


async def test_a_version_that_cannot_be_prepared_leaves_the_one_before_and_is_said(
    policy: LocalPolicy, home: Home, notes: Notes
) -> None:
    await serving(policy, home, YES)
    bring(home, decision("no_such_function(1)", "r2"))
    await policy._look()
    assert (policy.revision, notes.kinds) == ("r1", ["policy.not_taken"])
    assert passes(policy)
    await serving(policy, home, '{"allow": false}', "r3")
    assert not passes(policy)


# What is decided once -------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The inputs that reached the policy in force."""
    inputs: list[Any] = []
    decide = policy._serving.decide

    def noted(input: Any, *, id: str) -> Decision:
        inputs.append(input)
        return decide(input, id=id)

    monkeypatch.setattr(policy._serving, "decide", noted)
    return inputs


async def test_agents_of_the_same_types_are_decided_about_once(
    policy: LocalPolicy, home: Home, asked: list[Any]
) -> None:
    await serving(policy, home, YES)
    for number in range(5):
        assert passes(policy, id=f"m-{number}", sender=f"asker@0123456789ab/{number}")
    assert len(asked) == 1


async def test_where_rules_read_addresses_each_pair_is_decided_about(
    policy: LocalPolicy, home: Home, asked: list[Any]
) -> None:
    await serving(policy, home, '{"allow": endswith(input.subject.address, "/a")}')
    assert [passes(policy, sender=f"asker@0123456789ab/{key}") for key in "abab"] == [
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": Kind.TELL},
        {"sender": "run/r-1"},
        {"recipient": "other@0123456789ab/b"},
        {"capability": "pay"},
        {"run": "r-2"},
        {"tenant": "acme"},
        {"labels": (("data", "secret"),)},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_a_message_that_differs_in_anything_rules_may_read_is_decided_anew(
    policy: LocalPolicy, home: Home, asked: list[Any], changes: dict[str, Any]
) -> None:
    await serving(policy, home, YES)
    assert passes(policy)
    assert passes(policy, **changes)
    assert len(asked) == 2
    assert asked[0] != asked[1]


# What a decision obliges to -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duty", "met"),
    [
        ('{"kind": "notice", "text": "x"}', True),
        ('{"kind": "record_before"}', True),
        ('{"kind": "isolation", "at_least": "cell"}', True),
        ('{"kind": "dance"}', False),
        ('{"no": "kind"}', False),
    ],
)
async def test_an_obligation_that_this_version_does_not_know_refuses_every_time(
    policy: LocalPolicy, home: Home, duty: str, met: bool
) -> None:
    await serving(policy, home, f'{{"allow": true, "obligations": [{duty}]}}')
    assert [passes(policy) for _ in range(3)] == [met] * 3


async def test_a_session_that_reads_secrets_has_seen_them_and_so_has_the_next_one(
    policy: LocalPolicy, home: Home
) -> None:
    await serving(policy, home, '{"allow": true, "obligations": [{"kind": "label", "labels": ["secret"]}]}')
    for run in ("r-1", "r-2"):
        assert passes(policy, run=run)
        assert policy._labels.seen(run) == ("secret",)
    assert policy._labels.seen("r-3") == ()


async def test_after_a_secret_was_seen_what_passed_before_is_decided_anew(
    policy: LocalPolicy, home: Home
) -> None:
    await serving(policy, home, '{"allow": count(input.session.labels) == 0}')
    assert passes(policy)
    policy.saw("r-1", ("secret",))
    assert not passes(policy)
    assert passes(policy, run="r-2")


async def test_what_a_session_has_seen_and_nobody_can_read_refuses(policy: LocalPolicy, home: Home) -> None:
    await serving(policy, home, YES)
    policy.saw("r-1", ("secret",))
    (home.state / "sessions" / "labels.jsonl").write_text("not a fact\n" * 9)
    LocalPolicy(home, Notes(), lambda _: "cell")._labels._words[0] += 1
    assert not passes(policy)


# Facts that change ----------------------------------------------------------------------------------------------------


async def test_an_agent_that_sends_too_much_is_refused_until_the_next_second(
    policy: LocalPolicy, home: Home
) -> None:
    await serving(policy, home, '{"allow": object.get(input.rates, input.kind, 0) <= 5}')
    assert [passes(policy, 1.5) for _ in range(7)] == [True] * 5 + [False] * 2
    assert passes(policy, 1.5, sender="asker@0123456789ab/other")
    assert passes(policy, 1.5, kind=Kind.TELL)
    assert passes(policy, 2.0)


async def test_rates_are_told_in_steps_so_that_few_messages_are_decided_anew(
    policy: LocalPolicy, home: Home, asked: list[Any]
) -> None:
    await serving(policy, home, '{"allow": object.get(input.rates, input.kind, 0) <= 5000}')
    assert all(passes(policy) for _ in range(5_000))
    assert [input.rates["call"] for input in asked] == [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000
    ]  # fmt: skip


async def test_what_no_rule_reads_is_not_even_counted(
    policy: LocalPolicy, home: Home, asked: list[Any]
) -> None:
    await serving(policy, home, YES)
    assert all(passes(policy, float(second)) for second in range(50))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("left", "allowed"), [(None, True), (2_000, True), (1_000, True), (999, False), (-1, False)]
)
async def test_what_is_left_on_the_account_is_told(home: Home, left: int | None, allowed: bool) -> None:
    accounts = {} if left is None else {"r-1/t": {"usd_micro": left}}
    policy = LocalPolicy(home, Notes(), lambda _: "cell", budget=lambda account: accounts.get(account, {}))
    await serving(policy, home, '{"allow": object.get(input.budget, "usd_micro", 1000) >= 1000}')
    assert passes(policy) is allowed
    assert passes(policy, budget="")
    policy.close()


async def test_the_order_that_covers_a_message_is_told(home: Home) -> None:
    level = "none"
    policy = LocalPolicy(home, Notes(), lambda _: "cell", level=lambda _: level)
    await serving(policy, home, '{"allow": input.kill.level != "pause"}')
    assert passes(policy)
    level = "pause"
    assert not passes(policy)
    policy.close()


def test_the_levels_of_the_input_are_those_of_the_ladder() -> None:
    assert get_args(Level) == ("none", *map(str, LADDER))


async def test_time_is_told_by_the_second(policy: LocalPolicy, home: Home, asked: list[Any]) -> None:
    await serving(policy, home, '{"allow": input.now_s < 100}')
    assert [passes(policy, now) for now in (98.0, 98.9, 99.9, 100.0)] == [True, True, True, False]
    assert [input.now_s for input in asked] == [98, 99, 100]


async def test_a_spawn_is_told_with_its_family(policy: LocalPolicy, home: Home, asked: list[Any]) -> None:
    await serving(policy, home, '{"allow": input.subject.depth + input.subject.children < 3}')
    family = Lineage(home.state / "kill" / "lineage", "cell-0")
    family.born("asker@0123456789ab/root", CALL.sender)
    family.born(CALL.sender, CALL.recipient)
    spawn = {"capability": "aip.start"}
    assert passes(policy, **spawn)
    assert passes(policy, sender="run/r-1", **spawn)
    told = [(input.kind, input.capability, input.subject.depth, input.subject.children) for input in asked]
    assert told == [("spawn", "", 1, 1), ("call", "aip.start", 0, 0)]


@pytest.mark.parametrize(
    ("sender", "allowed"), [("run/r-1", True), ("client/c-1", True), ("asker@0123456789ab/run", False)]
)
async def test_a_person_s_own_words_are_an_operator_s_and_an_agent_s_are_not(
    policy: LocalPolicy, home: Home, sender: str, allowed: bool
) -> None:
    await serving(policy, home, '{"allow": "operator" in input.principal.roles}')
    assert passes(policy, sender=sender) is allowed
