"""The dependency graph as inline SVG: roots on the left, what they need to the right, each node as far left as its needers allow.

Colours are classes, not attributes, so that the page's one style sheet rules and its policy needs no exception.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from html import escape

from ..dependency import Edge
from ..finding import Severity

COLUMN_WIDTH, ROW_HEIGHT, MARGIN = 210, 22, 16
NODES_MAX = 600  # A drawing with more says nothing.
NAME_CHARS_MAX = 26


def layers(names: Iterable[str], edges: Iterable[Edge]) -> dict[str, int]:
    """Column of each distribution: one more than its last needer's. Circles are cut where they are met in order of names."""
    needs: dict[str, set[str]] = {name: set() for name in names}
    waiting: dict[str, int] = dict.fromkeys(needs, 0)
    for edge in edges:
        if edge.source in needs and edge.target in needs and edge.target not in needs[edge.source]:
            needs[edge.source].add(edge.target)
            waiting[edge.target] += 1
    column = dict.fromkeys(needs, 0)
    left = set(needs)
    ready = deque(sorted(name for name in needs if not waiting[name]))
    while left:
        if not ready:
            ready.append(min(left, key=lambda name: (waiting[name], name)))
        name = ready.popleft()
        if name not in left:
            continue
        left.remove(name)
        for target in sorted(needs[name] & left):
            column[target] = max(column[target], column[name] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return column


def render(names: Iterable[str], edges: Iterable[Edge], worst: Mapping[str, Severity]) -> str:
    shown = sorted(names)[:NODES_MAX]
    edges = [edge for edge in edges if edge.source in shown and edge.target in shown]
    column = layers(shown, edges)
    rows: dict[int, list[str]] = defaultdict(list)
    for name in shown:
        rows[column[name]].append(name)
    place = {
        name: (MARGIN + c * COLUMN_WIDTH, MARGIN + r * ROW_HEIGHT)
        for c, group in rows.items()
        for r, name in enumerate(group)
    }
    width = MARGIN * 2 + COLUMN_WIDTH * (max(rows, default=0) + 1)
    height = MARGIN * 2 + ROW_HEIGHT * max((len(group) for group in rows.values()), default=1)
    parts = [
        f'<svg class="graph" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
    ]
    parts.append("<title>Who needs whom</title>")
    parts += [_edge(edge, place) for edge in edges]
    parts += [_node(name, place[name], worst.get(name)) for name in shown]
    return "\n".join([*parts, "</svg>"])


def _edge(edge: Edge, place: Mapping[str, tuple[int, int]]) -> str:
    (x1, y1), (x2, y2) = place[edge.source], place[edge.target]
    x1, y1, y2 = x1 + COLUMN_WIDTH - 40, y1 + 8, y2 + 8
    bend = (x1 + x2) // 2
    kind = "used" if edge.declared and edge.imported else "declared" if edge.declared else "undeclared"
    label = f"{edge.source} → {edge.target} ({kind})"
    return (
        f'<path class="edge {kind}" d="M{x1} {y1}C{bend} {y1} {bend} {y2} {x2} {y2}"><title>{escape(label)}</title></path>'
    )  # fmt: skip


def _node(name: str, place: tuple[int, int], worst: Severity | None) -> str:
    x, y = place
    label = name if len(name) <= NAME_CHARS_MAX else name[: NAME_CHARS_MAX - 1] + "…"
    kind = f" {worst.value}" if worst else ""
    return (
        f'<g class="node{kind}"><title>{escape(name)}</title>'
        f'<rect x="{x}" y="{y}" width="{COLUMN_WIDTH - 40}" height="17" rx="3"/>'
        f'<text x="{x + 6}" y="{y + 12}">{escape(label)}</text></g>'
    )
