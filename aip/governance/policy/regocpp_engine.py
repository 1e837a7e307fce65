"""The reference engine: rego-cpp, by its own package `regopy`.

Of what installs everywhere it agrees best with OPA on the core language (755 of 757 cases of OPA's own suite), its authors
maintain the package, and it compiles a bundle before it runs it. It is slower than the fast engine, the more so the more data a
bundle holds: data is for tables that a person wrote, not for ten thousand agents.

Known to be apart from OPA in version 1.5.2, all found by `certify.py` where a bundle runs into them: values of different types
are not ordered as Rego orders them (so a rule checks the type before it compares); an escaped character of an input's text counts
as two (`count`, `substring`); floats are printed with six digits; and `with` may end the process (`trial.py`).

Guaranteed: each thread compiles and keeps an engine of its own; a path is compiled once per thread; at most `PLANS_MAX` of them
are kept. Errors of built-in functions are errors.
"""

from __future__ import annotations

import importlib
import json
import threading
from typing import Any

import msgspec

from ...errors import Unavailable
from .bundle import Bundle
from .engine import UNDEFINED, BundleRejected, PolicyError, encode_input, path_of

PACKAGE = "regopy"
PLANS_MAX = 64  # Compiled paths of one thread; a platform asks for one, tools for a handful.


def binding() -> Any:
    """The module, or `Unavailable` with what to install."""
    try:
        return importlib.import_module("regopy")
    except ImportError as error:
        raise Unavailable(
            "the policy engine rego-cpp is not installed", hint=f"pip install {PACKAGE}"
        ) from error


def reference_name() -> str:
    return f"rego-cpp {binding().__version__}"


class RegoCppEngine:
    def __init__(self, *, tests: bool = False) -> None:
        """`tests`: load the bundle's own tests too, for the load gate."""
        self._binding = binding()
        self.name = reference_name()
        self._tests = tests
        self._bundle: Bundle | None = None
        self._data = ""
        self._here = threading.local()

    @property
    def bundle(self) -> Bundle | None:
        return self._bundle

    def load(self, bundle: Bundle) -> None:
        if self._bundle is not None:
            raise PolicyError("this engine serves a bundle already: make another and swap it in")
        self._data = json.dumps(bundle.data)
        self._interpreter(bundle)
        self._bundle = bundle

    def evaluate(self, path: str, input: Any) -> Any:
        body = encode_input(input)
        interpreter, plan = self._plan(path_of(path))
        try:
            # As a term: JSON is Rego, and a document of Python values would be built node by node.
            interpreter.set_input_term(body.decode())
            output = interpreter.query_bundle(plan)
            text = str(output)
        except (self._binding.RegoError, ValueError) as error:
            raise PolicyError(_words(error)) from error
        if text == "undefined":
            return UNDEFINED
        if not output.results:
            raise PolicyError(f"{self.name}: {text[:500]}")
        return msgspec.json.decode(text)["bindings"]["value"]

    def lacks(self, names: set[str]) -> set[str]:
        """Which of these built-in functions it does not have."""
        interpreter = self._binding.Interpreter()
        return {name for name in names if not interpreter.is_builtin(name)}

    def _interpreter(self, bundle: Bundle) -> Any:
        interpreter = self._binding.Interpreter()
        interpreter.strict_built_in_errors = True
        interpreter.log_level = self._binding.LogLevel.NONE
        for module in bundle.modules if self._tests else bundle.served:
            try:
                interpreter.add_module(module.path, module.text)
            except self._binding.RegoError as error:
                raise BundleRejected(f"{self.name} cannot parse {module.path}: {_words(error)}") from error
        interpreter.add_data_json(self._data)
        return interpreter

    def _plan(self, path: tuple[str, ...]) -> tuple[Any, Any]:
        """The compiled query for this path, with the interpreter that runs it."""
        plans: dict[tuple[str, ...], tuple[Any, Any]] | None = getattr(self._here, "plans", None)
        if plans is None:
            plans = self._here.plans = {}
        if (found := plans.get(path)) is not None:
            return found
        if self._bundle is None:
            raise PolicyError("no policy bundle is loaded")
        interpreter = self._interpreter(self._bundle)
        query = "value = data" + "".join(f"[{json.dumps(part)}]" for part in path)
        try:
            plan = interpreter.build(query, [])
        except (self._binding.RegoError, ValueError) as error:
            raise PolicyError(f"{self.name} cannot compile data.{'.'.join(path)}: {_words(error)}") from error
        while len(plans) >= PLANS_MAX:
            del plans[next(iter(plans))]
        plans[path] = interpreter, plan
        return interpreter, plan


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__
