"""Nobody goes around the guard: what a stranger on the cluster gets, and what a cell that lies gets (semantics B1 to B5)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from ray_kit import kill9, pids, until

from actors import boot, platform_record
from actors.effect_key import link_key, own_key, visitor
from actors.peers import Peers
from aip.errors import AgentLost, AIPError, NotFound, PlatformUnavailable
from aip.governance.audit import entries
from aip.governance.effects.stamp import AGE_S_MAX, Stamp, StampInvalid, sealed
from aip.governance.kill import Fence
from aip.governance.policy import rollout
from aip.runtime.envelope import Envelope, Frame, Kind, encode
from aip.runtime.speaker import SEAL_AGE_S_MAX, Speaker, Unproven, Voice, speaker_key

pytestmark = pytest.mark.ray

HERE = Path(__file__).parent
LIE_S = 30.0  # So long a new policy may take to reach a cell.


@pytest.fixture(scope="module")
def pools(running, tmp_path_factory):
    """The intruder's address and its victim's: the same file under two digests, so two pools and two trust domains."""
    found = []
    for kind, class_ in (("intruder", "Intruder"), ("victim", "Victim")):
        folder = tmp_path_factory.mktemp(kind)
        text = (HERE / "agents_bypass" / "agents.py").read_text()
        (folder / "agents.py").write_text(f"{text}\n# {folder}\n")
        found.append(running.deploy(folder, f"agents:{class_}/{kind}"))
    return found


@pytest.fixture
def intruder(pools, platform):
    return pools[0]


@pytest.fixture
def victim(pools, platform):
    return pools[1]


def cell_of(platform, address):
    """The name and the generation of the cell that hosts this agent, which is woken."""
    platform.call(address, "aip.start")
    cell = platform.agent(address)["cell"]
    records = [r for pool in platform.ask("orchestrator", "membership")["pools"].values() for r in pool]
    return next(Speaker(cell, r["generation"]) for r in records if r["cell_id"] == cell)


def voice_of(platform, speaker, key=None):
    key = key or link_key(platform.home)
    return Voice(lambda: speaker, lambda named: speaker_key(key, named))


def mail(to, source, **changes):
    """A frame with one message, as `source` would send it."""
    fields = {
        "id": f"{source}.{os.urandom(4).hex()}", "kind": Kind.CALL, "sender": "client/x", "recipient": to, "capability": "add",
        "payload": msgspec.msgpack.encode({"amount": 1}), "sequence": time.time_ns(), "deadline": time.time() + 20,
        "origin": source.name,
    }  # fmt: skip
    envelope = Envelope(**fields | changes)
    return encode(Frame(source.name, source.generation, time.time_ns(), [envelope]))


def through_ray(platform, attacks):
    """What a driver that has the cluster's token gets for each of (name, method, arguments, pickled)."""
    told = [
        {
            "name": name,
            "method": method,
            "arguments": [base64.b64encode(part).decode() for part in arguments],
            "pickled": pickled,
        }
        for name, method, arguments, pickled in attacks
    ]
    environment = {
        **os.environ,
        **platform_record.connect_environment(platform.record),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "bypass_driver.py"), platform.record.address],
        env=environment,
        input=json.dumps(told).encode(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    return json.loads(done.stdout.decode().splitlines()[-1])


def of_kind(platform, kind):
    return [entry for entry in entries(platform.home.audit) if entry["kind"] == kind]


def noted(platform, kind, **expected):
    """The first audit entry of this kind with these details."""

    def find():
        return [e for e in of_kind(platform, kind) if expected.items() <= e["detail"].items()]

    return until(find)[0]


def test_through_ray_only_a_fresh_seal_of_a_living_process_is_heard(platform, intruder, victim):
    """B1: a handle, pickled or not, and the cluster's token are not enough."""
    before = platform.call(victim, "add", {"amount": 0})
    cell, other = cell_of(platform, victim), cell_of(platform, intruder)
    frame = mail(victim, other, sender=intruder)
    now = time.time()
    forged = voice_of(platform, other, bytes(32)).seal(cell.name, "deliver", frame, now, b"1")
    stale = voice_of(platform, other).seal(cell.name, "deliver", frame, now - SEAL_AGE_S_MAX - 30, b"2")
    elsewhere = voice_of(platform, other).seal(other.name, "deliver", frame, now, b"3")
    ping = voice_of(platform, other).seal(cell.name, "ping", b"", now + 1.0, b"4")
    attacks = {
        "no seal": (cell.name, "deliver", [frame], False),
        "a pickled handle": (cell.name, "deliver", [frame], True),
        "a membership without a seal": (cell.name, "membership", [b""], False),
        "forged": (cell.name, "deliver", [frame, forged], False),
        "stale": (cell.name, "deliver", [frame, stale], False),
        "for another cell": (cell.name, "deliver", [frame, elsewhere], False),
        "good": (cell.name, "ping", [b"", ping], False),
        "replayed": (cell.name, "ping", [b"", ping], False),
    }
    outcomes = dict(zip(attacks, through_ray(platform, attacks.values()), strict=True))
    assert outcomes.pop("good") == "done"
    assert set(outcomes.values()) == {Unproven.code}, outcomes
    assert platform.call(victim, "add", {"amount": 0}) == before
    said = f"the seal of {other} does not verify"
    until(lambda: any(said in entry["detail"]["why"] for entry in of_kind(platform, "speaker.refused")))


def test_over_a_socket_an_unproven_or_replaced_speaker_is_not_heard(platform, intruder, victim):
    """B1, B2: the generation is in the proof, so a cell that was replaced is a stranger."""
    cell, old = cell_of(platform, victim), cell_of(platform, intruder)
    sockets = boot.sockets_of(platform.record)

    async def ask(voice):
        peers = Peers(sockets, voice=voice)
        try:
            return await peers.call(cell.name, "ping", b"x")
        finally:
            peers.close()

    assert asyncio.run(ask(visitor(sockets))) == b"x"
    with pytest.raises(Unproven, match="does not verify"):
        asyncio.run(ask(voice_of(platform, old, bytes(32))))
    kill9(pids(platform)[old.name])

    def heard_again():
        try:
            return platform.call(intruder, "send", {"to": victim, "lies": {}}) == "done"
        except AgentLost:
            return False

    until(heard_again)
    assert cell_of(platform, intruder).generation > old.generation
    with pytest.raises(Unproven, match="was replaced"):
        asyncio.run(ask(voice_of(platform, old)))


def test_a_cell_speaks_for_its_own_agents_under_its_own_generation_only(platform, intruder, victim):
    """B3: what it says beyond that is refused where it arrives, and the log names the cell that said it."""
    cell = cell_of(platform, intruder)
    before = platform.call(victim, "add", {"amount": 0})
    lies = {
        "another pool's agent": {"sender": f"{victim}2"},
        "a person": {"sender": "client/client-1"},
        "a run": {"sender": "run/r-1", "run": "r-1"},
        "another cell": {"origin": cell_of(platform, victim).name},
        "a former generation": {"id": f"{cell.name}.1.0000000000.1"},
        "another run's purse": {"run": "r-1", "budget": "r-2/task"},
    }
    with ThreadPoolExecutor(len(lies)) as at_once:
        outcomes = at_once.map(
            lambda said: platform.call(intruder, "send", {"to": victim, "lies": said}), lies.values()
        )
        assert dict(zip(lies, outcomes, strict=True)) == dict.fromkeys(lies, "refused.sender")
    assert platform.call(victim, "add", {"amount": 0}) == before
    assert noted(platform, "border.refused", code="refused.sender")["subject"] == str(cell)
    assert platform.call(intruder, "send", {"to": victim, "lies": {}}) == "done"


def test_a_guard_that_lets_everything_through_gains_nothing_in_another_pool(platform, intruder, victim):
    """B4: the receiver's own kill check and policy decide again."""
    assert platform.call(intruder, "send", {"to": victim, "lies": {}}) == "done"
    platform.kill("capability:add", "test")
    try:
        assert platform.call(intruder, "send", {"to": victim, "lies": {}}) == "refused.killed"
    finally:
        platform.lift("capability:add")
    outcomes = []
    asked = threading.Thread(
        target=lambda: outcomes.append(platform.call(intruder, "insist", {"to": victim, "seconds": LIE_S}))
    )
    asked.start()
    rollout.activate(platform.home, rollout.shipped(), rollout.shipped() / "strict" / "config.json")
    try:
        asked.join(LIE_S + 10)
        assert outcomes == ["refused.policy"]
    finally:
        rollout.roll_back(platform.home)
    cell = cell_of(platform, intruder)
    assert noted(platform, "message.refused", code="refused.policy", cell=cell.name)["subject"] == victim
    until(lambda: platform.call(intruder, "send", {"to": victim, "lies": {}}) == "done")


def test_the_effect_gateway_commits_under_no_stamp_but_a_fresh_one_of_a_living_cell(platform, intruder):
    """B5: whatever a stamp lacks, it is refused before the gateway looks at what is asked for."""
    cell = cell_of(platform, intruder)
    platform.ask("orchestrator", "want_effects")
    request = msgspec.msgpack.encode({"path": "x"})
    now, revision = time.time(), Fence(platform.home.state / "kill").revision()
    good = Stamp(
        *(cell.name, cell.generation, intruder, 1, "m-1", revision, now, "", "nothing", "k", now + 60),
    )
    key = own_key(platform.home, cell.name, cell.generation)

    def stamped(key=key, **changes):
        stamp = msgspec.structs.replace(good, nonce=os.urandom(8).hex(), **changes)
        return sealed(stamp, key, request)

    former = Speaker(cell.name, cell.generation - 1)
    once = stamped()
    attempts = {
        "good": (once, NotFound.code),  # There is no such connector: its stamp was taken.
        "replayed": (once, StampInvalid.code),
        "unsealed": (good, StampInvalid.code),
        "forged": (stamped(key=bytes(32)), StampInvalid.code),
        "altered": (msgspec.structs.replace(stamped(), agent="other@0123456789ab/1"), StampInvalid.code),
        "stale": (stamped(at=now - AGE_S_MAX - 30), StampInvalid.code),
        "a former generation": (
            stamped(own_key(platform.home, former.name, former.generation), generation=former.generation),
            StampInvalid.code,
        ),
        "ahead of the fence": (stamped(epoch=revision + 2), PlatformUnavailable.code),
    }

    async def outcomes():
        peers = Peers(boot.sockets_of(platform.record))
        found = {}
        for name, (stamp, _) in attempts.items():
            try:
                await peers.once("effects", "effect", msgspec.msgpack.encode((stamp, request)))
            except AIPError as error:
                found[name] = error.code
        peers.close()
        return found

    assert asyncio.run(outcomes()) == {name: code for name, (_, code) in attempts.items()}
    # Its request is looked at only where its stamp is good.
    asked = ("effect.refused", intruder)
    steps = {
        e["detail"]["step"]
        for e in until(lambda: of_kind(platform, "effect.refused"))
        if (e["kind"], e["subject"]) == asked
    }
    assert "commit" not in steps
