"""The shape of a plan: order, cycles, critical path, ranks, bounds, and three drawings of it.

A plan is a directed graph of task names; `needs` holds the edges. Everything here is linear in tasks and edges and loops
rather than recurses, so that 20,000 tasks in one chain are no danger. graphlib orders and finds cycles; networkx takes away the
edges that a drawing does not need (transitive reduction).

    upward rank     the weight of a task and of the heaviest path below it: the start order of list scheduling (HEFT: Topcuoglu,
                    Hariri and Wu, 2002, with no communication costs)
    critical path   the heaviest path; no run can be shorter
    lower bound     max(critical path, all work / slots); no schedule on that many slots can be shorter (Graham, 1969)
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping, Sequence

from .plan import Plan, TaskSpec

DRAWN_EDGES_MAX = 2_000  # Beyond it a drawing shows every edge: reduction takes time in tasks times edges.
INDENT_CHARS_MAX = 120  # Deeper tasks stand below each other: a chain of thousands is drawn as one column.
Edges = Mapping[str, Sequence[str]]


def edges(plan: Plan) -> dict[str, tuple[str, ...]]:
    """What each task needs."""
    return {name: task.needs for name, task in plan.tasks.items()}


def cycle(needs: Edges) -> list[str]:
    """One cycle, first name again at the end, each needed by the next; empty if there is none."""
    sorter = graphlib.TopologicalSorter(needs)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def order(needs: Edges) -> list[str]:
    """Every task after all that it needs; in the file's order where that leaves a choice."""
    return list(graphlib.TopologicalSorter(needs).static_order())


def first_ready(plan: Plan) -> list[str]:
    """The tasks that can start at once."""
    return [name for name, task in plan.tasks.items() if not task.needs]


def upward_ranks(plan: Plan, weights: Mapping[str, float] | None = None) -> dict[str, float]:
    """For each task its weight (1 where none is given) and that of the heaviest path of tasks that wait for it."""
    return _ranks(edges(plan), weights or {})


def critical_path(plan: Plan, weights: Mapping[str, float] | None = None) -> tuple[list[str], float]:
    """The heaviest path, first task first, and its weight."""
    needs = edges(plan)
    if not needs:
        return [], 0.0
    ranks = _ranks(needs, weights or {})
    below = _dependants(needs)
    name = max((name for name in needs if not needs[name]), key=ranks.__getitem__)
    path, length = [name], ranks[name]
    while below[name]:
        name = max(below[name], key=ranks.__getitem__)
        path.append(name)
    return path, length


def lower_bound(plan: Plan, weights: Mapping[str, float] | None, slots: int) -> float:
    """No schedule of the plan on this many slots takes less time."""
    if slots < 1:
        raise ValueError(f"a schedule needs at least one slot, not {slots}")
    given = weights or {}
    work = sum(given.get(name, 1.0) for name in plan.tasks)
    return max(critical_path(plan, given)[1], work / slots)


def levels(needs: Edges) -> dict[str, int]:
    """How many tasks must end one after another before each can start."""
    found: dict[str, int] = {}
    for name in order(needs):
        found[name] = 1 + max((found[need] for need in needs[name]), default=-1)
    return found


def as_text(plan: Plan) -> str:
    """A tree: each task below the one that it waits for longest; `also` names the others."""
    needs = _drawn(edges(plan))
    level = levels(needs)
    children: dict[str | None, list[str]] = {}
    for name in needs:
        parent = max(needs[name], key=level.__getitem__, default=None)
        children.setdefault(parent, []).append(name)
    on_path = set(critical_path(plan)[0])
    lines = [f"{plan.name}: {len(plan.tasks)} tasks, * is the critical path"]
    stack = [(name, "", last) for name, last in _with_last(children.get(None, []))][::-1]
    while stack:
        name, indent, last = stack.pop()
        parent = max(needs[name], key=level.__getitem__, default=None)
        also = [need for need in needs[name] if need != parent]
        note = f"  (also after {', '.join(also)})" if also else ""
        mark = "*" if name in on_path else " "
        lines.append(f"{mark} {indent}{'└─ ' if last else '├─ '}{_label(plan.tasks[name])}{note}")
        below = indent + ("   " if last else "│  ") if len(indent) < INDENT_CHARS_MAX else indent
        stack.extend([(child, below, end) for child, end in _with_last(children.get(name, []))][::-1])
    return "\n".join(lines) + "\n"


