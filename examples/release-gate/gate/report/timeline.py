"""The run's timeline as inline SVG, where the report is told about one.

`run` is a plain value, all of it optional:

    {"id": "...", "tasks": [{"name", "start_s", "end_s", "state", "attempts", "critical"}], "killed": [{"what", "at_s"}]}

Seconds count from the run's start; `critical` marks the critical path.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

ROWS_MAX = 300
WIDTH, ROW_HEIGHT, LABEL_WIDTH = 900, 18, 220


def render(run: Mapping[str, Any] | None) -> str:
    tasks = [item for item in (run or {}).get("tasks") or () if isinstance(item, Mapping)][:ROWS_MAX]
    if not tasks:
        return "<p>No timeline: this report was not told about a run.</p>"
    killed = [item for item in (run or {}).get("killed") or () if isinstance(item, Mapping)][:ROWS_MAX]
    end_s = max(
        [_number(item, "end_s") for item in tasks] + [_number(item, "at_s") for item in killed] + [0.001]
    )
    scale = (WIDTH - LABEL_WIDTH - 20) / end_s
    height = ROW_HEIGHT * (len(tasks) + 2)
    parts = [
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">'
    ]
    parts.append(f"<title>{end_s:.1f} s in all; the critical path is filled</title>")
    for row, item in enumerate(tasks):
        parts.append(_bar(item, row, scale))
    for item in killed:
        x = LABEL_WIDTH + _number(item, "at_s") * scale
        label = escape(f"killed: {item.get('what', '')} at {_number(item, 'at_s'):.1f} s")
        parts.append(
            f'<path class="killed" d="M{x:.1f} 0V{height - ROW_HEIGHT}"><title>{label}</title></path>'
        )
    return "\n".join([*parts, "</svg>"])


def _bar(item: Mapping[str, Any], row: int, scale: float) -> str:
    start_s, end_s = _number(item, "start_s"), _number(item, "end_s")
    x, y = LABEL_WIDTH + start_s * scale, ROW_HEIGHT * row
    width = max(1.0, (end_s - start_s) * scale)
    kind = "critical-path" if item.get("critical") else "aside"
    label = f"{item.get('name', '')}: {item.get('state', '')}, {end_s - start_s:.2f} s, {item.get('attempts', 1)} attempts"
    return (
        f'<g class="bar {kind}"><title>{escape(label)}</title>'
        f'<text x="0" y="{y + 13}">{escape(str(item.get("name", ""))[:34])}</text>'
        f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="12"/></g>'
    )


def _number(item: Mapping[str, Any], name: str) -> float:
    value = item.get(name, 0)
    return max(0.0, float(value)) if isinstance(value, int | float) and value == value else 0.0
