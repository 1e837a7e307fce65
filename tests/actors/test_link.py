"""The socket path between processes: answers, typed errors, breaks."""

from __future__ import annotations

import asyncio
import struct

import pytest

from actors.link import PACKET_BYTES_MAX, Endpoint, Line
from actors.peers import Peers
from aip.errors import NotFound, PlatformUnavailable
from aip.runtime.ports import CellLost, NotSent


async def echo(payload: bytes) -> bytes:
    return payload


async def slow(payload: bytes) -> bytes:
    await asyncio.sleep(float(payload))
    return payload


async def wrong(payload: bytes) -> bytes:
    raise NotFound("not here", name="x")


@pytest.fixture
async def endpoint(tmp_path):
    server = Endpoint({"echo": echo, "slow": slow, "wrong": wrong})
    await server.open(tmp_path / "a.s")
    yield server
    await server.close()


async def test_many_requests_on_one_line_are_answered_each_by_its_own(endpoint, tmp_path):
    line = await Line.connect(tmp_path / "a.s")
    payloads = [b"x" * n for n in (0, 1, 70_000, 3_000_000)]
    assert await asyncio.gather(*(line.call("echo", p) for p in payloads)) == payloads
    late, early = (
        asyncio.ensure_future(line.call("slow", b"0.05")),
        asyncio.ensure_future(line.call("slow", b"0")),
    )
    done, _ = await asyncio.wait({late, early}, return_when=asyncio.FIRST_COMPLETED)
    assert done == {early}
    await late
    line.close()


async def test_errors_arrive_as_what_they_are(endpoint, tmp_path):
    line = await Line.connect(tmp_path / "a.s")
    with pytest.raises(NotFound) as caught:
        await line.call("wrong", b"")
    assert caught.value.details == {"name": "x"}
    with pytest.raises(NotFound, match="no method 'nothing'"):
        await line.call("nothing", b"")
    line.close()


async def test_nobody_there_is_not_sent_and_a_break_is_lost(endpoint, tmp_path):
    with pytest.raises(NotSent):
        await Line.connect(tmp_path / "nobody.s")
    line = await Line.connect(tmp_path / "a.s")
    waiting = asyncio.ensure_future(line.call("slow", b"30"))
    await asyncio.sleep(0.05)
    line.transport.abort()
    with pytest.raises(CellLost):
        await waiting
    with pytest.raises(NotSent):
        await line.call("echo", b"")


async def test_a_packet_too_large_to_be_ours_ends_the_line(endpoint, tmp_path):
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "a.s"))
    writer.write(struct.pack("<IQBB", PACKET_BYTES_MAX + 1, 1, 0, 0))
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_a_new_process_takes_the_path_over_and_peers_find_it(endpoint, tmp_path):
    peers = Peers(tmp_path)
    assert await peers.call("a", "echo", b"1") == b"1"

    async def other(payload: bytes) -> bytes:
        return b"other"

    second = Endpoint({"echo": other})
    await second.open(tmp_path / "a.s")
    peers.forget("a")
    assert await peers.call("a", "echo", b"1") == b"other"
    await second.close()
    peers.close()


async def test_insist_waits_for_a_peer_that_is_coming_back_and_gives_up_in_time(tmp_path):
    peers = Peers(tmp_path)
    waiting = asyncio.ensure_future(peers.insist("late", "echo", b"x", timeout_s=10))
    await asyncio.sleep(0.1)
    server = Endpoint({"echo": echo})
    await server.open(tmp_path / "late.s")
    assert await waiting == b"x"
    await server.close()
    peers.close()
    with pytest.raises(PlatformUnavailable, match="nobody"):
        await peers.insist("nobody", "echo", b"x", timeout_s=0.2)
