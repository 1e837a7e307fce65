"""A LangGraph graph as an AIP agent.

    from aip.adapters import langgraph

    def build(model, tools):                                   # once per activation; or a compiled graph
        return create_react_agent(model, tools)

    researcher = langgraph.agent_of(build, tools=["library.book.find"])

Its threads live in the agent's checkpoint (`langgraph_threads.py`). A task that is tried again under the same idempotency key
goes on where its thread stands: steps that are in the journal are not done again.

A graph that waits for a person (`interrupt`) ends its turn: `invoke` answers with what it asks, for a gate to show, and `resume`
goes on. Between the two nothing runs and nothing is paid for.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ..agent import Context, capability
from ..errors import UsageError
from .adapted import Adapted, made
from .failure import Misbehaved, StepsExhausted, Table, missing
from .own_model import OwnModel, Report
from .reins import Reins

if TYPE_CHECKING:
    from .langgraph_model import PlanModel

STEPS = 25  # Steps of a graph, as LangGraph counts them: a question to a model and its tool calls are two.


class LangGraphAgent(Adapted):
    """A graph of LangGraph."""

    framework = "langgraph"
    packages = ("langgraph", "langchain_core")

    async def on_start(self, ctx: Context) -> None:
        from .langgraph_threads import Threads

        await super().on_start(ctx)
        self._threads = Threads(ctx.restored)
        self._graph: Any = None

    @capability
    async def invoke(self, input: Any, ctx: Context, thread: str = "") -> dict[str, Any]:
        """Run the graph: `{"output", "interrupts", "thread"}`. A `thread` that is named keeps its state for the next call."""
        async with self.working(ctx) as (reins, report):
            return await self._outcome(reins, report, input, thread)

    @capability
    async def resume(self, thread: str, answer: Any, ctx: Context) -> dict[str, Any]:
        """Go on with a graph that waits: `answer` is what `interrupt` returns. By interrupt id where several wait."""
        from langgraph.types import Command

        async with self.working(ctx) as (reins, report):
            return await self._outcome(reins, report, Command(resume=answer), thread)

    @capability
    async def stream(
        self, input: Any, ctx: Context, thread: str = ""
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Run it and tell: `{"node", "update"}`, `{"delta"}` of models, `{"custom"}`, and what `invoke` answers last."""
        async with (
            self.working(ctx) as (reins, report),
            aclosing(self._run(reins, report, input, thread, streamed=True)) as parts,
        ):
            async for part in parts:
                reins.check()
                yield part

    async def answer(self, prompt: str, reins: Reins, report: Report) -> Any:
        from .langgraph_value import asked, said

        return said(await self._outcome(reins, report, asked(prompt), ""))

    async def parts(self, prompt: str, reins: Reins, report: Report) -> AsyncGenerator[dict[str, Any], None]:
        from .langgraph_value import asked, said

        async with aclosing(self._run(reins, report, asked(prompt), "", streamed=True)) as parts:
            async for part in parts:
                if "delta" in part:
                    yield part
                elif "output" in part:
                    yield {"answer": said(part)}

    def failures(self) -> Table:
        from langchain_core.exceptions import OutputParserException
        from langgraph.errors import GraphRecursionError

        return {GraphRecursionError: StepsExhausted, OutputParserException: Misbehaved}

    async def _outcome(self, reins: Reins, report: Report, given: Any, thread: str) -> dict[str, Any]:
        outcome: dict[str, Any] = {}
        async with aclosing(self._run(reins, report, given, thread, streamed=False)) as parts:
            async for part in parts:
                outcome = part
        return outcome

    async def _run(
        self, reins: Reins, report: Report, given: Any, thread: str, *, streamed: bool
    ) -> AsyncGenerator[dict[str, Any], None]:
        """One turn of the graph: what happens where that is wanted, and the outcome last."""
        from langchain_core.callbacks import UsageMetadataCallbackHandler
        from langgraph.types import Command

        from .langgraph_value import output, plain, told

        ctx, usage = reins.ctx, UsageMetadataCallbackHandler()
        graph = await self._compiled(reins)
        name = thread or ctx.idempotency_key
        config: Any = {
            "configurable": {"thread_id": name},
            "recursion_limit": self._steps_max,
            "callbacks": [usage],
        }
        before = await graph.aget_state(config)
        begun = self._begun(name, ctx.idempotency_key, before)
        if isinstance(given, Command) and not before.interrupts and not begun:
            raise UsageError(f"thread {name!r} does not wait for an answer", hint="was it given one before?")
        over = begun and (not before.next or bool(before.interrupts))
        if begun:
            given = None  # Cut off before: it goes on from its last step.
        try:
            if not over:
                modes = ["updates", "messages", "custom"] if streamed else ["updates"]
                running = graph.astream(given, config, stream_mode=modes, durability="sync")
                async with aclosing(running) as events:
                    async for mode, event in events:
                        if mode == "updates":
                            await ctx.progress(None, ", ".join(event))
                        for part in told(mode, event) if streamed else ():
                            yield part
        finally:
            spent = usage.usage_metadata.values()
            if spent:
                report.tokens = (
                    sum(used["input_tokens"] for used in spent),
                    sum(used["output_tokens"] for used in spent),
                )
        after = await graph.aget_state(config)
        if not thread and not after.interrupts:
            self._threads.drop(name)  # From memory; from the journal with the next checkpoint.
        interrupts = [{"id": one.id, "value": plain(one.value)} for one in after.interrupts]
        yield {"output": output(graph, after.values), "interrupts": interrupts, "thread": name}

    def _begun(self, thread: str, attempt: str, before: Any) -> bool:
        """Whether this piece of work was begun by an attempt that was cut off, or has been done."""
        if thread == attempt:
            return before.metadata is not None  # A thread of this work alone, whoever keeps it.
        return self._threads.attempt(thread) == attempt

    async def _compiled(self, reins: Reins) -> Any:
        """The author's graph, with the agent's checkpoint for its threads unless it brings a checkpointer of its own."""
        from langgraph.pregel import Pregel

        from .langgraph_model import PlanModel, tools_of
        from .langgraph_threads import ThreadSaver

        ctx = reins.ctx
        if self._graph is None:
            self._graph = self.foreign
            if not isinstance(self._graph, Pregel):
                self._graph = type(self).foreign(PlanModel(), tools_of(reins.tools))
                if inspect.isawaitable(self._graph):
                    self._graph = await self._graph
                _expect_graph(self._graph)
        if self._graph.checkpointer not in (None, True, False):
            return self._graph
        return self._graph.copy(
            {"checkpointer": ThreadSaver(self._threads, ctx.idempotency_key, ctx.checkpoint)}
        )


