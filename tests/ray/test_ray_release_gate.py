"""The main job on the real platform: what is planted is found and held, people decide, and deaths on the way change no byte."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pygments
import pytest
from ray_kit import until

pytestmark = pytest.mark.ray

GATE = Path(__file__).parents[2] / "examples" / "release-gate"
HELD = 4


def submit(platform, folder: Path, *options: str, **inputs: object) -> tuple[str, str]:
    """`aip submit` over the planted environment, as typed in `folder`; the run and what was said."""
    given = [
        part
        for name, value in {"environment": GATE / "planted", **inputs}.items()
        for part in ("-i", f"{name}={value}")
    ]
    done = subprocess.run(
        [sys.executable, "-m", "aip.cli", "submit", GATE / "plan.yaml", *given, *options, "-o", "json"],
        cwd=folder,
        env={
            "PATH": "/usr/bin:/bin",
            "AIP_HOME": str(platform.home.root),
            "PYTHONPATH": str(GATE.parents[1]),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == HELD, done.stderr[-3000:]
    return json.loads(done.stdout)["run"], done.stderr


def rows(folder: Path) -> list[list[object]]:
    site = json.loads((GATE / "planted" / "truth.json").read_text())["site"] + "/"
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
        for f in json.loads((folder / "findings.json").read_text())
    )


def test_what_was_planted_is_found_held_and_a_person_ends_it(platform, tmp_path):
    truth = json.loads((GATE / "planted" / "truth.json").read_text())
    before: dict[str, object] = {}
    for approve, state, word in ((False, "failed", "denied"), (True, "succeeded", "approved")):
        run, _ = submit(platform, tmp_path, output=word, **before)
        if before:
            assert "0 new findings, 0 gone" in (tmp_path / word / "report.md").read_text()
        else:
            assert rows(tmp_path / word) == sorted(truth["findings"])
        platform.decide(run, "approve", approve, by="user:ada", comment="seen")
        until(lambda run=run, state=state: platform.run(run)["state"] == state)
        assert f"# Release gate: {word}" in (tmp_path / word / "report.md").read_text()
        before = {"baseline": f"{word}/report.json"}


def test_a_cell_and_the_run_actor_may_die_and_the_report_tells_it_beside_the_same_findings(
    platform, tmp_path
):
    large = tmp_path / "large"  # The planted environment alone is over in a second.
    shutil.copytree(GATE / "planted", large, symlinks=True)
    shutil.copytree(
        Path(pygments.__file__).parent, next(large.glob("lib/python3*/site-packages")) / "pygments"
    )
    submit(platform, tmp_path, environment=large, output="quiet")
    _, said = submit(platform, tmp_path, "--chaos", "1", environment=large, output="chaos")
    assert said.count("chaos: killed") == 2, said
    findings = [(tmp_path / name / "findings.json").read_bytes() for name in ("quiet", "chaos")]
    assert findings[0] == findings[1]
    told = json.loads((tmp_path / "chaos" / "report.json").read_text())["run"]
    assert {row["name"] for row in told["tasks"] if row["critical"]} >= {"inventory", "verdict"}
    assert len(told["killed"]) >= 2
    assert not json.loads((tmp_path / "quiet" / "report.json").read_text())["run"]["killed"]
    assert "killed: run-" in (tmp_path / "chaos" / "report.html").read_text()
