"""What an agent author writes against: `Agent`, `@capability`, `Context`.

    class Greeter(aip.Agent):
        \"\"\"Greets people.\"\"\"

        @aip.capability
        async def greet(self, name: str, ctx: aip.Context) -> str:
            await ctx.progress(0.5, "thinking of a word")
            return f"hello, {name}"

A capability is a typed method. Its signature is its contract: the parameters become the JSON Schema of what it takes, the
return annotation that of what it gives, and both are held to at run time. `async def` runs on the cell's loop and must not
block it; `def` runs in a thread; an async generator streams. A parameter annotated `Context` receives the turn's context and
is not part of the contract. An agent handles one message at a time unless it says `reentrant = True` (docs/semantics.md, O2).

One class can serve as many agents: what differs is its configuration, declared as a nested pydantic model and given by the plan:

    class Writer(aip.Agent):
        class Config(pydantic.BaseModel):
            tone: str = "dry"                  # `agents: {writer: {use: "agents:Writer", config: {tone: warm}}}`

before `on_start`, `self.config` is that model. An agent whose capabilities are only known at run time (a tool server, say) says
`open_ended = True` and takes what it has not declared in `handle`.

A plain function can be an agent too: `agent_of(function)` wraps it as a type with one capability of the function's name.
"""

from __future__ import annotations

import inspect
import logging
import re
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Protocol, Self, TypeVar, overload

from .errors import AgentFailed, InvalidPayload, UnknownCapability, UsageError
from .ids import check_capability

F = TypeVar("F", bound=Callable[..., Any])


