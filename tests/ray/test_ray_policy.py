"""A policy that comes into force is asked at once by every process, and one that is rolled back no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray_kit import until

from aip.errors import AIPError
from aip.governance.audit import entries
from aip.governance.policy import rollout

pytestmark = pytest.mark.ray

FOLDER = Path(__file__).parent / "agents_effects"


@pytest.fixture
def asked(platform):
    address = platform.deploy(FOLDER, "agents:Reporter/policy")

    def ask() -> str:
        """What becomes of a call between two agents."""
        try:
            platform.call(address, "pass_on", {"to": address.replace("/policy", "/other")})
        except AIPError as error:
            return error.code
        return "done"

    return ask


def denials(platform, revision):
    """What the log tells of messages that this policy refused."""
    refused = (
        entry["detail"] for entry in entries(platform.home.audit) if entry["kind"] == "message.refused"
    )
    return (detail for detail in refused if detail.get("revision") == revision)


def test_strict_refuses_what_laptop_allows_until_it_is_rolled_back(platform, asked):
    assert asked() == "done"
    version, _ = rollout.activate(
        platform.home, rollout.shipped(), rollout.shipped() / "strict" / "config.json"
    )
    try:
        until(lambda: asked() == "refused.policy")
        kinds = {"policy.activated": version.revision}
        until(
            lambda: any(
                kinds.get(entry["kind"]) == entry["detail"].get("revision")
                for entry in entries(platform.home.audit)
            )
        )
        ruled = until(lambda: next(iter(denials(platform, version.revision)), None))
        assert (ruled["code"], ruled["reasons"][0]["rule"]) == ("refused.policy", "decision.default")
    finally:
        rollout.roll_back(platform.home)
    until(lambda: asked() == "done")
