"""What a run left behind, as a replay needs it: read only, whether or not its process is at work."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.run_spec import RunSpec, folder, read_spec

from ...errors import NotFound
from ...orchestration import run_events as ev
from ...orchestration.artifact import ArtifactStore
from ...orchestration.parse import parse
from ...orchestration.plan import Plan
from ...orchestration.run_scope import Load
from ...runtime import codec
from ...runtime.checkpoint import CheckpointTable, decode_record
from ...runtime.journal_copy import open_copy
from ...settings import DEFAULT_LIMITS, Home

SHARD = "checkpoint-0"
LOADED_MAX = 256  # Opened artifacts kept in memory.


@dataclass(slots=True)
class Stored:
    """What a run left behind: its plan, its events by their index in the journal, its last view."""

    home: Home
    run: str
    spec: RunSpec
    plan: Plan
    events: list[tuple[int, ev.AnyEvent]]
    view: Mapping[str, Any] | None
    load: Load

    @classmethod
    def read(cls, home: Home, run: str) -> Stored:
        spec = read_spec(home, run)
        place = folder(home, run)
        events = list(ev.recorded(open_copy(place / "journal")))
        if not events:
            raise NotFound(f"run {run} has no journal yet", hint="wait until it has been accepted")
        last = place / "view.json"
        view = json.loads(last.read_text()) if last.exists() else None
        store = ArtifactStore(home.artifacts)
        load = functools.lru_cache(maxsize=LOADED_MAX)(lambda ref: codec.decode(store.get(ref)))
        # By the plan's file as it was named then: positions in errors are part of what is compared.
        return cls(
            home, run, spec, parse(spec.plan_source, spec.plan_file, DEFAULT_LIMITS), events, view, load
        )


def recorded_effects(home: Home) -> CheckpointTable:
    """The checkpoint shard as its journal has it now."""
    journal = open_copy(home.state / SHARD)
    snapshot = journal.newest_snapshot()
    table = CheckpointTable.restore(snapshot.state) if snapshot else CheckpointTable()
    for record in journal.replay():
        table.apply(decode_record(record.payload))
    return table
