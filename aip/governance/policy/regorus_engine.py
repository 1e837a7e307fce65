"""The fast engine: regorus (Rust), by the package `gordon-to-regorus`.

Why it, and why never alone: of the engines that run in this process it is the fastest that keeps Rego's errors (its byte-code
machine is faster still, but returns a value where two rules conflict: it would fail open). It passes less of OPA's own suite than
the reference engine, and one person packages it. So it serves a bundle only with a certificate for that bundle (`certify.py`).

Guaranteed: each thread has an engine of its own, because regorus panics when it is used from another one; a panic, which leaves
an engine in an unknown state, also ends that thread's engine. A thread frees its engines itself, when it next builds one: freed
by another thread, as the garbage collector would after a reload, they would be complained of and leak. Errors of built-in
functions are errors, not `undefined`, so that a policy that trips over its input denies.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import json
import threading
import weakref
from typing import Any

import msgspec

from ...errors import Unavailable
from .bundle import Bundle
from .engine import UNDEFINED, BundleRejected, PolicyError, encode_input, path_of

PACKAGE = "gordon-to-regorus"
UNDEFINED_TEXT = (
    '"<undefined>"'  # What regorus writes where a rule has no value, and where its value is this text.
)
NOT_A_RULE = "not a valid rule path"
ERROR_CHARS_MAX = 500


class _Here(threading.local):
    """The engines of one thread, by the number of their owner."""

    def __init__(self) -> None:
        self.engines: dict[int, tuple[weakref.ref[RegorusEngine], Any]] = {}


_here = _Here()
_numbers = itertools.count()


def binding() -> Any:
    """The module, or `Unavailable` with what to install."""
    try:
        return importlib.import_module("regorus")
    except ImportError as error:
        raise Unavailable(
            "the policy engine regorus is not installed", hint=f"pip install {PACKAGE}"
        ) from error


class RegorusEngine:
    def __init__(self, *, tests: bool = False) -> None:
        """`tests`: load the bundle's own tests too, for the load gate."""
        self._binding = binding()
        self.name = f"regorus {importlib.metadata.version(PACKAGE)}"
        self._tests = tests
        self._bundle: Bundle | None = None
        self._data = ""
        self._number = next(_numbers)

    @property
    def bundle(self) -> Bundle | None:
        return self._bundle

    def load(self, bundle: Bundle) -> None:
        if self._bundle is not None:
            raise PolicyError("this engine serves a bundle already: make another and swap it in")
        self._data = json.dumps(bundle.data)
        self._keep(self._build(bundle))
        self._bundle = bundle

    def evaluate(self, path: str, input: Any) -> Any:
        body = encode_input(input).decode()
        engine = self._mine()
        try:
            engine.set_input_json(body)
            return self._ask(engine, path_of(path))
        except PolicyError:
            raise
        except Exception as error:
            raise PolicyError(_words(error)) from error
        except BaseException:
            _here.engines.pop(
                self._number, None
            )  # A panic: what is left of it must not make the next decision.
            raise

    def lacks(self, names: set[str]) -> set[str]:
        """Which of these built-in functions it does not have."""
        runtime = self._binding.Engine()
        runtime.set_input_json("{}")
        known = json.loads(runtime.eval_query_as_json("opa.runtime()"))["result"][0]["expressions"][0][
            "value"
        ]
        return names - set(known["builtins"])

    def _mine(self) -> Any:
        kept = _here.engines.get(self._number)
        if kept is not None:
            return kept[1]
        if self._bundle is None:
            raise PolicyError("no policy bundle is loaded")
        return self._keep(self._build(self._bundle))

    def _keep(self, engine: Any) -> Any:
        """This thread's engine from now on. Those of this thread whose owners are gone are freed here."""
        engines = _here.engines
        for number in [number for number, (owner, _) in engines.items() if owner() is None]:
            del engines[number]
        engines[self._number] = weakref.ref(self), engine
        return engine

    def _build(self, bundle: Bundle) -> Any:
        engine = self._binding.Engine()
        engine.set_gather_prints(True)
        for module in bundle.modules if self._tests else bundle.served:
            try:
                engine.add_policy(module.path, module.text)
            except Exception as error:
                raise BundleRejected(f"{self.name} cannot parse {module.path}: {_words(error)}") from error
        engine.add_data_json(self._data)
        return engine

    @staticmethod
    def _ask(engine: Any, path: tuple[str, ...]) -> Any:
        """By rule, which is fastest; as a query where the path is a package or data, or the answer is ambiguous."""
        try:
            text = engine.eval_rule_as_json(".".join(("data", *path)))
        except RuntimeError as error:
            if NOT_A_RULE not in str(error):
                raise
            text = UNDEFINED_TEXT
        if text != UNDEFINED_TEXT:
            return msgspec.json.decode(text)
        query = "data" + "".join(f"[{json.dumps(part)}]" for part in path)
        found = msgspec.json.decode(engine.eval_query_as_json(query)).get("result")
        return found[0]["expressions"][0]["value"] if found else UNDEFINED


def _words(error: Exception) -> str:
    """Its message without the stack of addresses that follows it."""
    words = " ".join(str(error).partition("Stack backtrace")[0].split())
    return words[:ERROR_CHARS_MAX]