class Turn(Protocol):
    """What a cell gives a running turn; `Context` is its public face."""

    agent: str
    restored: Any

    @property
    def sender(self) -> str: ...
    @property
    def run(self) -> str: ...
    @property
    def idempotency_key(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    def remaining_s(self) -> float: ...
    async def call(
        self,
        target: str | None,
        capability: str,
        arguments: Mapping[str, Any],
        timeout_s: float | None,
        key: str,
    ) -> Any: ...
    async def tell(self, target: str, capability: str, arguments: Mapping[str, Any]) -> None: ...
    def stream(
        self, target: str | None, capability: str, arguments: Mapping[str, Any], timeout_s: float | None
    ) -> AsyncIterator[Any]: ...
    def progress(self, fraction: float | None, text: str) -> Awaitable[None]: ...
    async def spawn(self, kind: str, key: str | None) -> str: ...
    async def kill(self, target: str, reason: str) -> None: ...
    async def checkpoint(self, state: Any) -> None: ...
    async def effect(
        self, name: str, action: Callable[[], Any], key: str | None, idempotent: bool, timeout_s: float | None
    ) -> Any: ...
    async def ask_effect(
        self, connector: str, request: Any, key: str | None, timeout_s: float | None
    ) -> Any: ...
    async def spend(self, amounts: Mapping[str, int]) -> None: ...
    async def hold(self, amounts: Mapping[str, int]) -> None: ...
    async def unhold(self, held: Mapping[str, int], spent: Mapping[str, int]) -> None: ...
    async def split(self, name: str, amounts: Mapping[str, int]) -> Turn: ...
    async def add_tasks(self, tasks: Mapping[str, Any]) -> None: ...


class Context:
    """The turn an agent is in: who asks, on whose behalf, until when, and everything an agent may do beside computing."""

    __slots__ = ("_turn",)

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    @property
    def agent(self) -> str:
        """This agent's address, `type@digest/key`."""
        return self._turn.agent

    @property
    def sender(self) -> str:
        """The address of who sent the message that this turn handles."""
        return self._turn.sender

    @property
    def run(self) -> str:
        """The run of a plan on whose behalf this turn works, or ""."""
        return self._turn.run

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at the same piece of work: pass it on to outside systems."""
        return self._turn.idempotency_key

    @property
    def labels(self) -> Mapping[str, str]:
        return self._turn.labels

    @property
    def restored(self) -> Any:
        """In `on_start`: the state of the last `checkpoint`, or None for an agent that never made one."""
        return self._turn.restored

    @property
    def remaining_s(self) -> float:
        """Seconds until this turn's deadline."""
        return self._turn.remaining_s()

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose lines carry the agent's address and the run."""
        return logging.LoggerAdapter(
            logging.getLogger("aip.agent"), {"agent": self._turn.agent, "run": self._turn.run}
        )

    async def call(
        self,
        target: str | None = None,
        capability: str = "",
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        idempotency_key: str = "",
    ) -> Any:
        """Ask an agent and wait for its answer.

        `target` is an address (`type/key`), or the name of an agent of this run's plan. Without it the registry picks a live
        agent that has the capability. The timeout is never longer than what this turn has left. Raises the typed errors of
        `aip.errors`: the agent's own, a refusal, or what went wrong on the way.
        """
        return await self._turn.call(target, capability, arguments or {}, timeout_s, idempotency_key)

    async def tell(self, target: str, capability: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Send and do not wait for an answer: at most once (docs/semantics.md, D2)."""
        await self._turn.tell(target, capability, arguments or {})

    def stream(
        self,
        target: str | None = None,
        capability: str = "",
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Any]:
        """Iterate over the parts of a streaming capability as they come. Close the iterator to cancel it."""
        return self._turn.stream(target, capability, arguments or {}, timeout_s)

    def progress(self, fraction: float | None = None, text: str = "") -> Awaitable[None]:
        """Say how far this turn is (0 to 1, or None for unknown) to whoever waits for it. Cheap; may be coalesced.

        It has happened when this returns: `await` is welcome in an async capability and not needed in a synchronous one.
        """
        return self._turn.progress(fraction, text)

    async def spawn(self, kind: type[Agent] | str, key: str | None = None) -> str:
        """Start an agent of a type of the same code (its class, or its name) and return its address.

        Its `on_start` has succeeded when this returns. It inherits this agent's run, so a kill of the run reaches it.
        """
        return await self._turn.spawn(kind if isinstance(kind, str) else type_name(kind), key)

    async def kill(self, target: str, reason: str = "") -> None:
        """Stop this agent (`ctx.agent`) or one that descends from it: a kill order, in force and on disk when this returns.

        Raises `Denied` for any other target. An order stands until people lower it: an agent takes none back.
        """
        await self._turn.kill(target, reason)

    async def checkpoint(self, state: Any) -> None:
        """Keep `state` (a value as in messages) for the next activation; returns when it is in the journal."""
        await self._turn.checkpoint(state)

    async def effect(
        self,
        name: str,
        action: Callable[[], Any] | Mapping[str, Any],
        *,
        key: str | None = None,
        idempotent: bool = False,
        timeout_s: float | None = None,
    ) -> Any:
        """Touch the outside once: the intent is durable before it begins, its result after (semantics, E1-E6).

            await ctx.effect("tickets", {"method": "POST", "url": "https://…", "json": {…}})   # the gateway does it
            await ctx.effect("file.append", write)                                              # this agent does it

        With a request (a map) `name` is a connector of the platform's effects.yaml that the plan grants this agent (`effects:`).
        The effect gateway, which alone holds its secrets, asks policy and kill fence and does it (docs/effects.md); whether a
        repeat in doubt may be done again is the connector's to say. With a function (without arguments, sync: run in a thread, or
        async) the agent does it itself.
        `key` names this piece of work (default: the turn's idempotency key); a recorded effect is not done again.
        """
        if callable(action):
            return await self._turn.effect(name, action, key, idempotent, timeout_s)
        return await self._turn.ask_effect(name, action, key, timeout_s)

    async def spend(self, **amounts: int) -> None:
        """Charge the budget that this turn works under, e.g. `await ctx.spend(tokens=120)`. Raises `BudgetExceeded`."""
        await self._turn.spend(_whole(amounts, "spend"))

    def reserve(self, **amounts: int) -> Reservation:
        """Hold back budget for something whose price is known only afterwards:

            async with ctx.reserve(tokens=5_000) as held:     # `BudgetExceeded` here: nothing was done
                answer = await ...
                held.settle(tokens=answer.tokens)             # the rest is free again

        What is not settled counts as spent in full: a cost that nobody knows is never taken for none.
        """
        return Reservation(self._turn, amounts)

    async def split(self, name: str, **amounts: int) -> Context:
        """Set a part of this turn's budget apart: a context whose calls, models and tools spend at most that much.

            draft = await ctx.split("draft", tokens=20_000, usd_micro=50_000)
            await draft.call("writer", "draft", {...})        # and all that the writer causes

        Parts may promise more than there is, and what one leaves unspent is there for the others: the whole is never overspent.
        A part holds within one piece of work: its next attempt finds what is left of it. Kill and cancellation reach into it.
        """
        return Context(await self._turn.split(name, _whole(amounts, "split")))

    async def add_tasks(self, tasks: Mapping[str, Mapping[str, Any]]) -> None:
        """Add tasks to the run that this turn works for, in the language of a plan's `tasks:`, by name.

            await ctx.add_tasks({"part_1": {"agent": "writer", "capability": "draft", "with": {"chapter": 1}}})

        They are durable when this returns. Whoever waits for this turn's task waits for them too, and sees what came of them as
        `tasks.NAME.added`. Up to `limits.dynamic_tasks` of the plan; the same again is a repeat and changes nothing. Raises
        `PlanInvalid` with every mistake, `UsageError` where the run takes no more.
        """
        await self._turn.add_tasks(tasks)

    def agent_at(self, address: str) -> AgentRef:
        """A stand-in whose methods are calls: `await ctx.agent_at("greeter/ada").greet(name="Ada")`."""
        return AgentRef(self, address)

    def model(self, name: str) -> AgentRef:
        """A model of the plan's `models:`; `await ctx.model("writer").chat(messages=[...])`."""
        return AgentRef(self, f"models.{name}")

    def tool(self, name: str) -> AgentRef:
        """A tool server of the plan's `tools:`; `await ctx.tool("git").git_log(repo_path=".")`."""
        return AgentRef(self, f"tools.{name}")


class Reservation:
    """Budget held back for the time of an `async with`."""

    __slots__ = ("_amounts", "_spent", "_turn")

    def __init__(self, turn: Turn, amounts: Mapping[str, int]) -> None:
        self._turn = turn
        self._amounts = _whole(amounts, "reserve")
        self._spent: dict[str, int] | None = None

    def settle(self, **spent: int) -> None:
        """What it came to. More than was held is charged all the same: it was spent."""
        self._spent = _whole(spent, "settle")

    async def __aenter__(self) -> Self:
        await self._turn.hold(self._amounts)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self._turn.unhold(self._amounts, self._amounts if self._spent is None else self._spent)


def _whole(amounts: Mapping[str, int], what: str) -> dict[str, int]:
    for unit, amount in amounts.items():
        if not isinstance(amount, int) or isinstance(amount, bool) or amount < 0:
            raise UsageError(f"{what}({unit}={amount!r}): amounts are whole numbers of the unit, 0 or more")
    return dict(amounts)


class AgentRef:
    """The agent at an address, as an object whose methods are its capabilities."""

    __slots__ = ("_address", "_context")

    def __init__(self, context: Context, address: str) -> None:
        self._context = context
        self._address = address

    def __getattr__(self, capability: str) -> Callable[..., Awaitable[Any]]:
        def call(**arguments: Any) -> Awaitable[Any]:
            return self._context.call(self._address, capability, arguments)

        return call


class Agent:
    """Base of every agent. Construct nothing heavy in `__init__` (it takes no arguments): `on_start` is the place."""

    reentrant: ClassVar[bool] = False
    open_ended: ClassVar[bool] = False  # Whether `handle` takes what is not declared.
    capabilities: ClassVar[Mapping[str, Capability]] = {}
    Config: ClassVar[Any] = (
        None  # A pydantic model (or any type pydantic can validate) of what the plan configures.
    )
    config: Any = MappingProxyType({})  # Set before `on_start`.

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        found = dict(cls.capabilities)
        for name, value in cls.__dict__.items():
            mark: _Mark | None = getattr(value, "__aip_capability__", None)
            if mark is not None:
                spec = Capability.of(cls, name, value, mark)
                if spec.name in found and found[spec.name].method != name:
                    raise UsageError(f"{cls.__name__} has two capabilities named {spec.name!r}")
                found[spec.name] = spec
        cls.capabilities = found

    async def on_start(self, ctx: Context) -> None:
        """Before the first message of an activation. `ctx.restored` is the last checkpoint."""

    async def on_stop(self, ctx: Context) -> None:
        """After the last message of an activation (passivation, hand-over, shutdown). Checkpoint here what must stay."""

    async def on_failure(self, ctx: Context, error: Exception) -> None:
        """After a capability raised; the caller has its answer already. Put inner state right again here."""

    async def handle(self, capability: str, arguments: dict[str, Any], ctx: Context) -> Any:
        """Answer a capability that is not declared. Only asked where the class is `open_ended`."""
        raise unknown_capability(type(self), capability)

    async def handle_stream(
        self, capability: str, arguments: dict[str, Any], ctx: Context
    ) -> AsyncGenerator[Any, None]:
        """The same for who reads it with `ctx.stream`: part by part. An answer that has no parts is the only one."""
        yield await self.handle(capability, arguments, ctx)

    def describe(self) -> Mapping[str, Any]:
        """What this agent can do, as its manifest says it. Override where that is only known at run time."""
        return manifest(type(self))


@dataclass(frozen=True, slots=True)
class _Mark:
    name: str | None
    cost: Mapping[str, int]
    timeout_s: float | None


@overload
def capability(function: F, /) -> F: ...
@overload
def capability(
    name: str | None = None, /, *, cost: Mapping[str, int] | None = None, timeout_s: float | None = None
) -> Callable[[F], F]: ...
def capability(
    function: Any = None, /, *, cost: Mapping[str, int] | None = None, timeout_s: float | None = None
) -> Any:
    """Mark a method as a capability: `@capability`, or `@capability("domain.name", cost={"tool_calls": 1}, timeout_s=30)`.

    `cost` is charged to the caller's budget on every call before it starts; `timeout_s` is the default of its calls.
    """
    name = function if isinstance(function, str) else None
    if name is not None:
        check_capability(name)

    def mark(method: Any) -> Any:
        method.__aip_capability__ = _Mark(name, dict(cost or {}), timeout_s)
        return method

    return mark(function) if callable(function) else mark


@dataclass(slots=True)
class Capability:
    """One capability of one agent class: how it is called, and its contract."""

    name: str
    method: str
    kind: str  # "async" | "sync" | "stream"
    doc: str
    cost: Mapping[str, int]
    timeout_s: float | None
    context_parameter: str | None
    owner: type[Agent]
    _takes: Any = field(default=None, repr=False)
    _gives: Any = field(default=None, repr=False)

    @classmethod
    def of(cls, owner: type[Agent], method: str, function: Callable[..., Any], mark: _Mark) -> Capability:
        name = check_capability(mark.name or method)
        if inspect.isasyncgenfunction(function):
            kind = "stream"
        elif inspect.iscoroutinefunction(function):
            kind = "async"
        elif inspect.isgeneratorfunction(function):
            raise UsageError(f"{owner.__name__}.{method}: write a streaming capability as an async generator")
        else:
            kind = "sync"
        context_parameter = None
        for parameter in list(inspect.signature(function).parameters.values())[1:]:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise UsageError(
                    f"{owner.__name__}.{method}: parameter {parameter.name!r} cannot be part of a contract",
                    hint="use named parameters; take a dict for open-ended input",
                )
            if _is_context(parameter.annotation):
                context_parameter = parameter.name
        doc = inspect.getdoc(function) or ""
        return cls(name, method, kind, doc, mark.cost, mark.timeout_s, context_parameter, owner)

    def _build(self) -> None:
        # Not at class definition: annotations may name things that are defined further down.
        from typing import NotRequired

        from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter
        from typing_extensions import TypedDict

        function = inspect.unwrap(getattr(self.owner, self.method))
        signature = inspect.signature(function)
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except NameError as error:
            raise UsageError(f"{self.owner.__name__}.{self.method}: {error} in its annotations") from None
        fields: dict[str, Any] = {}
        for parameter in list(signature.parameters.values())[1:]:
            if parameter.name != self.context_parameter:
                hint = hints.get(parameter.name, Any)
                fields[parameter.name] = hint if parameter.default is parameter.empty else NotRequired[hint]
        make: Any = (
            TypedDict  # A dict of types that only exists at run time is more than a type checker can follow.
        )
        arguments = make("arguments", fields)
        arguments.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
        gives = hints.get("return", Any)
        if self.kind == "stream":
            gives = next(iter(typing.get_args(gives)), Any)
        try:
            self._takes = TypeAdapter(arguments)
            self._gives = TypeAdapter(type(None) if gives is None else gives)
        except PydanticSchemaGenerationError as error:
            raise UsageError(
                f"{self.owner.__name__}.{self.method}: {str(error).splitlines()[0]}",
                hint="annotate with types that have a JSON form, or Any",
            ) from None

    def bind(self, arguments: Any) -> dict[str, Any]:
        """Arguments as the method takes them. Raises `InvalidPayload` that names each wrong one."""
        if self._takes is None:
            self._build()
        return typing.cast(dict[str, Any], _validated(self._takes, arguments, f"{self.name} takes"))

    def promised(self, result: Any) -> Any:
        """The result, held to the return annotation. Raises `AgentFailed` where the agent broke its own word."""
        if self._gives is None:
            self._build()
        try:
            return _validated(self._gives, result, f"{self.name} promised")
        except InvalidPayload as error:
            raise AgentFailed(error.message, type="return", **error.details) from None

    def input_schema(self) -> dict[str, Any]:
        if self._takes is None:
            self._build()
        schema = typing.cast(dict[str, Any], self._takes.json_schema())
        function = inspect.unwrap(getattr(self.owner, self.method))
        for parameter in inspect.signature(function).parameters.values():
            properties = schema.get("properties", {})
            if parameter.default is not parameter.empty and parameter.name in properties:
                default = parameter.default
                if default is None or isinstance(default, bool | int | float | str | list | dict):
                    properties[parameter.name]["default"] = default
        schema.pop("title", None)
        return schema

    def output_schema(self) -> dict[str, Any]:
        if self._gives is None:
            self._build()
        return typing.cast(dict[str, Any], self._gives.json_schema(mode="serialization"))


def _validated(adapter: Any, value: Any, what: str) -> Any:
    from pydantic import ValidationError

    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problems = [
            {"where": ".".join(map(str, item["loc"])), "message": item["msg"], "type": item["type"]}
            for item in error.errors(include_url=False, include_input=False)[:20]
        ]
        first = "; ".join(f"{p['where'] or 'value'}: {p['message']}" for p in problems[:5])
        raise InvalidPayload(f"{what}: {first}", problems=problems) from None


def _is_context(annotation: Any) -> bool:
    return annotation is Context or (
        isinstance(annotation, str) and annotation.rpartition(".")[2].strip("'\"") == "Context"
    )


def type_name(kind: type[Agent]) -> str:
    """The type part of the addresses of an agent class: its name in lower case, words joined by dashes."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", kind.__name__).lower().strip("_")


def agent_of(thing: Any) -> type[Agent]:
    """An agent class: the class itself, or a plain callable as an agent with one capability of its name."""
    if inspect.isclass(thing) and issubclass(thing, Agent):
        if not thing.capabilities and not thing.open_ended:
            raise UsageError(f"{thing.__name__} has no capability", hint="mark a method with @aip.capability")
        return thing
    if inspect.isclass(thing) or not callable(thing):
        raise UsageError(f"{thing!r} is neither an aip.Agent class nor a function")
    name = getattr(thing, "__name__", "run")
    inner = thing if inspect.isfunction(thing) else thing.__call__
    signature = inspect.signature(inner)
    hints = typing.get_type_hints(inner, include_extras=True)
    method: Any
    if inspect.isasyncgenfunction(inner):

        async def method(self: Agent, **arguments: Any) -> Any:
            async for part in inner(**arguments):
                yield part

    elif inspect.iscoroutinefunction(inner):

        async def method(self: Agent, **arguments: Any) -> Any:
            return await inner(**arguments)

    else:

        def method(self: Agent, **arguments: Any) -> Any:
            return inner(**arguments)

    me = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [p.replace(annotation=hints.get(p.name, Any)) for p in signature.parameters.values()]
    method.__signature__ = signature.replace(parameters=[me, *parameters])
    method.__annotations__ = hints
    method.__name__ = method.__qualname__ = name
    method.__doc__ = inspect.getdoc(thing)
    body = {name: capability(method), "__doc__": inspect.getdoc(thing), "__module__": inner.__module__}
    return type("".join(word.capitalize() for word in name.split("_")), (Agent,), body)


def manifest(kind: type[Agent]) -> dict[str, Any]:
    """What others may know of an agent class: plain JSON, for plans, the registry and discovery."""
    return {
        "type": type_name(kind),
        "doc": inspect.getdoc(kind) or "",
        "reentrant": kind.reentrant,
        "open_ended": kind.open_ended,
        "config": None if kind.Config is None else _adapter(kind).json_schema(),
        "capabilities": {
            spec.name: {
                "doc": spec.doc,
                "kind": spec.kind,
                "cost": dict(spec.cost),
                "timeout_s": spec.timeout_s,
                "input": spec.input_schema(),
                "output": spec.output_schema(),
            }
            for spec in kind.capabilities.values()
        },
    }


def unknown_capability(kind: type[Agent], name: str) -> UnknownCapability:
    """The error that lists what there is."""
    return UnknownCapability(
        f"{type_name(kind)} has no capability {name!r}",
        hint=f"it has: {', '.join(sorted(kind.capabilities)) or 'none that is declared'}",
    )


def configuration(kind: type[Agent], given: Mapping[str, Any]) -> Any:
    """`given` as the class takes it: its `Config`, or the plain mapping. Raises `InvalidPayload` that names each wrong field."""
    if kind.Config is None:
        return dict(given)
    return _validated(_adapter(kind), given, f"the configuration of {kind.__name__}")


def _adapter(kind: type[Agent]) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind.Config)
