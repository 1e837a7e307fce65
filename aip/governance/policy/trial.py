"""A bundle's first meeting with the reference engine, in a process of its own.

rego-cpp ends the whole process (`std::terminate`) on some sources that it cannot compile: no exception, nothing to catch. A cell
must not meet that. So a bundle is tried in a child first: gate, tests, comparison with the fast engine. A child that dies or
takes too long is a rejection that says so.

What it stumbles over are the tests: in rego-cpp 1.5.2 `with` in front of a rule that iterates is enough. Rules that it runs well
should not fall for that. Where it dies of the tests, it is asked once more without them, and the certificate counts them as
`unshared`: they hold on the fast engine, and the reference engine was asked by the tests' own examples and by generated inputs.

The child reads the bundle from its standard input and writes one JSON `Trial`; it has no other business with the world.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import msgspec

from ...errors import Unavailable
from .bundle import Bundle, build, unpack
from .certify import Certificate, certify
from .engine import BundleRejected
from .gate import pass_gate, tests_of
from .regocpp_engine import RegoCppEngine
from .regorus_engine import RegorusEngine

TIMEOUT_S = 120.0  # A thousand inputs take two seconds; a large bundle compiles for some. Longer, and no reload may wait for it.
OUTPUT_CHARS_MAX = 500


class Trial(msgspec.Struct, frozen=True):
    """What the child found. With problems: the reference engine may not serve the bundle."""

    problems: tuple[str, ...] = ()
    tests: int = 0
    unshared: int = 0  # Tests that the reference engine could not be asked.
    certificate: Certificate | None = None  # None, too, where the fast engine may not serve it.


class _Order(msgspec.Struct, frozen=True):
    inputs: int
    seed: int
    archive: bytes
    share_tests: bool = True


class ChildDied(BundleRejected):
    """The reference engine took its process with it."""

    code = "policy.engine_died"


def try_out(bundle: Bundle, inputs: int, seed: int) -> Trial:
    """Gate and comparison in a child. Raises `BundleRejected` with the reference engine's problems."""
    try:
        return _run_child(_Order(inputs, seed, build(bundle)))
    except ChildDied:
        if not tests_of(bundle):
            raise
    return _run_child(_Order(inputs, seed, build(bundle), share_tests=False))


def _run_child(order: _Order) -> Trial:
    command = [sys.executable, "-m", __spec__.name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    try:
        child = subprocess.run(  # noqa: S603 - our own interpreter and module.
            command,
            input=msgspec.msgpack.encode(order),
            capture_output=True,
            timeout=TIMEOUT_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BundleRejected(
            f"the reference engine did not finish with the bundle in {TIMEOUT_S:.0f} s"
        ) from error
    if child.returncode != 0:
        words = child.stderr.decode(errors="replace").strip()[-OUTPUT_CHARS_MAX:]
        raise ChildDied(
            f"the reference engine's process ended {_how(child.returncode)}: {words}",
            hint="find the module that it cannot compile: `aip policy check` with half of them, and so on",
        )
    trial = msgspec.json.decode(child.stdout.splitlines()[-1], type=Trial)
    if trial.problems:
        raise BundleRejected(
            f"the reference engine refuses the bundle: {trial.problems[0]}", problems=list(trial.problems)
        )
    return trial


def examine(bundle: Bundle, inputs: int, seed: int, *, share_tests: bool = True) -> Trial:
    """What the child does."""
    reference = RegoCppEngine(tests=share_tests)
    try:
        tests = pass_gate(bundle, lambda: reference, tests=share_tests)
    except BundleRejected as error:
        return Trial(tuple(error.details.get("problems", [error.message])))
    unshared = 0 if share_tests else len(tests_of(bundle))
    try:
        fast = RegorusEngine(tests=True)
        pass_gate(bundle, lambda: fast)
    except (Unavailable, BundleRejected):
        return Trial(tests=len(tests), unshared=unshared)
    certificate = certify(bundle, fast, reference, inputs=inputs, seed=seed, share_tests=share_tests)
    return Trial(tests=len(tests), unshared=unshared, certificate=certificate)


def _how(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"


def main() -> None:
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Order)
    trial = examine(unpack(order.archive), order.inputs, order.seed, share_tests=order.share_tests)
    sys.stdout.buffer.write(b"\n" + msgspec.json.encode(trial) + b"\n")


if __name__ == "__main__":
    main()
