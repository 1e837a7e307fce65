"""The OWASP Top 10 for agentic applications: each attack is refused, recorded and contained, and its check is what stops it.

The same ten plans run twice: on the platform as it is, and on a test build (tests/examples/owasp/without) in which exactly the
check that is named for the attack is switched off. There each attack must succeed: else something else stopped it, or nothing
had to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_kit import kill9, pids, until

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "owasp"))
from owasp_kit import ATTACKS, DENIED, ROOT, WITHOUT, Attack, CommandLine, Outside, lay_out

from aip.settings import Home

pytestmark = pytest.mark.ray

*FOLLOWED, HUMAN_TRUST, ROGUE = ATTACKS  # The last two need somebody at the keyboard.


def by_name(attacks: object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("attack", attacks, ids=lambda attack: attack.name)


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    with Outside().serving() as world:
        yield world


@pytest.fixture(scope="module")
def plans(outside: Outside, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("owasp"), outside.address)


def govern(aip: CommandLine, plans: Path) -> None:
    """The operator's part, as the README has it."""
    shutil.copy(plans / "effects.yaml", aip.home.root / "effects.yaml")
    aip("policy", "reload", ROOT / "policies", "--config", plans / "policy.json")


@pytest.fixture(scope="module")
def guarded(running, plans: Path) -> Iterator[CommandLine]:
    """The shared platform under the examples' policy and connectors; afterwards under its own again."""
    aip = CommandLine(running.home)
    file = running.home.root / "effects.yaml"
    before = file.read_text() if file.exists() else ""
    govern(aip, plans)
    read_effects_again(running)
    yield aip
    aip("policy", "rollback")
    file.write_text(before) if before else file.unlink()
    read_effects_again(running)


def read_effects_again(platform) -> None:
    """The gateway reads its file when it starts, and is started again where it died."""
    gateway = pids(platform).get("effects")
    if gateway is not None:
        kill9(gateway)
        until(lambda: pids(platform).get("effects") not in (None, gateway))


@pytest.fixture(scope="module")
def crippled(plans: Path) -> Iterator[CommandLine]:
    """A platform of the test build, with all of its checks on until one is named."""
    home = Home(Path(tempfile.mkdtemp(prefix="aip-test-")))
    aip = CommandLine(home)
    govern(aip, plans)
    environment = os.environ | {"AIP_HOME": str(home.root), "PYTHONPATH": f"{WITHOUT}{os.pathsep}{ROOT}"}

    def typed(word: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "aip.cli", word], env=environment, check=True, capture_output=True
        )

    try:
        typed("up")
        yield aip
    finally:
        typed("down")
        shutil.rmtree(home.root, ignore_errors=True)


def attack_with(aip: CommandLine, plans: Path, attack: Attack, code: int) -> str:
    return str(aip.json("submit", plans / attack.name / "plan.yaml", code=code)["run"])


def recorded(aip: CommandLine, run: str, attack: Attack) -> list[dict]:
    def found() -> list[dict]:
        return [entry for entry in aip.entries(run, attack.kind) if attack.said in str(entry["detail"])]

    return until(found)


def gone_rogue(aip: CommandLine, outside: Outside, plans: Path) -> str:
    """A run whose rogue agent has begun to do harm."""
    before = len(outside.arrived(ROGUE.wanted))
    run = str(aip.json("submit", plans / ROGUE.name / "plan.yaml", "--detach")["run"])
    until(lambda: len(outside.arrived(ROGUE.wanted)) >= before + 3)
    return run


def asked_for_approval(aip: CommandLine, plans: Path) -> str:
    return attack_with(aip, plans, HUMAN_TRUST, DENIED)


def killed_by_order(aip: CommandLine, run: str) -> bool:
    return run in aip("audit", "query", "--kind", "cell.killed_by_order", "-n", 10, "-o", "ndjson")


def ended(aip: CommandLine, run: str) -> dict | None:
    shown = aip.run(run)
    return shown if shown["state"] in ("succeeded", "failed", "cancelled") else None


# The product ------------------------------------------------------------------------------------------------------------


@by_name(FOLLOWED)
def test_an_attack_is_refused_recorded_and_contained(guarded, outside, plans, attack):
    run = attack_with(guarded, plans, attack, attack.exit_code)
    assert len(outside.arrived(attack.wanted)) <= attack.harmless
    assert recorded(guarded, run, attack)
    assert guarded.run(run)["tasks"][attack.goes_on]["state"] == "succeeded"


def test_a_colleague_who_was_talked_into_it_approves_nothing(guarded, outside, plans):
    run = asked_for_approval(guarded, plans)
    guarded("approve", run, code=DENIED)
    shown = guarded.run(run)
    assert [gate["task"] for gate in shown["gates"]] == ["approve"], "it waits on for the treasurer"
    assert shown["tasks"][HUMAN_TRUST.goes_on]["state"] == "succeeded"
    guarded("cancel", run)
    until(lambda: guarded.run(run)["state"] == "cancelled")
    assert not outside.arrived(HUMAN_TRUST.wanted)


def test_the_approval_that_was_refused_is_recorded(guarded, plans):
    run = asked_for_approval(guarded, plans)
    guarded("approve", run, code=DENIED)
    guarded("cancel", run)
    until(lambda: guarded.run(run)["state"] == "cancelled")
    until(lambda: guarded.entries(run, "run.ended"))
    assert HUMAN_TRUST.said in str(guarded.entries(run, HUMAN_TRUST.kind))


def test_a_rogue_agent_is_killed_and_acts_no_more_while_the_clerk_works_on(guarded, outside, plans):
    run = gone_rogue(guarded, outside, plans)
    guarded("kill", "rogue", "--reason", "acts on its own")
    try:
        shown = until(lambda: ended(guarded, run))
        assert shown["tasks"][ROGUE.goes_on]["state"] == "succeeded"
        assert outside.arrived("/asi10-honest/")
        harm = len(outside.arrived(ROGUE.wanted))
        # It tries until its process is ended, seconds later.
        until(lambda: killed_by_order(guarded, run))
        assert len(outside.arrived(ROGUE.wanted)) == harm
        assert ROGUE.said in str(guarded.json("audit", "query", "--kind", ROGUE.kind, "--subject", "rogue"))
    finally:
        guarded("kill", "--lift", "rogue")


# The test build ---------------------------------------------------------------------------------------------------------


@by_name(FOLLOWED)
def test_with_its_check_off_the_attack_succeeds(crippled, outside, plans, attack):
    (crippled.home.root / "without").write_text(attack.number)
    before = len(outside.arrived(attack.wanted))
    attack_with(crippled, plans, attack, 0)
    assert len(outside.arrived(attack.wanted)) - before > attack.harmless


def test_with_any_approver_taken_the_colleague_pays(crippled, outside, plans):
    (crippled.home.root / "without").write_text(HUMAN_TRUST.number)
    crippled("approve", asked_for_approval(crippled, plans))
    until(lambda: outside.arrived(HUMAN_TRUST.wanted))


def test_with_the_fence_unread_a_killed_rogue_goes_on(crippled, outside, plans):
    (crippled.home.root / "without").write_text(ROGUE.number)
    gone_rogue(crippled, outside, plans)
    crippled("kill", "rogue", "--reason", "acts on its own")
    harm = len(outside.arrived(ROGUE.wanted))
    until(lambda: len(outside.arrived(ROGUE.wanted)) >= harm + 3)
