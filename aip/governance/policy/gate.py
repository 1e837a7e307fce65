"""The load gate: what a bundle must show before an engine serves it.

    it parses               every module, tests included
    nothing is lacking      every function it calls is one of its own, or one that the engine has. Engines find out only when a
                            rule reaches the call: by then it is a denial in the middle of somebody's work
    it is a function        of its input and its data: nothing that asks the clock, chance, the network or the machine (`IMPURE`).
                            Time comes in `input`. So a decision can be cached, replayed, and compared between engines
    its tests hold          every `test_` rule is true (or an object of trues, one a case)

All problems are found at once, each with its file and line where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from .bundle import Bundle, Module
from .engine import BundleRejected, PolicyEngine, PolicyError
from .source import calls, heads

TESTS_MAX = 10_000  # Each takes a decision's time, at every activation.
EXAMPLES_MAX = 100
IMPURE = frozenset(
    {
        "http.send",
        "net.lookup_ip_addr",
        "opa.runtime",
        "print",
        "rand.intn",
        "time.now_ns",
        "trace",
        "uuid.rfc4122",
    }
)
# Words of the language that a bracket may follow, and names that engines know without calling them built-in.
NOT_CALLS = frozenset(
    {"if", "in", "not", "some", "every", "contains", "else", "with", "as", "import", "package", "set"}
)


class GatedEngine(PolicyEngine, Protocol):
    """An engine in this process, which can say what it does not have."""

    def lacks(self, names: set[str]) -> set[str]: ...


@dataclass(frozen=True, slots=True)
class TestResult:
    __test__ = False  # Not a test of pytest's.

    name: str
    file: str
    passed: bool
    problem: str = ""


def pass_gate(
    bundle: Bundle, make: Callable[[], GatedEngine], *, tests: bool = True
) -> tuple[TestResult, ...]:
    """The results of the bundle's tests. Raises `BundleRejected` with every problem in `details["problems"]`.

    `make` makes an engine that loads tests, too; with `tests=False` one that does not, and they are not run.
    """
    engine = make()
    problems = [*unfit(bundle), *lacking(bundle, engine)]
    results: tuple[TestResult, ...] = ()
    if not problems:
        engine.load(bundle)
        results = tuple(run_tests(engine, bundle)) if tests else ()
        problems = [f"{test.file}: {test.name}: {test.problem}" for test in results if not test.passed]
    if problems:
        raise BundleRejected(
            f"bundle {bundle.revision} does not pass the load gate of {engine.name}: {problems[0]}"
            + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""),
            problems=problems[:100],
        )
    return results


def unfit(bundle: Bundle) -> Iterator[str]:
    """What makes its decisions depend on more than input and data."""
    for module in bundle.served:
        for path, line in calls(module.text):
            if ".".join(path) in IMPURE:
                yield f"{module.path}:{line}: {'.'.join(path)} is not served: facts that change come in `input`"


def lacking(bundle: Bundle, engine: GatedEngine) -> Iterator[str]:
    """Calls of functions that neither the bundle nor the engine has."""
    own = {(*module.package, name) for module in bundle.modules for name in heads(module.text)}
    asked: dict[str, str] = {}
    for module in bundle.modules:
        for path, line in calls(module.text):
            if not _is_own(path, module, own):
                asked.setdefault(".".join(path), f"{module.path}:{line}")
    for name in sorted(engine.lacks(set(asked))):
        yield f"{asked[name]}: {engine.name} has no function {name}"


def _is_own(path: tuple[str, ...], module: Module, own: set[tuple[str, ...]]) -> bool:
    if path[0] == "data":
        return path[1:] in own
    return len(path) == 1 and (path[0] in NOT_CALLS or (*module.package, path[0]) in own)


def run_tests(engine: PolicyEngine, bundle: Bundle) -> Iterator[TestResult]:
    """Every `test_` rule of the bundle, on an engine that has loaded its tests."""
    for number, (module, name) in enumerate(tests_of(bundle)):
        if number >= TESTS_MAX:
            raise BundleRejected(f"more than {TESTS_MAX} tests in the bundle")
        path = "/".join((*module.package, name))
        try:
            value = engine.evaluate(path, {})
        except PolicyError as error:
            yield TestResult(name, module.path, False, error.message)
            continue
        held = value is True or (
            isinstance(value, dict) and bool(value) and all(v is True for v in value.values())
        )
        yield TestResult(name, module.path, held, "" if held else f"is {value!r:.100}, not true")


def examples_of(engine: PolicyEngine, bundle: Bundle) -> list[dict[str, Any]]:
    """Documents that the bundle's tests are written around: the objects that rules of its test modules name."""
    found = []
    for module in bundle.modules:
        for name in sorted(heads(module.text)) if module.is_test else ():
            if not name.startswith("test_"):
                try:
                    value = engine.evaluate("/".join((*module.package, name)), {})
                except PolicyError:
                    continue  # A function, or a rule that needs an input: no example.
                if isinstance(value, dict):
                    found.append(value)
    return found[:EXAMPLES_MAX]


def tests_of(bundle: Bundle) -> list[tuple[Module, str]]:
    return [
        (module, name)
        for module in bundle.modules
        for name in sorted(heads(module.text))
        if name.startswith("test_")
    ]
