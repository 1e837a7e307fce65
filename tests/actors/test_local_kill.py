"""`aip kill --local` ends what may be at the target's work, and nothing that is not provably ours."""

from __future__ import annotations

import pytest

from actors import local_kill
from actors.health import Health, HealthPage
from aip.settings import Home


def page(name: str, turns: int = 0, beat_age_s: float = 0.1, blocked_by: str = "") -> Health:
    return Health(name, beat_age_s, 1, 1, 3, turns, 0, 0, blocked_by)


@pytest.mark.parametrize(
    ("target", "ended"),
    [
        ("platform", {"cell-a-0", "cell-a-1", "cell-b-0", "run-r-1", "run-r-2"}),
        ("node:node-0", {"cell-a-0", "cell-a-1", "cell-b-0", "run-r-1", "run-r-2"}),
        ("pool:a", {"cell-a-0", "cell-a-1"}),
        ("run/r-1", {"cell-a-1", "cell-b-0", "run-r-1"}),
        ("greeter/ada", {"cell-a-1", "cell-b-0"}),
    ],
)
def test_what_is_ended_for_which_target(target, ended):
    pages = [
        page("cell-a-0"),
        page("cell-a-1", turns=1),
        page("cell-b-0", beat_age_s=9.0),
        page("run-r-1"),
        page("run-r-2"),
        page("kill"),
        page("node-0", beat_age_s=9.0),
        page("orchestrator"),
    ]
    assert {one.name for one in pages if local_kill.reached(one, target)} == ended


def test_a_page_that_outlived_its_platform_names_nobody(tmp_path):
    """This very process, under the name of a cell: without a platform of ours there is no proof, and nothing is signalled."""
    home = Home(tmp_path)
    HealthPage(home.platform / "health", "cell-a-0").write(1, 1, 1, 0, 0)
    assert local_kill.end(home, "platform") == local_kill.Ended((), ())
