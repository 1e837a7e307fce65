"""The gateway's process: real shard, fence, sockets and files; only Ray is not there, and the audit log is a list."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.checkpoint_shard import CheckpointShard
from actors.effect_gateway import NAME, EffectGateway
from actors.effect_key import KEY_FILE, link_key, own_key, platform_key
from actors.peers import Peers
from actors.process import Process
from actors.run_spec import RunSpec, write_spec
from actors.site import Site
from aip.errors import Denied, EffectInDoubt, Fenced, InvalidPayload, Killed, NotFound
from aip.governance.audit import Batch
from aip.governance.effects.configuration import EffectsInvalid
from aip.governance.effects.grant import NotGranted
from aip.governance.effects.stamp import Stamp, StampInvalid, sealed
from aip.governance.kill import Fence, KillOrder, Level
from aip.governance.kill.lease import LeaseLapsed
from aip.governance.policy import rollout
from aip.runtime.border import Misspoken
from aip.runtime.speaker import Speaker, Voice, speaker_key

AGENT, CELL = "writer@0123456789ab/1", "cell-0123456789ab-0"
PLAN = b"""
apiVersion: aip/v1
kind: Plan
metadata: {name: writing}
agents:
  author: {use: "agents:Writer", effects: [reports, others, nothing]}
tasks:
  write: {agent: author, capability: write}
