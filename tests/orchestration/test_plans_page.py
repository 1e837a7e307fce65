"""docs/plans.md is the reference of plan.yaml: its examples are plans, and it leaves out no key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aip.orchestration.parse import parse
from aip.orchestration.parse.vocabulary import KNOWN, NOT_YET

PAGE = (Path(__file__).parents[2] / "docs" / "plans.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
REST = {  # What an example leaves out, since it is about something else.
    "apiVersion": "apiVersion: aip/v1\nkind: Plan\nmetadata: {name: example}\n",
    "agents": "agents:\n  worker: {use: 'my_agents:Worker'}\n",
    "tasks": "tasks:\n  work: {agent: worker, capability: work}\n",
}


def whole(example: str) -> str:
    said = set(re.findall(r"^(\w+):", example, re.MULTILINE))
    rest = "".join(
        text for key, text in REST.items() if key not in said and (key != "tasks" or "tasks" not in said)
    )
    if "agents" in said and "worker" not in example:
        rest = rest.replace("worker", re.findall(r"^  (\w+):", example, re.MULTILINE)[0])
    return rest + example


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split("\n")[0])
def test_every_example_is_a_plan(example: str) -> None:
    parse(whole(example).encode(), "plan.yaml")


@pytest.mark.parametrize("section", sorted(KNOWN))
def test_every_key_is_explained(section: str) -> None:
    words = set(re.findall(r"`([^`]*)`", PAGE)) | set(
        re.findall(r"[\w$]+", " ".join(re.findall(r"`([^`]*)`", PAGE)))
    )
    words |= set(re.findall(r"^## (.*)$", PAGE, re.MULTILINE))
    assert [key for key in KNOWN[section] if key not in words] == []


def test_no_key_that_is_refused_is_explained() -> None:
    explained = set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE))
    refused = set().union(*NOT_YET.values()) - {key for keys in KNOWN.values() for key in keys}
    assert explained & refused == set()
