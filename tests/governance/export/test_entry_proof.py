"""One entry and its proof: true to C2SP's form, and useless when anything in it is changed."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_log import EVERY_KIND, SIGNER, TRUSTED, WrittenLog

from aip.errors import NotFound
from aip.governance import note
from aip.governance.export.entry_proof import prove, verify_proof
from aip.governance.export.form import NotVerified
from aip.governance.export.log_files import LogFiles


@pytest.mark.parametrize("index", [0, 7, len(EVERY_KIND) - 1])
def test_every_entry_can_be_proved(log: WrittenLog, index: int) -> None:
    found = verify_proof(prove(LogFiles(log.path), index), TRUSTED)
    assert (found.entry["index"], found.entry["kind"]) == (index, EVERY_KIND[index][0])
    assert found.checkpoint == log.checkpoint


def test_it_is_a_tlog_proof_as_c2sp_has_it(log: WrittenLog) -> None:
    lines = prove(LogFiles(log.path), 5).split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[2] == "index 5"
    end = lines.index("")
    assert all(len(base64.b64decode(line)) == 32 for line in lines[3:end])
    assert lines[end + 1] == SIGNER.name


@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_no_changed_proof_shows_another_entry(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    log = WrittenLog(tmp_path_factory.mktemp("log") / "audit").say(*EVERY_KIND).sign()
    whole = prove(LogFiles(log.path), 5).encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    harmed = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 127))]) + whole[at + 1 :]
    assert verify_proof(whole.decode(), TRUSTED).entry["index"] == 5
    with pytest.raises(NotVerified):  # Another spelling of the same in base64, too.
        verify_proof(harmed.decode("utf-8", "replace"), TRUSTED)


def test_another_logs_key_proves_nothing(log: WrittenLog) -> None:
    with pytest.raises(NotVerified, match="trust"):
        verify_proof(prove(LogFiles(log.path), 5), [note.Signer(SIGNER.name, bytes(32)).verifier])


def test_an_entry_that_is_not_signed_for_yet_is_named(log: WrittenLog) -> None:
    log.say(*EVERY_KIND[:1])
    with pytest.raises(NotFound, match=f"0 to {len(EVERY_KIND) - 1}"):
        prove(LogFiles(log.path), len(EVERY_KIND))


def test_a_changed_entry_is_not_proved(log: WrittenLog) -> None:
    log.path.write_bytes(log.path.read_bytes().replace(b"it loops", b"it works"))
    with pytest.raises(NotVerified, match="not what its checkpoint signs"):
        prove(LogFiles(log.path), 17)
