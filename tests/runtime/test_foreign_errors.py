"""An error whose class only its own process knows keeps its word on the way through others."""

from __future__ import annotations

import pytest

from aip.errors import AgentFailed, AIPError, ErrorRecord, Refused, from_record, to_record


@pytest.mark.parametrize(
    ("code", "kind"),
    [("refused.nowhere.known", Refused), ("nobody.knows.this", AgentFailed), ("", AgentFailed)],
)
@pytest.mark.parametrize("retryable", [False, True])
def test_the_nearest_ancestor_stands_in_and_code_and_retry_stay(
    code: str, kind: type[AIPError], retryable: bool
) -> None:
    record = ErrorRecord(code, "no", retryable, "do this", {"field": 1})
    error = from_record(record)
    assert type(error) is kind
    assert (error.code, error.retryable, error.hint) == (code, retryable, "do this")
    again = from_record(to_record(error))
    assert (again.code, again.retryable) == (code, retryable)
