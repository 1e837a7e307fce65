"""Which task goes first, and when it may."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from run_kit import plan, task

from aip.orchestration.graph import upward_ranks
from aip.orchestration.plan import When
from aip.orchestration.schedule import ReadyQueue, Release, release


@given(st.lists(st.integers(0, 3), max_size=30))
def test_the_queue_gives_the_highest_rank_first_and_each_task_once(ranks: list[int]) -> None:
    queue = ReadyQueue([float(rank) for rank in ranks])
    for number in [*range(len(ranks)), *range(len(ranks))]:
        queue.push(number)
    order = [queue.pop() for _ in range(len(queue))]
    assert order == sorted(range(len(ranks)), key=lambda number: (-ranks[number], number))
    assert not queue


@given(
    st.sampled_from(list(When)), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(1, 3)
)
def test_an_early_skip_is_what_waiting_would_have_come_to(
    when: When, ok: int, failed: int, skipped: int, waiting: int
) -> None:
    early = release(when, ok=ok, failed=failed, skipped=skipped, waiting=waiting)
    assert early is not Release.START
    for good in range(waiting + 1):
        late = release(when, ok=ok + good, failed=failed + waiting - good, skipped=skipped, waiting=0)
        assert late is not Release.WAIT
        assert early is Release.WAIT or late is Release.SKIP


def makespan(a_plan: object, durations: list[float], needs: list[list[int]], slots: int) -> float:
    """List scheduling by this module's order, with every duration known."""
    ranks = upward_ranks(a_plan, {f"t{n}": duration for n, duration in enumerate(durations)})  # type: ignore[arg-type]
    queue = ReadyQueue([ranks[f"t{n}"] for n in range(len(durations))])
    waiting = [len(one) for one in needs]
    for number, count in enumerate(waiting):
        if not count:
            queue.push(number)
    running: list[tuple[float, int]] = []
    now = 0.0
    while queue or running:
        while queue and len(running) < slots:
            number = queue.pop()
            running.append((now + durations[number], number))
        running.sort()
        now, done = running.pop(0)
        for number, needed in enumerate(needs):
            if done in needed:
                waiting[number] -= 1
                if not waiting[number]:
                    queue.push(number)
    return now


def test_random_plans_end_within_a_tenth_of_the_lower_bound() -> None:
    ratios = []
    for seed in range(20):
        rng = random.Random(seed)
        count, slots = 120, 8
        needs = [
            sorted(rng.sample(range(max(0, n - 20), n), k=min(n, rng.randint(0, 2)))) for n in range(count)
        ]
        durations = [rng.uniform(0.5, 2.0) for _ in range(count)]
        a_plan = plan(*(task(f"t{n}", *(f"t{need}" for need in needs[n])) for n in range(count)))
        longest = max(upward_ranks(a_plan, {f"t{n}": d for n, d in enumerate(durations)}).values())
        bound = max(longest, sum(durations) / slots)
        ratios.append(makespan(a_plan, durations, needs, slots) / bound)
    assert sum(ratios) / len(ratios) <= 1.1
