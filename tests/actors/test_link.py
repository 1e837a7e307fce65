"""The socket path between processes: answers, typed errors, breaks."""

from __future__ import annotations

import asyncio
import struct

import pytest

from actors.effect_key import admit_visitors
from actors.link import ASK, CHALLENGE, PACKET_BYTES_MAX, PROOF, Endpoint, Line
from actors.peers import Peers
from aip.errors import NotFound, PlatformUnavailable
from aip.runtime.ports import CellLost, NotSent
from aip.runtime.speaker import SPEAKER, VISITOR, Door, Speaker, Unproven, Voice, speaker_key

KEY = b"k" * 32


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
    challenge = await asyncio.wait_for(
        reader.read(), 5
    )  # Nothing but the challenge, empty here: then the end.
    assert challenge == struct.pack("<IQBB", 0, 0, CHALLENGE, 0)
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


# Who speaks ------------------------------------------------------------------------------------------------------------


async def whoami(payload: bytes) -> bytes:
    await asyncio.sleep(0)
    return str(SPEAKER.get()).encode()


def voice(name: str, generation: int = 1, key: bytes = KEY) -> Voice:
    return Voice(lambda: Speaker(name, generation), lambda speaker: speaker_key(key, speaker))


@pytest.fixture
async def guarded(tmp_path):
    refused = []
    server = Endpoint({"whoami": whoami}, Door("a", KEY), refused.append)
    server.refused = refused
    await server.open(tmp_path / "a.s")
    yield server
    await server.close()


async def test_a_handler_knows_who_speaks_on_each_line(guarded, tmp_path):
    lines = [await Line.connect(tmp_path / "a.s", voice(name)) for name in ("cell-1", "run-2")]
    answers = await asyncio.gather(*(line.call("whoami", b"") for _ in range(5) for line in lines))
    assert answers == [b"cell-1#1", b"run-2#1"] * 5
    for line in lines:
        line.close()


async def test_clients_speak_with_the_key_that_lies_beside_the_sockets(guarded, tmp_path):
    line = await Line.connect(tmp_path / "a.s")
    with pytest.raises(Unproven, match="without a proof"):
        await line.call("whoami", b"")
    line.close()
    admit_visitors(tmp_path, bytes(32))  # Of a platform that was here before.
    admit_visitors(tmp_path, KEY)
    peers = Peers(tmp_path)
    assert await peers.call("a", "whoami") == str(VISITOR).encode()
    peers.close()


async def test_a_forged_proof_fails_every_request_and_is_told_to_the_process(guarded, tmp_path):
    line = await Line.connect(tmp_path / "a.s", voice("cell-1", key=bytes(32)))
    for _ in range(2):
        with pytest.raises(Unproven, match="cell-1#1 does not verify"):
            await line.call("whoami", b"")
    assert [refusal.details["reason"] for refusal in guarded.refused] == ["forged", "forged"]
    line.close()


async def test_a_line_of_a_cell_that_was_replaced_falls_silent(guarded, tmp_path):
    old = await Line.connect(tmp_path / "a.s", voice("cell-1", 1))
    assert await old.call("whoami", b"") == b"cell-1#1"
    new = await Line.connect(tmp_path / "a.s", voice("cell-1", 2))
    assert await new.call("whoami", b"") == b"cell-1#2"
    with pytest.raises(Unproven, match="replaced"):
        await old.call("whoami", b"")
    assert await new.call("whoami", b"") == b"cell-1#2"
    old.close()
    new.close()


async def test_a_challenge_is_good_for_one_answer(guarded, tmp_path):
    """Who guesses gets one guess, and who has entered cannot become another."""
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "a.s"))
    head = struct.Struct("<IQBB")
    size, _, verb, _ = head.unpack(await reader.readexactly(head.size))
    assert verb == CHALLENGE
    challenge = await reader.readexactly(size)
    for name in ("cell-1", "cell-2"):
        proof = voice(name).prove("a", challenge)
        writer.write(head.pack(len(proof), 0, PROOF, 0) + proof)
    writer.write(head.pack(6, 1, ASK, 6) + b"whoami")
    answered = await reader.readexactly(head.size)
    assert await reader.readexactly(head.unpack(answered)[0]) == b"cell-1#1"
    writer.close()


async def test_calls_that_wait_for_the_challenge_learn_that_the_line_broke(tmp_path):
    ends = []

    async def silent(reader, writer):
        ends.append(writer)

    server = await asyncio.start_unix_server(silent, str(tmp_path / "a.s"))
    line = await Line.connect(tmp_path / "a.s", voice("cell-1"))
    waiting = [asyncio.ensure_future(line.call("whoami", b"")) for _ in range(3)]
    while not ends:
        await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert not waiting[1].done()
    ends[0].close()
    for outcome in (await asyncio.gather(*waiting, return_exceptions=True))[1:]:
        assert isinstance(outcome, NotSent)  # Nothing was sent: it may be sent elsewhere.
    server.close()
