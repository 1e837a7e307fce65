"""The ten attacks as a table, and how one is driven from the command line."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from aip.cli.main import aip
from aip.cli.session import Session
from aip.settings import Home

sys.path.insert(0, str(Path(__file__).parents[3] / "examples" / "owasp"))

from outside import Outside, lay_out, obey

__all__ = [
    "ATTACKS",
    "DENIED",
    "EXAMPLES",
    "ROOT",
    "WITHOUT",
    "Attack",
    "CommandLine",
    "Outside",
    "lay_out",
    "obey",
]

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "owasp"
WITHOUT = Path(__file__).parent / "without"  # On the PYTHONPATH of a process: its checks can be switched off.
DENIED = 4


@dataclass(frozen=True)
class Attack:
    """`wanted` is where the attacker's success would arrive outside, `goes_on` a task that has nothing to do with it."""

    name: str
    kind: str  # Of the audit entry that the attack leaves.
    said: str  # In that entry.
    goes_on: str
    exit_code: int = 0
    harmless: int = 0  # So many requests may arrive before the check has seen enough.

    @property
    def number(self) -> str:
        return self.name.partition("-")[0]

    @property
    def wanted(self) -> str:
        return f"/{self.number}/"


ATTACKS = (
    Attack("asi01-goal-hijack", "effect.refused", "sequence.external_after_secret", "brief"),
    Attack("asi02-tool-misuse", "effect.refused", "refused.effect", "answer"),
    Attack("asi03-privilege-abuse", "message.refused", "decision.default", "pay"),
    Attack("asi04-supply-chain", "messages", "capability.unknown", "again"),
    Attack("asi05-code-execution", "message.refused", "isolation.demanded", "report", exit_code=DENIED),
    Attack("asi06-memory-poisoning", "message.refused", "sequence.forbidden", "pay"),
    Attack("asi07-forged-message", "effect.refused", "refused.stamp", "pay"),
    Attack("asi08-cascading-failure", "message.refused", "refused.circuit_open", "other", harmless=20),
    Attack("asi09-human-trust", "run.refused", "refused.denied", "report", exit_code=DENIED),
    Attack("asi10-rogue-agent", "kill", "acts on its own", "report"),
)


class CommandLine:
    """`aip`, typed in this process: the same words, options and exit codes without a second of imports for each."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def __call__(self, *words: object, code: int = 0) -> str:
        done = CliRunner().invoke(aip, [str(word) for word in words], obj=Session(home=self.home))
        assert done.exit_code == code, f"{words}: {done.exit_code}\n{done.output[-3000:]}\n{done.exception!r}"
        return done.stdout

    def json(self, *words: object, code: int = 0) -> Any:
        return json.loads(self(*words, "-o", "json", code=code))

    def run(self, run: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.json("run", "show", run)
        return shown

    def entries(self, run: str, kind: str) -> list[dict[str, Any]]:
        """What the audit log says of a run."""
        return [
            json.loads(line)
            for line in self(
                "audit", "query", "--run", run, "--kind", kind, "-n", 1000, "-o", "ndjson"
            ).splitlines()
        ]
