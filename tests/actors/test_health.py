"""Health pages: whole, readable by anyone, whatever their writer is doing."""

from __future__ import annotations

import multiprocessing
import os
import time

from actors.health import HealthPage, read_all


def test_a_page_says_what_was_written(tmp_path):
    page = HealthPage(tmp_path, "cell-1")
    assert page.read() is None
    page.write(3, 10, 2, 5, 1)
    page.blocked("greeter/ada blocks its cell's loop at agents.py:3")
    (health,) = read_all(tmp_path)
    assert (health.name, health.pid, health.generation) == ("cell-1", os.getpid(), 3)
    assert (health.agents, health.turns, health.waiting, health.calls) == (10, 2, 5, 1)
    assert health.blocked_by.startswith("greeter/ada")
    assert health.ok
    assert read_all(tmp_path / "nothing") == []


def _write(folder, seconds):
    page = HealthPage(folder, "busy")
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        count += 1
        page.write(count, count, count, count, count)


def test_a_reader_never_sees_half_a_page(tmp_path):
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(tmp_path, 1.5))
    writer.start()
    page = HealthPage(tmp_path, "busy")
    seen = 0
    while writer.is_alive():
        health = page.read()
        if health is not None:
            assert health.generation == health.agents == health.turns == health.waiting == health.calls
            seen += 1
    writer.join()
    assert seen > 100
