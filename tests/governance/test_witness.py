"""A witness puts its name to a log that only grows, and to nothing else."""

from __future__ import annotations

import pytest
from audit_kit import LOG_KEY, WITNESS_KEY
from hypothesis import given
from hypothesis import strategies as st

from aip.errors import UsageError
from aip.governance import note
from aip.governance.merkle import leaf_hash
from aip.governance.note import Checkpoint, Signer
from aip.governance.tree import EMPTY_ROOT, Tree, consistency_proof
from aip.governance.witness import BadRequest, Conflict, Inconsistent, NotTheLog, UnknownLog, Witness
from aip.governance.witness_memory import WitnessMemory, witnessed

TREE = Tree.of(leaf_hash(b"%d" % n) for n in range(40))
OTHER = Tree.of(leaf_hash(b"other %d" % n) for n in range(40))


class Memory(dict):
    """In memory; `kept` is what a witness remembers."""

    kept = dict.get

    def __init__(self):
        super().__init__()
        self.contradictions = []

    def keep(self, origin, text):
        self[origin] = text

    def evidence(self, origin, kept, refused):
        self.contradictions.append((kept, refused))


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def witness(memory):
    return Witness(WITNESS_KEY, memory)


def signed(size, tree=TREE, signer=LOG_KEY):
    return note.sign(Checkpoint(LOG_KEY.name, size, tree.root(size)), signer)


def add(witness, old, new, tree=TREE, **changes):
    proof = consistency_proof(tree, old, new) if 0 < old < new else []
    how = {
        "old_size": old,
        "proof": proof,
        "note": signed(new, tree),
        "log": LOG_KEY.verifier,
        "now_s": 77,
        **changes,
    }
    return witness.add_checkpoint(**how)


def test_what_continues_is_cosigned_and_then_kept(witness, memory):
    for old, new in ((0, 7), (7, 7), (7, 8), (8, 40)):
        line = add(witness, old, new)
        cosigned = signed(new) + line
        assert note.verify(cosigned, [LOG_KEY.verifier, WITNESS_KEY.verifier], witnesses_min=1).size == new
        assert memory[LOG_KEY.name] == cosigned


@pytest.mark.parametrize(
    ("refusal", "old", "new", "changes"),
    [
        (Conflict, 0, 20, {}),
        (Conflict, 9, 20, {}),
        (BadRequest, 20, 10, {"proof": []}),
        (BadRequest, 10, 20, {"proof": [b"x" * 32] * 64}),
        (Inconsistent, 10, 20, {"proof": []}),
        (Inconsistent, 10, 20, {"tree": OTHER}),
        (Inconsistent, 10, 10, {"tree": OTHER}),
        (NotTheLog, 10, 20, {"note": signed(20, signer=Signer(LOG_KEY.name, b"x" * 32))}),
        (NotTheLog, 10, 20, {"note": signed(20).replace("20", "21")}),
        (NotTheLog, 10, 20, {"note": "no note"}),
        (UnknownLog, 10, 20, {"log": None}),
        (UnknownLog, 10, 20, {"log": Signer("another.log", b"x" * 32).verifier}),
    ],
)
def test_what_does_not_continue_is_refused_and_changes_nothing(witness, memory, refusal, old, new, changes):
    add(witness, 0, 10)
    kept = dict(memory)
    with pytest.raises(refusal):
        add(witness, old, new, **changes)
    assert dict(memory) == kept
    assert bool(memory.contradictions) == (refusal is Inconsistent)


def test_a_conflict_says_where_to_prove_from(witness):
    add(witness, 0, 10)
    with pytest.raises(Conflict) as refusal:
        add(witness, 0, 20)
    assert refusal.value.details["size"] == 10
    add(witness, refusal.value.details["size"], 20)


def test_an_older_checkpoint_is_never_cosigned_again(witness):
    add(witness, 0, 20)
    for old in range(21):
        with pytest.raises((Conflict, BadRequest)):
            add(witness, old, 10, proof=[])


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 40), st.sampled_from(["ours", "other"])), max_size=30
    )
)
def test_whatever_is_asked_all_that_is_cosigned_is_one_history(asked):
    memory = Memory()
    witness = Witness(WITNESS_KEY, memory)
    seen = []
    for old, new, which in asked:
        tree = TREE if which == "ours" else OTHER
        try:
            add(witness, old, new, tree)
        except (Conflict, BadRequest, Inconsistent):
            continue
        seen.append((new, tree.root(new)))
    assert [size for size, _ in seen] == sorted(size for size, _ in seen)
    roots = [tree for tree in (TREE, OTHER) if all(tree.root(size) == root for size, root in seen)]
    assert roots, "two histories were cosigned"


def test_an_empty_log_is_a_beginning(witness):
    empty = note.sign(Checkpoint(LOG_KEY.name, 0, EMPTY_ROOT), LOG_KEY)
    add(witness, 0, 0, note=empty)
    add(witness, 0, 5)


def test_a_memory_in_files_outlives_its_witness_and_keeps_the_first_key(tmp_path):
    folder = tmp_path / "witness-node-0"
    memory = WitnessMemory(folder)
    assert memory.trusted(LOG_KEY.verifier) == LOG_KEY.verifier
    add(Witness(WITNESS_KEY, memory), 0, 10)
    again = WitnessMemory(folder)
    with pytest.raises(Conflict):
        add(Witness(WITNESS_KEY, again), 0, 20)
    add(Witness(WITNESS_KEY, again), 10, 20)
    with pytest.raises(Inconsistent):
        add(Witness(WITNESS_KEY, again), 20, 20, OTHER)
    assert next(folder.glob("*.evidence")).read_text().count(LOG_KEY.name) >= 4
    assert again.trusted(Signer(LOG_KEY.name, b"x" * 32).verifier) == LOG_KEY.verifier
    assert [one.size for one in witnessed(tmp_path, LOG_KEY.verifier)] == [20]


def test_a_stranger_cannot_fill_a_witness_with_logs(tmp_path, monkeypatch):
    monkeypatch.setattr("aip.governance.witness_memory.LOGS_MAX", 2)
    memory = WitnessMemory(tmp_path)
    for n in range(2):
        memory.trusted(Signer(f"log{n}", b"x" * 32).verifier)
    with pytest.raises(UsageError):
        memory.trusted(Signer("log2", b"x" * 32).verifier)
