"""Real tool servers over stdio: their tools are capabilities, called, checked, charged and supervised like any other."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import HOSTILE, hostile, served

from aip.errors import AIPError, EffectInDoubt, InvalidPayload, UnknownCapability
from aip.protocols.mcp.errors import ToolFailed, ToolServerUnusable


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Path]:
    def git(*words: str) -> None:
        author = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org"}
        committer = {"GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org"}
        subprocess.run(["git", *words], cwd=tmp_path, env=os.environ | author | committer, check=True)

    git("init", "--quiet", "--initial-branch=main")
    (tmp_path / "poem.txt").write_text("bees\n")
    git("add", "poem.txt")
    git("commit", "--quiet", "--message", "a poem about bees")
    return tmp_path


async def test_the_time_server_tells_the_time_in_structured_form() -> None:
    async with served(command=["python", "-m", "mcp_server_time"], allow=["convert_time"]) as x:
        answer = await x.call(
            "convert_time", source_timezone="UTC", time="12:00", target_timezone="Asia/Tokyo"
        )
        assert answer["target"]["datetime"].endswith("21:00:00+09:00")
        assert (await x.describe())["protocol"] == "2026-07-28"


async def test_the_same_server_speaks_the_older_protocol_as_well() -> None:
    async with served(command=["python", "-m", "mcp_server_time"], protocol="2025-11-25") as x:
        assert (await x.call("get_current_time", timezone="UTC"))["timezone"] == "UTC"
        assert (await x.describe())["protocol"] == "2025-11-25"


async def test_an_error_of_the_tool_is_typed_and_in_its_own_words() -> None:
    async with served(command=["python", "-m", "mcp_server_time"]) as x:
        with pytest.raises(ToolFailed, match="Invalid timezone"):
            await x.call("get_current_time", timezone="Mars/Olympus")


async def test_arguments_are_checked_before_anything_is_sent_or_charged() -> None:
    async with served(command=["python", "-m", "mcp_server_time"], budget={"tool_calls": 1}) as x:
        with pytest.raises(InvalidPayload, match="'timezone' is a required property"):
            await x.call("get_current_time")
        with pytest.raises(InvalidPayload, match=r"\$\.timezone: 3 is not of type 'string'"):
            await x.call("get_current_time", timezone=3)
        assert await x.call("get_current_time", timezone="UTC")


async def test_the_git_server_reads_a_repository(repository: Path) -> None:
    command = ["python", "-m", "mcp_server_git"]
    async with served(command=command, allow=["git_log", "git_status"]) as x:
        assert "a poem about bees" in str(await x.call("git_log", repo_path=str(repository)))
        (repository / "poem.txt").write_text("wasps\n")
        assert "poem.txt" in str(await x.call("git_status", repo_path=str(repository)))
        with pytest.raises(UnknownCapability, match="not allowed"):
            await x.call("git_commit", repo_path=str(repository), message="mine now")


async def test_many_calls_share_one_server_up_to_its_slots() -> None:
    async with hostile("none", concurrency=2) as x:
        answers = await asyncio.gather(*(x.call("greet", name=f"n{n}") for n in range(50)))
        assert len({answer.rpartition(" ")[2] for answer in answers}) == 1
        assert [f"hello, n{n} from" in answer for n, answer in enumerate(answers)] == [True] * 50


async def test_a_program_that_does_not_exist_is_named() -> None:
    async with served(command=["no-such-program"]) as x:
        with pytest.raises(ToolServerUnusable, match="no-such-program"):
            await x.call("anything")


async def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    async with served(command=["python", "-m", "mcp_server_time"], cwd=str(tmp_path / "nowhere")) as x:
        with pytest.raises(ToolServerUnusable, match="nowhere"):
            await x.call("anything")


async def test_a_tool_with_effects_is_done_once_for_one_piece_of_work() -> None:
    async with hostile("none", effects=["greet", "die"]) as x:
        key = {"idempotency_key": "order-7"}
        once = await x.platform.call("tools.x/any", "greet", fields=key, name="Ada")
        assert await x.platform.call("tools.x/any", "greet", fields=key, name="Ada") == once
        [(_, detail)] = x.platform.audit.of("effect.done")
        assert detail["effect"] == "x.greet"
        for _ in range(2):
            with pytest.raises(EffectInDoubt):
                await x.platform.call("tools.x/any", "die", fields={"idempotency_key": "order-8"})


async def test_an_effect_of_a_tool_that_does_not_exist_is_a_mistake_of_the_plan() -> None:
    async with hostile("none", effects=["gret"]) as x:
        with pytest.raises(ToolServerUnusable, match="`effects` names it"):
            await x.call("greet", name="Ada")


async def test_a_server_ends_with_a_cell_that_is_killed() -> None:
    leash = HOSTILE.parents[3] / "aip/protocols/mcp/leash.py"
    cell = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-I", "-S", {str(leash)!r}, str(os.getpid()), "sleep", "600"],
                         start_new_session=True)
while b"sleep" not in open(f"/proc/{{child.pid}}/cmdline", "rb").read().split(b"\\0")[0]:
    time.sleep(0.01)
print(child.pid, flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", cell], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    server = int(process.stdout.readline())
    os.kill(server, 0)  # It is there.
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for _ in range(500):
        try:
            if Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                break
        except OSError:
            break
        await asyncio.sleep(0.01)
    else:
        raise AssertionError("the server is still there")


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({}, "exactly one of"),
        ({"command": ["a"], "url": "http://h/mcp"}, "exactly one of"),
        ({"url": "ftp://h/mcp"}, "write http://HOST/PATH"),
        ({"url": "http://me:secret@h/mcp"}, "cannot hold credentials"),
        ({"url": "http://h/mcp", "env": {"A": "b"}}, "`env` and `cwd` are for a `command`"),
        ({"command": ["a"], "headers": {"A": "b"}}, "`headers` are for a `url`"),
        ({"command": ["a"], "allow": ["*", "b"]}, "`allow` has '*' beside names"),
        ({"command": ["a"], "effects": ["*", "b"]}, "`effects` has '*' beside names"),
        ({"command": ["a"], "allow": ["b"], "effects": ["c"]}, "`effects` names c, which `allow` does not"),
        ({"command": ["a"], "env": {"A": "a b secret:C"}}, "A: write secret:NAME"),
        ({"url": "http://h/mcp", "headers": {"A": "Bearer  secret:C"}}, "A: write secret:NAME"),
        ({"command": []}, "command"),
        ({"command": ["a"], "timeout_s": 0}, "timeout_s"),
        ({"command": ["a"], "result_bytes_max": 2**40}, "result_bytes_max"),
        ({"command": ["a"], "allowed": ["b"]}, "allowed"),
    ],
)
async def test_a_configuration_that_cannot_work_names_its_field(
    config: dict[str, object], problem: str
) -> None:
    async with served(**config) as x:
        with pytest.raises(AIPError) as caught:
            await x.call("anything")
        assert problem in f"{caught.value.message} {caught.value.details}"
