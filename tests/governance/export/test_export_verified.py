"""An export verifies with two files and a key; whatever is done to either file is found and named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_log import EVERY_KIND, SIGNER, T0, TRUSTED, WrittenLog

from aip.errors import NotFound
from aip.governance import note
from aip.governance.export import proof_file
from aip.governance.export.export import FORMS, Order, export
from aip.governance.export.form import NotVerified
from aip.governance.export.log_files import LogFiles
from aip.governance.export.selection import Selection
from aip.governance.export.verify_export import Verified, verify_export

EVERYTHING = Selection()


def exported(
    log: WrittenLog, form: str = "jsonl", selection: Selection = EVERYTHING, name: str = "out"
) -> Path:
    path = log.path.parent.parent / f"{name}.{form}"
    order = Order(selection, form, path.name, T0 + 1_000, "user:ada")
    with path.open("wb") as out, proof_file.path_of(path).open("wb") as proof:
        export(LogFiles(log.path), order, out, proof)
    return path


def verified(path: Path, trusted: list[note.Verifier] = TRUSTED) -> Verified:
    return verify_export(path, trusted)


@pytest.mark.parametrize("form", FORMS)
def test_an_export_of_everything_is_proved_complete(log: WrittenLog, form: str) -> None:
    found = verified(exported(log, form))
    assert (found.entries, found.first, found.end, found.complete) == (
        len(EVERY_KIND),
        0,
        len(EVERY_KIND),
        True,
    )
    assert found.root == log.checkpoint.root.hex()
    assert [one.revision for one in found.revisions] == ["rev-1", "rev-2"]
    assert "Every entry" in found.statement


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("selection", "kinds"),
    [
        (Selection(kinds=("kill",)), ["kill", "kill.lifted"]),
        (Selection(refused=True, tenant="acme"), ["message.refused"]),
        (Selection(agent="mallory"), ["message.refused"]),
        (Selection(run="r-7"), ["schedule.started"]),
    ],
)
def test_a_filtered_export_is_proved_entry_by_entry_and_says_that_it_is_partial(
    log: WrittenLog, form: str, selection: Selection, kinds: list[str]
) -> None:
    found = verified(exported(log, form, selection))
    assert (found.entries, found.complete) == (len(kinds), False)
    assert found.left_out == len(EVERY_KIND) - len(kinds)
    assert found.asked == json.loads(msgspec.json.encode(selection.stated()))
    assert "word of whoever exported" in found.statement


@given(first=st.integers(0, 32), length=st.integers(1, 33), form=st.sampled_from(sorted(FORMS)))
@settings(max_examples=25, deadline=None)
def test_any_stretch_of_time_is_complete_and_knows_the_policy_in_force_at_its_beginning(
    tmp_path_factory: pytest.TempPathFactory, first: int, length: int, form: str
) -> None:
    log = WrittenLog(tmp_path_factory.mktemp("log") / "audit").say(*EVERY_KIND).sign()
    end = min(first + length, len(EVERY_KIND))
    found = verified(exported(log, form, Selection(since=T0 + first, until=T0 + end)))
    assert (found.first, found.end, found.entries, found.complete) == (first, end, end - first, True)
    assert found.revisions, "an export without the policy that was in force"
    assert found.revisions[0].revision == ("rev-2" if first > 19 else "rev-1")


def test_what_producers_lost_is_counted(tmp_path: Path) -> None:
    log = WrittenLog(tmp_path / "audit").say(*EVERY_KIND[:3]).lose(7).say(*EVERY_KIND[3:6]).sign()
    found = verified(exported(log))
    assert (found.lost, found.entries) == (7, 7)


def test_entries_behind_the_checkpoint_wait_for_the_next_one(log: WrittenLog) -> None:
    log.say(*EVERY_KIND)
    assert verified(exported(log)).entries == len(EVERY_KIND)
    assert verified(exported(log.sign(), name="later")).entries == 2 * len(EVERY_KIND)


def test_a_time_without_entries_is_not_an_empty_export(log: WrittenLog) -> None:
    with pytest.raises(NotFound, match="no entry in that time"):
        exported(log, selection=Selection(since=T0 + 10_000))


def test_a_log_without_a_checkpoint_is_not_exported(tmp_path: Path) -> None:
    log = WrittenLog(tmp_path / "audit").say(*EVERY_KIND)
    with pytest.raises(NotFound, match="no signed checkpoint"):
        exported(log)


def test_a_log_that_was_changed_is_not_exported(log: WrittenLog) -> None:
    log.path.write_bytes(log.path.read_bytes().replace(b"it loops", b"it works"))
    with pytest.raises(NotVerified, match="not what its checkpoint signs"):
        exported(log)


def test_a_log_that_was_cut_is_not_exported(log: WrittenLog) -> None:
    log.path.write_bytes(b"".join(log.path.read_bytes().splitlines(keepends=True)[:-2]))
    with pytest.raises(NotVerified):
        exported(log)


# What is done to an export -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_byte_of_an_export_can_be_changed(
    tmp_path_factory: pytest.TempPathFactory, form: str, data: st.DataObject
) -> None:
    log = WrittenLog(tmp_path_factory.mktemp("log") / "audit").say(*EVERY_KIND[4:10]).sign()
    path = exported(log, form)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :])
    with pytest.raises(NotVerified):
        verified(path)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_byte_of_a_proof_can_be_changed_but_in_what_the_exporter_says_of_himself(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    log = WrittenLog(tmp_path_factory.mktemp("log") / "audit").say(*EVERY_KIND).sign()
    path = exported(log, selection=Selection(since=T0 + 3, kinds=("effect",)))
    proof = proof_file.path_of(path)
    whole, before = proof.read_bytes(), verified(path)
    at = data.draw(st.integers(0, len(whole) - 1))
    proof.write_bytes(whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :])
    try:
        after = verified(path)
    except NotVerified:
        return
    told = {"asked", "statement", "first", "end", "left_out", "witnesses"}
    certain = {name for name in Verified.__slots__ if name not in told}
    assert {name: getattr(after, name) for name in certain} == {
        name: getattr(before, name) for name in certain
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("harm", ["drop", "swap", "repeat", "cut", "add", "empty"])
def test_records_cannot_be_dropped_moved_repeated_cut_off_or_added(
    log: WrittenLog, form: str, harm: str
) -> None:
    path = exported(log, form)
    lines = path.read_bytes().splitlines(keepends=True)
    if harm == "drop":
        del lines[3]
    elif harm == "swap":
        lines[2], lines[3] = lines[3], lines[2]
    elif harm == "repeat":
        lines.insert(3, lines[3])
    elif harm == "cut":
        lines = lines[:-1]
    elif harm == "add":
        lines.append(lines[-1])
    else:
        lines = []
    path.write_bytes(b"".join(lines))
    with pytest.raises(NotVerified):
        verified(path)


def test_a_changed_column_is_found_though_the_entry_beside_it_is_untouched(log: WrittenLog) -> None:
    path = exported(log, "csv")
    path.write_text(path.read_text("utf-8").replace('"effect.done"', '"effect.kept"', 1), "utf-8")
    with pytest.raises(NotVerified, match="line 10 of the export: the record is not what its entry gives"):
        verified(path)


def test_an_attribute_of_an_event_that_was_changed_is_found(log: WrittenLog) -> None:
    path = exported(log, "ocsf")
    path.write_text(path.read_text("utf-8").replace('"status":"Failure"', '"status":"Success"', 1), "utf-8")
    with pytest.raises(NotVerified, match="not what its entry gives"):
        verified(path)


def test_a_rewritten_entry_with_a_fresh_hash_does_not_come_to_the_root(log: WrittenLog) -> None:
    other = (
        WrittenLog(log.path.parent.parent / "other").say(*EVERY_KIND[:-1], ("something.else", "x", {})).sign()
    )
    path, forged = exported(log), exported(other, name="forged")
    end = msgspec.json.decode(proof_file.path_of(forged).read_bytes().splitlines()[-1])
    lines = proof_file.path_of(path).read_bytes().splitlines(keepends=True)
    proof_file.path_of(path).write_bytes(b"".join(lines[:-1]) + msgspec.json.encode(end) + b"\n")
    shutil.copy(forged, path)
    with pytest.raises(NotVerified, match="do not come to the root"):
        verified(path)


def test_a_checkpoint_of_a_key_that_is_not_trusted_proves_nothing(log: WrittenLog) -> None:
    path = exported(log)
    stranger = note.Signer(SIGNER.name, bytes(32))
    with pytest.raises(NotVerified, match="checkpoint"):
        verified(path, [stranger.verifier])
    with pytest.raises(NotVerified, match="checkpoint"):
        verified(path, [])


def test_witnesses_can_be_asked_for(log: WrittenLog) -> None:
    path = exported(log)
    witness = note.Signer("witness.test", bytes([7] * 32), note.COSIGNATURE)
    with pytest.raises(NotVerified, match="witnesses"):
        verify_export(path, [*TRUSTED, witness.verifier], witnesses_min=1)
    proof = proof_file.path_of(path)
    header, *rest = proof.read_bytes().splitlines(keepends=True)
    stated = json.loads(header)
    stated["checkpoint"] = note.cosign(stated["checkpoint"], witness, int(T0))
    proof.write_bytes(json.dumps(stated).encode() + b"\n" + b"".join(rest))
    found = verify_export(path, [*TRUSTED, witness.verifier], witnesses_min=1)
    assert found.witnesses == {"witness.test": int(T0)}


def test_a_form_of_another_version_is_refused_rather_than_guessed(log: WrittenLog) -> None:
    path = exported(log)
    proof = proof_file.path_of(path)
    proof.write_bytes(proof.read_bytes().replace(b'"form_version":1', b'"form_version":2'))
    with pytest.raises(NotVerified, match="jsonl version 2"):
        verified(path)


def test_an_export_without_its_proof_says_what_is_missing(log: WrittenLog) -> None:
    path = exported(log)
    proof_file.path_of(path).unlink()
    with pytest.raises(NotFound, match="proof"):
        verified(path)


def test_verifying_imports_neither_ray_nor_a_platform() -> None:
    code = (
        "import sys, aip.governance.export.verify_export; heavy = {'ray', 'actors', 'pydantic', 'jsonschema', 'networkx'};"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
