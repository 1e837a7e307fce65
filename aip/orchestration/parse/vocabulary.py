"""Every key that plan.yaml, version 1, knows: what it means, and which this version of AIP does not enforce yet.

One table for three readers: the parser (unknown keys, suggestions), the JSON Schema (hover text) and people.
"""

from __future__ import annotations

from ..budget import AMOUNT_MAX

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
        "models": "Language models that agents may ask, as agents of their own: `models.NAME`.",
        "tools": "Outside MCP servers, as agents of their own: `tools.NAME`.",
        "tasks": "The work. A task starts when all that it needs or refers to has ended.",
        "finally": "Tasks that run last, after success, failure and cancellation; not after a kill.",
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
        "concurrency_by_label": "The same for tasks with a label, such as {effect=external-write: 1}.",
        "dynamic_tasks": "Tasks that agents may add to a run of this plan (ctx.add_tasks), in all.",
        "budget": "Integer amounts by unit (tokens, usd_micro, tool_calls), reserved before each step.",
        "on_exceeded": "What happens when the budget is spent: pause, fail or finish_running.",
    },
    "agent": {
        "use": "The agent's class or function, module:Name, beside the plan or installed; or mcp://, one tool server.",
        "replicas": "How many of it: a number, or {min, max}.",
        "isolation": "cell: many agents share a process; process: each has its own; container: each in a sandbox.",
        "density": "Agents of this kind that share one cell.",
        "resources": "What one agent reserves.",
        "restart": "What its supervisor does when it fails.",
        "runtime_env": "Ray's runtime environment for its cells.",
        "config": "What its class asks for in `Config`: plain values, secrets as secret:NAME.",
        "effects": "Connectors of the platform's effects.yaml that it may use, by name; none if left out.",
    },
    "model": {
        "base_url": "Where an OpenAI-compatible endpoint answers, such as http://127.0.0.1:8000/v1.",
        "model": "The endpoint's name for the model.",
        "api_key": "A reference, secret:NAME; never the key itself.",
        "prices": "USD per million tokens; needed wherever money is limited.",
        "max_output_tokens": "The longest answer that is asked for.",
        "context_tokens": "What the model can read and write in one call.",
        "timeout": "Of one call, to the end of its answer; 120s if left out, an hour at most.",
        "idle_timeout": "Between two parts of a streamed answer; 30s if left out.",
        "output_limit_field": "Where the endpoint takes the limit of an answer: max_tokens or max_completion_tokens.",
        "structured_output": "json_schema, or validate for endpoints without response_format.",
        "retries": "How often a call that failed in passing is made again.",
        "concurrency": "Calls at the same time.",
    },
    "prices": {
        "input": "USD per million tokens read.",
        "output": "USD per million tokens written.",
        "cached_input": "USD per million tokens read from the endpoint's cache; left out, as input.",
    },
    "tool": {
        "command": "The program that serves tools over its standard streams, as a list of words.",
        "url": "Where a server answers over HTTP, instead of a command.",
        "env": "Variables of the program; a value may be secret:NAME. Nothing else of the platform's is inherited.",
        "headers": "Headers of every request; a value may be secret:NAME or Bearer secret:NAME.",
        "allow": "The tools that may be called, by name; ['*'] for all.",
        "effects": "Tools that change the outside world: done once for one piece of work; ['*'] for all.",
        "timeout": "Of one call, 30s if left out.",
        "start_timeout": "Until the server has listed its tools: 30s if left out, 55s at most.",
        "result_bytes_max": "The largest answer, such as 64Ki: 1Mi if left out, 8Mi at most.",
        "concurrency": "Calls that the server works on at the same time: 8 if left out.",
        "protocol": "The protocol's version: auto, or 2025-11-25 or 2026-07-28 where a server negotiates badly.",
        "cwd": "The folder that the program works in.",
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
        "priority": "low, normal or high: which of two ready tasks starts first.",
        "max_parallel": "With for_each: attempts of this task at the same time.",
        "allow_failures": "With for_each: how many items may fail, as a number or a part such as 20%; they are null in outputs.",
        "labels": "Text by text, on its messages: policy and limits.concurrency_by_label see them.",
        "heartbeat": "An attempt that reports no progress for so long is lost, and made again.",
        "output": "What a result must be, and how long it is kept.",
        "plan": "A plan beside this one: the task's work is a run of it, `with` its inputs, its outputs the result.",
        "compensate": "What undoes the task, should the run fail or be cancelled after it has succeeded.",
    },
    "output": {
        "schema": "A result that breaks this JSON Schema fails its attempt.",
        "ttl": "How long a large result is kept once no task that is still to run needs it, such as 7d.",
    },
    "compensate": {
        "agent": "Who undoes it; left out, the task's own agent.",
        "capability": "What is asked of it. It may be asked twice: it must be repeatable.",
        "with": "The arguments, when all work has ended: any task, run.state and run.error can be referred to.",
        "retry": "As under defaults.",
        "timeout": "Of one attempt; left out, as under defaults, or 5m.",
    },
    "gate": {
        "question": "What the person is asked.",
        "approvers": "Who may answer, as user:NAME; left out, whoever may approve runs.",
        "expires": "How long it waits for an answer, such as 24h.",
        "default": "The decision when it expires: approve or deny.",
    },
    "assign": {
        "mode": "direct, vote or market.",
        "voters": "Agents by name, each asked once, or how many replicas of `agent`.",
        "quorum": "Valid votes that must arrive; left out, a majority of the voters.",
        "method": "How votes are counted: majority, weighted or ranked.",
        "weights": "What each voter's vote counts for, by name; 1 where nothing is said.",
        "weight": "reputation: what each vote counts for is looked up when it is counted.",
        "deadline": "Of a vote: who has not answered by then has no vote.",
        "auction": "vickrey: sealed bids, the lowest wins at the second price.",
        "max_price": "Of a market: the most credits that one piece of the work may cost.",
        "bid_timeout": "How long a bidder has to answer; 5s if left out.",
        "bidders": "Agents by name; left out, every agent under `agents`.",
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

KNOWN["closing_task"] = {
    key: meaning
    for key, meaning in KNOWN["task"].items()
    if key not in ("gate", "budget", "compensate", "plan")
}
KNOWN["tool_config"] = {  # Of an agent whose `use` already says how its server is reached.
    key: meaning for key, meaning in KNOWN["tool"].items() if key not in ("command", "url")
}
KNOWN["schema"] = {
    **{key: meaning for key, meaning in KNOWN["input"].items() if key not in ("default", "format")},
    "required": "The names that an object must have.",
    "title": "For people.",
    "const": "The only value that is allowed.",
    "prefixItems": "What the first items must be, one by one.",
    "allOf": "It must be all of these.",
    "anyOf": "It must be at least one of these.",
    "oneOf": "It must be one of these.",
    "$ref": "A place of the same schema: #/$defs/NAME.",
    "$defs": "Schemas by name, for $ref.",
}

NOT_YET: dict[str, frozenset[str]] = {
    "plan": frozenset({"schedule", "schedules", "plans"}),
    "task": frozenset({"schedule"}),
    "agent": frozenset({"labels"}),
}
NOT_YET_VALUES: dict[str, frozenset[str]] = {
    "mode": frozenset({"auction", "swarm"}),
    "method": frozenset({"approval", "borda", "plurality", "quadratic", "unanimous"}),
}
NOT_YET_USES = ("a2a://", "acp://", "anp://", "builtin:")

PRIORITIES = ("low", "normal", "high")
ISOLATIONS = ("cell", "process", "container")
OWN_CODE = "aip."  # Modules that begin so are this package's: models, tool servers.
ASSIGN_FIELDS: dict[str, frozenset[str]] = {
    "direct": frozenset(),
    "vote": frozenset({"voters", "quorum", "threshold", "method", "weights", "weight", "deadline"}),
    "market": frozenset({"auction", "max_price", "bid_timeout", "bidders"}),
}
ASSIGN_MODES = tuple(ASSIGN_FIELDS)
VOTE_METHODS = ("majority", "weighted", "ranked")
WEIGHTS = ("reputation",)
AUCTIONS = ("vickrey",)
INPUT_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
RETRY_ON = ("transient", "timeout", "agent_lost", "any")
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
DECISIONS = ("approve", "deny")

_FILE_NAME = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}"
PLAN_FILE_FORM = (
    rf"^(\./)?({_FILE_NAME}/){{0,9}}{_FILE_NAME}\.ya?ml$"  # Beside the plan or below it: it travels with it.
)
PLAN_NAME_FORM = r"^[a-z][a-z0-9_.-]{0,62}$"
NAME_FORM = r"^[A-Za-z][A-Za-z0-9_]{0,62}$"  # Tasks, inputs, outputs: what an expression can say after a dot.
AGENT_FORM = r"^[a-z][a-z0-9_.-]{0,62}$"  # The type part of an address.
USE_FORM = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"
CAPABILITY_FORM = r"^[a-z][a-z0-9_]{0,62}(\.[a-z][a-z0-9_]{0,62}){0,3}$"
APPROVER_FORM = r"^user:[^\s:]{1,128}$"  # As `by` of a decision says it.
UNIT_FORM = r"^[a-z][a-z0-9_]{0,62}$"
PART_FORM = r"^[a-z][a-z0-9_-]{0,54}$"  # Of models and tools: `tools.git.log` must have one reading only.
REFERENCE_FORM = r"^secret:[A-Za-z_][A-Za-z0-9_]{0,127}$"  # As aip.secret names them.
HIDDEN_FORM = (
    r"^([A-Za-z][A-Za-z0-9_-]{0,31} )?secret:[A-Za-z_][A-Za-z0-9_]{0,127}$"  # `Bearer secret:NAME` too.
)
MODEL_URL_FORM = (
    r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$"  # Without a password in it: the plan's text stands in the journal.
)
MODEL_FORM = r"^[^\x00-\x1f]{1,200}$"
TOOL_URL_FORM = r"^https?://[^\s/@]+(/[^\s@]*)?$"
MCP = "mcp://"
_WORD = r"[A-Za-z0-9_@:,+./=-]+"  # Nothing that a shell, an address or a person could read in another way.
MCP_COMMAND_FORM = rf"^mcp://stdio/(\.{{0,2}}/{_WORD}|[A-Za-z0-9_+.-]+)( {_WORD})*$"
MCP_HOST_FORM = (
    r"^mcp://(?!stdio(/|:|$))[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:[0-9]{1,5})?/[A-Za-z0-9._~/-]{0,1000}$"
)
CONNECTOR_FORM = r"^[a-z][a-z0-9_-]{0,62}$"  # As effects.yaml names them.
CONNECTORS_MAX = 64  # Of one agent: who needs more is several agents.
TOOL_FORM = r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,127}$"  # As servers name theirs (MCP, 2025-11-25).
VARIABLE_FORM = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
HEADER_FORM = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$"  # RFC 9110, 5.1.
MONEY_FORM = r"^[0-9]{1,9}(\.[0-9]{1,6})?$"  # USD, to the micro-dollar.
LABEL_FORM = r"^[a-z][a-z0-9_.-]{0,62}$"
LABEL_HINT = "use lower case letters, digits and - _ .; task and attempt are set by AIP"
LABEL_VALUE_FORM = r"^[^\x00-\x1f=]{1,200}$"
LABEL_LIMIT_FORM = r"^[a-z][a-z0-9_.-]{0,62}=[^\x00-\x1f=]{1,200}$"  # label=value
RESERVED_LABELS = frozenset({"task", "attempt"})
PERCENT_FORM = r"^(100|[0-9]{1,2}(\.[0-9]{1,2})?)%$"
RESERVED_NAMES = frozenset({"in", "true", "false", "null"})  # No names in an expression.

