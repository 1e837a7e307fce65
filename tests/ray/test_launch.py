"""The embedded platform on a real Ray: it starts once, costs little, ends wholly and is not fooled by a crash.

One platform serves the module, in the order of its life; each test leaves a running one behind for the next.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors import launch, owned, platform_record, ray_head
from aip.errors import PlatformUnavailable
from aip.settings import Home

pytestmark = pytest.mark.ray

UP = "import sys; from pathlib import Path; from actors import launch; from aip.settings import Home\n" + (
    "print(launch.start(Home(Path(sys.argv[1])), on_progress=lambda s: print(s, file=sys.stderr, flush=True)).platform_id)"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("launch"))
    yield home
    assert launch.stop(home).left == ()


@pytest.fixture(scope="module")
def printed_ids(home: Home) -> list[str]:
    """What two programs that start a platform at the same moment were given."""
    both = [
        subprocess.Popen([sys.executable, "-c", UP, str(home.root)], stdout=subprocess.PIPE, text=True)
        for _ in "12"
    ]
    return [starter.communicate(timeout=60)[0].strip() for starter in both]


@pytest.fixture
def platform(home: Home, printed_ids: list[str]) -> platform_record.Platform:
    return launch.start(home)


def wait_for(look: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if seen := look():
            return seen
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def drive(platform: platform_record.Platform, code: str) -> str:
    """What a driver program prints that connects as the client does."""
    program = (
        f"import ray, sys\nray.init(address={platform.address!r}, namespace='aip', log_to_driver=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program + textwrap.dedent(code)],
        env={**os.environ, **platform_record.connect_environment(platform)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def listening(process: psutil.Process) -> set[str]:
    return {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}


def test_two_starts_at_the_same_moment_give_one_platform(home: Home, printed_ids: list[str]) -> None:
    running = launch.find(home)
    assert running is not None
    assert printed_ids == [running.platform_id, running.platform_id]


def test_the_platform_outlives_its_starter_and_a_new_start_returns_it(
    home: Home, platform: platform_record.Platform
) -> None:
    assert platform == launch.find(home)
    assert os.getsid(platform.pid) == platform.pid, "no terminal can hang up on it"


def test_an_actor_runs_this_very_code_in_a_process_that_we_can_name(
    home: Home, platform: platform_record.Platform
) -> None:
    printed = drive(
        platform,
        """
        @ray.remote(num_cpus=0, lifetime="detached", name="greeter", resources={"agent_slots": 500})
        class Greeter:
            def where(self):
                import os, aip, actors.launch
                return f"{os.getpid()} {aip.__file__} {actors.launch.__file__}"
        print(ray.get(Greeter.remote().where.remote()))
        """,
    )
    pid, aip_file, launch_file = printed.split()
    assert Path(launch_file) == Path(launch.__file__).resolve()
    assert Path(aip_file).parent.parent == Path(launch_file).parent.parent
    uses = {use.pid: use for use in owned.processes(home)}
    assert uses[int(pid)].role == "greeter"
    assert not uses[int(pid)].is_ray
    assert all(use.pss_bytes and use.pss_bytes <= use.rss_bytes for use in uses.values())


def test_ray_itself_is_five_processes_and_nothing_of_it_can_be_reached_from_outside(
    home: Home, platform: platform_record.Platform
) -> None:
    roles = [use.role for use in owned.processes(home) if use.is_ray]
    assert roles[0] == "head"
    assert sorted(roles) == ["control store", "dashboard agent", "head", "raylet", "runtime-env agent"]
    record = platform_record.read_record(home)
    assert record is not None
    addresses = set[str]().union(*(listening(process) for process in owned.owned(record)))
    assert addresses
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_only_the_owner_can_read_what_gives_access(home: Home, platform: platform_record.Platform) -> None:
    for path, mode in ((platform.token_path, 0o600), (home.platform, 0o700), (platform.temp_dir, 0o700)):
        assert os.stat(path).st_mode & 0o777 == mode, path


def test_after_kill_9_of_the_head_a_start_gives_a_new_clean_platform(
    home: Home, platform: platform_record.Platform
) -> None:
    before = owned.owned(platform)
    os.kill(platform.pid, signal.SIGKILL)
    wait_for(lambda: launch.find(home) is None)
    said: list[str] = []
    fresh = launch.start(home, on_progress=said.append)
    assert fresh.platform_id != platform.platform_id
    assert "cleaning up" in said[0]
    assert not any(owned.is_alive(process) for process in before)
    assert not Path(platform.temp_dir).exists()
    assert drive(fresh, "print(len(ray.nodes()))") == "1"


def test_a_process_of_the_platform_can_end_it_from_inside(
    home: Home, platform: platform_record.Platform
) -> None:
    before = owned.owned(platform)
    drive(
        platform,
        f"""
        @ray.remote(num_cpus=0, lifetime="detached", name="root")
        class Root:
            def end(self):
                from pathlib import Path
                from actors import launch
                from aip.settings import Home
                launch.stop_from_inside(Home(Path({str(home.root)!r})), 5.0)
        root = Root.remote()
        try:
            ray.get(root.end.remote())
        finally:
            import os
            os._exit(0)  # Whether the answer came before the end is luck; the test looks at the end from outside.
        """,
    )
    wait_for(lambda: platform_record.read_record(home) is None)
    assert not any(owned.is_alive(process) for process in before)
    assert not Path(platform.temp_dir).exists()
    assert sorted(path.name for path in home.platform.iterdir()) == ["launch.lock"]


def test_a_start_that_fails_says_why_and_leaves_nothing(home: Home) -> None:
    launch.stop(home)
    with pytest.raises(PlatformUnavailable) as caught:
        launch.start(home, ray_head.LaunchOptions(object_store_bytes=1))
    assert "object store" in caught.value.message.lower()
    assert caught.value.details["log_tail"]
    assert platform_record.read_record(home) is None
    assert sorted(path.name for path in home.platform.iterdir()) == ["head.log", "launch.lock"]


HALFWAY = "control store answers"
UP_TO_HALFWAY = f"""
import signal
import sys
from pathlib import Path
from actors import launch
from aip.settings import Home

