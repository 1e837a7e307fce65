"""The completion script in a real shell: sourced, then asked as the Tab key asks."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import aip

BASH = """
source <(aip completion bash)
complete -p aip | grep -q -- '-F _aip_completion' || exit 9
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_aip_completion aip
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = "autoload -Uz compinit && compinit -u -D && source <(aip completion zsh) && print -- $_comps[aip]"


def shell(folder: Path, *command: str, **environment: str) -> str:
    """What a shell prints that has `aip` as a command on its path and nothing else of ours."""
    program = folder / "bin" / "aip"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aip.cli "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    found = shutil.which(command[0], path=path)
    if found is None:
        pytest.skip(f"there is no {command[0]} here")
    done = subprocess.run(
        [found, *command[1:]],
        env={
            "PATH": path,
            "PYTHONPATH": str(Path(aip.__file__).parents[1]),
            "AIP_HOME": str(folder / "home"),
            "HOME": str(folder),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place with one run in its home."""
    record = tmp_path / "home" / "runs" / "r-01a" / "view.json"
    record.parent.mkdir(parents=True)
    tasks = {"find": {"state": "succeeded"}}
    record.write_text(json.dumps({"run": "r-01a", "plan": "p", "state": "succeeded", "tasks": tasks}))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (("sub",), ["submit"]),
        (("run", "show", "r-0"), ["r-01a"]),
        (("logs", "r-01a/f"), ["r-01a/find"]),
        (("-o", "nd"), ["ndjson"]),
        (("no-such-command", "x"), []),
    ],
)
def test_the_tab_key_in_bash_completes_commands_runs_tasks_and_choices(
    words: tuple[str, ...], offers: list[str], folder: Path
) -> None:
    asked = shell(folder, "bash", "--norc", "--noprofile", "-c", BASH, "bash", "aip", *words)
    assert asked.split() == offers


def test_zsh_takes_the_script_and_asks_it_for_aip(folder: Path) -> None:
    assert shell(folder, "zsh", "-f", "-c", ZSH).strip() == "_aip_completion"


def test_what_the_script_of_zsh_asks_is_answered(folder: Path) -> None:
    """The request is the script's own, whether or not a zsh is here to make it."""
    asked = {"COMP_WORDS": "aip run show r-0", "COMP_CWORD": "3", "_AIP_COMPLETE": "zsh_complete"}
    assert all(f"{name}=" in shell(folder, "aip", "completion", "zsh") for name in asked)
    assert shell(folder, "aip", **asked).splitlines()[1] == "r-01a"
