"""A plan file, right and wrong: what it becomes, and how each mistake is told, with line, column and a way out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from aip.errors import PlanInvalid, UsageError
from aip.orchestration.parse import Problem, check, parse, render, resolve_inputs
from aip.orchestration.plan import Isolation, OnExceeded, Plan, Priority, Role, Tolerance, When
from aip.settings import DEFAULT_LIMITS

HEAD = "apiVersion: aip/v1\nkind: Plan\nmetadata: {name: demo}\n"
AGENTS = "agents:\n  a: {use: 'm:A', replicas: 5}\n  b: {use: 'm:B'}\n"
WHOLE = """\
apiVersion: aip/v1
kind: Plan
metadata: {name: market-report, labels: {team: research, on: yes}}
inputs:
  topic: {type: string}
  sources: {type: integer, default: 3, minimum: 1, maximum: 20}
defaults:
  timeout: 5m
  retry: {attempts: 4, backoff: {initial: 250ms, factor: 2, max: 1m}, on: [timeout]}
limits: {deadline: 1h30m, concurrency: 8, budget: {tokens: 0500, usd_micro: 0x10}, on_exceeded: fail,
  concurrency_by_label: {effect=external-write: 1}}
agents:
  a: {use: pkg.mod:A, replicas: {min: 1, max: 50}, isolation: process, density: 9, resources: {cpu: 0.5, memory: 64Mi},
      restart: {strategy: rest_for_one, max: 2, within: 30s}, runtime_env: {pip: [x]}}
  b: {use: m:B, replicas: 5}
tasks:
  find: {agent: a, capability: web.search, with: {query: "${{ inputs.topic }}", n: 1}}
  read:
    for_each: "${{ tasks.find.output }}"
    if: "${{ size(tasks.find.output) > 0 }}"
    capability: web.read
    with: {url: "${{ item }}", nr: "${{ index }}", all: "${{ tasks.find.output }}"}
    idempotency_key: "${{ inputs.topic }}/${{ item }}"
    retry: {attempts: 2}
    timeout: 1s
    deadline: 2h
    budget: {tokens: 5}
  judge: {agent: b, capability: judge, assign: {mode: vote, voters: 5, quorum: 4, threshold: 0.66, method: majority}}
  peers: {capability: judge, assign: {mode: vote, voters: [a, b]}}
  ask:
    needs: [judge]
    gate: {question: "Publish ${{ inputs.topic }}?", approvers: ["user:ada"], expires: 24h, default: approve}
  undoable:
    for_each: [1, 2, 3]
    agent: a
    capability: write
    priority: high
    max_parallel: 2
    allow_failures: 34%
    heartbeat: 30s
    labels: {effect: external-write}
    output: {schema: {type: [object, 'null'], properties: {id: {$ref: '#/$defs/id'}}, $defs: {id: {type: string}}}, ttl: 7d}
    compensate: {capability: discard, with: {id: "${{ tasks.undoable.outputs }}", why: "${{ run.state }}"}, retry: {attempts: 5}}
  sub: {plan: ./parts/other.yaml, with: {topic: "${{ inputs.topic }}"}, budget: {tokens: 5}, timeout: 1h}
  end: {needs: [ask, read], when: none_failed, agent: a, capability: end, assign: {mode: direct}}
finally:
  tidy: {agent: b, capability: tidy, with: {found: "${{ tasks.find.output }}", how: "${{ run.state }}"}}
  tell: {agent: b, capability: tell, with: {tidied: "${{ tasks.tidy.output }}", error: "${{ run.error }}"}, timeout: 9s}
