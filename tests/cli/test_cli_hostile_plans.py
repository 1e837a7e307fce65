"""A plan that is malformed, huge or deep ends `plan check` and `submit` alike: exit code 3, the place named, no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from platform_double import Double, one_json

from aip.settings import DEFAULT_LIMITS

Type = Callable[..., Result]

HEAD = "apiVersion: aip/v1\nkind: Plan\nmetadata: {name: bad}\n"
DEEP = 5_000  # Past the limit on depth, and past what a recursive reader survives.
HUGE = b"# " + b"x" * DEFAULT_LIMITS.plan_bytes_max

PLANS: dict[str, tuple[bytes, int, str]] = {  # The file, the line that is named, and what is said.
    "a bracket that does not match": (f"{HEAD}tasks: [}}\n".encode(), 4, "yaml.syntax"),
    "an indent that fits nothing": (f"{HEAD}tasks:\n    a: 1\n  b: 2\n".encode(), 6, "yaml.syntax"),
    "a text that never ends": (f'{HEAD}tasks: "open\n'.encode(), 5, "yaml.syntax"),
    "bytes that are no UTF-8": (HEAD.encode() + b"tasks: \xff\xfe\n", 4, "UTF-8"),
    "lists in lists": (f"{HEAD}tasks: {'[' * DEEP}{']' * DEEP}\n".encode(), 4, "deep"),
    "maps in maps": (f"{HEAD}tasks: {'{a: ' * DEEP}1{'}' * DEEP}\n".encode(), 4, "deep"),
    "maps by indent": (
        (HEAD + "tasks:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 200))).encode(),
        0,
        "deep",
    ),
    "huge": (HUGE, 1, str(DEFAULT_LIMITS.plan_bytes_max)),
    "huge in one text": (f"{HEAD}tasks: '".encode() + HUGE, 1, str(DEFAULT_LIMITS.plan_bytes_max)),
    "an alias of itself": (f"{HEAD}tasks: &a [*a]\n".encode(), 4, "alias"),
    "a tag that builds objects": (f"{HEAD}tasks: !!python/object/apply:os.system [id]\n".encode(), 4, "tag"),
    "nothing": (b"", 1, ""),
    "a list": (b"- 1\n", 1, ""),
}


@pytest.mark.parametrize("command", [("plan", "check"), ("submit",)], ids=" ".join)
@pytest.mark.parametrize("name", PLANS)
def test_a_plan_that_is_no_plan_is_refused_where_it_is_wrong(
    name: str, command: tuple[str, ...], typed: Type, platform: Double, tmp_path: Path
) -> None:
    source, line, said = PLANS[name]
    path = tmp_path / "plan.yaml"
    path.write_bytes(source)
    platform.up = False
    result = typed(*command, str(path))
    assert result.exit_code == 3, result.output
    assert "Traceback" not in result.output
    assert f"{path}:{line or ''}" in result.stderr
    assert said in result.stderr
    assert result.stdout == ""
    assert not platform.started, "a plan that is wrong starts no platform"
    assert not any(act[0] == "submit" for act in platform.acts)
    assert len(result.stderr) < 20_000, "a bad plan is not printed back"


@pytest.mark.parametrize("command", [("plan", "check"), ("submit",)], ids=" ".join)
def test_a_script_is_given_the_place_as_data(
    command: tuple[str, ...], typed: Type, platform: Double, tmp_path: Path
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(PLANS["a bracket that does not match"][0])
    result = typed(*command, str(path), "-o", "json")
    assert result.exit_code == 3
    problem = one_json(result.stderr)["error"]["details"]["problems"][0]
    assert (problem["file"], problem["line"]) == (str(path), 4)