"""
YAML = "connectors:\n  reports: {{connector: file, root: {root}, modes: [create, append]}}\n"
YAML += "  ledgers: {{connector: file, root: {root}}}\n"
encode = msgspec.msgpack.encode


class Log(Process):
    """What stands in the audit log, in order."""

    role = "audit"

    async def opened(self) -> None:
        self.notes: list[Any] = []
        self.methods["append"] = self._append

    async def _append(self, payload: bytes) -> bytes:
        self.notes += msgspec.msgpack.decode(payload, type=Batch).notes
        return b""


class Platform:
    """Three processes of ours in one, over their sockets."""

    def __init__(self, site: Site, gateway: EffectGateway, log: Log) -> None:
        self.site = site
        self.log = log
        self.gateway = gateway
        self.root = Path(site.root) / "reports"
        self.count = 0

    async def effect(self, path: str, text: str = "x", mode: str = "create", **changes: Any) -> Any:
        request = encode({"path": path, "text": text, "mode": mode})
        stamp = self.stamp(request, **changes)
        return msgspec.msgpack.decode(await self.send(stamp, request))

    def stamp(self, request: bytes, **changes: Any) -> Stamp:
        self.count += 1
        now = time.time()
        fields: dict[str, Any] = {
            "cell": CELL, "generation": 1, "agent": AGENT, "incarnation": 1, "envelope": "m-1", "epoch": 0,
            "at": now, "nonce": str(self.count), "connector": "reports", "key": f"k{self.count}", "deadline": now + 30,
            "run": "r-1",
        }  # fmt: skip
        stamp = Stamp(**{**fields, **changes})
        return sealed(stamp, own_key(self.site.home, stamp.cell, stamp.generation, stamp.issued), request)

    async def send(self, stamp: Stamp, request: bytes) -> bytes:
        return await self.gateway.peers.call(NAME, "effect", encode((stamp, request)))

    async def kinds(self) -> list[str]:
        await self.gateway.feed.flush()
        return [note.kind for note in self.log.notes if note.kind.startswith("effect.")]


def voice_of(site: Site, name: str) -> Peers:
    """The lines of a process of that name."""
    speaker, key = Speaker(name, 1), link_key(site.home)
    return Peers(Path(site.sockets), voice=Voice(lambda: speaker, lambda one: speaker_key(key, one)))


@asynccontextmanager
async def platform(folder: Path, sockets: str, connectors: str = YAML) -> AsyncIterator[Platform]:
    site = Site("p", str(folder), sockets)
    site.home.make()
    types = {"author": AGENT.partition("/")[0]}
    write_spec(site.home, RunSpec("r-1", PLAN, "plan.yaml", b"", types, [], "user:ada", 0.0))
    rollout.make_sure(site.home)
    site.health.mkdir(parents=True, exist_ok=True)
    (folder / "reports").mkdir(exist_ok=True)
    (folder / "effects.yaml").write_text(connectors.format(root=folder / "reports"))
    log = Log(site, "audit", 1)
    processes: list[Process] = [log, CheckpointShard(site, "checkpoint-0", 1)]
    gateway = EffectGateway(site, NAME, 1)
    try:
        for process in (*processes, gateway):
            await process.open()
        await voice_of(site, CELL).call("checkpoint-0", "activate", encode([(AGENT, CELL, 0, False)]))
        yield Platform(site, gateway, log)
    finally:
        for process in (gateway, *reversed(processes)):
            await process.closing()
            for task in list(process._tasks):
                task.cancel()
            await process.endpoint.close()
            process.peers.close()


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Platform]:
    with tempfile.TemporaryDirectory() as sockets:  # A socket's path must be short.
        async with platform(tmp_path, sockets) as made:
            yield made


async def test_an_effect_is_done_once_and_stands_in_the_log_before_and_after(one: Platform) -> None:
    assert await one.effect("a.txt", key="k") == {"path": "a.txt", "bytes": 1}
    assert await one.effect("a.txt", key="k") == {"path": "a.txt", "bytes": 1}
    assert (one.root / "a.txt").read_text() == "x"
    assert await one.kinds() == ["effect.begun", "effect.done"]
    with pytest.raises(InvalidPayload, match="another request"):
        await one.effect("b.txt", key="k")


async def test_errors_arrive_typed(one: Platform) -> None:
    with pytest.raises(NotFound):
        await one.effect("a", connector="nothing")
    with pytest.raises(Fenced):
        await one.effect("a", incarnation=7)
    with pytest.raises(InvalidPayload):
        await one.effect("../a")
    assert list(one.root.iterdir()) == []


@pytest.mark.parametrize("target", ["platform", "run/r-1", "writer", AGENT])
async def test_an_order_on_the_fence_stops_effects_with_no_kill_switch_alive(
    one: Platform, target: str
) -> None:
    await one.effect("before")
    Fence(one.site.fence).write(KillOrder(target, time.time(), "user:ada", "test"))
    with pytest.raises(Killed):
        await one.effect("after")
    assert [path.name for path in one.root.iterdir()] == ["before"]


async def test_an_order_written_by_another_while_the_effect_prepares_is_seen_at_the_commit(
    one: Platform,
) -> None:
    record = one.gateway.feed.record

    async def then_killed(*arguments: Any) -> None:
        await record(*arguments)
        Fence(one.site.fence).write(KillOrder("run/r-1", time.time(), "user:ada", "test"))

    one.gateway.feed.record = then_killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        await one.effect("a")
    assert list(one.root.iterdir()) == []


async def test_a_stamp_of_nobody_does_nothing(one: Platform) -> None:
    request = encode({"path": "a", "text": "x", "mode": "create"})
    stamp = one.stamp(request)
    with pytest.raises(StampInvalid):
        await one.send(sealed(stamp, bytes(32), request), request)
    with pytest.raises(StampInvalid):
        await one.send(msgspec.structs.replace(stamp, agent="other@0123456789ab/1"), request)
    await one.send(one.stamp(request), request)
    assert [path.name for path in one.root.iterdir()] == ["a"]


async def test_what_a_dead_gateway_left_open_is_in_doubt_at_the_next(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as sockets:
        async with platform(tmp_path, sockets) as made:
            await made.gateway.peers.call("checkpoint-0", "begin", encode((AGENT, 1, "reports:k", False, "")))
            with pytest.raises(EffectInDoubt):
                await made.effect("a", key="k")
            assert list(made.root.iterdir()) == []


async def test_other_connectors_are_taken_whole_or_not_at_all(one: Platform) -> None:
    call = one.gateway.peers.call
    path = Path(one.site.root) / "effects.yaml"
    path.write_text("connectors: {x: {connector: nonsense}}")
    with pytest.raises(Exception, match="x"):
        await call(NAME, "reload", encode({}))
    await one.effect("still")
    path.write_text(f"connectors: {{others: {{connector: file, root: {one.root}}}}}")
    assert msgspec.msgpack.decode(await call(NAME, "reload", encode({}))) == ["others"]
    await one.effect("new", connector="others")
    with pytest.raises(NotFound):
        await one.effect("gone")
    shown = msgspec.msgpack.decode(await call(NAME, "connectors", encode({})))
    assert shown["others"]["root"] == str(one.root)
    asked = encode({"connector": "others", "request": {"path": "a", "text": "x"}})
    assert (
        msgspec.msgpack.decode(await call(NAME, "describe", asked)) == "replace file reports/a with 1 bytes"
    )


def test_the_stamp_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    home = Site("p", str(tmp_path), "").home
    key = platform_key(home)
    assert platform_key(home) == key
    assert len(key) == 32
    path = home.platform / KEY_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in home.platform.iterdir()] == [KEY_FILE]
    path.chmod(0o644)
    with pytest.raises(Denied, match="others can read"):
        platform_key(home)


async def test_a_cell_stamps_for_the_agents_it_holds_and_no_others(one: Platform) -> None:
    with pytest.raises(Fenced, match="not held by cell-0123456789ab-1"):
        await one.effect("a.txt", cell="cell-0123456789ab-1")
    assert list(one.root.iterdir()) == []


@pytest.mark.parametrize("run", ["", "r-2", "../runs/r-1", ".", "r-1/"])
async def test_a_run_that_nobody_submitted_grants_nothing(one: Platform, run: str) -> None:
    with pytest.raises((NotGranted, NotFound)):
        await one.effect("a", run=run)
    assert list(one.root.iterdir()) == []


async def test_what_the_plan_does_not_grant_is_refused_and_stands_in_the_log(one: Platform) -> None:
    with pytest.raises(NotGranted, match="they have: nothing, others, reports"):
        await one.effect("a", connector="ledgers")
    assert await one.kinds() == ["effect.refused"]


async def test_a_file_that_cannot_be_taken_is_the_answer_to_every_effect_until_one_can(
    tmp_path: Path,
) -> None:
    with tempfile.TemporaryDirectory() as sockets:
        async with platform(tmp_path, sockets, "connectors: {{x: {{connector: nonsense}}}}") as made:
            with pytest.raises(EffectsInvalid, match="nonsense"):
                await made.effect("a")
            assert await made.kinds() == ["effect.connectors_refused"]
            (tmp_path / "effects.yaml").write_text(YAML.format(root=made.root))
            await made.gateway.peers.call(NAME, "reload", encode({}))
            assert await made.effect("a") == {"path": "a", "bytes": 1}


async def test_what_a_revoked_key_stamped_is_refused_also_when_the_order_is_lowered(one: Platform) -> None:
    fence = Fence(one.site.fence)
    await one.effect("before")
    fence.write(KillOrder("writer", time.time(), "user:ada", "stolen", level=Level.REVOKE))
    fence.write(KillOrder("writer", time.time(), "user:ada", "found", lifted=True))
    with pytest.raises(Killed, match="revoked"):
        await one.effect("old")
    await one.effect("new", issued=fence.orders().epoch)
    assert sorted(path.name for path in one.root.iterdir()) == ["before", "new"]


async def test_a_lease_that_lapses_while_the_effect_prepares_is_seen_at_the_commit(
    one: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = one.gateway.feed.record

    async def then_cut_off(*arguments: Any) -> None:
        await record(*arguments)
        Fence(one.site.fence).lease.need()

    monkeypatch.setattr(one.gateway.feed, "record", then_cut_off)
    with pytest.raises(LeaseLapsed) as refused:
        await one.effect("late")
    assert refused.value.retryable
    assert list(one.root.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("activate", [(AGENT, CELL, 1, True)]),
        ("save", (AGENT, 1, b"forged")),
        ("release", (AGENT, 1)),
        ("begin", (AGENT, 1, "k", False, "")),
    ],
)
async def test_only_the_cell_that_holds_an_agent_speaks_for_it(one: Platform, method: str, said: Any) -> None:
    """B6, beneath the incarnation, which another cell may guess."""
    with pytest.raises(Misspoken, match=r"cell-liar-0#1 does not hold writer@"):
        await voice_of(one.site, "cell-liar-0").call("checkpoint-0", method, encode(said))
    await voice_of(one.site, CELL).call("checkpoint-0", "save", encode((AGENT, 1, b"mine")))