outputs: {all: {n: "${{ tasks.read.outputs }}", run: "${{ run.id }}"}}
"""


def problems_of(text: str | bytes, **limits: Any) -> list[dict[str, Any]]:
    with pytest.raises(PlanInvalid) as caught:
        parse(text.encode() if isinstance(text, str) else text, "plan.yaml", DEFAULT_LIMITS.but(**limits))
    found: list[dict[str, Any]] = caught.value.details["problems"]
    assert found
    return found


def plan_of(tasks: str, more: str = "") -> Plan:
    return parse((HEAD + AGENTS + more + "tasks:\n" + tasks).encode(), "plan.yaml")


def test_the_whole_language_becomes_values() -> None:
    plan = parse(WHOLE.encode(), "plan.yaml")
    assert (plan.name, dict(plan.labels)) == ("market-report", {"team": "research", "on": "yes"})
    assert plan.inputs["topic"].required
    assert not plan.inputs["sources"].required
    assert plan.inputs["sources"].default == 3
    assert (plan.limits.deadline_s, plan.limits.concurrency, plan.limits.on_exceeded) == (
        5400,
        8,
        OnExceeded.FAIL,
    )
    assert plan.limits.budget == {"tokens": 500, "usd_micro": 16}
    a = plan.agents["a"]
    assert (a.use, a.replicas_min, a.replicas_max, a.isolation, a.density) == (
        "pkg.mod:A",
        1,
        50,
        Isolation.PROCESS,
        9,
    )
    assert (a.cpu, a.memory_bytes, a.runtime_env) == (0.5, 64 * 2**20, {"pip": ["x"]})
    assert (a.restart.strategy, a.restart.max, a.restart.within_s) == ("rest_for_one", 2, 30)
    assert plan.agents["b"].replicas_min == plan.agents["b"].replicas_max == 5
    read = plan.tasks["read"]
    assert read.needs == ("find",)
    assert read.retry.attempts == 2
    assert (read.retry.on, read.retry.backoff.initial_s, read.retry.backoff.max_s) == (
        frozenset({"timeout"}),
        0.25,
        60,
    )
    assert (read.timeout_s, read.deadline_s, read.budget) == (1, 7200, {"tokens": 5})
    assert plan.tasks["find"].timeout_s == 300
    judge, peers = plan.tasks["judge"].vote, plan.tasks["peers"].vote
    assert judge is not None
    assert (judge.voters, judge.quorum, judge.threshold) == (("b",) * 5, 4, 0.66)
    assert peers is not None
    assert (peers.voters, peers.quorum, peers.threshold) == (("a", "b"), 2, 0.5)
    gate = plan.tasks["ask"].gate
    assert gate is not None
    assert (gate.approvers, gate.expires_s, gate.default) == (("user:ada",), 86_400, "approve")
    assert plan.tasks["ask"].agent is plan.tasks["ask"].capability is None
    assert (plan.tasks["end"].needs, plan.tasks["end"].when, plan.tasks["end"].vote) == (
        ("ask", "read"),
        When.NONE_FAILED,
        None,
    )
    assert str(read.position) == "plan.yaml:18:3"
    undoable = plan.tasks["undoable"]
    assert (undoable.priority, undoable.max_parallel, undoable.heartbeat_s) == (Priority.HIGH, 2, 30)
    assert (undoable.allow_failures, undoable.labels) == (
        Tolerance(percent=34.0),
        {"effect": "external-write"},
    )
    assert undoable.output is not None
    assert undoable.output.schema is not None
    assert undoable.output.schema["properties"] == {"id": {"$ref": "#/$defs/id"}}
    assert undoable.output.ttl_s == 7 * 86_400
    undo = undoable.compensate
    assert undo is not None
    assert (undo.agent, undo.capability, undo.retry.attempts, undo.timeout_s) == ("a", "discard", 5, 300)
    assert undoable.needs == (), "what undoes a task adds no edge"
    assert plan.limits.concurrency_by_label == {"effect=external-write": 1}
    sub = plan.tasks["sub"]
    assert (sub.plan, sub.agent, sub.capability) == ("./parts/other.yaml", None, None)
    tidy, tell = plan.closing["tidy"], plan.closing["tell"]
    assert (tidy.role, tidy.needs, tidy.timeout_s) == (Role.CLOSE, (), 300)
    assert (tell.needs, tell.timeout_s) == (("tidy",), 9)


# One mistake each: the rest of the file after the head, the code, the place of the mistake, words of message and suggestion.
MISTAKES: list[tuple[str, str, str, str, str]] = [
    ("  x: {plan: other.yaml, agent: a}", "plan.subplan", "agent", "has no `agent`", "a task of its own"),
    ("  x: {plan: other.yaml, capability: c}", "plan.subplan", "capability", "has no `capability`", ""),
    ("  x: {plan: ../other.yaml}", "plan.value", "../other", "cannot be", "./other.yaml"),
    ("  x: {plan: /etc/other.yaml}", "plan.value", "/etc", "cannot be", "beside"),
    ("  x: {plan: other.json}", "plan.value", "other.json", "cannot be", ""),
    ("  x: {plan: other.yaml, with: [1]}", "plan.type", "[1]", "not a map", ""),
    ("  x: {gate: {question: q}, plan: other.yaml}", "plan.gate", "plan", "no `plan`", ""),
    (
        "  x: {agent: a, capabilty: c, capability: c}",
        "plan.unknown_key",
        "capabilty",
        "no `capabilty`",
        "`capability`",
    ),
    ("  x: {agent: aa, capability: c}", "plan.unknown_agent", "aa", "no agent `aa`", "`a`"),
    ("  x: {agent: a, capability: C!}", "plan.value", "C!", "cannot be", "domain.name"),
    ("  x: {agent: a}", "plan.missing", "{agent: a}", "tasks.x.capability is missing", "gate"),
    ("  x: {agent: a, capability: c, needs: [y]}", "plan.unknown_task", "y]", "no task `y`", ""),
    ("  x: {agent: a, capability: c, needs: x2}", "plan.type", "x2", "not a list", "[x2]"),
    (
        "  x: {agent: a, capability: c, with: {q: '${{ tasks.xs.output }}'}}",
        "plan.unknown_task",
        "tasks.xs",
        "`xs`",
        "`x`",
    ),
    (
        "  x: {agent: a, capability: c, with: {q: '${{ inputs.q }}'}}",
        "plan.unknown_reference",
        "inputs.q",
        "no input",
        "",
    ),
    (
        "  x: {agent: a, capability: c, with: {q: '${{ item }}'}}",
        "plan.unknown_reference",
        "item",
        "`item`",
        "for_each",
    ),
    (
        "  x: {agent: a, capability: c, with: {q: '${{ 1 + }}'}}",
        "expression.invalid",
        "}}'}}",
        "ends too early",
        "",
    ),
    (
        "  x: {agent: a, capability: c, with: {q: '${{ 1'}}",
        "expression.invalid",
        "${{ 1",
        "not closed",
        "close it",
    ),
    ("  x: {agent: a, capability: c, with: {'${{ 1 }}': 1}}", "expression.key", "'${{", "key cannot be", ""),
    ("  x: {agent: a, capability: c, with: [1]}", "plan.type", "[1]", "is a list, not a map", ""),
    ("  x: {agent: a, capability: c, timeout: 5}", "plan.duration", "5}", "no unit", "5s"),
    ("  x: {agent: a, capability: c, timeout: 5 minutes}", "plan.duration", "5 min", "no duration", "5m"),
    ("  x: {agent: a, capability: c, timeout: 0s}", "plan.duration", "0s", "more than 0", ""),
    ("  x: {agent: a, capability: c, when: all_okay}", "plan.value", "all_okay", "cannot be", "`all_ok`"),
    ("  x: {agent: a, capability: c, retry: {attempts: 0}}", "plan.value", "0}", "must be 1 to 100", ""),
    ("  x: {agent: a, capability: c, retry: {attempts: two}}", "plan.type", "two", "not an integer", ""),
    ("  x: {agent: a, capability: c, retry: {attempts: true}}", "plan.type", "true", "is a boolean", ""),
    (
        "  x: {agent: a, capability: c, retry: {on: [timeuot]}}",
        "plan.value",
        "timeuot",
        "cannot be",
        "`timeout`",
    ),
    (
        "  x: {agent: a, capability: c, retry: {backoff: {initial: 2m}}}",
        "plan.value",
        "{initial",
        "longer than",
        "raise max",
    ),
    (
        "  x: {agent: a, capability: c, if: inputs.a}",
        "plan.type",
        "inputs.a",
        "one whole expression",
        "${{ inputs.a }}",
    ),
    (
        "  x: {agent: a, capability: c, if: 'a ${{ true }}'}",
        "plan.type",
        "'a $",
        "one whole expression",
        "nothing around",
    ),
    ("  x: {agent: a, capability: c, for_each: 3}", "plan.type", "3}", "one whole expression", ""),
    (
        "  x: {agent: a, capability: c, budget: {Tokens: 3}}",
        "plan.name",
        "Tokens",
        "cannot be a name",
        "lower case",
    ),
    ("  x: {agent: a, capability: c, budget: {tokens: -3}}", "plan.value", "-3", "it must be 0", ""),
    ("  x: {gate: {question: q}, agent: a}", "plan.gate", "agent", "a gate, which has no `agent`", ""),
    ("  x: {gate: {approvers: [me]}}", "plan.missing", "{approvers", "question is missing", ""),
    ("  x: {gate: {question: q, default: yes}}", "plan.value", "yes", "cannot be", "approve"),
    ("  x-y: {agent: a, capability: c}", "plan.name", "x-y", "cannot be a name", "letters, digits and _"),
    ("  in: {agent: a, capability: c}", "plan.name", "in:", "cannot be a name", ""),
    (
        "  x: {agent: b, capability: c, assign: {mode: vote, voters: 3}}",
        "plan.voters",
        "3}",
        "at most 1",
        "agents.b.replicas",
    ),
    (
        "  x: {agent: a, capability: c, assign: {mode: vote, voters: [a]}}",
        "plan.value",
        "a, cap",
        "already",
        "leave",
    ),
    ("  x: {capability: c, assign: {mode: vote, voters: [a, a]}}", "plan.duplicate", "a]", "twice", ""),
    (
        "  x: {capability: c, assign: {mode: vote, voters: [a, c]}}",
        "plan.unknown_agent",
        "c]",
        "no agent",
        "",
    ),
    ("  x: {capability: c, assign: {mode: vote, voters: 3}}", "plan.missing", "3}", "whose replicas", ""),
    ("  x: {capability: c, assign: {mode: vote}}", "plan.missing", "{mode", "voters is missing", ""),
    (
        "  x: {agent: a, capability: c, assign: {mode: vote, voters: 3, quorum: 4}}",
        "plan.value",
        "4}",
        "1 to 3",
        "",
    ),
    (
        "  x: {agent: a, capability: c, assign: {mode: vote, voters: 3, threshold: 0.4}}",
        "plan.value",
        "0.4",
        "0.5",
        "",
    ),
    (
        "  x: {agent: a, capability: c, assign: {mode: direct, quorum: 4}}",
        "plan.value",
        "quorum",
        "mode: vote only",
        "",
    ),
    *(
        (f"  x: {{{rest}}}", code, place, message, hint)
        for rest, code, place, message, hint in (
            (
                "capability: c, assign: {mode: market}",
                "plan.missing",
                "{mode",
                "assign.max_price is missing",
                "credits",
            ),
            (
                "agent: a, capability: c, assign: {mode: market, max_price: 5}",
                "plan.value",
                "a, c",
                "finds the agent",
                "bidders",
            ),
            ("capability: c, assign: {mode: market, max_price: 0}", "plan.value", "0}", "must be 1", ""),
            (
                "capability: c, assign: {mode: market, max_price: 5, bidders: [z]}",
                "plan.unknown_agent",
                "z]",
                "no agent",
                "",
            ),
            (
                "capability: c, assign: {mode: market, max_price: 5, auction: english}",
                "plan.value",
                "english",
                "cannot be",
                "vickrey",
            ),
            (
                "capability: c, assign: {mode: market, max_price: 5, quorum: 1}",
                "plan.value",
                "quorum",
                "mode: vote only",
                "",
            ),
            (
                "capability: c, assign: {mode: vote, voters: [a], max_price: 1}",
                "plan.value",
                "max_price",
                "mode: market only",
                "",
            ),
            (
                "capability: c, assign: {mode: vote, voters: [a], method: weighted}",
                "plan.missing",
                "weighted",
                "how votes weigh",
                "add weights",
            ),
            (
                "capability: c, assign: {mode: vote, voters: [a], weights: {b: 2}}",
                "plan.voters",
                "b: 2",
                "none of the voters",
                "",
            ),
            (
                "capability: c, assign: {mode: vote, voters: [a], weights: {a: 2}, weight: reputation}",
                "plan.value",
                "reputation",
                "weights and weight",
                "keep one",
            ),
            (
                "capability: c, assign: {mode: vote, voters: [a], weights: {a: 2}, method: ranked}",
                "plan.value",
                "{a: 2}",
                "count one each",
                "leave it out",
            ),
            (
                "capability: c, assign: {mode: vote, voters: [a], weight: w}",
                "plan.value",
                "w}",
                "cannot be",
                "reputation",
            ),
        )
    ),
    *(
        (
            f"  x: {{agent: a, capability: c, {key}: {value}}}",
            "plan.not_yet",
            key,
            f"`{key}` of tasks.x",
            "refused",
        )
        for key, value in {
            "schedule": "'* * * * *'",
        }.items()
    ),
    *(
        (f"  x: {{agent: a, capability: c, {rest}}}", code, place, message, hint)
        for rest, code, place, message, hint in (
            ("priority: urgent", "plan.value", "urgent", "cannot be", "low, normal, high"),
            ("max_parallel: 3", "plan.value", "3", "tasks with for_each only", "leave it out"),
            ("allow_failures: 20%", "plan.value", "20%", "tasks with for_each only", ""),
            ("for_each: [1], allow_failures: 101%", "plan.value", "101%", "cannot be", "20%"),
            ("for_each: [1], allow_failures: -1", "plan.value", "-1", "must be 0", ""),
            ("for_each: [1], max_parallel: 0", "plan.value", "0", "must be 1", ""),
            ("heartbeat: 30", "plan.duration", "30", "no unit", "30s"),
            ("labels: {Effect: x}", "plan.name", "Effect", "cannot be a name", "lower case"),
            ("labels: {task: x}", "plan.name", "task: x", "cannot be a name", "set by AIP"),
            ("labels: {effect: 'a=b'}", "plan.value", "'a=b'", "cannot be", ""),
            ("output: {}", "plan.missing", "{}", "output.schema is missing", "ttl"),
            ("output: {ttl: never}", "plan.duration", "never", "no duration", "7d"),
            ("output: {schema: {type: strin}}", "plan.value", "strin", "cannot be", "`string`"),
            ("output: {schema: {typ: string}}", "plan.unknown_key", "typ", "no `typ`", "`type`"),
            ("output: {schema: {anyOf: [{type: strin}]}}", "plan.value", "strin", "cannot be", "`string`"),
            ("output: {schema: {$ref: 'other.json'}}", "plan.value", "'other", "cannot be", "same schema"),
            (
                "compensate: {with: {a: 1}}",
                "plan.missing",
                "{with",
                "compensate.capability is missing",
                "undoes",
            ),
            ("compensate: {agent: z, capability: d}", "plan.unknown_agent", "z,", "no agent `z`", ""),
            (
                "compensate: {capability: d, with: {q: '${{ tasks.z.output }}'}}",
                "plan.unknown_task",
                "tasks.z",
                "`z`",
                "",
            ),
            (
                "compensate: {capability: d, with: {q: '${{ item }}'}}",
                "plan.unknown_reference",
                "item",
                "`item`",
                "",
            ),
            (
                "with: {q: '${{ run.state }}'}",
                "plan.unknown_reference",
                "run.state",
                "known in `finally`",
                "`when`",
            ),
        )
    ),
    (
        "  x: {gate: {question: q}, compensate: {capability: c}}",
        "plan.gate",
        "compensate",
        "no `compensate`",
        "",
    ),
    *(
        (f"  x: {{agent: a, capability: c}}\n{rest}", code, place, message, hint)
        for rest, code, place, message, hint in (
            ("finally: {}", "plan.missing", "{}", "a task is missing", "leave `finally` out"),
            (
                "finally: {x: {agent: a, capability: c}}",
                "plan.name",
                "x: {agent: a, capability: c}}",
                "a task already",
                "another",
            ),
            (
                "finally: {y: {agent: a, capability: c, needs: [x]}}",
                "plan.unknown_task",
                "x]",
                "is work",
                "leave it out",
            ),
            (
                "finally: {y: {agent: a, capability: c, needs: [z]}}",
                "plan.unknown_task",
                "z]",
                "no task `z`",
                "",
            ),
            (
                "finally: {y: {capability: c, gate: {question: q}}}",
                "plan.unknown_key",
                "gate",
                "no `gate`",
                "",
            ),
            (
                "finally: {y: {agent: a, capability: c, budget: {tokens: 1}}}",
                "plan.unknown_key",
                "budget",
                "no `budget`",
                "",
            ),
            (
                "limits: {concurrency_by_label: {effect: 1}}",
                "plan.name",
                "effect",
                "cannot be a name",
                "label=value",
            ),
            (
                "limits: {concurrency_by_label: {effect=write: 1}}",
                "plan.unknown_label",
                "effect=write",
                "no task has",
                "give",
            ),
            ("limits: {concurrency_by_label: {effect=write: 0}}", "plan.value", "0}", "must be 1", ""),
        )
    ),
    (
        "  x: {agent: a, capability: c}\nfinally: {y: {capability: c, needs: [z]}, z: {capability: c, needs: [y]}}",
        "plan.cycle",
        "y: {",
        "y → z → y",
        "take away",
    ),
    ("  x: {agent: a, capability: c}\nschedule: '* * * * *'", "plan.not_yet", "schedule", "`schedule`", ""),
    (
        "  x: {agent: a, capability: c}\noutputs: {o: '${{ tasks.x.outputs }}'}",
        "plan.unknown_reference",
        "tasks.x",
        "no for_each",
        ".output",
    ),
    (
        "  x: {agent: a, capability: c}\ninputs: {i: {type: strin}}",
        "plan.value",
        "strin",
        "cannot be",
        "`string`",
    ),
    ("  x: {agent: a, capability: c}\ninputs: {i: {}}", "plan.missing", "{}", "type is missing", "string"),
    (
        "  x: {agent: a, capability: c}\ninputs: {i: {type: integer, default: x}}",
        "plan.default",
        "x}",
        "is a text",
        "",
    ),
    (
        "  x: {agent: a, capability: c}\ninputs: {i: {type: string, pattern: '('}}",
        "plan.value",
        "'('",
        "regular expression",
        "",
    ),
    ("  x: {agent: a, capability: c}\nlimits: {concurrency: 0}", "plan.value", "0}", "must be 1", ""),
    (
        "  x: {agent: a, capability: c, capability: d}",
        "yaml.duplicate",
        "capability: d",
        "second time",
        "line",
    ),
    ("  x: {agent: a, capability: !!python/name:os.system c}", "yaml.tag", "!!python", "tags", ""),
    ("  x: {agent: a, capability: c, <<: {a: b}}", "yaml.merge", "<<", "merge keys", "defaults"),
    ("  x: {agent: a, capability: c, with: {n: .inf}}", "yaml.number", ".inf", "no JSON number", ""),
    ("  x: {agent: a, capability: c, with: {n: 9223372036854775808}}", "yaml.number", "9223", "64 bits", ""),
    ("  x: {agent: a, capability: c, with: ${{ item }}}", "yaml.syntax", "}", "", "quotes"),
    ("  x: {agent: a, capability: c}\n\ty: 1", "yaml.syntax", "\t", "", "tabs"),
    *(
        (f"  x: {{agent: a, capability: c}}\n{rest}", code, place, message, hint)
        for rest, code, place, message, hint in (
            ("limits: {budget: {usd: 1.2345678}}", "plan.value", "1.23", "cannot be", "six digits"),
            ("limits: {budget: {usd: true}}", "plan.type", "true", "a boolean, not USD", "1.50"),
            (
                "limits: {budget: {usd: 1, usd_micro: 5}}",
                "plan.duplicate",
                "usd: 1",
                "usd and usd_micro",
                "keep one",
            ),
            ("models: {w: {model: m}}", "plan.missing", "{model", "models.w.base_url is missing", "http://"),
            (
                "models: {w.x: {base_url: 'http://h/v1', model: m}}",
                "plan.name",
                "w.x",
                "cannot be a name",
                "letters",
            ),
            (
                "models: {w: {base_url: 'ftp://h/v1', model: m}}",
                "plan.value",
                "'ftp",
                "cannot be",
                "https://",
            ),
            (
                "models: {w: {base_url: 'http://h/v1', model: m, api_key: sk-12345}}",
                "plan.secret",
                "sk-",
                "never",
                "aip secret set",
            ),
            (
                "models: {w: {base_url: 'http://u:sk-12345@h/v1', model: m}}",
                "plan.secret",
                "'http",
                "never",
                "secret:NAME",
            ),
            (
                "models: {w: {base_url: 'http://h/v1', model: m, prices: {input: 1}}}",
                "plan.missing",
                "{input",
                "prices.output",
                "per million",
            ),
            (
                "models: {w: {base_url: 'http://h/v1', model: m, timeout: 2h}}",
                "plan.duration",
                "2h",
                "at most 3600s",
                "",
            ),
            (
                "models: {w: {base_url: 'http://h/v1', model: m, concurrency: 0}}",
                "plan.value",
                "0}",
                "1 to 1000",
                "",
            ),
            (
                "models: {w: {base_url: 'http://h/v1', model: m, isolation: cell}}",
                "plan.unknown_key",
                "isolation",
                "no `isolation`",
                "",
            ),
            (
                "tools: {git: {allow: [log]}}",
                "plan.missing",
                "{allow",
                "one of command and url",
                "mcp_server",
            ),
            (
                "tools: {git: {command: [git], url: 'http://h', allow: [log]}}",
                "plan.value",
                "{command",
                "one of command and url",
                "",
            ),
            (
                "tools: {git: {command: [git]}}",
                "plan.missing",
                "{command",
                "tools.git.allow is missing",
                "['*']",
            ),
            (
                "tools: {git: {command: git serve, allow: [log]}}",
                "plan.type",
                "git serve",
                "not a list of words",
                "[git, serve]",
            ),
            ("tools: {git: {command: [], allow: [log]}}", "plan.value", "[]", "1 to 256 words", ""),
            ("tools: {git: {command: [git], allow: []}}", "plan.value", "[]", "1 to 256 tools", "['*']"),
            (
                "tools: {git: {command: [git], allow: ['*', log]}}",
                "plan.value",
                "'*'",
                "beside names",
                "keep",
            ),
            (
                "tools: {git: {command: [git], allow: ['log me']}}",
                "plan.value",
                "'log me'",
                "cannot name",
                "server",
            ),
            (
                "tools: {git: {command: [git], allow: [log], headers: {A: b}}}",
                "plan.value",
                "headers",
                "for a url only",
                "",
            ),
            (
                "tools: {web: {url: 'http://h', allow: [get], cwd: /tmp}}",
                "plan.value",
                "cwd",
                "for a command only",
                "",
            ),
            (
                "tools: {web: {url: 'http://h', allow: [get], headers: {Authorization: Bearer sk-12345}}}",
                "plan.secret",
                "Bearer",
                "never",
                "aip secret set",
            ),
            (
                "tools: {git: {command: [git], allow: [log], env: {A B: c}}}",
                "plan.name",
                "A B",
                "cannot be a name",
                "",
            ),
        )
    ),
    ("  x: {agent: a, capability: c}\n---\na: 1", "yaml.documents", "---", "second document", ""),
]


@pytest.mark.parametrize(
    ("rest", "code", "place", "message", "hint"), MISTAKES, ids=[row[0].strip()[:60] for row in MISTAKES]
)
def test_a_mistake_is_told_with_its_place_and_a_way_out(
    rest: str, code: str, place: str, message: str, hint: str
) -> None:
    text = HEAD + AGENTS + "tasks:\n" + rest
    first = problems_of(text)[0]
    assert first["code"] == code, first
    assert message in first["message"]
    assert hint in first["suggestion"]
    if not code.startswith("yaml.syntax"):
        line = text.split("\n")[first["line"] - 1]
        assert line[first["column"] - 1 :].startswith(place), (line, first)


@pytest.mark.parametrize(
    ("approvers", "code", "place", "message", "hint"),
    [
        ("[me]", "plan.value", "me", "cannot be `me`", "user:NAME"),
        ("['user:']", "plan.value", "'user:'", "cannot be `user:`", "user:NAME"),
        ("[]", "plan.value", "[]", "names nobody", "leave it out"),
        ("['user:a', 'role:editor']", "plan.not_yet", "'role:editor'", "`role:editor` is part of", "refused"),
    ],
)
def test_a_gate_names_its_approvers_one_by_one(
    approvers: str, code: str, place: str, message: str, hint: str
) -> None:
    row = f"  x: {{gate: {{question: q, approvers: {approvers}}}}}"
    test_a_mistake_is_told_with_its_place_and_a_way_out(row, code, place, message, hint)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = (
        HEAD.replace("demo", "De mo")
        + "agents: {a: {uze: x}}\ntasks:\n  x: {agent: b}\n  y: {needs: [z], capability: c}\n"
    )
    found = problems_of(text)
    assert [problem["line"] for problem in found] == sorted(problem["line"] for problem in found)
    assert {"plan.value", "plan.unknown_key", "plan.missing", "plan.unknown_agent", "plan.unknown_task"} <= {
        p["code"] for p in found
    }


@pytest.mark.parametrize(
    ("edges", "cycle"),
    [
        ({"a": "a"}, "a → a"),
        ({"a": "b", "b": "a"}, "a → b → a"),
        ({"s": "", "a": "c", "b": "a", "c": "b"}, "a → "),
    ],
)
def test_a_cycle_is_named(edges: dict[str, str], cycle: str) -> None:
    text = (
        HEAD
        + "tasks:\n"
        + "".join(f"  {name}: {{capability: c, needs: [{need}]}}\n" for name, need in edges.items())
    )
    found = problems_of(text)
    assert [problem["code"] for problem in found] == ["plan.cycle"]
    assert cycle in found[0]["message"]


def test_a_cycle_through_references_is_found_too() -> None:
    tasks = "  a: {capability: c, with: {x: '${{ tasks.b.output }}'}}\n  b: {capability: c, needs: [a]}\n"
    assert problems_of(HEAD + "tasks:\n" + tasks)[0]["code"] == "plan.cycle"


def test_what_yaml_1_1_misreads_is_read_as_written() -> None:
    plan = plan_of(
        "  x: {agent: a, capability: c, with: {on: off, no: yes, n: 012, o: 0o12, t: 1:30, d: 2020-01-01, e: 1e3, u: 1_0}}"
    )
    assert plan.tasks["x"].arguments.source == {
        "on": "off",
        "no": "yes",
        "n": 12,
        "o": 10,
        "t": "1:30",
        "d": "2020-01-01",
        "e": 1000.0,
        "u": "1_0",
    }


def test_anchors_repeat_values() -> None:
    plan = plan_of("  x: &x {agent: a, capability: c, with: {k: [1]}}\n  y: *x\n")
    assert plan.tasks["y"].arguments == plan.tasks["x"].arguments


def test_a_person_sees_the_line_and_the_place() -> None:
    text = HEAD + "tasks:\n  x: {capabilty: c}\n"
    shown = render(problems_of(text), text)
    assert re.search(
        r"plan\.yaml:5:7: tasks\.x has no `capabilty`  \[plan\.unknown_key\]\n"
        r"    5 \|   x: \{capabilty: c\}\n      \|       \^\n",
        shown,
    )
    assert "did you mean `capability`?" in shown


def test_what_a_person_sees_cannot_act_on_the_terminal() -> None:
    text = "a: \u202e\u00adx: y: [\n"
    shown = render([Problem("c", "f", 1, 9, "m")], text + "\x1b[31m")
    assert "\x1b" not in shown
    assert "\u202e" not in shown


MANIFESTS = {
    "a": {
        "capabilities": {
            "search": {
                "input": {"type": "object", "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}},
                          "required": ["query"], "additionalProperties": False},
                "output": {"type": "array", "items": {"$ref": "#/$defs/Hit"},
                           "$defs": {"Hit": {"type": "object", "properties": {"url": {"type": "string"}}}}},
            }
        }
    }
}  # fmt: skip


@pytest.mark.parametrize(
    ("task", "code", "words"),
    [
        ("{agent: a, capability: search, with: {query: x}}", None, ""),
        ("{agent: a, capability: search, with: {query: '${{ inputs.q }}', limit: 3}}", None, ""),
        ("{agent: b, capability: whatever}", None, ""),
        ("{capability: unplaced}", None, ""),
        ("{agent: a, capability: serch}", "check.capability", "`search`"),
        ("{agent: a, capability: search}", "check.argument", "`query` of search is missing"),
        ("{agent: a, capability: search, with: {query: x, limt: 3}}", "check.argument", "`limit`"),
        ("{agent: a, capability: search, with: {query: x, limit: three}}", "check.argument", "is a text, not integer"),
        ("{agent: a, capability: search, with: {query: '${{ tasks.x.output.url }}'}}", "check.output", "no field `url`"),
        ("{for_each: '${{ tasks.x.output }}', agent: a, capability: search, with: {query: '${{ item.url }}'}}", None, ""),
        ("{for_each: '${{ tasks.x.output }}', agent: a, capability: search, with: {query: '${{ item.ulr }}'}}",
         "check.output", "`url`"),
        ("{capability: c, with: {d: '${{ tasks.v.output.decision }}', n: '${{ tasks.v.output.counts.yes }}'}}", None, ""),
        ("{capability: c, with: {d: '${{ tasks.v.output.decison }}'}}", "check.output", "`decision`"),
        ("{for_each: '${{ tasks.v.output }}', capability: c}", "check.for_each", "type object"),
        ("{for_each: '${{ tasks.w.outputs }}', capability: c, with: {d: '${{ item.decision }}'}}", None, ""),
        ("{for_each: '${{ tasks.w.output }}', capability: c, with: {d: '${{ item.dcision }}'}}", "check.output", "`decision`"),
        ("{capability: c, with: {d: '${{ tasks.w.output.decision }}'}}", "check.output", "no field `decision`"),
        ("{for_each: '${{ tasks.x.output }}', capability: serch, assign: {mode: vote, voters: [a]}, with: {query: q}}",
         "check.capability", "`search`"),
        ("{for_each: '${{ tasks.x.output }}', capability: search, assign: {mode: vote, voters: [a]},"
         " with: {query: '${{ item.ulr }}'}}", "check.output", "`url`"),
    ],
)  # fmt: skip
def test_a_plan_is_checked_against_what_its_agents_declare(task: str, code: str | None, words: str) -> None:
    plan = plan_of(
        f"  x: {{agent: a, capability: search, with: {{query: q}}}}\n"
        "  v: {capability: judge, assign: {mode: vote, voters: [b]}}\n"
        "  w: {for_each: [1, 2], capability: judge, assign: {mode: vote, voters: [b]}}\n"
        f"  y: {task}\n",
        "inputs: {q: {type: string}}\n",
    )
    found = check(plan, MANIFESTS)
    assert [problem.code for problem in found] == ([code] if code else [])
    assert words in "".join(map(str, found))


INPUTS = """inputs:
  s: {type: string, pattern: '^[a-z]+$', maxLength: 5}
  n: {type: integer, default: 3, minimum: 1}
  f: {type: number, default: 0.5}
  b: {type: boolean, default: false}
  l: {type: array, items: {type: integer}, default: []}
  p: {type: string, format: path, default: .}
  o: {type: object, required: false, properties: {a: {type: string}}, additionalProperties: false}
