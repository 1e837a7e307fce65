"""Means and demands: what a machine lacks is named, and nothing is taken for there that is not."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.compute.sandbox import DEFAULT, FLOOR, Demand, Mean, Means, MeansMissing, SandboxLimits, probe
from aip.errors import UsageError

means = st.frozensets(st.sampled_from(list(Mean)))


@given(means, means)
def test_a_demand_is_met_or_every_missing_mean_is_named_with_its_reason(has, wanted):
    machine = Means(has, why=dict.fromkeys(frozenset(Mean) - has, "not in this kernel"))
    demand = Demand(wanted)
    if wanted <= has:
        machine.require(demand)
        return
    with pytest.raises(MeansMissing) as told:
        machine.require(demand)
    assert told.value.details["missing"] == {mean.value: "not in this kernel" for mean in wanted - has}


@given(st.lists(st.sampled_from([mean.value for mean in Mean])))
def test_no_demand_is_below_the_floor(names):
    assert Demand.of(names).means == FLOOR | {Mean(name) for name in names}


def test_the_default_demands_all_but_the_second_wall():
    assert frozenset(Mean) - {Mean.LANDLOCK} == DEFAULT
    assert FLOOR < DEFAULT


def test_a_mean_that_is_none_is_named():
    with pytest.raises(UsageError, match="selinux: no such mean"):
        Demand.of(["seccomp", "selinux"])


def test_what_was_probed_has_a_plain_form():
    found = probe()
    plain = found.plain()
    assert json.loads(json.dumps(plain)) == plain
    assert set(plain["means"]) == {mean.value for mean in Mean}
    for mean in Mean:
        assert (mean in found.has) != bool(found.why.get(mean)), "there, or a reason why not"


@pytest.mark.skipif(sys.platform != "linux", reason="resource limits of Linux")
def test_limits_of_an_order_that_would_start_nothing_are_named():
    assert SandboxLimits().problems() == []
    assert SandboxLimits(memory_bytes=1, files=1).problems() == [
        "limits.memory_bytes: 1 is less than 134217728",
        "limits.files: 1 is less than 16",
    ]
