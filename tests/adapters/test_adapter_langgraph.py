"""A graph keeps its threads: over the death of its cell, over a question to a person, over a move to another cell."""

from __future__ import annotations

import asyncio
import operator
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import pydantic
import pytest
from adapter_kit import Library, react
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from model_kit import model
from scripted_server import Say, Stall, scripted
from typing_extensions import TypedDict

from aip.adapters import Interrupted, current_context, langgraph
from aip.adapters.langgraph_threads import THREADS_MAX, Threads
from aip.errors import AgentFailed, BudgetExceeded, UsageError
from aip.runtime.activation import AgentType
from aip.runtime.placement import CellRecord, Membership, Placement
from aip.testing import TestPlatform, platform

DONE: list[str] = []  # What the nodes have done, in this test, whichever cell they did it in.
GATE = {"shut": False}


@pytest.fixture(autouse=True)
def fresh() -> None:
    DONE.clear()
    GATE["shut"] = False


class Notes(TypedDict):
    notes: Annotated[list[str], operator.add]


def first(state: Notes) -> dict[str, Any]:
    DONE.append("first")
    return {"notes": ["first"]}


async def second(state: Notes) -> dict[str, Any]:
    while GATE["shut"]:
        await asyncio.sleep(0.01)
    DONE.append("second")
    return {"notes": ["second"]}


def asks(state: Notes) -> dict[str, Any]:
    DONE.append("asks")
    return {"notes": [interrupt({"publish": state["notes"]}), interrupt("sure?")]}


def chain(*nodes: Any, **compiled: Any) -> Any:
    return StateGraph(Notes).add_sequence(list(nodes)).add_edge(START, nodes[0].__name__).compile(**compiled)


Stepper = langgraph.agent_of(chain(first, second), name="stepper")
Asker = langgraph.agent_of(chain(first, asks), name="asker")
TASK = {"idempotency_key": "task-1"}


async def crash(p: TestPlatform, cell: str) -> Any:
    """The cell is gone without a word, and a new generation of it stands where it was."""
    lost = p.cells.pop(cell)
    p.add_cell(cell, generation=lost.generation + 1).start()
    return lost


async def test_a_step_that_was_done_before_the_cell_died_is_not_done_again() -> None:
    async with platform(Stepper) as p:
        GATE["shut"] = True
        running = asyncio.ensure_future(p.call("stepper/a", "invoke", input={"notes": []}, fields=TASK))
        while DONE != ["first"] or not await asyncio.sleep(0.05, True):
            await asyncio.sleep(0.01)
        lost = await crash(p, "cell-test-0")
        GATE["shut"] = False
        answer = await p.call("stepper/a", "invoke", input={"notes": []}, fields=TASK)
        assert answer == {"output": {"notes": ["first", "second"]}, "interrupts": [], "thread": "task-1"}
        assert DONE[:2] == ["first", "second"]
        assert DONE.count("first") == 1
        running.cancel()
        await lost.stop()


async def test_a_task_that_was_done_before_the_cell_died_answers_and_does_nothing() -> None:
    async with platform(Stepper) as p:
        given = {"input": {"notes": ["zero"]}, "thread": "diary", "fields": TASK}
        answer = await p.call("stepper/a", "invoke", **given)
        lost = await crash(p, "cell-test-0")
        assert await p.call("stepper/a", "invoke", **given) == answer
        assert DONE == ["first", "second"]
        await lost.stop()


async def test_a_thread_that_is_named_remembers_and_one_that_is_not_forgets() -> None:
    async with platform(Stepper) as p:
        for thread, lengths in (("diary", [2, 4]), ("", [2, 2])):
            for length in lengths:
                answer = await p.call("stepper/a", "invoke", input={"notes": []}, thread=thread)
                assert len(answer["output"]["notes"]) == length


async def test_a_thread_moves_with_its_agent_to_another_cell() -> None:
    async with platform(Stepper) as p:
        pool = tuple(
            CellRecord(cell_id=f"cell-test-{n}", pool="test", node="here", generation=1) for n in range(2)
        )
        two = Membership(epoch=2, pools={"test": pool}, types=p.membership.types)
        name = next(
            name for n in range(100) if Placement(two).locate(name := f"stepper/{n}") == "cell-test-1"
        )
        await p.call(name, "invoke", input={"notes": []}, thread="diary")
        p.add_cell("cell-test-1").start()
        p.placement.offer(two)
        for cell in p.cells.values():
            cell.moved([])
        answer = await p.call(name, "invoke", input={"notes": []}, thread="diary")
        assert len(answer["output"]["notes"]) == 4
        assert name in p.cells["cell-test-1"].host.agents


