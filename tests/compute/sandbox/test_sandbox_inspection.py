"""What a stranger's agent can do is found out in a sandbox, and what it says of itself is checked."""

from __future__ import annotations

import random

import pytest
from sandbox_kit import ENTRY, HOSTILE, here, needs_container

from aip.compute.inspection import inspect_code
from aip.compute.sandbox import Demand, inspect_sandboxed
from aip.errors import PlanInvalid

LIARS = """
import aip, pathlib
import aip.compute.sandbox.guest as guest

{before}

class Liar(aip.Agent):
    @aip.capability
    async def work(self) -> int:
        return 1

true = guest.wire.Loaded

def lie(manifest=None, error=None):
    return true(guest.codec.encode({{**guest.codec.decode(manifest), {lie}}}))

guest.wire.Loaded = lie
"""


def look(folder, entry):
    needs_container()
    return inspect_sandboxed(folder, [entry], here(), Demand(), random.Random(1))[entry]


def test_it_is_what_an_inspection_without_a_sandbox_finds():
    assert look(HOSTILE, ENTRY) == inspect_code(HOSTILE, [ENTRY])[ENTRY]


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ("'type': '../../x'", "describes itself wrongly"),
        ("'capabilities': 3", "describes itself wrongly"),
        ("'capabilities': {'work': {'cost': {'tokens': -5}}}", "wrongly"),
        ("'doc': 'x' * 2**21", "more than 1048576 bytes"),
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path, lie, said):
    (tmp_path / "liars.py").write_text(LIARS.format(before="", lie=lie))
    with pytest.raises(PlanInvalid, match=said):
        look(tmp_path, "liars:Liar")


def test_a_module_that_writes_while_it_is_imported_writes_nothing_here(tmp_path):
    mark = tmp_path / "outside" / "mark"
    write = f'pathlib.Path("{mark.parent}").mkdir(parents=True); pathlib.Path("{mark}").write_text("it ran")'
    (tmp_path / "liars.py").write_text(LIARS.format(before=write, lie=""))
    look(tmp_path, "liars:Liar")  # It wrote below its own /tmp.
    assert not mark.parent.exists()


def test_an_import_that_fails_says_why(tmp_path):
    (tmp_path / "broken.py").write_text("import no_such_package")
    with pytest.raises(PlanInvalid, match="no_such_package"):
        look(tmp_path, "broken:Agent")


def test_links_of_a_bundle_lead_nowhere(tmp_path):
    (tmp_path / "agents.py").write_text(
        "import pathlib\nraise ValueError(sorted(p.name for p in pathlib.Path('/code').iterdir()))"
    )
    (tmp_path / "shadow").symlink_to("/etc/shadow")
    (tmp_path / "etc").symlink_to("../../../../../../.host/etc")
    with pytest.raises(PlanInvalid) as told:
        look(tmp_path, "agents:A")
    assert "['agents.py']" in told.value.message
