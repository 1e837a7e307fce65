"""The sections of plan.yaml, each read into its frozen value. What a section forgets to say stands here as its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..plan import (
    AgentSpec,
    Backoff,
    Defaults,
    Isolation,
    OnExceeded,
    PlanLimits,
    Restart,
    Retry,
)
from ..suggestion import nearest
from .document import Node
from .problem import quoted
from .reader import Reader
from .vocabulary import (
    ATTEMPTS_MAX,
    CONCURRENCY_MAX,
    CONNECTOR_FORM,
    CONNECTORS_MAX,
    ISOLATIONS,
    LABEL_LIMIT_FORM,
    NOT_YET_USES,
    OWN_CODE,
    RETRY_ON,
    SANDBOX_MEMORY_BYTES_MIN,
    STRATEGIES,
    USE_FORM,
)

NAME_HINT = "use letters, digits and _, beginning with a letter, at most 63, so that expressions can say it"
AGENT_HINT = "use lower case letters, digits and - _ ., beginning with a letter"
CAPABILITY_HINT = "use name or domain.name in lower case"


def defaults(reader: Reader, node: Node) -> Defaults:
    found = reader.fields(node, "defaults", "defaults")
    timeout_s = reader.duration_s(found["timeout"], "defaults.timeout") if "timeout" in found else None
    return Defaults(timeout_s, retry(reader, found["retry"], Retry()) if "retry" in found else Retry())


def retry(reader: Reader, node: Node, base: Retry) -> Retry:
    """What the section says over what `base` says."""
    found = reader.fields(node, "retry", "retry")
    made = base
    if "attempts" in found:
        made = replace(
            made,
            attempts=reader.integer(found["attempts"], "retry.attempts", 1, ATTEMPTS_MAX) or made.attempts,
        )
    if "on" in found:
        families = reader.texts(found["on"], "retry.on")
        for name, item in families:
            if name not in RETRY_ON:
                hint = nearest(name, RETRY_ON) or f"one of {', '.join(RETRY_ON)}"
                reader.problem("plan.value", item, f"retry.on cannot be {quoted(name)}", hint)
        made = replace(made, on=frozenset(name for name, _ in families))
    return (
        replace(made, backoff=_backoff(reader, found["backoff"], made.backoff))
        if "backoff" in found
        else made
    )


def _backoff(reader: Reader, node: Node, base: Backoff) -> Backoff:
    found = reader.fields(node, "backoff", "backoff")
    initial_s = reader.duration_s(found["initial"], "backoff.initial") if "initial" in found else None
    max_s = reader.duration_s(found["max"], "backoff.max") if "max" in found else None
    factor = reader.number(found["factor"], "backoff.factor", 1, 100) if "factor" in found else None
    jitter = reader.number(found["jitter"], "backoff.jitter", 0, 1) if "jitter" in found else None
    made = Backoff(
        base.initial_s if initial_s is None else initial_s,
        base.factor if factor is None else factor,
        base.max_s if max_s is None else max_s,
        base.jitter if jitter is None else jitter,
    )
    if made.initial_s > made.max_s:
        message = f"backoff.initial ({made.initial_s:g}s) is longer than backoff.max ({made.max_s:g}s)"
        reader.problem("plan.value", node, message, "raise max, or lower initial")
    return made


def limits(reader: Reader, node: Node) -> PlanLimits:
    found = reader.fields(node, "limits", "limits")
    made = PlanLimits()
    if "deadline" in found:
        made = replace(made, deadline_s=reader.duration_s(found["deadline"], "limits.deadline"))
    if "concurrency" in found:
        slots = reader.integer(found["concurrency"], "limits.concurrency", 1, CONCURRENCY_MAX)
        made = replace(made, concurrency=slots or made.concurrency)
    if "dynamic_tasks" in found:
        most = reader.integer(found["dynamic_tasks"], "limits.dynamic_tasks", 0, reader.limits.plan_tasks_max)
        made = replace(made, dynamic_tasks=most or 0)
    if "concurrency_by_label" in found:
        made = replace(made, concurrency_by_label=_by_label(reader, found["concurrency_by_label"]))
    if "budget" in found:
        made = replace(made, budget=reader.amounts(found["budget"], "limits.budget"))
    if "on_exceeded" in found:
        act = reader.choice(found["on_exceeded"], "limits.on_exceeded", [str(one) for one in OnExceeded])
        made = replace(made, on_exceeded=OnExceeded(act) if act else made.on_exceeded)
    return made


def _by_label(reader: Reader, node: Node) -> dict[str, int]:
    what = "limits.concurrency_by_label"
    found = reader.entries(node, what, LABEL_LIMIT_FORM, "write label=value, such as effect=external-write")
    read = {key: reader.integer(value, f"{what}.{key}", 1, CONCURRENCY_MAX) for key, value in found.items()}
    return {key: most for key, most in read.items() if most is not None}


def agent(reader: Reader, name: str, node: Node, place: tuple[int, int]) -> AgentSpec:
    what = f"agents.{name}"
    found = reader.fields(node, "agent", what)
    low, high = replicas(reader, found["replicas"], what) if "replicas" in found else (1, 1)
    resources = (
        reader.fields(found["resources"], "resources", f"{what}.resources") if "resources" in found else {}
    )
    isolation = "cell"
    if "isolation" in found:
        isolation = reader.choice(found["isolation"], f"{what}.isolation", ISOLATIONS) or isolation
    memory_bytes = None
    if "memory" in resources:
        memory_bytes = reader.size_bytes(resources["memory"], f"{what}.resources.memory")
    if isolation == Isolation.CONTAINER:
        _refuse_uncontained(reader, found, what)
        if memory_bytes is not None and memory_bytes < SANDBOX_MEMORY_BYTES_MIN:
            message = f"{what}.resources.memory is less than a sandbox's interpreter takes"
            hint = f"give it {SANDBOX_MEMORY_BYTES_MIN >> 20}Mi or more, or leave it out for 1Gi"
            reader.problem("plan.value", resources["memory"], message, hint)
    environment: Mapping[str, Any] = {}
    if "runtime_env" in found and reader.is_kind(found["runtime_env"], dict, f"{what}.runtime_env", "a map"):
        environment = found["runtime_env"].plain()
    density = None
    if "density" in found:
        density = reader.integer(found["density"], f"{what}.density", 1, reader.limits.agents_per_cell_max)
    return AgentSpec(
        name=name,
        use=_use(reader, node, found.get("use"), what),
        replicas_min=low,
        replicas_max=high,
        isolation=Isolation(isolation),
        density=density,
        cpu=reader.number(resources["cpu"], f"{what}.resources.cpu", 0, 1024) if "cpu" in resources else None,
        memory_bytes=memory_bytes,
        runtime_env=environment,
        restart=_restart(reader, found["restart"], what) if "restart" in found else Restart(),
        position=reader.position(place),
        config=_config(reader, found["config"], what) if "config" in found else {},
        effects=_effects(reader, found["effects"], f"{what}.effects") if "effects" in found else (),
    )


def _refuse_uncontained(reader: Reader, found: Mapping[str, Node], what: str) -> None:
    """A sandbox holds a stranger's code, whole: nothing of ours works in there, and nothing of his may begin outside."""
    use = found.get("use")
    if use is not None and isinstance(use.value, str) and use.value.startswith(OWN_CODE):
        message = f"{what}.isolation: container is for code of the plan's author; {use.value} is AIP's own, and is trusted"
        reader.problem("plan.value", found["isolation"], message, "leave isolation out")
    if "runtime_env" in found:
        message = (
            f"{what}.runtime_env is made for the cell, which is outside the sandbox, and can run code there"
        )
        hint = (
            "leave it out, and install what the agent imports where AIP is installed; or leave isolation out"
        )
        reader.problem("plan.value", found["runtime_env"], message, hint)


