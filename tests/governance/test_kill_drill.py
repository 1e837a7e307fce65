"""A drill measures with real processes on a real fence, and leaves nothing behind."""

from __future__ import annotations

from aip.governance.kill import Fence, desk, drill
from aip.settings import Home


def test_a_drill_stops_real_processes_and_says_when(tmp_path):
    home = Home(tmp_path / "home")
    desk.raise_order(home, "greeter", "stands before and after", "user:ada", 1.0)
    report = drill.run(
        home.state / "kill",
        lambda: desk.raise_order(home, drill.DRILL, "drill", "user:ada", 1.0),
        lambda: desk.end_drill(home, "user:ada", 1.0),
        rounds=2,
        workers=1,
        rate_per_s=200,
    )
    assert report.rounds == 2
    assert report.effects > 0
    assert report.late <= 1 * report.rounds  # At most the one that a child was at when the order returned.
    assert min(report.raise_ms) > 0
    assert set(Fence(home.state / "kill").orders().standing) == {"greeter"}
