"""A reload under load: every decision is wholly of one revision, none is lost, and the old engines go quietly."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from policies_for_tests import bundle, document

from aip.governance.policy.engine import Decision
from aip.governance.policy.input import Input, Principal, Subject, Target
from aip.governance.policy.regorus_engine import RegorusEngine
from aip.governance.policy.serving import Serving

ASKED = 300


def engine(allow: bool) -> RegorusEngine:
    """Revision `open` allows, revision `closed` does not, and each says so in its reasons."""
    name = "open" if allow else "closed"
    allowed, reasons = str(allow).lower(), f'[{{"rule": "{name}", "text": input.kind}}]'
    rules = f'package aip\n\ndecision := {{"allow": {allowed}, "reasons": {reasons}}}\n'
    made = RegorusEngine()
    made.load(bundle(rules=rules, tests=None, manifest=f'{{"revision": "{name}"}}'))
    return made


MESSAGE = Input(kind="call", subject=Subject(), target=Target(), principal=Principal())


def test_no_decision_mixes_two_revisions_while_they_are_swapped() -> None:
    serving = Serving()
    serving.activate(engine(True))
    begun = threading.Barrier(3)

    def ask(worker: int) -> list[Decision]:
        begun.wait()
        return [serving.decide(MESSAGE, id=f"{worker}-{number}") for number in range(ASKED)]

    def swap() -> None:
        begun.wait()
        for number in range(20):
            serving.activate(engine(number % 2 == 0))

    with ThreadPoolExecutor(3) as pool:
        swapping = pool.submit(swap)
        answers = [
            decision for asking in [pool.submit(ask, n) for n in range(2)] for decision in asking.result()
        ]
        swapping.result()
    assert len(answers) == 2 * ASKED
    for decision in answers:
        (reason,) = decision.reasons
        assert (decision.revision, reason.rule, decision.allow) in {
            ("open", "open", True),
            ("closed", "closed", False),
        }


def test_an_engine_without_a_bundle_is_not_activated() -> None:
    serving = Serving()
    with pytest.raises(ValueError, match="no bundle"):
        serving.activate(RegorusEngine())
    assert not serving.decide(document(), id="").allow


def test_what_is_in_force_is_named() -> None:
    serving = Serving()
    assert (serving.bundle, serving.engine) == (None, "")
    serving.activate(engine(True))
    assert serving.bundle is not None
    assert (serving.bundle.revision, serving.engine.split()[0]) == ("open", "regorus")
