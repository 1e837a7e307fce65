"""The embedded platform without Ray: its record, its proof of ownership, its end, and the doctor's judgement."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import doctor, launch, owned, platform_record, ray_head
from aip.compute.sandbox import Mean, Means
from aip.errors import Corrupt, PlatformUnavailable
from aip.settings import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def a_platform(home: Home, **changes: object) -> platform_record.Platform:
    """A record in `home`, and the folders that belong to it."""
    temp_dir = home.root.parent / "aip-temp"
    temp_dir.mkdir(exist_ok=True)
    record = platform_record.Platform(
        "0" * 31 + "1", "127.0.0.1:1", str(home.platform / "token"), 0, 1_700_000_000.0, str(temp_dir)
    )
    record = replace(record, **changes)  # type: ignore[arg-type]
    with platform_record.locked(home):
        platform_record.write_record(home, record)
    return record


def wait_for(look: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """What `look` sees, as soon as it sees anything."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if seen := look():
            return seen
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


# The record


def test_the_record_survives_a_round_trip_and_nobody_else_can_read_it(home: Home) -> None:
    record = a_platform(home, dashboard_url="http://127.0.0.1:8265", pid=17)
    assert platform_record.read_record(home) == record
    assert stat.S_IMODE(platform_record.record_path(home).stat().st_mode) == 0o600
    assert stat.S_IMODE(home.platform.stat().st_mode) == 0o700


def test_a_platform_folder_that_was_open_is_closed_before_a_token_is_put_there(home: Home) -> None:
    home.platform.mkdir(parents=True, mode=0o777)
    home.platform.chmod(0o777)
    with platform_record.locked(home):
        assert stat.S_IMODE(home.platform.stat().st_mode) == 0o700


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"surprise": 1}'])
def test_a_damaged_record_is_reported_and_not_guessed_at(home: Home, text: str) -> None:
    a_platform(home)
    platform_record.record_path(home).write_text(text)
    with pytest.raises(Corrupt) as caught:
        launch.find(home)
    assert str(platform_record.record_path(home)) in caught.value.hint


def test_no_record_no_platform(home: Home) -> None:
    assert launch.find(home) is None
    assert owned.processes(home) == []
    assert launch.stop(home) == owned.Stopped(None)
    assert not home.root.exists(), "looking must not leave traces"


def test_a_pid_that_another_process_has_now_is_not_taken_for_the_platform(home: Home) -> None:
    a_platform(home, pid=os.getpid())
    assert launch.find(home) is None


def test_a_head_without_an_address_is_still_starting_and_not_yet_found(home: Home) -> None:
    record = a_platform(home)
    with subprocess.Popen(
        ["sleep", "60"], env={**os.environ, platform_record.MARKER: record.platform_id}
    ) as head:
        wait_for(lambda: owned.carries_marker(psutil.Process(head.pid), record.platform_id))
        a_platform(home, pid=head.pid, address="")
        assert launch.find(home) is None
        running = a_platform(home, pid=head.pid)
        assert launch.find(home) == running
        head.kill()


