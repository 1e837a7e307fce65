"""`scripts/acceptance [--seeds N] [--first S] [--here] [--only WORD] [--keep]`: one line a check, exit 1 where one failed.

Everything goes through the command `scripts/aip` of a fresh clone, with an AIP_HOME and a current directory of its own; only the
blows of the chaos part (kill -9) and the reading of a run's journal are made from here. `--here` checks this checkout as it lies,
without a clone. `--keep` leaves the folder behind, for looking.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from acceptance_checks import chaos  # noqa: E402
from acceptance_checks.stranger import Failed, Stranger  # noqa: E402

HELD, CANCELLED = 4, 5
RUN_TIMEOUT_S = 600.0
START_TIMEOUT_S = 60.0


def clean_environment_ships(me: Stranger) -> str:
    started = time.monotonic()
    done = me.aip("submit", me.plan, code=0, timeout_s=RUN_TIMEOUT_S)
    me.expect(json.loads(done.stdout)["verdict"] == "ship", "the verdict is not ship")
    files = {path.name for path in (me.folder / "release-gate-report").iterdir() if path.is_file()}
    wanted = {"findings.json", "report.json", "report.sarif", "bom.cdx.json", "report.md", "report.html"}
    me.expect(files == wanted, f"the report's files are {sorted(files)}")
    me.expect("critical path" in (me.folder / "release-gate-report/report.html").read_text(), "no timeline")
    return f"{time.monotonic() - started:.1f} s"


def planted_faults_are_held(me: Stranger) -> str:
    run = me.submit(HELD, environment=me.planted, output="planted")
    truth = json.loads((me.planted / "truth.json").read_text())
    me.expect(me.rows("planted") == sorted(truth["findings"]), "findings.json is not truth.json")
    return f"{len(truth['findings'])} findings, {run}"


def approve_and_deny_end_a_held_run(me: Stranger) -> str:
    for option, state, word in (("", "succeeded", "approved"), ("--deny", "failed", "denied")):
        run = me.submit(HELD, environment=me.planted, output=word)
        me.aip("approve", *filter(None, [option]), f"{run}/approve", code=0)
        me.until_state(run, state)
        me.expect(
            f"# Release gate: {word}" in (me.folder / word / "report.md").read_text(),
            f"not {word} in its report",
        )
    return ""


def a_baseline_shows_no_changes(me: Stranger) -> str:
    me.submit(HELD, environment=me.planted, output="again", baseline="planted/report.json")
    me.expect(
        "0 new findings, 0 gone" in (me.folder / "again/report.md").read_text(), "changes since the baseline"
    )
    return ""


def an_edited_agent_gives_the_new_value(me: Stranger) -> str:
    place = me.folder / "edited"
    me.aip("init", place, code=0)
    values = []
    for text in ("one", "two"):
        (place / "agents.py").write_text(
            "import aip\n\nclass Word(aip.Agent):\n    @aip.capability\n    async def say(self) -> str:\n"
            f"        return {text!r}\n"
        )
        (place / "plan.yaml").write_text(
            "apiVersion: aip/v1\nkind: Plan\nmetadata: {name: word}\nagents: {word: {use: 'agents:Word'}}\n"
            "tasks: {say: {agent: word, capability: say}}\noutputs: {said: '${{ tasks.say.output }}'}\n"
        )
        values.append(json.loads(me.aip("submit", place / "plan.yaml", code=0).stdout)["said"])
    me.expect(values == ["one", "two"], f"said {values}")
    return ""


def chaos_option_changes_no_finding(me: Stranger) -> str:
    large = me.folder / "large"  # The planted environment alone is over in a second.
    chaos.populate(me.planted, large)
    me.submit(HELD, environment=large, output="calm")
    me.submit(HELD, "--chaos", "1", environment=large, output="chaos")
    one, other = (me.folder / name / "findings.json" for name in ("calm", "chaos"))
    me.expect(one.read_bytes() == other.read_bytes(), "findings differ")
    killed = json.loads((me.folder / "chaos/report.json").read_text())["run"]["killed"]
    me.expect(bool(killed), "the report does not tell what was killed")
    return f"killed {', '.join(item['what'].partition(',')[0] for item in killed)}"


def ctrl_c_leaves_nothing_of_the_run(me: Stranger) -> str:
    """SIGINT as a terminal sends it: to the foreground process group of a pty."""
    before = {run["run"] for run in me.runs()}
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(me.folder)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ignored where a shell started this in the background.
        command = me.command("submit", me.plan, "-i", "output=interrupted")
        os.execve(command[0], command, me.environment)
    screen = threading.Thread(target=_drain, args=(terminal,))
    screen.start()
    try:
        run = _new_run(me, before)
    finally:
        os.write(terminal, b"\x03")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    screen.join(5)
    me.expect(code == CANCELLED, f"exit {code}")
    me.expect(me.show(run)["state"] == "cancelled", f"the run is {me.show(run)['state']}")
    me.until(lambda: not me.processes_of(run), f"something of {run} is left")
    return ""


def _new_run(me: Stranger, before: set[str]) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        for run in me.runs():
            if run["run"] not in before and run["state"] == "running":
                return str(run["run"])
    raise Failed("the run did not start")


def _drain(terminal: int) -> None:
    """Reads the terminal until its process ends: a full one would block it."""
    with contextlib.suppress(OSError):  # EIO: the other side is closed.
        while os.read(terminal, 1 << 16):
            pass


def wrong_input_is_named(me: Stranger) -> str:
    done = me.aip("submit", me.plan, "-i", "enviroment=x", code=2)
    me.expect("environment" in done.stderr, "no suggestion")
    place = me.folder / "bad"
    place.mkdir()
    deep = "[" * 5_000 + "]" * 5_000
    for name, text in (("malformed", "tasks: [}"), ("deep", f"x: {deep}"), ("huge", "# " + "x" * (9 << 20))):
        (place / f"{name}.yaml").write_text(text)
        done = me.aip("submit", place / f"{name}.yaml", code=3)
        me.expect("Traceback" not in done.stderr, f"{name}: a traceback")
    return ""


def records_answer_after_down(me: Stranger) -> str:
    run = me.submit(HELD, environment=me.planted, output="last")
    me.aip("down", code=0)
    me.expect(me.show(run)["state"] == "held", "run show")
    me.aip("logs", run, code=0)
    events = me.aip("run", "events", run, "-o", "ndjson", code=0).stdout.splitlines()
    me.expect(json.loads(events[0])["event"] == "run_accepted", "run events")
    return f"{len(events)} events"


CHECKS: tuple[Callable[[Stranger], str], ...] = (
    clean_environment_ships,
    planted_faults_are_held,
    approve_and_deny_end_a_held_run,
    a_baseline_shows_no_changes,
    an_edited_agent_gives_the_new_value,
    chaos_option_changes_no_finding,
    ctrl_c_leaves_nothing_of_the_run,
    wrong_input_is_named,
)


@contextmanager
def stranger(here: bool, keep: bool) -> Iterator[Stranger]:
    place = Path(tempfile.mkdtemp(prefix="aip-acceptance-"))
    checkout = ROOT
    if not here:
        checkout = place / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    me = Stranger(checkout, place)
    try:
        yield me
    finally:
        me.leave()
        if keep:
            click.echo(f"left in {place}", err=True)
        else:
            shutil.rmtree(place, ignore_errors=True)


@click.command(help="The acceptance list of the main job.")
@click.option("--seeds", default=20, show_default=True, type=click.IntRange(0), help="Of the chaos part.")
@click.option("--first", default=0, show_default=True, type=click.IntRange(0), help="The first seed.")
@click.option("--here", is_flag=True, help="This checkout as it lies, not a clone.")
@click.option("--only", default="", metavar="WORD", help="Checks with this word in their name.")
@click.option("--keep", is_flag=True, help="Leave the folder behind.")
def main(seeds: int, first: int, here: bool, only: str, keep: bool) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # So that the platform is ended on the way out.
    with stranger(here, keep) as me:
        failed = [not told(check.__name__, check, me) for check in CHECKS if only in check.__name__]
        if seeds and only in "chaos":
            field = chaos.Field(me)
            for seed in range(first, first + seeds):
                failed.append(not told(f"chaos seed {seed}", field.strike, seed))
        if only in records_answer_after_down.__name__:
            failed.append(not told("records_answer_after_down", records_answer_after_down, me))
    click.echo(f"{len(failed) - sum(failed)} of {len(failed)} checks passed")
    sys.exit(any(failed))


def told(name: str, check: Callable[[Any], str], given: Any) -> bool:
    try:
        note = check(given)
    except (Failed, subprocess.TimeoutExpired, OSError) as error:
        click.echo(f"FAILED  {name.replace('_', ' ')}: {error}")
        return False
    click.echo(f"ok      {name.replace('_', ' ')}{f' ({note})' if note else ''}")
    return True


if __name__ == "__main__":
    main()
