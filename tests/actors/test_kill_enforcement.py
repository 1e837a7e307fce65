"""Which frozen cells are ended for an order that they cannot say they obey."""

from __future__ import annotations

import pytest

from actors.node_agent import may_host

TYPES = {"greeter@0123456789ab": "a", "writer@0123456789ab": "b", "writer@ba9876543210": "c"}


@pytest.mark.parametrize(
    ("target", "pools"),
    [
        ("greeter@0123456789ab/ada", {"a"}),
        ("greeter/ada", {"a"}),
        ("writer", {"b", "c"}),
        ("writer@ba9876543210", {"c"}),
        ("nobody/here", set()),
        ("pool:b", {"b"}),
        ("platform", {"a", "b", "c"}),
        ("run/r-1", {"a", "b", "c"}),
        ("tenant:acme", {"a", "b", "c"}),
        ("capability:greet", {"a", "b", "c"}),
    ],
)
def test_a_cell_may_be_at_work_for_what_its_pool_can_host(target: str, pools: set[str]) -> None:
    assert {pool for pool in "abc" if may_host(pool, target, TYPES)} == pools


def test_where_nobody_can_say_what_a_pool_hosts_it_may_host_anything() -> None:
    assert may_host("a", "nobody/here", None)