# A person in the middle -----------------------------------------------------------------------------------------------


async def test_a_graph_that_waits_for_a_person_says_what_it_asks_and_goes_on_with_the_answer() -> None:
    async with platform(Asker) as p:
        waits = await p.call("asker/a", "invoke", input={"notes": []}, fields=TASK)
        assert [asked["value"] for asked in waits["interrupts"]] == [{"publish": ["first"]}]
        lost = await crash(p, "cell-test-0")
        again = await p.call("asker/a", "resume", thread=waits["thread"], answer="yes")
        assert [asked["value"] for asked in again["interrupts"]] == ["sure?"]
        done = await p.call("asker/a", "resume", thread=waits["thread"], answer="indeed")
        assert done["output"] == {"notes": ["first", "yes", "indeed"]}
        assert DONE.count("first") == 1
        await lost.stop()


async def test_an_answer_that_is_sent_twice_by_one_task_answers_one_question() -> None:
    async with platform(Asker) as p:
        waits = await p.call("asker/a", "invoke", input={"notes": []})
        given = {"thread": waits["thread"], "answer": "yes", "fields": TASK}
        first_time = await p.call("asker/a", "resume", **given)
        lost = await crash(p, "cell-test-0")
        assert await p.call("asker/a", "resume", **given) == first_time
        assert first_time["interrupts"][0]["value"] == "sure?"
        await lost.stop()


async def test_an_answer_that_nobody_waits_for_is_refused() -> None:
    async with platform(Stepper) as p:
        with pytest.raises(UsageError, match="does not wait"):
            await p.call("stepper/a", "resume", thread="diary", answer="yes")


def doubtful(model: Any, tools: Any) -> Any:
    def doubt(state: MessagesState) -> dict[str, Any]:
        return {"messages": [("assistant", interrupt("really?"))]}

    return StateGraph(MessagesState).add_sequence([doubt]).add_edge(START, "doubt").compile()


async def test_an_ask_that_cannot_be_answered_without_a_person_ends_in_a_typed_error() -> None:
    async with platform(langgraph.agent_of(doubtful)) as p:
        with pytest.raises(Interrupted) as caught:
            await p.call("doubtful/a", "ask", prompt="x")
        assert caught.value.details["interrupts"][0]["value"] == "really?"
        done = await p.call("doubtful/a", "resume", thread=caught.value.details["thread"], answer="yes")
        assert done["output"]["messages"][-1] == {"role": "assistant", "content": "yes"}


# Models, in nodes and in threads --------------------------------------------------------------------------------------


class Book(pydantic.BaseModel):
    title: str
    year: int


def thinks_in_a_thread(state: Notes) -> dict[str, Any]:
    assert threading.current_thread() is not threading.main_thread()
    book = langgraph.plan_model().with_structured_output(Book).invoke("which book?")
    return {"notes": [f"{book.title} for {current_context().agent}"]}


@tool
def look(at: str) -> str:
    """Look at it."""
    return at


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("any", "required"),
        (True, "required"),
        ("look", {"type": "function", "function": {"name": "look"}}),
        ("none", "none"),
        ("auto", None),
        (None, None),
    ],
)
async def test_a_choice_of_tools_in_langchains_words_reaches_the_endpoint(choice: Any, sent: Any) -> None:
    async def think(state: Notes) -> dict[str, Any]:
        asked = langgraph.plan_model().bind_tools([look], tool_choice=choice)
        return {"notes": [str((await asked.ainvoke("x")).content)]}

    kind = langgraph.agent_of(chain(think), name="thinker")
    with scripted(Say("seen")) as server:
        async with platform(kind, model(server)) as p:
            await p.call("thinker/a", "invoke", input={"notes": []})
    assert server.requests[0].get("tool_choice") == sent


async def test_a_synchronous_node_asks_the_plans_model_from_its_thread() -> None:
    kind = langgraph.agent_of(chain(thinks_in_a_thread), name="thinker")
    with scripted(Say('{"title": "Omoo", "year": 1847}')) as server:
        async with platform(kind, model(server), budget={"tokens": 10_000}) as p:
            answer = await p.call("thinker/a", "invoke", input={"notes": []})
            assert p.spent["tokens"] == 17
    assert answer["output"] == {"notes": ["Omoo for thinker/a"]}
    assert server.requests[0]["response_format"]["json_schema"]["schema"]["required"] == ["title", "year"]


async def test_a_thread_that_waits_for_a_model_is_let_go_with_its_turn() -> None:
    kind = langgraph.agent_of(chain(thinks_in_a_thread), name="thinker")
    with scripted(Stall()) as server:
        async with platform(kind, model(server)) as p:
            asking = asyncio.ensure_future(p.call("thinker/a", "invoke", input={"notes": []}))
            while not server.requests:
                await asyncio.sleep(0.01)
            asking.cancel()
            assert await asyncio.to_thread(server.closed_early.wait, 10)


