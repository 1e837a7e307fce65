"""The trace of a run: what caused what, as a tree, out of what was recorded anyway.

    run ─ task (one node for each generation) ─ attempt ─ message ─ message …
                │                                 └─ effect, refusal, note
                └─ gate

Two sources, both plain JSON, neither of them written for this:

    the run's journal     runs, tasks, attempts, gates, spending: complete, since the journal is the run
    the audit log         effects and refusals, one entry each; admissions only as a count and a Merkle root per flush

So a message that was admitted and answered stands in the tree only where the log has rows of them (`messages` entries, below);
`Trace.messages_recorded` says whether it does. Nothing is guessed: an audit entry names its agent and its time, and is hung
below the one attempt that this agent was at; where several could be meant, below their task, failing that below the run, with
`attributed: false`.

    audit entry         becomes                 hung below
    effect.begun        effect, open            the attempt of its idempotency key RUN/TASK/UNIT; else by agent and time
    effect.done         … ended: done           the same node
    effect.failed       … ended: failed
    effect.refused      refusal                 by agent and time
    message.refused     refusal                 by sender and time; failing that by recipient
    messages            a message for each row  its cause; failing that its attempt
    anything else       note                    by agent and time

A `messages` entry holds rows of calls that have ended, `MessageRow` each, for one run: `{"run": RUN, "rows": [[…], …]}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Json = Mapping[str, Any]

OPEN = "open"
NODES_MAX = 200_000  # A tree that no screen and no tracing backend takes; what is beyond is counted.

_REPLICA = re.compile(r"(?P<agent>.+?)\.(?P<replica>\d+)(?=\.|\Z)")


@dataclass(slots=True)
class Node:
    """One thing that happened, and what it caused. `id` is unique in its run and the same whenever the trace is made."""

    kind: str  # run, task, attempt, gate, message, effect, refusal, note
    id: str
    name: str
    started_at_s: float
    ended_at_s: float | None = None
    outcome: str = OPEN
    error: Json | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)

    def end(self, at_s: float, outcome: str, error: Json | None = None) -> None:
        self.ended_at_s = at_s
        self.outcome = outcome
        self.error = error

    def covers(self, at_s: float) -> bool:
        return self.started_at_s <= at_s and (self.ended_at_s is None or at_s <= self.ended_at_s)

    def walk(self) -> Iterator[Node]:
        """This node and all below it, causes before what they caused."""
        yield self
        for child in self.children:
            yield from child.walk()

    def to_json(self) -> dict[str, Any]:
        plain = {
            "kind": self.kind,
            "id": self.id,
            "name": self.name,
            "started_at_s": self.started_at_s,
            "ended_at_s": self.ended_at_s,
            "outcome": self.outcome,
            **({"error": dict(self.error)} if self.error else {}),
            **self.facts,
        }
        return {**plain, "children": [child.to_json() for child in self.children]}


class MessageRow(NamedTuple):
    """One call of an agent to another, as the sender's cell knows it when it has ended."""

    id: str
    causation: str
    attempt: str  # The label that travels with all a run's attempt causes.
    sender: str
    recipient: str
    capability: str
    started_at_s: float
    ended_at_s: float
    code: str = ""  # Of its error.


@dataclass(slots=True)
class Trace:
    run: str
    plan: str
    root: Node
    messages_recorded: bool = False
    left_out: int = 0  # Nodes beyond NODES_MAX.


def trace_of(run: str, view: Json, events: Iterable[Json], entries: Iterable[Json] = ()) -> Trace:
    """The trace of a run from its view, its journal and the audit log; entries that do not concern the run are passed over."""
    tracer = Tracer(run, view)
    for event in events:
        tracer.event(event)
    for entry in entries:
        if concerns(entry, run):
            tracer.entry(entry)
    return tracer.finish()


def concerns(entry: Json, run: str) -> bool:
    """Whether an audit entry is about the run or one of its agents."""
    subject, detail = str(entry.get("subject", "")), entry.get("detail") or {}
    key = subject.partition("/")[2]
    return detail.get("run") == run or subject == run or key == run or key.startswith(f"{run}.")


