"""Which entries somebody asks for. Pure; the same words in `aip audit query`, `export` and `report`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from . import fact
from .fact import Entry


@dataclass(frozen=True, slots=True)
class Selection:
    """What an entry must have. Times are seconds since the epoch: `since` is in, `until` is out."""

    kinds: tuple[str, ...] = ()
    subject: str = ""
    run: str = ""
    agent: str = ""
    tenant: str = ""
    refused: bool = False
    since: float | None = None
    until: float | None = None

    def in_time(self, entry: Entry) -> bool:
        at = float(entry["at"])
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def in_kind(self, entry: Entry) -> bool:
        """Everything but the time."""
        return (
            (not self.kinds or str(entry["kind"]).startswith(self.kinds))
            and self.subject in str(entry["subject"])
            and (not self.run or fact.run_of(entry).startswith(self.run))
            and (not self.agent or any(fact.names_agent(one, self.agent) for one in fact.agents_of(entry)))
            and (not self.tenant or fact.tenant_of(entry) == self.tenant)
            and (not self.refused or fact.is_refusal(entry))
        )

    def __call__(self, entry: Entry) -> bool:
        return self.in_time(entry) and self.in_kind(entry)

    @property
    def everything_in_time(self) -> bool:
        """Whether only times choose: then an export holds every entry of its range."""
        return not (self.kinds or self.subject or self.run or self.agent or self.tenant or self.refused)

    def of(self, entries: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        return (entry for entry in entries if self(entry))

    def stated(self) -> dict[str, Any]:
        """What was asked for, without what was not said."""
        return {name: value for name, value in asdict(self).items() if value or value == 0.0}