async def blocks(state: Notes) -> dict[str, Any]:
    return {"notes": [langgraph.plan_model().invoke("x").text]}


async def test_a_node_that_would_block_its_cell_is_told_to_await() -> None:
    with scripted(Say("x")) as server:
        async with platform(langgraph.agent_of(chain(blocks), name="thinker"), model(server)) as p:
            with pytest.raises(UsageError, match="would block its cell"):
                await p.call("thinker/a", "invoke", input={"notes": []})


async def test_a_stream_tells_nodes_as_they_end_and_the_outcome_last() -> None:
    async with platform(Stepper) as p:
        parts = [part async for part in p.stream("stepper/a", "stream", input={"notes": []})]
    assert parts[:-1] == [
        {"node": "first", "update": {"notes": ["first"]}},
        {"node": "second", "update": {"notes": ["second"]}},
    ]
    assert parts[-1]["output"] == {"notes": ["first", "second"]}


async def test_whoever_waits_for_a_graph_hears_which_node_it_is_at() -> None:
    heard: list[str] = []
    async with platform(Stepper) as p:
        await p.watch("stepper/a", "invoke", lambda fraction, text: heard.append(text), input={"notes": []})
    assert heard == ["first", "second"]


async def test_a_budget_that_is_raised_lets_the_task_go_on_without_asking_the_model_again() -> None:
    dear = {"prompt_tokens": 3_000, "completion_tokens": 99}
    kind = langgraph.agent_of(react, tools=["library.book.find"], name="reader")
    with scripted(Say(calls=(("book_find", {"title": "X"}),), usage=dear), Say("1851")) as server:
        async with platform(kind, Library, model(server), budget={"tokens": 3_500}) as p:
            with pytest.raises(BudgetExceeded):
                await p.call("reader/a", "ask", prompt="x", fields=TASK)
            answer = await p.call("reader/a", "ask", prompt="x", fields={**TASK, "budget": ""})
    assert answer == "1851"
    assert len(server.requests) == 2


# The author's own -----------------------------------------------------------------------------------------------------

OWN = """
from langgraph.graph import START, MessagesState, StateGraph
from aip.adapters import langgraph

def think(state):
    raise LookupError("no such shelf")                    # line 6

graph = langgraph.agent_of(StateGraph(MessagesState).add_sequence([think]).add_edge(START, "think").compile())
"""


async def test_a_node_that_fails_is_the_authors_error_at_the_authors_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "graphs_of_mine.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "graphs_of_mine", raising=False)
    kind = AgentType("reader", "graphs_of_mine:graph", code_root=str(tmp_path))
    async with platform(kind) as p:
        with pytest.raises(AgentFailed, match="LookupError: no such shelf") as caught:
            await p.call("reader/a", "ask", prompt="x")
    assert caught.value.details["location"] == "graphs_of_mine.py:6"


async def test_a_checkpointer_of_the_authors_own_stays() -> None:
    saver = InMemorySaver()
    kind = langgraph.agent_of(chain(first, second, checkpointer=saver), name="stepper")
    async with platform(kind) as p:
        await p.call("stepper/a", "invoke", input={"notes": []}, thread="diary")
    assert saver.get({"configurable": {"thread_id": "diary"}}) is not None


def test_what_is_no_graph_is_refused_where_it_is_written() -> None:
    with pytest.raises(UsageError, match="compiled graph is wanted, not StateGraph"):
        langgraph.agent_of(StateGraph(Notes))


# What is kept ---------------------------------------------------------------------------------------------------------


def record(size_bytes: int) -> dict[str, Any]:
    return {"id": "1", "checkpoint": ("x", b"x" * size_bytes), "metadata": ("x", b""), "writes": {}}


@given(st.lists(st.integers(min_value=0, max_value=200), max_size=3 * THREADS_MAX))
def test_the_threads_used_last_are_kept(names: list[int]) -> None:
    threads = Threads()
    for name in names:
        threads.of(str(name))[""] = record(10)
    kept = list(Threads(threads.to_state()).to_state()["threads"])
    latest = list(dict.fromkeys(reversed([str(name) for name in names])))[:THREADS_MAX]
    assert kept == latest[::-1]


def test_a_large_thread_pushes_older_ones_out_and_is_never_pushed_out_itself() -> None:
    threads = Threads()
    for name in ("old", "new"):
        threads.of(name)[""] = record(5 * 2**20)
    assert list(threads.to_state()["threads"]) == ["new"]