def plan_agent(address: str, run: str) -> tuple[str, int | None]:
    """What the plan calls the agent at this address, and which replica; the type and None for an agent of no plan."""
    kind, _, key = address.partition("/")
    found = _REPLICA.match(key.removeprefix(f"{run}.")) if key.startswith(f"{run}.") else None
    if found is None:
        return kind.partition("@")[0], None
    return found["agent"], int(found["replica"])


class Tracer:
    """Builds the tree: all events first, in order, then the audit's entries, then `finish`."""

    def __init__(self, run: str, view: Json) -> None:
        self._run = run
        self._tasks_seen: Json = view.get("tasks") or {}
        plan = str(view.get("plan") or "")
        root = Node("run", "run", plan or run, float(view.get("accepted_at_s") or 0.0), facts={"run": run})
        self._trace = Trace(run, plan, root)
        self._nodes = 1
        self._generations: dict[str, list[Node]] = {}
        self._attempts: dict[int, Node] = {}  # By lease.
        self._of_agent: dict[
            tuple[str | None, int], list[Node]
        ] = {}  # Attempts by who was asked, and which replica.
        self._of_unit: dict[tuple[str, int], list[Node]] = {}  # Attempts by task and unit.
        self._gates: dict[str, Node] = {}
        self._effects: dict[tuple[str, str], Node] = {}  # Begun and not ended, by agent and key.
        self._rows: list[MessageRow] = []

    # The journal

    def event(self, event: Json) -> None:
        fold = _EVENTS.get(str(event.get("event")))
        if fold is None:
            self._note(self._task_or_root(event), str(event.get("event")), event)
        else:
            fold(self, event)

    def _accepted(self, event: Json) -> None:
        root = self._trace.root
        root.started_at_s = event["at_s"]
        root.facts |= {name: event[name] for name in ("plan_digest", "submitted_by") if name in event}

    def _finished(self, event: Json) -> None:
        self._trace.root.end(event["at_s"], event["state"], event.get("error"))

    def _retried(self, event: Json) -> None:
        root = self._trace.root
        root.ended_at_s, root.outcome, root.error = None, OPEN, None
        self._note(root, "run_retried", event)

    def _ready(self, event: Json) -> None:
        task = self._begin_task(event)
        task.facts["units"] = event.get("units", event.get("count"))

    def _begin_task(self, event: Json) -> Node:
        name = event["task"]
        generations = self._generations.setdefault(name, [])
        number = len(generations) + 1
        spec = self._tasks_seen.get(name) or {}
        facts = {"generation": number, "agent": spec.get("agent"), "capability": spec.get("capability")}
        node = Node("task", f"task/{name}/{number}", name, event["at_s"], facts=facts)
        generations.append(node)
        return self._hang(self._trace.root, node)

    def _task(self, event: Json) -> Node:
        """The task's node; a task that ends without having been ready begins with its end."""
        generations = self._generations.get(event["task"])
        if generations and (
            generations[-1].ended_at_s is None or event["event"] not in ("task_skipped", "task_ended")
        ):
            return generations[-1]
        return self._begin_task(event)

    def _skipped(self, event: Json) -> None:
        task = self._task(event)
        task.facts["reason"] = event.get("reason", "")
        task.end(event["at_s"], "skipped")

    def _ended(self, event: Json) -> None:
        self._task(event).end(event["at_s"], event["state"], event.get("error"))

    def _gate_opened(self, event: Json) -> None:
        task = self._task(event)
        node = Node("gate", f"{task.id}/gate", task.name, event["at_s"])
        node.facts["question"] = event.get("question", "")
        self._gates[task.name] = self._hang(task, node)

    def _gate_decided(self, event: Json) -> None:
        gate = self._gates.get(event["task"])
        if gate is not None:
            gate.facts |= {"by": event.get("by", ""), "note": event.get("note", "")}
            gate.end(event["at_s"], event["decision"])

    def _started(self, event: Json) -> None:
        task = self._task(event)
        agent = task.facts["agent"] or self._voter(task.name, event["unit"])
        name = f"{agent or task.facts['capability'] or task.name}"
        node = Node("attempt", f"attempt/{event['lease']}", name, event["at_s"])
        node.facts = {"task": task.name, "generation": task.facts["generation"], "agent": agent}
        node.facts |= {"capability": task.facts["capability"]}
        node.facts |= {key: event[key] for key in ("unit", "attempt", "lease", "replica")}
        self._attempts[event["lease"]] = self._hang(task, node)
        self._of_agent.setdefault((agent, event["replica"]), []).append(node)
        self._of_unit.setdefault((task.name, event["unit"]), []).append(node)

    def _voter(self, task: str, unit: int) -> str | None:
        """Of a task that is voted on: units go round its voters, `AGENT` or `AGENT/NUMBER` by name."""
        seen = self._tasks_seen.get(task) or {}
        voters = (seen.get("vote") or seen.get("votes") or {}).get("voters") or ()
        return str(voters[unit % len(voters)]).partition("/")[0] if voters else None

    def _succeeded(self, event: Json) -> None:
        self._report(event, "succeeded")

    def _failed(self, event: Json) -> None:
        node = self._report(event, "failed", event.get("error"))
        if event.get("again_at_s") is not None:
            node.facts["again_at_s"] = event["again_at_s"]

    def _fenced(self, event: Json) -> None:
        self._report(event, "fenced")

    def _report(self, event: Json, outcome: str, error: Json | None = None) -> Node:
        node = self._attempts[event["lease"]]
        node.end(event["at_s"], outcome, error)
        if event.get("spent"):
            node.facts["spent"] = dict(event["spent"])
        return node

    def _task_or_root(self, event: Json) -> Node:
        if event.get("task") in self._generations:
            return self._generations[str(event["task"])][-1]
        return self._trace.root

    # The audit log

    def entry(self, entry: Json) -> None:
        kind = str(entry.get("kind", ""))
        if kind == "messages":
            self._rows += [MessageRow(*row) for row in entry["detail"].get("rows") or ()]
        elif kind in ("effect.begun", "effect.done", "effect.failed"):
            self._effect(kind.partition(".")[2], entry)
        elif kind in ("effect.refused", "message.refused"):
            self._refusal(entry)
        else:
            self._note_entry(entry)

    def _effect(self, verb: str, entry: Json) -> None:
        subject, detail, at_s = str(entry["subject"]), entry["detail"], float(entry["at"])
        key = (subject, str(detail.get("key", "")))
        if verb == "begun":
            node = Node("effect", f"effect/{entry['index']}", str(detail.get("effect", "")), at_s)
            node.facts = {"agent": subject, "key": key[1]}
            parent = self._by_key(key[1], at_s) or self._by_agent(subject, at_s)
            self._effects[key] = self._hang_found(parent, node)
        elif (open_node := self._effects.pop(key, None)) is not None:
            error = {"code": "agent.failed", "message": detail["error"]} if "error" in detail else None
            open_node.end(at_s, verb, error)

    def _by_key(self, key: str, at_s: float) -> Node | None:
        """The attempt whose idempotency key an effect's key is made of: `EFFECT:RUN/TASK/UNIT[/gN]`."""
        run, _, rest = key.partition(":")[2].partition("/")
        task, _, unit = rest.partition("/")
        number = unit.partition("/")[0]
        if run != self._run or not number.isdigit():
            return None
        attempts = self._of_unit.get((task, int(number)), ())
        return next((one for one in reversed(attempts) if one.covers(at_s)), None)

    def _refusal(self, entry: Json) -> None:
        detail, at_s = entry["detail"], float(entry["at"])
        sender = str(detail.get("sender") or "")
        kind = str(entry["kind"]).partition(".")[0]
        name = str(detail.get("effect") or detail.get("capability") or kind)
        node = Node("refusal", f"audit/{entry['index']}", name, at_s)
        node.end(at_s, "refused", {"code": detail.get("code", ""), "message": ""})
        node.facts = {"refused": kind, "sender": sender, "recipient": entry["subject"]}
        parent = self._by_agent(sender, at_s) or self._by_agent(str(entry["subject"]), at_s)
        self._hang_found(parent, node)

    def _note_entry(self, entry: Json) -> None:
        subject, at_s = str(entry["subject"]), float(entry["at"])
        node = Node("note", f"audit/{entry['index']}", str(entry["kind"]), at_s)
        node.end(at_s, "")
        node.facts = {"subject": subject, **{k: v for k, v in entry["detail"].items() if k != "run"}}
        self._hang_found(self._by_agent(subject, at_s), node)

    def _by_agent(self, address: str, at_s: float) -> Node | None:
        """The one attempt, failing that the one task, that the agent at this address worked on at that time."""
        agent, replica = plan_agent(address, self._run)
        if replica is None:
            return None
        # Before a vote is counted its view names no voters: those attempts stand under None.
        asked: list[Node] = [
            *self._of_agent.get((agent, replica), ()),
            *self._of_agent.get((None, replica), ()),
        ]
        found = [one for one in asked if one.covers(at_s)]
        if len(found) == 1:
            return found[0]
        tasks: set[tuple[str, int]] = {(one.facts["task"], one.facts["generation"]) for one in found}
        if len(tasks) != 1:
            return None
        (task, generation) = tasks.pop()
        return self._generations[task][generation - 1]

    # Messages

    def finish(self) -> Trace:
        """The trace, with its messages hung up and everything in the order of time."""
        self._hang_messages()
        for node in self._trace.root.walk():
            node.children.sort(key=lambda child: child.started_at_s)
        return self._trace

    def _hang_messages(self) -> None:
        # A call's row comes when it has ended, after those of the calls that it caused: first all nodes, then their places.
        self._trace.messages_recorded = bool(self._rows)
        known: dict[str, Node] = {}
        placed: list[tuple[MessageRow, Node]] = []
        for row in self._rows:
            attempt = self._attempt_of(row)
            if row.sender == f"run/{self._run}" and attempt is not None:
                known[row.id] = attempt  # The envelope of the attempt itself.
                continue
            node = known[row.id] = Node("message", f"message/{row.id}", row.capability, row.started_at_s)
            node.end(row.ended_at_s, "failed" if row.code else "answered")
            node.error = {"code": row.code, "message": ""} if row.code else None
            node.facts = {"sender": row.sender, "recipient": row.recipient}
            placed.append((row, node))
        for row, node in placed:
            self._hang_found(known.get(row.causation) or self._attempt_of(row), node)

    def _attempt_of(self, row: MessageRow) -> Node | None:
        """By the label RUN/TASK/UNIT/GENERATION.ATTEMPT; of a crash's two starts of one attempt the one at that time."""
        parts = row.attempt.split("/")
        if len(parts) != 4 or parts[0] != self._run or not parts[2].isdigit():
            return None
        named = [
            one
            for one in self._of_unit.get((parts[1], int(parts[2])), ())
            if parts[3] == f"{one.facts['generation']}.{one.facts['attempt']}"
        ]
        return next((one for one in named if one.covers(row.started_at_s)), named[-1] if named else None)

    # The tree

    def _note(self, parent: Node, name: str, event: Json) -> None:
        node = Node("note", f"event/{event.get('index', self._nodes)}", name, event.get("at_s", 0.0))
        node.end(node.started_at_s, str(event.get("state") or ""), event.get("error"))
        node.facts = {
            key: value
            for key, value in event.items()
            if key not in ("event", "at_s", "index", "state", "error") and value not in (None, "", {}, [])
        }
        self._hang(parent, node)

    def _hang_found(self, parent: Node | None, node: Node) -> Node:
        if parent is None:
            node.facts["attributed"] = False
        return self._hang(parent or self._trace.root, node)

    def _hang(self, parent: Node, node: Node) -> Node:
        if self._nodes >= NODES_MAX:
            self._trace.left_out += 1
        else:
            self._nodes += 1
            parent.children.append(node)
        return node


_EVENTS: dict[str, Any] = {
    "run_accepted": Tracer._accepted,
    "run_finished": Tracer._finished,
    "run_retried": Tracer._retried,
    "task_ready": Tracer._ready,
    "map_expanded": Tracer._ready,
    "task_skipped": Tracer._skipped,
    "task_ended": Tracer._ended,
    "gate_opened": Tracer._gate_opened,
    "gate_decided": Tracer._gate_decided,
    "attempt_started": Tracer._started,
    "attempt_succeeded": Tracer._succeeded,
    "attempt_failed": Tracer._failed,
    "attempt_fenced": Tracer._fenced,
}
"""What each event does to the tree; one that is not named here becomes a note."""
