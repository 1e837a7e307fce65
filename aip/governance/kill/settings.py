"""`AIP_HOME/kill.yaml`: how many sign a reset, and what raises orders by itself.

Without the file this is a laptop: one signature lowers an order. With it, what it does not say has the defaults below: two
signatures, and of the triggers only those on that no plan can set off by mistake.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import UsageError
from ...settings import Home

FILE_BYTES_MAX = 64 * 2**10
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Raised = Literal[
    "throttle", "pause", "quarantine", "drain", "terminate"
]  # More than this is a person's to say.


Rate = Annotated[float, Field(gt=0, description="Of a throttle, in turns a second.")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BreakerStorm(_Section):
    """Many circuits open at once: something they share is broken, and more work makes it worse."""

    enabled: bool = False  # What is a storm depends on how many circuits there are.
    circuits: Annotated[int, Field(ge=2)] = 20  # Different ones that opened within the window.
    window_s: Seconds = 10.0
    level: Raised = "pause"
    rate: Rate = 1.0


class SpendRate(_Section):
    """A run spends faster than anybody meant: it is stopped before its budget is gone."""

    enabled: bool = False  # What is fast depends on the unit and its price.
    per_minute: dict[str, int] = {}  # By unit, for each run.
    level: Raised = "pause"
    rate: Rate = 1.0


class AuditFailure(_Section):
    """The audit log does not answer. Effects wait for it anyway; this says so, and keeps them from piling up."""

    enabled: bool = True
    after_s: Seconds = 30.0
    level: Raised = "quarantine"
    rate: Rate = 1.0


class LostQuorum(_Section):
    """The control state has no majority: what is decided now may be decided otherwise elsewhere."""

    enabled: bool = True  # A platform of one node has no quorum to lose.
    after_s: Seconds = 10.0
    level: Raised = "quarantine"
    rate: Rate = 1.0


class Triggers(_Section):
    breaker_storm: BreakerStorm = BreakerStorm()
    spend_rate: SpendRate = SpendRate()
    audit_failure: AuditFailure = AuditFailure()
    lost_quorum: LostQuorum = LostQuorum()


class KillSettings(_Section):
    reset_signers: Annotated[int, Field(ge=1, le=16)] = 2
    triggers: Triggers = Triggers()


def load(home: Home) -> KillSettings:
    """Raises `UsageError` that names the file and the field."""
    path = home.root / "kill.yaml"
    if not path.exists():
        return KillSettings(reset_signers=1)
    return parse(read_yaml(path), path)


def parse(document: Any, path: Path) -> KillSettings:
    try:
        return KillSettings.model_validate(document or {})
    except ValidationError as error:
        raise UsageError(f"{path}: {problems(error)}") from None


def read_yaml(path: Path) -> Any:
    """Raises `UsageError` that names file, line and column."""
    data = path.read_bytes()
    if len(data) > FILE_BYTES_MAX:
        raise UsageError(f"{path} has {len(data)} bytes; {FILE_BYTES_MAX} are the most")
    try:
        return yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from None


def problems(error: ValidationError) -> str:
    """Every wrong field by its path, in one line."""
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
