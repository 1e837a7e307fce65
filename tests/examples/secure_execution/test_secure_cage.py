"""What a stranger's snippet tries, and what becomes of it: in a real child, held by the real kernel."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
from pathlib import Path

import pytest
from secure_kit import Marked

from aip.errors import InvalidPayload

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="the cage is built of Linux")


async def attempt(code: str, **bounds: object):
    """Its outcome; where this kernel cannot hold it, nothing ran and there is nothing to be seen here."""
    from sandbox import cage
    from sandbox.bounds import Bounds

    try:
        return await cage.run(code, Bounds.model_validate(bounds))
    except cage.Unenforceable as missing:
        pytest.skip(missing.message)


async def test_a_snippet_runs_in_an_empty_folder_as_nobody_in_particular() -> None:
    done = await attempt(
        "import os; print(os.listdir('.'), os.getcwd(), os.getuid() != 0, len(os.environ) <= 4)"
    )
    assert (done.ended, done.exit_code, done.stdout) == ("finished", 0, "[] /work True True\n")
    assert set(done.held) == {"namespaces", "landlock", "filter"}
    assert done.not_held == {}


async def test_what_it_says_and_how_it_ends_is_told() -> None:
    done = await attempt("import sys; print('ü'); print('oh', file=sys.stderr); sys.exit(3)")
    assert (done.exit_code, done.stdout, done.stderr) == (3, "ü\n", "oh\n")
    assert (await attempt("import os; os.abort()")).ended == "signal"


async def test_a_fork_bomb_gets_the_processes_it_may_have() -> None:
    code = """
import os, time
started = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
        started += 1
except BlockingIOError:
    print(started)
"""
    snippet = Marked(code)
    done = await attempt(snippet.code, processes_max=4)
    assert done.stdout == "3\n"  # Beside itself.
    assert snippet.processes() == []


async def test_a_fork_bomb_that_never_gives_up_ends_with_its_time() -> None:
    snippet = Marked("import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass")
    done = await attempt(snippet.code, processes_max=2, wall_s=0.5)
    assert done.ended == "wall_clock"
    assert snippet.processes() == []


async def test_threads_count_as_processes() -> None:
    code = "import threading, time\nfor _ in range(9):\n    threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
    done = await attempt(code, processes_max=4, wall_s=5)
    assert done.exit_code == 1
    assert "can't start new thread" in done.stderr


async def test_a_memory_hog_gets_no_more_than_its_bound() -> None:
    done = await attempt("hoard = bytearray(1 << 30)", memory_bytes=128 << 20)
    assert done.exit_code == 1
    assert "MemoryError" in done.stderr
    assert done.memory_bytes is not None
    assert done.memory_bytes < 128 << 20


async def test_an_endless_loop_ends_with_its_processor_time() -> None:
    done = await attempt("while True: pass", cpu_s=1, wall_s=60)
    assert done.ended == "cpu"


async def test_a_sleeper_ends_with_the_wall_clock() -> None:
    snippet = Marked("import time; time.sleep(600)")
    assert (await attempt(snippet.code, wall_s=0.5)).ended == "wall_clock"
    assert snippet.processes() == []


async def test_who_leaves_the_group_and_its_parent_ends_all_the_same() -> None:
    code = """
import ctypes, os, signal, time
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
print("away", flush=True)
"""
    snippet = Marked(code)
    done = await attempt(snippet.code, wall_s=5)
    assert (done.ended, done.stdout) == ("finished", "away\n")
    assert snippet.processes() == []


@pytest.mark.parametrize("place", ["/tmp/evil", "/evil", "/dev/shm/evil", "../evil", "/usr/lib/evil"])
async def test_nothing_is_written_outside_its_folder(place: str) -> None:
    done = await attempt(f"open({place!r}, 'w')")
    assert done.exit_code == 1
    assert not Path(place).exists()


async def test_nothing_of_a_person_can_be_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the word")
    secret.chmod(0o644)
    for place in (str(secret), "/etc/passwd", "/proc/self/environ", str(Path(__file__))):
        done = await attempt(f"print(open({place!r}).read())")
        assert (done.exit_code, done.stdout) == (1, ""), place


async def test_its_disk_is_bounded_as_a_whole_and_gone_afterwards() -> None:
    code = """
for number in range(100):
    with open(f"part-{number}", "wb") as file:
        file.write(bytes(200_000))
