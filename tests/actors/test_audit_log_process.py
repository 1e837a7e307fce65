"""The audit log's process and its witness: durable when it says so, signed and cosigned, and no effect without it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable

import msgspec
import pytest

from actors.audit_log import AuditLog
from actors.node_agent import NodeAgent
from actors.site import Site
from aip.errors import Corrupt, PlatformUnavailable
from aip.governance import feed, note
from aip.governance.audit import Batch, Noted, log_path, read, verify
from aip.governance.entry import ERASED
from aip.governance.erasure import KeyFolder, Vault, personal
from aip.governance.feed import AuditFeed
from aip.governance.kill import Fence
from aip.governance.note import Verifier
from aip.governance.segments import checkpoint_path, witnessed_path
from aip.governance.verification import verifiers
from aip.governance.witness_memory import witnessed


@pytest.fixture
def site(tmp_path):
    with tempfile.TemporaryDirectory() as sockets:  # A socket's path must be short.
        site = Site("p", str(tmp_path / "home"), sockets)
        site.home.make()
        site.health.mkdir(parents=True, exist_ok=True)
        Fence(site.fence)
        yield site


async def opened(kind, site, name):
    process = kind(site, name, 1)
    await process.open()
    return process


async def ended(process):
    """As kill -9 leaves it: nothing is finished, and its descriptors are closed."""
    tasks = list(process._tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await process.endpoint.close()
    if isinstance(process, AuditLog):
        process._writer.close()


@pytest.fixture
async def start(site):
    running = []

    async def start(kind, name):
        running.append(await opened(kind, site, name))
        return running[-1]

    yield start
    for process in running:
        await ended(process)


def batch(first, count, durable=True, **detail):
    return Batch(
        "cell-1#1",
        [Noted(n, 1.0, "kind", "s", {"n": n, **detail}) for n in range(first, first + count)],
        durable,
    )


async def append(log, one):
    await log.methods["append"](msgspec.msgpack.encode(one))


async def asked(log, method, **arguments):
    return msgspec.msgpack.decode(await log.methods[method](msgspec.msgpack.encode(arguments)))


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_durable_batch_is_on_disk_and_a_checkpoint_over_it_verifies(site, start):
    log = await start(AuditLog, "audit")
    await append(log, batch(0, 3))
    assert log._writer.durable >= 3
    told = await asked(log, "checkpoint")
    point = note.verify(told["note"], [Verifier.parse(told["key"])])
    assert point.size >= 3
    report = verify(log_path(site.home.audit), [point])
    assert report.ok
    assert (site.home.root / "keys" / "audit.key").stat().st_mode & 0o777 == 0o600


async def test_an_entry_is_signed_for_without_anybody_asking(site, start):
    log = await start(AuditLog, "audit")
    await append(log, batch(0, 2, durable=False))
    await until(lambda: log._writer.signed >= 2)
    assert note.parse(checkpoint_path(log_path(site.home.audit)).read_text()).size >= 2


async def test_a_disk_that_refuses_a_checkpoint_for_a_while_is_told_and_signing_goes_on(
    site, start, monkeypatch
):
    monkeypatch.setattr("actors.audit_log.CHECKPOINT_EVERY_S", 0.01)
    log = await start(AuditLog, "audit")
    real, refused = log._writer.publish, []

    def full(text, size):
        if len(refused) < 3:
            refused.append(size)
            raise OSError(errno.ENOSPC, "No space left on device")
        real(text, size)

    monkeypatch.setattr(log._writer, "publish", full)
    await append(log, batch(0, 2, durable=False))
    await until(lambda: log._writer.signed >= 2)
    await log.feed.flush()
    assert [one["kind"] for one in read(log_path(site.home.audit))].count("audit.not_signed") == 1


async def test_a_thousand_entries_do_not_wait_for_the_second(site, start, monkeypatch):
    monkeypatch.setattr("actors.audit_log.CHECKPOINT_EVERY_S", 3_600.0)
    log = await start(AuditLog, "audit")
    await append(log, batch(0, 1_000, durable=False))
    await until(lambda: log._writer.signed >= 1_000)


async def test_the_node_agent_witnesses_the_log_and_finds_one_that_was_put_back(site, start, tmp_path):
    path = log_path(site.home.audit)
    log, node = await start(AuditLog, "audit"), await start(NodeAgent, "node-0")
    await append(log, batch(0, 5))
    await until(witnessed_path(path).exists)
    (key,) = verifiers(path)
    (seen,) = witnessed(site.home.state, key)
    assert seen.size >= 5
    assert note.opened(witnessed_path(path).read_text(), [key]).checkpoint == seen
    await ended(log)
    shutil.copytree(site.home.audit, tmp_path / "copy")

    log = await start(AuditLog, "audit")
    await append(log, batch(5, 20))
    await until(lambda: witnessed(site.home.state, key)[0].size > seen.size + 15)
    await ended(log)
    shutil.rmtree(site.home.audit)
    shutil.copytree(tmp_path / "copy", site.home.audit)

    log = await start(AuditLog, "audit")
    await append(log, batch(5, 1))
    await until(lambda: any(entry["kind"] == "audit.disputed" for entry in read(path)))
    report = verify(path, witnessed(site.home.state, key))
    assert {problem.partition(":")[0] for problem in report.problems} == {"rollback"}
    assert node.name == "node-0"


async def test_a_log_whose_witness_is_not_there_is_written_and_signed_all_the_same(site, start):
    log = await start(AuditLog, "audit")
    await append(log, batch(0, 5))
    await until(lambda: log._writer.signed >= 5)
    await append(log, batch(5, 5))
    await until(lambda: log._writer.signed >= 10)
    assert not witnessed_path(log_path(site.home.audit)).exists()


async def test_erasing_a_person_is_an_entry_and_leaves_nothing_of_them(site, start):
    log = await start(AuditLog, "audit")
    await append(log, batch(0, 1, **personal("ada", {"name": "Ada"})))
    entry = next(one for one in read(log_path(site.home.audit)) if "personal" in one["detail"])
    vault = Vault(KeyFolder(site.home.root / "keys" / "persons"), os.urandom)
    assert vault.opened(entry) == {"name": "Ada"}
    told = await asked(log, "erase", person="ada", by="dpo", reason="asked to")
    assert told["key"] == entry["detail"]["personal"]["key"]
    erased = [one for one in read(log_path(site.home.audit)) if one["kind"] == ERASED]
    assert [(one["subject"], one["detail"]["by"]) for one in erased] == [(told["key"], "dpo")]
    assert Vault(KeyFolder(site.home.root / "keys" / "persons"), os.urandom).opened(entry) is None
    assert b"Ada" not in log_path(site.home.audit).read_bytes()
    assert await asked(log, "erase", person="ada", by="dpo", reason="again") == {"key": None}
    assert verify(log_path(site.home.audit)).ok


async def test_old_segments_are_dropped_when_asked_and_the_log_still_verifies(site, start):
    log = await start(AuditLog, "audit")
    log._writer._segment_bytes_max = 2_000
    for n in range(0, 30, 5):
        await append(log, batch(n, 5))
    told = await asked(log, "retain", keep_days=0, short=True)
    assert told["dropped"] > 0
    assert next(read(log_path(site.home.audit)))["index"] == told["dropped"]
    assert verify(log_path(site.home.audit)).ok


async def test_a_log_that_was_cut_does_not_open(site, start):
    log = await start(AuditLog, "audit")
    await append(log, batch(0, 5))
    await asked(log, "checkpoint")
    await ended(log)
    path = log_path(site.home.audit)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-3]))
    with pytest.raises(Corrupt, match="tail was cut"):
        await start(AuditLog, "audit")


async def test_a_disk_that_refuses_means_that_no_effect_begins(site, start, monkeypatch):
    """`record` is what an effect waits for before it begins."""
    log = await start(AuditLog, "audit")

    async def send(one):
        await append(log, one)

    cell = AuditFeed("cell-9#1", send, lambda: 1.0)
    await cell.record("effect.begun", "a/1", {})
    monkeypatch.setattr(feed, "RECORD_TIMEOUT_S", 0.2)
    real = os.write

    def full(file, data):
        if file == log._writer._file:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(PlatformUnavailable):
        await cell.record("effect.begun", "a/1", {"second": True})
    monkeypatch.setattr(os, "write", real)
    await cell.record("effect.begun", "a/1", {"third": True})
    kept = [one["detail"] for one in read(log_path(site.home.audit)) if one["producer"] == "cell-9#1"]
    assert kept == [{}, {"second": True}, {"third": True}]
    assert verify(log_path(site.home.audit)).gaps == 0


async def test_a_producer_that_sends_again_after_a_restart_is_entered_once(site, start):
    log = await start(AuditLog, "audit")
    await append(log, batch(0, 5))
    await ended(log)
    log = await start(AuditLog, "audit")
    await append(log, batch(0, 8))
    sent = [json.loads(line) for line in log_path(site.home.audit).read_bytes().splitlines()]
    assert [one["number"] for one in sent if one["producer"] == "cell-1#1"] == list(range(8))
