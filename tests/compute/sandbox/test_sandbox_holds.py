"""What a hostile agent tries in its sandbox, each with a real process: it gets nowhere, and its cell goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from sandbox_kit import IS_ROOT, USERS, means_of, stranger

import aip.testing
from actors import sandboxed
from aip.compute.sandbox import SandboxLost, process, syscalls
from aip.compute.sandbox.limits import UNSENT_BYTES_MAX
from aip.errors import AgentFailed, DeadlineExceeded, UnknownCapability


@pytest.fixture(params=USERS)
async def agent(request, monkeypatch):
    """`call(capability, …)` of an agent in a sandbox, by each way to a user of its own."""
    means = means_of(request.param)
    monkeypatch.setattr(sandboxed, "means_here", lambda: means)
    async with aip.testing.platform(stranger()) as platform:

        async def call(capability, timeout_s=None, **arguments):
            return await platform.call("stranger/a", capability, timeout_s=timeout_s, **arguments)

        yield call


async def test_files_of_the_host_are_not_there(agent, tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_text("s")
    for path in (
        "/etc/shadow",
        "/etc/passwd",
        str(secret),
        str(Path.home() / ".bashrc"),
        "/.host/etc/shadow",
    ):
        assert await agent("read", path=path) == "FileNotFoundError", path
    assert await agent("list", path="/code") == ["hostile_agents.py"]
    for path in (
        "/proc",
        "/sys",
        "/home",
        "/var",
        "/run",
        "/dev/shm",
        str(Path(aip.__file__).parents[1] / "actors"),
        "/root/.aip",
        "/usr/bin",
    ):
        assert not await agent("exists", path=path), path


async def test_it_sees_of_us_the_package_and_nothing_beside_it(agent):
    package = Path(aip.__file__).parent
    assert await agent("exists", path=str(package / "agent.py"))
    assert not await agent("exists", path=str(package.parent / "pyproject.toml"))
    assert not await agent("exists", path=str(package.parent / "tests"))


async def test_it_writes_in_its_own_tmp_and_nowhere_else(agent):
    assert await agent("write", path="/tmp/mine") == "done"
    assert not Path("/tmp/mine").exists()
    package = Path(aip.__file__).parent
    for path in (
        "/x",
        "/code/x",
        "/code/hostile_agents.py",
        str(package / "agent.py"),
        "/usr/lib/x",
        "/dev/x",
    ):
        assert await agent("write", path=path) in {"OSError", "PermissionError"}, path


async def test_its_tmp_has_an_end(agent):
    assert await agent("fill", megabytes=100) == "OSError"
    assert await agent("echo", text="on") == "on"


async def test_its_environment_holds_no_secret(agent, monkeypatch):
    monkeypatch.setenv("API_KEY", "s3cret")
    monkeypatch.setenv("AIP_HOME", "/nowhere")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "s3cret")
    names = set(await agent("environment"))
    assert names <= {
        "HOME",
        "TMPDIR",
        "LANG",
        "LC_CTYPE",
        "MALLOC_ARENA_MAX",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
    }


async def test_it_has_its_socket_and_its_output_and_no_descriptor_of_its_cell(agent):
    with open("/dev/null"), socket.socket() as door:
        os.set_inheritable(door.fileno(), True)
        found = await agent("descriptors")
    # Nothing, output twice, the pipe to its parent; an event loop's selector and the two ends that wake it.
    assert found[:4] == [0, 1, 2, 3]
    assert len(found) <= 7


async def test_it_is_alone_and_nobody(agent):
    seen = await agent("who")
    assert (seen["pid"], seen["parent"]) == (1, 0)
    assert seen["uid"] not in (0, os.getuid())


async def test_it_cannot_signal_its_cell(agent):
    for pid in (os.getpid(), os.getppid(), -1):
        assert await agent("kill", pid=pid) == "PermissionError"


async def test_it_starts_no_process_so_there_is_no_fork_bomb(agent):
    assert await agent("fork") == "PermissionError"
    assert await agent("run") == "PermissionError"
    assert await agent("execute") in {"PermissionError", "FileNotFoundError"}


async def test_its_threads_have_an_end(agent):
    if IS_ROOT and (await agent("who"))["uid"] == 1_000:
        pytest.skip("the kernel does not count the threads of root, not in a user namespace of root's either")
    assert await agent("threads", number=10) == "done"
    assert await agent("threads", number=1_000) == "RuntimeError"


async def test_its_open_files_have_an_end(agent):
    assert await agent("leak") == "OSError below 128"


@pytest.mark.parametrize(
    ("family", "kind", "address"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 6379)),
        (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 53)),
        (socket.AF_INET6, socket.SOCK_STREAM, ("::1", 80)),
        (socket.AF_UNIX, socket.SOCK_STREAM, "/tmp/ray/session_latest/sockets/raylet"),
        (socket.AF_UNIX, socket.SOCK_STREAM, "\0abstract"),
        (socket.AF_NETLINK, socket.SOCK_RAW, (0, 0)),
        (socket.AF_PACKET, socket.SOCK_RAW, ("lo", 0)),
    ],
)
async def test_it_has_no_socket_of_any_kind(agent, family, kind, address):
    assert await agent("connect", family=int(family), kind=int(kind), address=address) == "PermissionError"


async def test_it_reaches_no_socket_of_ray_or_of_a_platform(agent, tmp_path):
    place = f"/tmp/aip-test-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(place)
        door.listen()
        try:
            assert not await agent("exists", path=place)
            assert await agent("connect", family=1, kind=1, address=place) == "PermissionError"
        finally:
            os.unlink(place)


async def test_it_resolves_no_name(agent):
    assert await agent("resolve", name="example.com") == "gaierror"


FATAL = (
    "ptrace",
    "mount",
    "unshare",
    "setns",
    "bpf",
    "keyctl",
    "kexec_load",
    "io_uring_setup",
    "perf_event_open",
)


@pytest.mark.parametrize("name", FATAL)
async def test_a_system_call_of_a_break_out_ends_it(agent, name):
    number = syscalls.fatal(os.uname().machine)[name]
    with pytest.raises(SandboxLost) as lost:
        await agent("system_call", number=number)
    assert lost.value.details["signal"] == signal.SIGSYS
    assert await agent("echo", text="a new one") == "a new one"


async def test_a_system_call_that_nobody_listed_is_refused(agent):
    assert await agent("system_call", number=9_999) == 1


async def test_a_memory_bomb_is_its_own_failure(agent):
    with pytest.raises(AgentFailed, match="MemoryError"):
        await agent("memory")
    await agent("forget")
    assert await agent("echo", text="still here") == "still here"


async def test_a_hang_ends_with_the_deadline_and_takes_only_itself(agent):
    with pytest.raises(DeadlineExceeded):
        await agent("hang", timeout_s=0.3)
    assert await agent("echo", text="a new one") == "a new one"


async def test_who_ignores_a_cancellation_is_ended(agent):
    with pytest.raises(DeadlineExceeded):
        await agent("stubborn", timeout_s=0.3)
    assert await agent("echo", text="a new one") == "a new one"


async def test_a_death_is_told_with_its_last_words(agent):
    with pytest.raises(SandboxLost) as lost:
        await agent("exit", code=3)
    assert lost.value.details["exit"] == 3
    assert "these are my last words" in lost.value.message
    with pytest.raises(SandboxLost) as lost:
        await agent("crash")
    assert lost.value.details["signal"] == signal.SIGSEGV


async def test_a_flood_of_output_waits_and_holds_nobody_up(agent, monkeypatch):
    monkeypatch.setattr(process, "STOP_S", 0.3)  # It goes on printing, and does not end by itself.
    flood = asyncio.ensure_future(agent("print_without_end", timeout_s=1.0))
    with pytest.raises(DeadlineExceeded):
        await flood
    assert await agent("echo", text="on") == "on"


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", 0),
        struct.pack(">I", UNSENT_BYTES_MAX),
        struct.pack(">I", 4) + b"\xff\xff\xff\xff",
        struct.pack(">I", 3) + b"\x91\xa3Foo",
        struct.pack(">I", 5) + b"\x93\xa4Done",
        struct.pack(">I", 8) + b"\x94\xa4Done\xff\xc0",
    ],
)
async def test_what_is_no_frame_ends_it(agent, data):
    with pytest.raises(SandboxLost, match="its sandbox was ended"):
        await agent("raw", data=data)
    assert await agent("echo", text="a new one") == "a new one"


async def test_a_frame_that_claims_gigabytes_ends_it_before_there_is_room_made(agent):
    with pytest.raises(SandboxLost, match="2147483648 bytes"):
        await agent("huge")


async def test_who_talks_without_pause_is_read_more_slowly_and_answered(agent):
    assert await agent("talk", number=3_000) == "said"


async def test_it_cannot_speak_for_the_platform(agent):
    with pytest.raises(AgentFailed) as told:
        await agent("forge")
    assert told.value.details["claimed"] == "refused.killed"


async def test_a_value_that_is_no_payload_is_its_own_failure(agent):
    with pytest.raises(aip.AIPError, match="nested deeper"):
        await agent("deep")


async def test_what_it_does_not_have_is_said_by_its_cell(agent):
    with pytest.raises(UnknownCapability, match="no capability 'nothing'"):
        await agent("nothing")


def test_the_process_dies_with_its_cell(tmp_path):
    """A cell is killed as nothing else can be: no launcher and no agent outlives it."""
    means_of(USERS[0] if IS_ROOT else USERS[1])
    script = Path(__file__).with_name("sandbox_cell.py")
    cell = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert cell.stdout is not None
    launcher = int(cell.stdout.readline())
    agents = [child.pid for child in psutil.Process(launcher).children()]
    assert len(agents) == 1
    watched = {pid: os.pidfd_open(pid) for pid in (launcher, *agents)}
    cell.kill()
    cell.wait()
    cell.stdout.close()
    for pid, descriptor in watched.items():
        assert _ended(descriptor), f"{pid} is still there"
        os.close(descriptor)


def _ended(pidfd: int) -> bool:
    import select

    return bool(select.select([pidfd], [], [], 30)[0])
