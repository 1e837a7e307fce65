"""A state that changes in one place is journaled as that place, and comes back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.errors import Corrupt
from aip.runtime.checkpoint import CheckpointTable, EditRecord, StateRecord, decode_record, encode_record

AGENT = "worker/a"
PIECES = st.lists(st.sampled_from([b"a" * 200, b"b" * 150, b"ab" * 90, b"", b"c"]), max_size=6).map(b"".join)


def opened() -> CheckpointTable:
    table = CheckpointTable()
    _, record = table.decide_activate(AGENT, "cell-0", 1, False)
    assert record is not None
    table.apply(record)
    return table


@given(st.lists(PIECES, min_size=1, max_size=8))
def test_whatever_is_saved_is_what_a_replay_of_the_journal_has(states: list[bytes]) -> None:
    table, replayed = opened(), opened()
    for state in states:
        data = encode_record(table.decide_save(AGENT, 1, state))
        assert len(data) < len(state) + 64
        table.apply(decode_record(data))
        replayed.apply(decode_record(data))
        assert table.state(AGENT) == replayed.state(AGENT) == state


@pytest.mark.parametrize("added", [(b"", b"new"), (b"new", b"")])
def test_a_state_that_grows_at_one_end_writes_what_it_adds(added: tuple[bytes, bytes]) -> None:
    table, state = opened(), bytes(range(256)) * 40
    table.apply(table.decide_save(AGENT, 1, state))
    record = table.decide_save(AGENT, 1, added[0] + state + added[1])
    assert isinstance(record, EditRecord)
    assert record.middle == b"new"


def test_a_state_of_its_own_is_written_whole() -> None:
    table = opened()
    table.apply(table.decide_save(AGENT, 1, b"a" * 1_000))
    assert table.decide_save(AGENT, 1, b"b" * 1_000) == StateRecord(AGENT, b"b" * 1_000)


def test_an_edit_of_a_state_that_is_not_there_is_a_defect_of_the_journal() -> None:
    with pytest.raises(Corrupt):
        opened().apply(EditRecord(AGENT, 10, b"x", 0))
