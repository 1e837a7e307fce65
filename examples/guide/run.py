"""Runs the architecture guide's single-node snippet as it stands in docs/architecture-guide.md, and prints its `results`.

    python examples/guide/run.py

The snippet awaits at the top level, as a notebook does; it is compiled for that and run after the names of `prelude.py`.
"""

import ast
import asyncio
import inspect
import json
from pathlib import Path
from typing import Any

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "architecture-guide.md"
HEADING = "### Single Node\n```python\n"


def snippet(guide: str) -> str:
    """The first python block under the heading, character by character."""
    _, found, rest = guide.partition(HEADING)
    if not found:
        raise LookupError(f"{GUIDE} has no python block under {HEADING.splitlines()[0]!r}")
    return rest.partition("```")[0]


async def run(source: str, names: dict[str, Any]) -> dict[str, Any]:
    """The names that stand after `source` was run on a copy of `names`."""
    space = dict(names)
    code = compile(source, str(GUIDE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    # Code that awaits at its top level evaluates to a coroutine; its names are set as it runs.
    value = eval(code, space)  # noqa: S307 - our own document, which this program exists to run
    if inspect.isawaitable(value):
        await value
    return space


def main() -> None:
    import prelude

    names = {name: getattr(prelude, name) for name in ("agent", "capabilities", "plan")}
    space = asyncio.run(run(snippet(GUIDE.read_text(encoding="utf-8")), names))
    print(json.dumps(space["results"]))


if __name__ == "__main__":
    main()
