"""The data document under paths and patches, without a server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.protocols.opa.document import MISSING, get, patch, put, remove, too_deep
from aip.protocols.opa.failure import Rejected

DOCUMENT: dict[str, Any] = {"a": {"b": 1, "list": [10, 20]}, "c/d": {"~": 0}}

PATCHED = [
    ("add", "/a/c", 2, {"b": 1, "list": [10, 20], "c": 2}),
    ("add", "/a/b", 2, {"b": 2, "list": [10, 20]}),
    ("add", "/a/list/-", 30, {"b": 1, "list": [10, 20, 30]}),
    ("add", "/a/list/0", 5, {"b": 1, "list": [5, 10, 20]}),
    ("add", "/a/list/2", 30, {"b": 1, "list": [10, 20, 30]}),
    ("replace", "/a/list/1", 21, {"b": 1, "list": [10, 21]}),
    ("replace", "/a/b", [], {"b": [], "list": [10, 20]}),
    ("remove", "/a/b", None, {"list": [10, 20]}),
    ("remove", "/a/list/0", None, {"b": 1, "list": [20]}),
]
REFUSED = [
    ({"op": "replace", "path": "/a/x", "value": 1}, 404),
    ({"op": "remove", "path": "/a/x"}, 404),
    ({"op": "add", "path": "/x/y", "value": 1}, 404),
    ({"op": "add", "path": "/a/b/c", "value": 1}, 404),
    ({"op": "replace", "path": "/a/list/2", "value": 1}, 404),
    ({"op": "add", "path": "/a/list/3", "value": 1}, 404),
    ({"op": "add", "path": "/a/list/-1", "value": 1}, 400),
    ({"op": "add", "path": "/a/list/01", "value": 1}, 400),
    ({"op": "move", "path": "/a", "from": "/b"}, 400),
    ({"op": "add", "path": "/a"}, 400),
    ({"op": "add", "path": 3, "value": 1}, 400),
    ("add", 400),
]


@pytest.mark.parametrize(("operation", "path", "value", "a"), PATCHED)
def test_a_patch_changes_one_place(operation: str, path: str, value: Any, a: Any) -> None:
    assert patch(DOCUMENT, (), [{"op": operation, "path": path, "value": value}])["a"] == a


@pytest.mark.parametrize(("operation", "status"), REFUSED)
def test_a_patch_that_cannot_be_is_refused(operation: Any, status: int) -> None:
    with pytest.raises(Rejected) as refused:
        patch(DOCUMENT, (), [operation])
    assert refused.value.status == status


def test_one_wrong_patch_leaves_everything_as_it_was() -> None:
    before = {"a": {"b": 1}}
    with pytest.raises(Rejected):
        patch(before, (), [{"op": "add", "path": "/a/c", "value": 2}, {"op": "remove", "path": "/x"}])
    assert before == {"a": {"b": 1}}


def test_names_with_slashes_and_tildes_are_reached_by_their_escapes() -> None:
    assert patch(DOCUMENT, (), [{"op": "replace", "path": "/c~1d/~0", "value": 1}])["c/d"] == {"~": 1}


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(tuple)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=3)


@given(DOCUMENTS, PATHS, VALUES)
def test_what_is_put_is_found_and_nothing_else_moves(
    document: dict[str, Any], path: tuple[str, ...], value: Any
) -> None:
    on_the_way = [get(document, path[:depth]) for depth in range(1, len(path))]
    if not all(one is MISSING or isinstance(one, dict) for one in on_the_way):
        with pytest.raises(Rejected, match="is not an object"):
            put(document, path, value)
        return
    after = put(document, path, value)
    assert get(after, path) == value
    assert {key: item for key, item in after.items() if key != path[0]} == {
        key: item for key, item in document.items() if key != path[0]
    }


@given(DOCUMENTS, PATHS)
def test_what_is_removed_is_gone(document: dict[str, Any], path: tuple[str, ...]) -> None:
    if get(document, path) is MISSING:
        with pytest.raises(Rejected):
            remove(document, path)
    else:
        after = remove(document, path)
        assert get(after, path) is MISSING


def test_depth_is_counted() -> None:
    value: Any = 1
    for _ in range(64):
        value = [value]
    assert not too_deep(value)
    assert too_deep([value])
