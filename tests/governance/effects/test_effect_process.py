"""Programs that the operator listed: no shell, no option from a value, and an end to all of it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aip.governance.effects.failure import EffectFailed, NotAllowed
from aip.governance.effects.process import Command, ProcessConfig, ProcessConnector
from aip.governance.effects.vault import Vault

WORD = {"word": "[a-zA-Z0-9 $;|&.-]*"}


def connector(
    code: str = "", tail: tuple[str, ...] = (), arguments: dict[str, str] | None = None, **config: Any
) -> Any:
    argv = (sys.executable, "-I", "-S", "-c", code, *tail) if code else tail
    command = Command(argv=argv, arguments=arguments or {})
    return ProcessConnector(
        ProcessConfig(commands={"go": command}, **config), Vault(lambda name: f"value of {name}", lambda: 0.0)
    )


async def done(door: ProcessConnector, **arguments: str) -> Any:
    prepared = await door.prepare(door.check({"command": "go", "arguments": arguments}), "key", 0.0)
    try:
        prepared.commit()
        return await prepared.result()
    finally:
        await prepared.discard()


async def gone(group: int) -> None:
    """Ended is at once; gone is when its parent, which may be the system's first process, has taken notice."""
    for _ in range(1_000):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.01)
    pytest.fail("a process of the group is still there")


async def test_a_program_runs_with_its_arguments_its_environment_and_nothing_else() -> None:
    code = "import os, sys; print(sys.argv[1:]); print(sorted(os.environ.items())); sys.stderr.write('e'); sys.exit(3)"
    door = connector(code, ("--to={word}",), WORD, env={"TOKEN": "Bearer secret:T"})
    answer = await done(door, word="a b; $HOME | x")
    assert answer["exit"] == 3
    assert answer["complete"] is True
    assert answer["stderr"] == "e"
    words, environment = answer["stdout"].splitlines()
    assert words == "['--to=a b; $HOME | x']"
    assert "AIP_EFFECT_KEY" in environment
    assert "PATH" not in environment


async def test_what_it_says_of_its_secrets_is_hidden() -> None:
    door = connector("import os; print(os.environ['TOKEN'])", env={"TOKEN": "secret:T"})
    assert (await done(door))["stdout"] == "[secret]\n"


async def test_nothing_runs_before_the_commit_nor_after_giving_up(tmp_path: Path) -> None:
    door = connector(f"open({str(tmp_path / 'ran')!r}, 'w')")
    prepared = await door.prepare(door.check({"command": "go"}), "key", 0.0)
    await prepared.discard()
    assert not (tmp_path / "ran").exists()


async def test_a_program_behind_its_gate_that_died_was_not_run(tmp_path: Path) -> None:
    door = connector(f"open({str(tmp_path / 'ran')!r}, 'w')")
    prepared = await door.prepare(door.check({"command": "go"}), "key", 0.0)
    prepared._end_group()
    await prepared._process.wait()
    with pytest.raises(EffectFailed):
        prepared.commit()
    await prepared.discard()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [({}, "exactly"), ({"word": "x", "more": "y"}, "exactly"), ({"word": "a\nb"}, "fit"), ({"word": "ü"}, "fit"),
     ({"word": "x" * 5_000}, "fit"), ({"word": "--force"}, "option"), ({"word": "-x"}, "option")],
)  # fmt: skip
def test_an_argument_that_does_not_fit_is_refused(arguments: dict[str, str], problem: str) -> None:
    door = connector(tail=("/bin/echo", "{word}"), arguments=WORD)
    with pytest.raises(NotAllowed, match=problem):
        door.check({"command": "go", "arguments": arguments})


@given(st.text(max_size=20))
def test_a_value_stays_one_word_and_never_becomes_an_option(value: str) -> None:
    door = connector(tail=("/bin/echo", "{word}", "fixed"), arguments=WORD)
    try:
        wish = door.check({"command": "go", "arguments": {"word": value}})
    except NotAllowed:
        return
    words = door.config.commands["go"].words(wish.arguments)
    assert words == ["/bin/echo", value, "fixed"]
    assert not value.startswith("-")


def test_a_value_that_looks_like_a_hole_stays_text() -> None:
    command = Command(argv=("/bin/echo", "{a}", "{b}"), arguments={"a": ".*", "b": ".*"})
    assert command.words({"a": "{b}", "b": "x"}) == ["/bin/echo", "{b}", "x"]


@pytest.mark.parametrize(
    ("argv", "arguments"),
    [(("echo",), {}), (("/bin/{x}",), {"x": "a"}), (("/bin/echo", "{x}"), {}), (("/bin/echo",), {"x": "a"}), ((), {}),
     (("/bin/echo", "{x}"), {"x": "(a+)+"}), (("/bin/echo", "{x}"), {"x": "("})],
)  # fmt: skip
def test_a_command_that_does_not_hold_together_is_no_configuration(argv: Any, arguments: Any) -> None:
    with pytest.raises(ValidationError):
        Command(argv=argv, arguments=arguments)


def test_a_command_that_is_not_listed_is_refused_with_those_that_are() -> None:
    with pytest.raises(NotAllowed) as caught:
        connector(tail=("/bin/echo",)).check({"command": "rm"})
    assert "go" in caught.value.hint


async def test_output_beyond_the_limit_is_let_go_and_said_so() -> None:
    answer = await done(connector("print('x' * 1_000_000)", output_bytes_max=1_000))
    assert (answer["exit"], answer["stdout"], answer["complete"]) == (0, "x" * 1_000, False)


async def test_a_program_that_does_not_exist_was_not_run() -> None:
    with pytest.raises(EffectFailed, match="could not be run"):
        await done(connector(tail=("/nonexistent/program",)))


async def test_a_program_that_was_ended_by_a_signal_is_in_doubt() -> None:
    with pytest.raises(ChildProcessError, match="signal 9"):
        await done(connector("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))


async def test_limits_hold() -> None:
    answer = await done(connector("x = bytearray(2**30)", memory_bytes=2**28))
    assert "MemoryError" in answer["stderr"]
    code = "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE)[0], r.getrlimit(r.RLIMIT_CORE)[0])"
    assert (await done(connector(code, files=64)))["stdout"] == "64 0\n"


async def test_what_it_left_behind_ends_with_it_and_is_not_waited_for() -> None:
    code = "import os, time\nif os.fork(): print(os.getpid(), flush=True)\nelse: time.sleep(600)"
    answer = await done(connector(code))
    await gone(int(answer["stdout"]))


async def test_a_program_that_is_given_up_is_ended_with_its_group(tmp_path: Path) -> None:
    started = tmp_path / "started"
    code = (
        f"import os, time\nos.fork()\nopen({str(started)!r}, 'w').write(str(os.getpgid(0)))\ntime.sleep(600)"
    )
    door = connector(code)
    prepared = await door.prepare(door.check({"command": "go"}), "key", 0.0)
    prepared.commit()
    waiting = asyncio.ensure_future(prepared.result())
    while not (started.exists() and started.read_text()):
        await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait([waiting])
    group = int(started.read_text())
    await prepared.discard()
    await gone(group)


def test_people_are_told_the_words() -> None:
    door = connector(tail=("/usr/bin/deploy", "--env", "{word}"), arguments=WORD)
    wish = door.check({"command": "go", "arguments": {"word": "staging"}})
    assert door.describe(wish) == "run /usr/bin/deploy --env staging"