def _config(reader: Reader, node: Node, what: str) -> Mapping[str, Any]:
    if not reader.is_kind(node, dict, f"{what}.config", "a map"):
        return {}
    config: Mapping[str, Any] = reader.constant(node, f"{what}.config")
    return config


def _effects(reader: Reader, node: Node, what: str) -> tuple[str, ...]:
    found = reader.texts(
        node, what, CONNECTOR_FORM, "write connectors as the platform's effects.yaml names them"
    )
    if len(found) > CONNECTORS_MAX:
        reader.problem(
            "plan.value", node, f"{what} names {len(found)} connectors; the limit is {CONNECTORS_MAX}"
        )
        return ()
    return tuple(name for name, _ in found)


def _use(reader: Reader, node: Node, use: Node | None, what: str) -> str:
    if use is None:
        if isinstance(node.value, dict):
            reader.missing(node, f"{what}.use", "name its class: use: my_agents:Researcher")
        return ""
    if isinstance(use.value, str) and use.value.startswith(NOT_YET_USES):
        reader.not_yet(use, f"{what}.use: {quoted(use.value)}")
        return ""
    return reader.text(use, f"{what}.use", USE_FORM, "write module:Name, such as my_agents:Researcher") or ""


def replicas(reader: Reader, node: Node, what: str) -> tuple[int, int]:
    most = reader.limits.agents_per_cell_max
    if not isinstance(node.value, dict):
        number = reader.integer(node, f"{what}.replicas", 1, most) or 1
        return number, number
    found = reader.fields(node, "replicas", f"{what}.replicas")
    low = reader.integer(found["min"], f"{what}.replicas.min", 0, most) if "min" in found else 1
    high = (
        reader.integer(found["max"], f"{what}.replicas.max", 1, most) if "max" in found else max(low or 1, 1)
    )
    if low is not None and high is not None and low > high:
        reader.problem(
            "plan.value", node, f"{what}.replicas.min is {low}, more than max, {high}", "swap them"
        )
    return low or 0, high or 1


def _restart(reader: Reader, node: Node, what: str) -> Restart:
    found = reader.fields(node, "restart", f"{what}.restart")
    made = Restart()
    if "strategy" in found:
        made = replace(
            made, strategy=reader.choice(found["strategy"], "restart.strategy", STRATEGIES) or made.strategy
        )
    if "max" in found:
        count = reader.integer(found["max"], "restart.max", 0, 1_000)
        made = replace(made, max=made.max if count is None else count)
    if "within" in found:
        made = replace(made, within_s=reader.duration_s(found["within"], "restart.within") or made.within_s)
    return made
