"""Every key that plan.yaml, version 1, knows: what it means, and which this version of AIP does not enforce yet.

One table for three readers: the parser (unknown keys, suggestions), the JSON Schema (hover text) and people.
"""

from __future__ import annotations

API_VERSION = "aip/v1"

KNOWN: dict[str, dict[str, str]] = {
    "plan": {
        "apiVersion": "The version of this language: aip/v1.",
        "kind": "Plan.",
        "metadata": "The plan's name and labels.",
        "inputs": "What a run is given: `aip submit plan.yaml -i name=value`. An input without default is required.",
        "defaults": "What holds for every task that says nothing else.",
        "limits": "Hard stops for the whole run.",
        "agents": "Who does the work.",
        "tasks": "The work. A task starts when all that it needs or refers to has ended.",
        "outputs": "What the run answers: values with ${{ … }} over inputs, run and tasks.",
    },
    "metadata": {
        "name": "The plan's name: lower case letters, digits and - _ .",
        "labels": "Text by text; policy sees them.",
    },
    "defaults": {
        "timeout": "Of one attempt, from start to end, such as 5m.",
        "retry": "When and how often a failed attempt is made again.",
    },
    "retry": {
        "attempts": "How many attempts in all, the first included.",
        "backoff": "How long to wait between attempts.",
        "on": "Which failures are worth another attempt: transient, timeout, agent_lost, any.",
    },
    "backoff": {
        "initial": "The first wait, such as 1s.",
        "factor": "What each further wait is multiplied by.",
        "max": "The longest wait.",
        "jitter": "Part of a wait that is drawn by lot, 0 to 1.",
    },
    "limits": {
        "deadline": "The run ends after this time, such as 2h.",
        "concurrency": "Attempts that may be at work at the same time.",
        "budget": "Integer amounts by unit (tokens, usd_micro, tool_calls), reserved before each step.",
        "on_exceeded": "What happens when the budget is spent: pause, fail or finish_running.",
    },
    "agent": {
        "use": "The agent's class or function, module:Name, beside the plan or installed.",
        "replicas": "How many of it: a number, or {min, max}.",
        "isolation": "cell: many agents share a process; process: each has its own.",
        "density": "Agents of this kind that share one cell.",
        "resources": "What one agent reserves.",
        "restart": "What its supervisor does when it fails.",
        "runtime_env": "Ray's runtime environment for its cells.",
    },
    "replicas": {"min": "Always there.", "max": "Never more."},
    "resources": {"cpu": "Cores, such as 0.1.", "memory": "Bytes, such as 64Mi."},
    "restart": {
        "strategy": "one_for_one, one_for_all or rest_for_one.",
        "max": "Restarts within the time before the failure is passed on.",
        "within": "The time, such as 1m.",
    },
    "task": {
        "agent": "Which agent of this plan; left out, the registry finds one by capability.",
        "capability": "What it is asked to do: the name under @capability.",
        "with": "The arguments; ${{ … }} refers to inputs, tasks, run, item and index.",
        "needs": "Tasks that must have ended before, beside those referred to.",
        "for_each": "A list: the task runs once for each item, as `item` and `index`.",
        "if": "An expression: false skips the task. It decides before for_each.",
        "when": "Which ends of its needs let it start: all_ok, none_failed, any_ok, always.",
        "retry": "As under defaults; what is not said here holds from there.",
        "timeout": "Of one attempt, from start to end.",
        "deadline": "Of the task with all its attempts.",
        "idempotency_key": "The same for every attempt of the same work.",
        "gate": "A question to a person instead of work.",
        "assign": "Who does it: {mode: direct}, or all of {mode: vote, voters: …}; with for_each they vote on each item.",
        "budget": "What this task may spend of the run's budget.",
    },
    "gate": {
        "question": "What the person is asked.",
        "approvers": "Who may answer, as user:NAME; left out, whoever may approve runs.",
        "expires": "How long it waits for an answer, such as 24h.",
        "default": "The decision when it expires: approve or deny.",
    },
    "assign": {
        "mode": "direct or vote.",
        "voters": "Agents by name, each asked once, or how many replicas of `agent`.",
        "quorum": "Valid votes that must arrive; left out, a majority of the voters.",
        "method": "How votes are counted: majority.",
        "threshold": "One answer must have more than this part of the votes: 0.5 is a majority.",
    },
    "input": {
        "type": "string, integer, number, boolean, array, object or null.",
        "description": "For people.",
        "default": "The value if none is given.",
        "required": "Whether a value must be given; for an object, the names that it must have.",
        "enum": "The values that are allowed.",
        "minimum": "Not less.",
        "maximum": "Not more.",
        "exclusiveMinimum": "More than this.",
        "exclusiveMaximum": "Less than this.",
        "minLength": "Characters at least.",
        "maxLength": "Characters at most.",
        "pattern": "A regular expression that must be found in the text.",
        "format": "path: a file or folder, made absolute.",
        "items": "What each item must be.",
        "minItems": "Items at least.",
        "maxItems": "Items at most.",
        "uniqueItems": "Whether no two items may be equal.",
        "properties": "What each member must be.",
        "additionalProperties": "Whether other members may be there, or what they must be.",
    },
}

NOT_YET: dict[str, frozenset[str]] = {
    "plan": frozenset({"finally", "schedule", "schedules", "plans"}),
    "task": frozenset(
        {
            *("allow_failures", "compensate", "finally", "heartbeat", "labels", "max_parallel"),
            *("output", "plan", "priority", "schedule"),
        }
    ),
    "assign": frozenset({"auction", "bid_timeout", "max_price", "weight"}),
    "agent": frozenset({"labels", "output"}),
}
NOT_YET_VALUES: dict[str, frozenset[str]] = {
    "isolation": frozenset({"container"}),
    "mode": frozenset({"market", "auction", "swarm"}),
    "method": frozenset({"approval", "borda", "plurality", "quadratic", "ranked", "unanimous", "weighted"}),
}
NOT_YET_USES = ("a2a://", "acp://", "anp://", "mcp://", "builtin:")

ISOLATIONS = ("cell", "process")
ASSIGN_MODES = ("direct", "vote")
VOTE_METHODS = ("majority",)
INPUT_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
RETRY_ON = ("transient", "timeout", "agent_lost", "any")
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
DECISIONS = ("approve", "deny")

PLAN_NAME_FORM = r"^[a-z][a-z0-9_.-]{0,62}$"
NAME_FORM = r"^[A-Za-z][A-Za-z0-9_]{0,62}$"  # Tasks, inputs, outputs: what an expression can say after a dot.
AGENT_FORM = r"^[a-z][a-z0-9_.-]{0,62}$"  # The type part of an address.
USE_FORM = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"
CAPABILITY_FORM = r"^[a-z][a-z0-9_]{0,62}(\.[a-z][a-z0-9_]{0,62}){0,3}$"
APPROVER_FORM = r"^user:[^\s:]{1,128}$"  # As `by` of a decision says it.
UNIT_FORM = r"^[a-z][a-z0-9_]{0,62}$"
RESERVED_NAMES = frozenset({"in", "true", "false", "null"})  # No names in an expression.

ATTEMPTS_MAX = 100  # A task that fails this often fails for a reason that time does not heal.
CONCURRENCY_MAX = 100_000
VOTERS_MAX = 1_000
AMOUNT_MAX = 2**62  # Sums of budgets stay within 64 bits.
TEXT_CHARS_MAX = 4_096  # Questions, labels, descriptions.
