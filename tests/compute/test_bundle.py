"""Bundles: the same code has one digest, an edit has another, and what is copied is what was digested."""

from __future__ import annotations

import pytest

from aip.compute.bundle import files_of, pack
from aip.compute.inspection import inspect_code
from aip.errors import PlanInvalid, UsageError
from aip.settings import DEFAULT_LIMITS

GREETER = """import aip

class Greeter(aip.Agent):
    @aip.capability
    async def greet(self, name: str) -> str:
        return name
"""


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "code"
    (place / "inner").mkdir(parents=True)
    (place / "agents.py").write_text(GREETER)
    (place / "inner" / "data.txt").write_text("data")
    (place / "__pycache__").mkdir()
    (place / "__pycache__" / "agents.cpython-311.pyc").write_bytes(b"x")
    (place / ".git").mkdir()
    (place / ".git" / "HEAD").write_text("x")
    (place / "venv").mkdir()
    (place / "venv" / "pyvenv.cfg").write_text("x")
    (place / "out").symlink_to(tmp_path)
    return place


def test_code_and_data_belong_to_it_caches_environments_and_links_do_not(folder):
    assert [path.as_posix() for path in files_of(folder)] == ["agents.py", "inner/data.txt"]


def test_an_edit_is_another_bundle_and_the_old_one_stays(folder, tmp_path):
    first, place = pack(folder, tmp_path / "store")
    assert pack(folder, tmp_path / "store") == (first, place)
    (folder / "agents.py").write_text(GREETER + "# edited\n")
    second, other = pack(folder, tmp_path / "store")
    assert second != first
    assert (place / "agents.py").read_text() == GREETER
    assert (other / "agents.py").read_text().endswith("# edited\n")


def test_a_bundle_that_is_too_big_names_its_largest_file(folder, tmp_path):
    (folder / "big.bin").write_bytes(b"x" * 3000)
    with pytest.raises(UsageError) as caught:
        pack(folder, tmp_path / "store", DEFAULT_LIMITS.but(bundle_bytes_max=2000))
    assert "big.bin" in caught.value.hint


def test_manifests_come_from_another_process_and_are_kept(folder, tmp_path):
    cache = tmp_path / "manifests.json"
    found = inspect_code(folder, ["agents:Greeter"], cache)
    assert found["agents:Greeter"]["capabilities"]["greet"]["input"]["required"] == ["name"]
    (folder / "agents.py").unlink()
    assert inspect_code(folder, ["agents:Greeter"], cache) == found


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import nowhere_to_be_found\n", "nowhere_to_be_found"),
        ("def broken(:\n", "SyntaxError"),
        ("raise RuntimeError('at import')\n", "at import"),
        ("import os; os._exit(3)\n", "exit 3"),
        ("Greeter = 3\n", "neither"),
        ("", "Greeter"),
    ],
)
def test_code_that_cannot_be_imported_says_why(folder, source, says):
    (folder / "agents.py").write_text(source)
    with pytest.raises(PlanInvalid, match=says):
        inspect_code(folder, ["agents:Greeter"])
