"""What the root ends by Ray: what outlived SIGKILL, and a node agent that has been silent too long."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from actors.health import HealthPage
from actors.last_resort import LastResort


class Shell:
    """A supervisor with these children, by generation."""

    def __init__(self, **living: int) -> None:
        self.living = {name.replace("_", "-"): generation for name, generation in living.items()}

    def end(self, name: str, generation: int) -> bool:
        return self.living.get(name) == generation and self.living.pop(name) == generation


class Root:
    def __init__(self, folder: Path, ending: bool) -> None:
        self.shells = [Shell(node_0=3), Shell(cell_a_0=7)]
        self.noted: list[tuple[str, str]] = []
        self.resort = LastResort(
            folder, lambda: self.shells, lambda: ending, lambda kind, name, _: self.noted.append((kind, name))
        )


async def test_what_outlived_sigkill_is_ended_by_ray_and_its_successor_is_not(tmp_path: Path) -> None:
    root = Root(tmp_path, ending=True)
    await root.resort.outlived("cell-a-0", 6)
    assert root.noted == []
    await root.resort.outlived("cell-a-0", 7)
    assert root.noted == [("process.killed_by_ray", "cell-a-0")]
    await root.resort.outlived("cell-a-0", 7)
    assert len(root.noted) == 1


@pytest.mark.parametrize(
    ("name", "silent_s", "ending", "ended"),
    [
        ("node-0", 5, True, False),
        ("node-0", 15, True, True),
        ("node-0", 15, False, False),
        ("node-0", 35, False, True),
        ("cell-a-0", 35, True, False),
    ],
)
def test_a_silent_node_agent_is_replaced_sooner_where_an_order_has_to_be_obeyed(
    tmp_path: Path, name: str, silent_s: float, ending: bool, ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = HealthPage(tmp_path, name)
    page.write(3, 0, 0, 0, 0)
    root, now_ns = Root(tmp_path, ending), time.monotonic_ns()
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns + int(silent_s * 1e9))
    root.resort.look()
    assert bool(root.noted) is ended