"""
    done = await attempt(code, disk_bytes=2 << 20)
    assert "No space left" in done.stderr
    many = await attempt("for n in range(9999):\n    open(str(n), 'w').close()\n    print(n)", files_max=20)
    assert "No space left" in many.stderr
    assert many.stdout.split()[-1] == "19"


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX"])
async def test_no_socket_can_be_made(family: str) -> None:
    done = await attempt(f"import socket; socket.socket(socket.{family})")
    assert "PermissionError" in done.stderr


async def test_without_the_filter_the_network_is_still_another_one() -> None:
    """The namespace by itself: somebody listens on this machine's loopback, and is not there."""
    from sandbox import kernel

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        child = os.fork()
        if child == 0:
            try:
                kernel.enter_namespaces([os.geteuid()], [os.getegid()])
                code = 3
                with socket.socket() as caller:
                    code = 0 if caller.connect_ex(("127.0.0.1", port)) else 1
            except OSError:
                code = 2
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 2:
        pytest.skip("this kernel gives an ordinary user no namespaces")
    assert code == 0


async def test_huge_output_is_cut_and_ends_it() -> None:
    snippet = Marked("while True: print('x' * 10_000)")
    done = await attempt(snippet.code, output_bytes_max=1_000)
    assert (done.ended, done.cut, done.stdout) == ("output", True, "x" * 1_000)
    assert snippet.processes() == []


async def test_output_of_exactly_its_bound_is_whole() -> None:
    done = await attempt("import sys; sys.stdout.write('x' * 1_000)", output_bytes_max=1_000)
    assert (done.ended, done.cut, len(done.stdout)) == ("finished", False, 1_000)


@pytest.mark.parametrize("number", [1, 2, 77, 10_000])
async def test_it_cannot_speak_for_its_cage(number: int) -> None:
    """The pipe of the report is closed before it runs."""
    forged = b'{"code": 0, "held": ["everything"]}\\n'
    done = await attempt(
        f"import os\nfor n in range(3, 64):\n    try:\n        os.write(n, {forged!r})\n    except OSError:\n        pass\n"
        f"os._exit({number % 200})"
    )
    assert done.exit_code == number % 200
    assert "everything" not in done.held


async def test_a_cancelled_run_leaves_nothing_behind() -> None:
    snippet = Marked("import time; time.sleep(600)")
    task = asyncio.create_task(attempt(snippet.code, wall_s=60))
    while not snippet.processes():
        assert not task.done(), task.result()
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert snippet.processes() == []


async def test_where_the_kernel_cannot_hold_it_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from sandbox import cage
    from sandbox.bounds import Bounds

    crippled(monkeypatch, tmp_path)
    with pytest.raises(cage.Unenforceable, match=r"unshare.*not permitted") as caught:
        await cage.run("print('ran')", Bounds())
    assert list(caught.value.details["lacks"]) == ["namespaces"]
    assert not caught.value.retryable


async def test_what_may_be_missing_is_said_when_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crippled(monkeypatch, tmp_path)
    system = shutil.which("python3", path="/usr/bin")
    if (
        os.geteuid() == 0 and system
    ):  # Outside a room of its own, nobody may not enter root's home for an interpreter.
        monkeypatch.setattr("sys.executable", system)
    snippet = Marked("import os, socket; print(os.listdir('.'), os.getuid() != 0)\nsocket.socket()")
    done = await attempt(snippet.code, may_lack=["namespaces"])
    assert done.held == ["landlock", "filter"]
    assert "may outlive it" in done.not_held["namespaces"]
    assert done.stdout == "[] True\n"
    assert "PermissionError" in done.stderr  # No network all the same: the filter holds it too.


def crippled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A kernel without namespaces for ordinary users, as in most containers: the same program, its `unshare` refused."""
    from sandbox import cage

    (tmp_path / "sandbox").mkdir()
    for module in (cage.ROOT / "sandbox").glob("*.py"):
        text = module.read_text()
        if module.name == "kernel.py":
            call = '_checked(_libc.unshare(ctypes.c_int(NAMESPACES)), "unshare")'
            assert call in text
            text = text.replace(call, 'raise PermissionError(1, "unshare: Operation not permitted")')
        (tmp_path / "sandbox" / module.name).write_text(text)
    tmp_path.chmod(0o755)
    monkeypatch.setattr(cage, "ROOT", tmp_path)


@pytest.mark.parametrize("code", ["print(1)\0", "'\ud800'", "#" * 70_000])
async def test_a_text_that_is_no_argument_is_refused(code: str) -> None:
    from sandbox import cage
    from sandbox.bounds import Bounds

    with pytest.raises(InvalidPayload, match="code"):
        await cage.run(code, Bounds())