def test_two_programs_never_hold_the_launch_lock_together(home: Home) -> None:
    code = (
        "import sys, time; from pathlib import Path; from actors import platform_record; from aip.settings import Home\n"
        "with platform_record.locked(Home(Path(sys.argv[1]))):\n"
        "    print(time.monotonic(), flush=True); time.sleep(0.2); print(time.monotonic())"
    )
    command = [sys.executable, "-c", code, str(home.root)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    spans = sorted([float(line) for line in holder.communicate(timeout=30)[0].split()] for holder in both)
    assert spans[0][1] <= spans[1][0]


# What we start


def test_the_head_inherits_no_ray_setting_of_the_caller(home: Home) -> None:
    inherited = {
        "PATH": "/bin",
        "RAY_ADDRESS": "elsewhere:6379",
        "RAY_REDIS_ADDRESS": "r:1",
        "RAY_AUTH_MODE": "disabled",
    }
    options = ray_head.LaunchOptions(
        ray_environment={"RAY_raylet_heartbeat": "1", "RAY_AUTH_MODE": "disabled"}
    )
    record = a_platform(home)
    environment = ray_head.head_environment(home, record, options, inherited)
    assert "RAY_ADDRESS" not in environment
    assert "RAY_REDIS_ADDRESS" not in environment
    assert environment["RAY_raylet_heartbeat"] == "1"
    assert environment["RAY_AUTH_MODE"] == "token", "no option may open the door"
    assert environment["RAY_AUTH_TOKEN_PATH"] == record.token_path
    assert environment[platform_record.MARKER] == record.platform_id
    assert environment["PATH"] == "/bin"


def test_a_driver_gets_the_token_but_not_the_mark_of_the_platform(home: Home) -> None:
    environment = platform_record.connect_environment(a_platform(home))
    assert environment["RAY_AUTH_TOKEN_PATH"].endswith("/token")
    assert platform_record.MARKER not in environment, "`aip down` would end every program that ever connected"


@pytest.mark.parametrize(("url", "flag"), [(None, "false"), ("http://127.0.0.1:8265", "true")])
def test_the_dashboard_runs_only_where_it_was_asked_for(home: Home, url: str | None, flag: str) -> None:
    command = ray_head.head_command(a_platform(home, dashboard_url=url), ray_head.LaunchOptions(num_cpus=3))
    assert f"--include-dashboard={flag}" in command
    assert ("--dashboard-port=8265" in command) == (url is not None)
    assert "--num-cpus=3" in command
    assert {"--head", "--block"} <= set(command)


def test_workers_import_this_installation_first() -> None:
    root = str(Path(launch.__file__).resolve().parent.parent)
    assert ray_head.import_path(f"/elsewhere{os.pathsep}{root}").split(os.pathsep) == [root, "/elsewhere"]


@given(st.lists(st.integers(min_value=1, max_value=30), max_size=8))
def test_a_folder_is_taken_only_if_its_sockets_can_be_bound(
    tmp_path_factory: pytest.TempPathFactory, parts: list[int]
) -> None:
    root = tmp_path_factory.getbasetemp().joinpath(*("x" * length for length in parts))
    root.mkdir(parents=True, exist_ok=True)
    socket_path = f"{root}/aip-12345678/r/{ray_head.SESSION_EXAMPLE}"
    if len(socket_path) <= 107:
        assert ray_head.temp_root([str(root)]) == str(root)
    else:
        with pytest.raises(PlatformUnavailable, match="sockets"):
            ray_head.temp_root([str(root)])
        assert ray_head.temp_root([str(root), "/tmp"]) == "/tmp"


def test_importing_the_launcher_does_not_import_ray() -> None:
    code = "import sys, actors.launch, actors.doctor; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["/usr/bin/python", "-m", "ray.scripts.scripts", "start", "--head"], ("head", True)),
        (["/x/ray/core/src/ray/gcs/gcs_server", "--log_dir=/t"], ("control store", True)),
        (
            ["/x/ray/core/src/ray/raylet/raylet", "--python_worker_command=workers/default_worker.py"],
            ("raylet", True),
        ),
        (["ray::DashboardAgent       "], ("dashboard agent", True)),
        (["ray::IDLE"], ("idle worker", True)),
        (["ray::Orchestrator"], ("orchestrator", False)),
        (["ray::ConsensusNode.vote"], ("consensus node", False)),
        (["ray::Cell(pool/3)"], ("cell", False)),
        (["/usr/bin/git", "clone"], ("tool git", False)),
        ([], ("tool ?", False)),
    ],
)
def test_every_process_has_a_role_that_a_person_can_read(
    command: list[str], expected: tuple[str, bool]
) -> None:
    assert owned.role(command) == expected


# Ours and no other