signal.signal(signal.SIGINT, signal.default_int_handler)  # Ignored where a shell started the tests in the background.

def said(line):
    print(line, flush=True)
    if {HALFWAY!r} in line:
        sys.stdin.read()  # Stands still here until the signal comes.

launch.start(Home(Path(sys.argv[1])), on_progress=said)
"""


def interrupted(home: Home, number: signal.Signals) -> tuple[platform_record.Platform, list[Any], int]:
    """A start that gets this signal while its node is not there yet: its record, the processes it had made, its exit code."""
    starter = subprocess.Popen(
        [sys.executable, "-c", UP_TO_HALFWAY, str(home.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines = starter.stdout
    assert lines is not None
    wait_for(lambda: HALFWAY in lines.readline())
    record = platform_record.read_record(home)
    assert record is not None
    born = owned.owned(record)
    starter.send_signal(number)
    starter.wait(20)
    return record, born, starter.returncode


def test_ctrl_c_during_a_start_leaves_nothing(home: Home) -> None:
    record, born, code = interrupted(home, signal.SIGINT)
    assert code != 0
    assert len(born) >= 2
    assert platform_record.read_record(home) is None
    assert not Path(record.temp_dir).exists()
    assert not any(owned.is_alive(process) for process in born)


def test_what_a_killed_starter_leaves_is_no_platform_and_the_next_stop_ends_it(home: Home) -> None:
    record, _, _ = interrupted(home, signal.SIGKILL)
    assert launch.find(home) is None, "half a platform is none"
    stopped = launch.stop(home)
    assert any(name.startswith("head") for name in stopped.ended)
    assert stopped.left == ()
    assert not Path(record.temp_dir).exists()