ATTEMPTS_MAX = 100  # A task that fails this often fails for a reason that time does not heal.
CONCURRENCY_MAX = 100_000
PRICE_MAX = 10**9  # Credits for one piece of work; sums of a fan-out stay within 2**53.
WEIGHT_MAX = 10**9
VOTERS_MAX = 1_000
USD_MAX = AMOUNT_MAX // 1_000_000
PRICE_USD_MAX = 10_000  # A million tokens for more is a slip of the keyboard.
LABELS_MAX = 32  # Every message of the task carries them.
CALLS_MAX = 1_000  # At the same time, to one model.
CALL_RETRIES_MAX = 10
TOKENS_MAX = 100_000_000
CALL_S_MAX = 3_600.0  # What takes longer than an hour is no call.
OUTPUT_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
STRUCTURED_OUTPUTS = ("json_schema", "validate")
WORDS_MAX = 256  # Of a command, its environment, its headers; tools that are allowed by name.
# What a tool server takes (aip.protocols.mcp.config), told before it is there to refuse it.
TOOL_START_S_MAX = 55.0  # Less than a cell gives an agent to start.
TOOL_RESULT_BYTES_MAX = 8 * 2**20  # A message may not be larger.
TOOL_CALLS_MAX = 256
PROTOCOLS = ("auto", "2025-11-25", "2026-07-28")
SANDBOX_MEMORY_BYTES_MIN = 128 * 2**20  # In less the interpreter does not start (aip.compute.sandbox.limits).
TEXT_CHARS_MAX = 4_096  # Questions, labels, descriptions.
