"""Personal values can be erased from a log that nothing can be erased from, and its proofs still hold."""

from __future__ import annotations

import json
import os

import msgspec
import pytest
from audit_kit import Log

from aip.errors import Corrupt, InvalidPayload
from aip.governance.audit import Batch, Noted, read, verify
from aip.governance.erasure import KeyFolder, Vault, personal

ADA, BOB = "ada@example.org", "bob@example.org"


@pytest.fixture
def vault(tmp_path):
    return Vault(KeyFolder(tmp_path / "persons"), os.urandom)


def note(number, person, **values):
    return Noted(number, 1.0, "mail.sent", "mailer/1", {"size": 3, **personal(person, values)})


@pytest.fixture
def log(tmp_path, vault):
    log = Log(tmp_path / "audit")
    sent = [note(0, ADA, to="Ada Lovelace", n=1.5), note(1, BOB, to="Bob"), note(2, ADA, to="A. Lovelace")]
    log.writer.take(Batch("cell", [vault.sealed(one) for one in sent]))
    log.sign()
    return log


def test_a_personal_value_is_in_no_file_of_the_log_and_is_read_with_its_key(log, vault):
    written = b"".join(path.read_bytes() for path in log.folder.rglob("*") if path.is_file())
    for word in ("Lovelace", ADA, BOB, "Bob"):
        assert word.encode() not in written
    first, second, third = read(log.path)
    assert vault.opened(first) == {"to": "Ada Lovelace", "n": 1.5}
    assert vault.opened(second) == {"to": "Bob"}
    assert first["detail"]["size"] == 3
    assert first["detail"]["personal"]["key"] == third["detail"]["personal"]["key"]


def test_erasing_a_person_changes_no_byte_of_the_log_and_every_proof_holds(log, vault, tmp_path):
    before = log.path.read_bytes()
    assert vault.erase(ADA) == json.loads(before.splitlines()[0])["detail"]["personal"]["key"]
    assert log.path.read_bytes() == before
    assert verify(log.path).ok
    again = Vault(KeyFolder(tmp_path / "persons"), os.urandom)
    for one in (vault, again):
        assert [one.opened(entry) for entry in read(log.path)] == [None, {"to": "Bob"}, None]


def test_an_erased_person_has_a_new_key_with_the_next_note(vault):
    first = vault.sealed(note(0, ADA, to="x")).detail["personal"]["key"]
    assert vault.key_id(ADA) == first
    vault.erase(ADA)
    assert vault.key_id(ADA) is None
    assert vault.erase(ADA) is None
    assert vault.sealed(note(1, ADA, to="x")).detail["personal"]["key"] != first


def test_the_key_folder_names_nobody_and_is_its_owners(vault, tmp_path):
    vault.sealed(note(0, ADA, to="x"))
    (path,) = (tmp_path / "persons").iterdir()
    assert "ada" not in path.name
    assert path.stat().st_mode & 0o777 == 0o600
    assert ADA.encode() not in path.read_bytes()


def test_an_erasure_that_died_halfway_is_one(vault, tmp_path):
    sealed = vault.sealed(note(0, ADA, to="x"))
    (path,) = (tmp_path / "persons").iterdir()
    path.write_bytes(bytes(path.stat().st_size))
    again = Vault(KeyFolder(tmp_path / "persons"), os.urandom)
    assert again.opened({"index": 0, "kind": sealed.kind, "detail": sealed.detail}) is None
    assert again.key_id(ADA) is None
    assert again.sealed(note(1, ADA, to="x")).detail["personal"]["key"] != sealed.detail["personal"]["key"]


def test_a_sealed_value_cannot_be_moved_into_another_kind_of_entry_or_changed(vault):
    sealed = vault.sealed(note(0, ADA, to="x"))
    entry = {"index": 0, "kind": "mail.sent", "detail": sealed.detail}
    assert vault.opened(entry) == {"to": "x"}
    with pytest.raises(Corrupt):
        vault.opened({**entry, "kind": "mail.refused"})
    told = sealed.detail["personal"]
    flipped = {
        **told,
        "sealed": told["sealed"][:20] + ("A" if told["sealed"][20] != "A" else "B") + told["sealed"][21:],
    }
    with pytest.raises(Corrupt):
        vault.opened({**entry, "detail": {"personal": flipped}})


@pytest.mark.parametrize(
    "told", ["Ada", {"of": ADA}, {"of": "", "values": {}}, {"of": ADA, "values": {}, "and": 1}]
)
def test_personal_values_of_nobody_are_not_written_at_all(vault, told):
    sealed = vault.sealed(Noted(0, 1.0, "k", "s", {"n": 1, "personal": told}))
    assert sealed.detail == {"n": 1, "personal": {"refused": "not from personal()"}}


def test_a_note_without_personal_values_is_left_as_it_is(vault):
    plain = Noted(0, 1.0, "k", "s", {"n": 1})
    assert vault.sealed(plain) is plain
    assert vault.opened({"index": 0, "kind": "k", "detail": msgspec.to_builtins(plain.detail)}) is None


def test_a_person_without_a_name_cannot_be_erased(vault):
    with pytest.raises(InvalidPayload):
        vault.key_id("")


@pytest.mark.parametrize(
    "harm", [lambda text: text + "\n", lambda text: text[:-4], lambda text: "?" + text[1:]]
)
def test_sealed_values_that_are_spelt_otherwise_are_not_what_was_sealed(log, vault, harm):
    entry = next(read(log.path))
    entry["detail"]["personal"]["sealed"] = harm(entry["detail"]["personal"]["sealed"])
    with pytest.raises(Corrupt, match="not what was sealed"):
        vault.opened(entry)
