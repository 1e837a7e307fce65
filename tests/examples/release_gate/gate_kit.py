"""Where the release gate and the data of its tests lie."""

from __future__ import annotations

from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "release-gate"
DATA = Path(__file__).parent / "data"
