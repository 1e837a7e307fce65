"""Somebody who has a checkout, a folder to work in and the command line, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMAND_TIMEOUT_S = 180.0  # A first command also makes the environment.
OUTPUT_SHOWN_CHARS = 1_500


class Failed(Exception):
    """A check that does not hold."""


class Stranger:
    def __init__(self, checkout: Path, place: Path) -> None:
        self.checkout = checkout
        self.home = place / "home"
        self.folder = place / "work"
        self.folder.mkdir()
        self.plan = checkout / "examples/release-gate/plan.yaml"
        self.planted = checkout / "examples/release-gate/planted"
        # An environment that was made for another checkout imports this one all the same.
        self.environment = {**os.environ, "AIP_HOME": str(self.home), "PYTHONPATH": str(checkout)}

    def command(self, *arguments: object) -> list[str]:
        return [str(self.checkout / "scripts/aip"), *map(str, arguments)]

    def aip(
        self, *arguments: object, code: int, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != code:
            said = (done.stdout + done.stderr)[-OUTPUT_SHOWN_CHARS:]
            raise Failed(f"aip {' '.join(map(str, arguments))}: exit {done.returncode}, not {code}\n{said}")
        return done

    def submit(self, code: int, *options: str, **inputs: object) -> str:
        """Submit the gate's plan, stay with it, and return the run's id."""
        given = [part for name, value in inputs.items() for part in ("-i", f"{name}={value}")]
        done = self.aip("submit", self.plan, *given, *options, "-o", "json", code=code)
        run: str = json.loads(done.stdout)["run"]
        return run

    def show(self, run: str) -> dict[str, Any]:
        view: dict[str, Any] = json.loads(self.aip("run", "show", run, "-o", "json", code=0).stdout)
        return view

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.aip("run", "list", "-o", "json", code=0).stdout)
        return found

    def processes_of(self, run: str) -> list[str]:
        """Actors of the run, and cells in which one of its agents is left."""
        status = json.loads(self.aip("status", "-o", "json", code=0).stdout)
        agents = json.loads(self.aip("agents", "list", "-o", "json", code=0).stdout)
        mine = [agent["address"] for agent in agents if run in agent.get("address", "")]
        return mine + [process["role"] for process in status["processes"] if run in process["role"]]

    def rows(self, output: str) -> list[list[object]]:
        """findings.json in the columns of truth.json."""
        site = json.loads((self.planted / "truth.json").read_text())["site"] + "/"
        found = json.loads((self.folder / output / "findings.json").read_text())
        return sorted(
            [
                f["rule"],
                f["subject"],
                f["file"].removeprefix(site),
                f["line"],
                f["symbol"],
                f["severity"],
                f["status"],
            ]
            for f in found
        )

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise Failed(otherwise)

    def until(self, condition: Callable[[], bool], otherwise: str, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"{otherwise} after {timeout_s:.0f} s")
            time.sleep(0.2)

    def until_state(self, run: str, state: str) -> None:
        self.until(lambda: self.show(run)["state"] == state, f"{run} is not {state}")

    def leave(self) -> None:
        """End the platform, whatever state the checks left it in."""
        subprocess.run(
            self.command("down"),
            env=self.environment,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
