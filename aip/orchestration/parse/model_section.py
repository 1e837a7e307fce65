"""`models:` of a plan: endpoints that answer for a language model, each an agent named `models.NAME`.

The agent's class is ours and so is the code root its process starts from: no code of the plan's author ever shares a process
with the key. Prices are USD per million tokens in the file and integer micro-dollars per million tokens in the config.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..plan import AgentSpec, Isolation, Restart
from .document import Node
from .reader import Reader
from .vocabulary import (
    CALL_RETRIES_MAX,
    CALL_S_MAX,
    CALLS_MAX,
    MODEL_FORM,
    MODEL_URL_FORM,
    OUTPUT_LIMIT_FIELDS,
    PRICE_USD_MAX,
    STRUCTURED_OUTPUTS,
    TOKENS_MAX,
)

USE = "aip.models.agent:ModelAgent"
USES = frozenset({USE, "aip.models:ModelAgent"})  # As an author under `agents:` may name the class.
CONCURRENCY = (
    8  # Calls at a time where the plan does not say: hosted endpoints take more, a laptop's server fewer.
)


def model(reader: Reader, name: str, node: Node, place: tuple[int, int]) -> AgentSpec:
    """One endpoint as the agent that speaks to it."""
    what = f"models.{name}"
    found = reader.fields(node, "model", what)
    if isinstance(node.value, dict):
        for key, hint in (
            ("base_url", "such as base_url: http://127.0.0.1:8000/v1"),
            ("model", "name the model as its endpoint does"),
        ):
            if key not in found:
                reader.missing(node, f"{what}.{key}", hint)
    return AgentSpec(
        name=what,
        use=USE,
        replicas_min=0,
        replicas_max=1,
        isolation=Isolation.CELL,  # Of our own code only, so models may share one process; no plan has code in it.
        density=None,
        cpu=None,
        memory_bytes=None,
        runtime_env={},
        restart=Restart(),
        position=reader.position(place),
        config={key: value for key, value in _config(reader, found, what).items() if value is not None},
    )


def _config(reader: Reader, found: Mapping[str, Node], what: str) -> dict[str, Any]:
    config: dict[str, Any] = {"concurrency": CONCURRENCY}
    for key, node in found.items():
        where = f"{what}.{key}"
        match key:
            case "base_url":
                config[key] = _url(reader, node, where)
            case "model":
                config[key] = reader.text(node, where, MODEL_FORM, "its name at the endpoint")
            case "api_key":
                config[key] = reader.secret(node, where)
            case "prices":
                config[key] = _prices(reader, node, where)
            case "timeout" | "idle_timeout":
                config[f"{key}_s"] = reader.duration_s(node, where, CALL_S_MAX)
            case "output_limit_field":
                config[key] = reader.choice(node, where, OUTPUT_LIMIT_FIELDS)
            case "structured_output":
                config[key] = reader.choice(node, where, STRUCTURED_OUTPUTS)
            case "retries":
                config[key] = reader.integer(node, where, 0, CALL_RETRIES_MAX)
            case "concurrency":
                config[key] = reader.integer(node, where, 1, CALLS_MAX)
            case _:
                config[key] = reader.integer(node, where, 1, TOKENS_MAX)
    return config


def _url(reader: Reader, node: Node, what: str) -> str | None:
    if isinstance(node.value, str) and "@" in node.value:
        reader.secret(node, what)
        return None
    return reader.text(node, what, MODEL_URL_FORM, "write http://HOST:PORT/v1 or https://HOST/v1")


def _prices(reader: Reader, node: Node, what: str) -> dict[str, int]:
    found = reader.fields(node, "prices", what)
    for key in ("input", "output"):
        if key not in found and isinstance(node.value, dict):
            reader.missing(node, f"{what}.{key}", "USD per million tokens; 0 where it costs nothing")
    read = {key: reader.usd_micro(one, f"{what}.{key}", PRICE_USD_MAX) for key, one in found.items()}
    return {key: amount for key, amount in read.items() if amount is not None}


def refuse_unpriced(
    reader: Reader, agents: Iterable[AgentSpec], budgets: Mapping[str, Mapping[str, int]]
) -> None:
    """Money that nobody can count is no limit: where any budget is in money, every model has a price."""
    limited = next((where for where, budget in budgets.items() if "usd_micro" in budget), None)
    for one in agents if limited is not None else ():
        if one.use in USES and "prices" not in one.config:
            reader.problem(
                "plan.price",
                (one.position.line, one.position.column),
                f"{one.name} has no prices, but {limited} limits money",
                "add prices: {input: USD, output: USD} per million tokens; 0 where it costs nothing",
            )