class Tree:
    """A head of shell and sleep that stands for Ray's, with one child for each way to lose the marker."""

    SCRIPT = (
        "sleep 301 & env -u AIP_PLATFORM_ID sleep 302 & setsid sleep 303 & "
        "env -u AIP_PLATFORM_ID setsid sleep 304 & trap 'exit 0' TERM; wait"
    )

    def __init__(self, home: Home) -> None:
        record = a_platform(home)
        self.head = subprocess.Popen(
            ["sh", "-c", self.SCRIPT],
            env={**os.environ, platform_record.MARKER: record.platform_id},
            cwd=record.temp_dir,
            start_new_session=True,
        )
        self.record = a_platform(home, pid=self.head.pid)
        self.children: dict[str, psutil.Process] = wait_for(lambda: self._sleeping(4))

    def _sleeping(self, count: int) -> dict[str, psutil.Process]:
        found = {p.cmdline()[-1]: p for p in psutil.Process(self.head.pid).children() if p.name() == "sleep"}
        return found if len(found) == count else {}

    def end(self) -> None:
        for process in self.children.values():
            if owned.is_alive(process):
                process.kill()
        self.head.kill()
        self.head.wait()


@pytest.fixture
def tree(home: Home) -> Iterator[Tree]:
    tree = Tree(home)
    yield tree
    tree.end()


def names(ours: list[psutil.Process]) -> set[str]:
    return {process.cmdline()[-1] for process in ours if process.name() == "sleep"}


def test_every_descendant_is_found_whatever_it_did_to_its_environment(home: Home, tree: Tree) -> None:
    ours = owned.owned(tree.record)
    assert ours[0].pid == tree.head.pid
    assert names(ours) == {"301", "302", "303", "304"}


def test_after_kill_9_of_the_head_an_orphan_without_the_marker_is_known_by_its_session_and_folder(
    home: Home, tree: Tree
) -> None:
    tree.head.kill()
    tree.head.wait()
    assert launch.find(home) is None
    # 304 left the session, the marker and its parent behind: it alone has no proof, and what has none is not touched.
    assert names(owned.owned(tree.record)) == {"301", "302", "303"}


def test_stop_ends_the_tree_and_its_files_and_nobody_else(home: Home, tree: Tree) -> None:
    with subprocess.Popen(["sleep", "305"], cwd=tree.record.temp_dir) as bystander:
        stopped = launch.stop(home, grace_s=2.0)
        assert bystander.poll() is None, "a shell that looks at our logs is not ours"
        bystander.kill()
    assert stopped.left == ()
    assert stopped.killed == ()
    assert len(stopped.ended) == 5
    assert not any(owned.is_alive(process) for process in tree.children.values())
    assert not Path(tree.record.temp_dir).exists()
    assert [path.name for path in home.platform.iterdir()] == ["launch.lock"]
    assert launch.stop(home) == owned.Stopped(None), "stopping twice is stopping once"


def test_a_process_that_ignores_a_polite_end_is_killed_and_named(home: Home) -> None:
    record = a_platform(home)
    head = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"],
        env={**os.environ, platform_record.MARKER: record.platform_id},
        start_new_session=True,
    )
    a_platform(home, pid=head.pid)
    wait_for(lambda: launch.find(home))
    stopped = launch.stop(home, grace_s=0.3)
    assert head.wait(5) == -signal.SIGKILL
    assert any(str(head.pid) in name for name in stopped.killed)
    assert stopped.left == ()


def test_what_a_process_costs_is_read_from_the_process(home: Home, tree: Tree) -> None:
    uses = owned.processes(home)
    assert uses[0].pid == tree.head.pid
    assert uses[0].role == "head"
    for use in uses:
        assert 0 < (use.pss_bytes or 0) <= use.rss_bytes
        assert use.cpu_s >= 0


# The doctor

HEALTHY = doctor.Facts(
    python=(3, 12),
    ray_version="2.60.0",
    ray_import_s=0.5,
    ray_import_error="",
    slow_imports=(),
    shm_free_bytes=2**32,
    open_files_hard=65_536,
    memory_available_bytes=2**34,
    home="/h",
    home_problem="",
    home_free_bytes=2**36,
    temp_root="/tmp",
    temp_problem="",
    temp_free_bytes=2**36,
    platform_mode=0o700,
    token_mode=0o600,
    record_state="running",
    other_rays=0,
    sandbox=Means(frozenset(Mean), user="user namespace", landlock_abi=7),
    now_s=2.0,
    installed_at_s=1.0,
)


def test_a_healthy_machine_has_nothing_to_complain_of() -> None:
    assert {finding.status for finding in doctor.examine(HEALTHY)} == {doctor.Status.OK}