def as_mermaid(plan: Plan) -> str:
    """A flowchart in the language of mermaid.js.org; the critical path is drawn thick."""
    on_path = set(critical_path(plan)[0])
    lines = ["flowchart TD"]
    for name, task in plan.tasks.items():
        left, right = ("{{", "}}") if task.gate else ("[[", "]]") if task.for_each else ("[", "]")
        lines.append(f'  t_{name}{left}"{_label(task)}"{right}')
    for name, needs in _drawn(edges(plan)).items():
        lines.extend(f"  t_{need} {'==>' if {need, name} <= on_path else '-->'} t_{name}" for need in needs)
    return "\n".join(lines) + "\n"


def as_dot(plan: Plan) -> str:
    """A graph in the DOT language of graphviz.org; the critical path is drawn bold."""
    on_path = set(critical_path(plan)[0])
    lines = [f'digraph "{plan.name}" {{', "  rankdir=TB;", '  node [shape=box, fontname="sans-serif"];']
    for name, task in plan.tasks.items():
        shape = ", shape=diamond" if task.gate else ", peripheries=2" if task.for_each else ""
        lines.append(f'  "{name}" [label="{_label(task)}"{shape}];')
    for name, needs in _drawn(edges(plan)).items():
        for need in needs:
            lines.append(f'  "{need}" -> "{name}"{" [style=bold]" if {need, name} <= on_path else ""};')
    return "\n".join([*lines, "}"]) + "\n"


def _ranks(needs: Edges, weights: Mapping[str, float]) -> dict[str, float]:
    ranks = dict.fromkeys(needs, 0.0)
    for name in reversed(
        order(needs)
    ):  # What a task finds in its place is the heaviest of those that wait for it.
        rank = ranks[name] = ranks[name] + weights.get(name, 1.0)
        for need in needs[name]:
            if rank > ranks[need]:
                ranks[need] = rank
    return ranks


def _dependants(needs: Edges) -> dict[str, list[str]]:
    below: dict[str, list[str]] = {name: [] for name in needs}
    for name, wanted in needs.items():
        for need in wanted:
            below[need].append(name)
    return below


def _drawn(needs: Edges) -> dict[str, list[str]]:
    """The edges that are not implied by others; all of them where there are too many to tell."""
    if sum(map(len, needs.values())) > DRAWN_EDGES_MAX:
        return {name: list(wanted) for name, wanted in needs.items()}
    import networkx  # Loaded for drawings only: it takes longer to import than a plan to check.

    graph: networkx.DiGraph[str] = networkx.DiGraph()
    graph.add_nodes_from(needs)
    graph.add_edges_from((need, name) for name, wanted in needs.items() for need in wanted)
    reduced = networkx.transitive_reduction(graph)
    return {name: [need for need in wanted if reduced.has_edge(need, name)] for name, wanted in needs.items()}


def _with_last(names: Iterable[str]) -> list[tuple[str, bool]]:
    listed = list(names)
    return [(name, index == len(listed) - 1) for index, name in enumerate(listed)]


def _label(task: TaskSpec) -> str:
    """Names only, never a text of the author's: a label needs no escaping in any of the languages."""
    if task.gate is not None:
        return f"{task.name}: a person decides"
    what = task.capability if task.plan is None else "a run of a plan"
    who = f" by {len(task.vote.voters)} voters" if task.vote else f" by {task.agent}" if task.agent else ""
    each = " for each item" if task.for_each else ""
    return f"{task.name}: {what}{who}{each}"
