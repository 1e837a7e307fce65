# mypy: ignore-errors
# Runs in an environment of its own, where what it imports is; ours does not have it.
"""LangGraph: a graph of a thousand nodes that do nothing, without a checkpointer, with one in memory, and with SQLite."""

from __future__ import annotations

import operator
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from measurement import ROUNDS, STEPS, needs, say, timed

PACKAGE = "langgraph"


class Done(TypedDict):
    steps: Annotated[int, operator.add]


def step(_: Done) -> dict[str, int]:
    return {"steps": 1}


def build(shape: str, saver: Any) -> Any:
    graph = StateGraph(Done)
    before = needs(shape, STEPS)
    needed = {number for numbers in before for number in numbers}
    for number in range(STEPS):
        graph.add_node(f"t{number}", step)
    for number, numbers in enumerate(before):
        names = [f"t{other}" for other in numbers]
        graph.add_edge(names if len(names) > 1 else (names or [START])[0], f"t{number}")
        if number not in needed:
            graph.add_edge(f"t{number}", END)
    return graph.compile(checkpointer=saver)


def measure(shape: str, name: str, saver: Any, note: str, **options: Any) -> None:
    graph = build(shape, saver)

    def run(number: int) -> Callable[[], None]:
        config = {"recursion_limit": STEPS * 2, "configurable": {"thread_id": f"{shape}-{number}"}}

        def act() -> None:
            done = graph.invoke({"steps": 0}, config, **options)
            assert done["steps"] == STEPS

        return act

    say(f"{name} {shape}", [timed(run(number)) for number in range(ROUNDS)], "s", PACKAGE, note)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="aip-bench-") as folder:
        for shape in ("chain", "fan"):
            measure(shape, "not durable", None, "graph built beforehand; nothing survives the process")
            measure(
                shape, "in memory", InMemorySaver(), "graph built beforehand; nothing survives the process"
            )
            with SqliteSaver.from_conn_string(str(Path(folder) / f"{shape}.db")) as saver:
                measure(shape, "SQLite", saver, "WAL, a checkpoint a step before the next", durability="sync")


main()