@pytest.mark.parametrize(
    ("facts", "check", "status"),
    [
        ({"python": (3, 10)}, "python", "fail"),
        ({"python": (3, 14)}, "python", "fail"),
        ({"ray_version": None}, "ray", "fail"),
        ({"ray_version": "2.6.0"}, "ray", "fail"),
        ({"ray_version": "2.61.0"}, "ray", "fail"),
        ({"ray_import_s": None, "ray_import_error": "no module"}, "ray import", "fail"),
        ({"ray_import_s": 1.9, "slow_imports": ("rfc3987_syntax",)}, "ray import", "warn"),
        ({"home_problem": "/h cannot be written to"}, "home", "fail"),
        ({"temp_root": None, "temp_problem": "too long"}, "sockets", "fail"),
        ({"token_mode": 0o644}, "permissions", "fail"),
        ({"platform_mode": 0o755}, "permissions", "fail"),
        ({"record_state": "stale"}, "platform", "warn"),
        ({"record_state": "corrupt"}, "platform", "fail"),
        ({"shm_free_bytes": 64 * 2**20}, "shared memory", "warn"),
        ({"shm_free_bytes": None}, "shared memory", "warn"),
        ({"open_files_hard": 1024}, "open files", "warn"),
        ({"memory_available_bytes": 2**20}, "memory", "warn"),
        ({"home_free_bytes": 2**20}, "disk", "warn"),
        ({"temp_free_bytes": 2**20}, "disk", "warn"),
        ({"now_s": 0.0}, "clock", "warn"),
        (
            {"sandbox": Means(frozenset(Mean) - {Mean.SECCOMP}, why={Mean.SECCOMP: "EPERM"})},
            "sandbox",
            "warn",
        ),
        ({"sandbox": Means(frozenset())}, "sandbox", "warn"),
    ],
)
def test_each_trouble_is_found_by_its_own_check_and_comes_with_a_hint(
    facts: dict[str, object], check: str, status: str
) -> None:
    findings = doctor.examine(replace(HEALTHY, **facts))  # type: ignore[arg-type]
    troubled = [finding for finding in findings if finding.status is not doctor.Status.OK]
    assert [(finding.check, finding.status) for finding in troubled] == [(check, status)]
    assert troubled[0].hint


def test_the_doctor_names_each_wall_of_a_sandbox_that_is_missing_and_why() -> None:
    one_less = Means(frozenset(Mean) - {Mean.USER}, why={Mean.USER: "EPERM from unshare"})
    (told,) = (f for f in doctor.examine(replace(HEALTHY, sandbox=one_less)) if f.check == "sandbox")
    assert told.text.startswith("missing: user (EPERM from unshare); there: ")
    assert "`isolation: container` are refused" in told.hint


def test_a_second_wall_that_nobody_demands_may_be_missing() -> None:
    without = Means(frozenset(Mean) - {Mean.LANDLOCK}, user="user namespace")
    (told,) = (f for f in doctor.examine(replace(HEALTHY, sandbox=without)) if f.check == "sandbox")
    assert (told.status, "no landlock" in told.text) == (doctor.Status.OK, True)


def test_other_rays_are_told_of_and_not_complained_of() -> None:
    finding = doctor.examine(replace(HEALTHY, other_rays=2))[-1]
    assert finding.status is doctor.Status.OK
    assert "2 other Ray nodes" in finding.text


def test_the_doctor_reads_this_machine_and_changes_nothing(home: Home) -> None:
    facts = doctor.gather(home)
    assert facts.python == sys.version_info[:2]
    assert facts.ray_import_s is not None
    assert facts.record_state == "absent"
    assert facts.memory_available_bytes > 0
    assert not home.root.exists()


def test_the_doctor_sees_an_open_token_and_a_record_without_a_platform(home: Home) -> None:
    record = a_platform(home, pid=os.getpid())
    Path(record.token_path).write_text("secret")
    Path(record.token_path).chmod(0o644)
    facts = doctor.gather(home)
    assert facts.token_mode == 0o644
    assert facts.record_state == "stale"
    platform_record.record_path(home).write_text(json.dumps({"half": "a record"}))
    assert doctor.gather(home).record_state == "corrupt"
