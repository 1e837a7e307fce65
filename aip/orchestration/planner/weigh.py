"""What each task of a plan is expected to take, from what earlier runs took: the weights of upward ranks (`schedule`).

None where nothing of the plan was ever measured: then a run ranks by tasks, as it always may. Of a task that was not measured
among others that were, nobody knows more than that it is one of them: it weighs their mean. (`simulate` guesses from its timeout,
which says a time; here only the order counts, and a timeout of an hour must not put an unknown task before all that is known.)

Weights order starts and decide nothing else. Which task started when stands in the journal, event by event, so a replay comes to
the same state with other weights or none; after a crash what has not started yet may start in another order than it would have.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from ..plan import Plan
from .history import Measured, work_of
from .simulate import Model


def weights(plan: Plan, measured: Measured, inputs: Mapping[str, Any]) -> dict[str, float] | None:
    """Seconds by task, all units of it over what can be at work at once; None where no task of the plan was measured."""
    works = [work_of(plan, task) for task in plan.tasks.values() if task.gate is None]
    known = [measured.seconds[work].mean for work in works if work in measured.seconds]
    if not known:
        return None
    return Model(plan, measured, inputs, unknown_s=fmean(known)).weights()
