"""The architecture guide's single-node snippet, unchanged, on a real platform."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aip.client import Platform
from aip.settings import Home

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]


def test_the_single_node_snippet_of_the_guide_runs_as_it_is_printed(home: Home, running: Platform) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "guide" / "run.py")],
        env={**os.environ, "AIP_HOME": str(home.root), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"title": 3, "body": 6, "total": 4}

    newest = max(running.runs(), key=lambda run: run["accepted_at_s"] or 0)
    assert newest["state"] == "succeeded"
    assert newest["tasks"] == 3