def agent_of(
    graph: Any,
    *,
    model: str | None = "writer",
    tools: Sequence[str] = (),
    steps_max: int = STEPS,
    own_model: OwnModel | None = None,
    name: str = "",
) -> type[LangGraphAgent]:
    """The class of AIP agents that run a graph; a plan names it as `use: "module:name"`.

    `graph` is compiled, with `plan_model()` in its nodes; or a function of `model` and `tools` that answers with one. `model` is
    one of the plan's; None for nodes with models of their own, whose `own_model` says what a run may use.
    """
    try:
        from langgraph.pregel import Pregel
    except ImportError as error:
        raise missing("langgraph") from error
    builds = not isinstance(graph, Pregel) and inspect.isroutine(graph)
    if not builds:
        _expect_graph(graph)
    named = name or (graph.__name__ if builds else graph.get_name())
    return made(
        LangGraphAgent,
        staticmethod(graph) if builds else graph,
        named,
        (inspect.getdoc(graph) or "") if builds else "",
        model=model,
        tools=tuple(tools),
        steps_max=steps_max,
        own_model=own_model,
    )


def plan_model() -> PlanModel:
    """A LangChain chat model that asks the model of the plan that its agent is configured with."""
    from .langgraph_model import PlanModel

    return PlanModel()


def _expect_graph(graph: Any) -> None:
    from langgraph.pregel import Pregel

    if not isinstance(graph, Pregel):
        raise UsageError(
            f"a compiled graph is wanted, not {type(graph).__name__}",
            hint="give `builder.compile()`, or a function of model and tools that answers with it",
        )