"""


def resolve(**given: Any) -> dict[str, Any]:
    return resolve_inputs(plan_of("  x: {agent: a, capability: c}", INPUTS), given, Path("/base"))


def test_inputs_are_read_by_their_declared_types() -> None:
    assert resolve(s="bees") == {"s": "bees", "n": 3, "f": 0.5, "b": False, "l": [], "p": "/base", "o": None}
    found = resolve(s="a", n="7", f="1e2", b="yes", l="[1]", p="x", o='{"a": "b"}')
    assert found == {"s": "a", "n": 7, "f": 100.0, "b": True, "l": [1], "p": "/base/x", "o": {"a": "b"}}
    assert resolve(s="a", l=[1, 2])["l"] == [1, 2]


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({}, "s is not given", "-i s=STRING"),
        ({"s": "a", "nn": "1"}, "no input `nn`", "`n`"),
        ({"s": "A"}, "does not match the pattern", "give s as"),
        ({"s": "abcdef"}, "has 6 characters", ""),
        ({"s": "a", "n": "x"}, "`n` cannot be `x`", "minimum 1"),
        ({"s": "a", "n": "0"}, "the minimum is 1", ""),
        ({"s": "a", "n": True}, "is a boolean", ""),
        ({"s": "a", "f": "NaN"}, "cannot be `NaN`", ""),
        ({"s": "a", "b": "maybe"}, "cannot be `maybe`", "true or false"),
        ({"s": "a", "l": "1,2"}, "cannot be `1,2`", "JSON list"),
        ({"s": "a", "l": "[true]"}, "`l.0` is a boolean", ""),
        ({"s": "a", "l": "[" * 100_000}, "cannot be", ""),
        ({"s": "a", "o": '{"b": 1}'}, "`o.b` is not known", ""),
    ],
)
def test_a_wrong_input_is_named_with_its_form(given: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(**given)
    assert message in caught.value.message
    assert hint in caught.value.hint
