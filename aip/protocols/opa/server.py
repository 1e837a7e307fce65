"""The server behind the routes: versions of modules and data, and what may be asked of them.

    bundle        the policy in force: served, never written here (its roots are the bundle's, as in OPA)
    the rest      modules and data that clients put, under any other path; in memory, gone with the process

Guaranteed: a change is compiled before it counts, and counts as one assignment; a question is answered by one version and names
the bundle's revision where provenance is asked for. Everything has a limit, and says which.

Not guaranteed: that a long evaluation can be cut short. It is given up after a deadline, but goes on in its thread, and what
comes later waits for it: whoever may write policies may stop this server. That is why everybody must bear a token.

All of it runs in one thread, because the engine is bound to the thread that made it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...governance.policy.bundle import BUNDLE_BYTES_MAX, MODULE_BYTES_MAX, Bundle
from ...settings import VERSION
from . import document
from .document import MISSING, Path
from .failure import invalid, not_found
from .partial import DEFAULT_UNKNOWNS, compiled
from .rules import Compile, Regorus, Rules, Syntax

POLICIES_MAX = 1_000  # Put by clients, beside the bundle's.
QUERY_CHARS_MAX = 2**20  # A bulk query carries its inputs as text.
ID_CHARS_MAX = 512
UNKNOWNS_MAX = 100
API_USAGE = "api_usage_warning"


@dataclass(frozen=True)
class State:
    """One version of everything."""

    bundle: Bundle | None
    modules: Mapping[str, str]  # Put by clients.
    data: Mapping[str, Any]  # The whole document: the bundle's and the clients'.
    rules: Rules


class Server:
    """Takes plain values, gives plain values, raises `Rejected`. `labels` say who answers."""

    def __init__(self, bundle: Bundle | None, labels: Mapping[str, str], compile: Compile = Regorus) -> None:
        self._compile = compile
        self.labels = {"version": VERSION, **labels}
        self._state = self._made(bundle, {}, dict(bundle.data) if bundle else {})

    @property
    def revision(self) -> str:
        return self._state.bundle.revision if self._state.bundle else ""

    def activate(self, bundle: Bundle) -> None:
        """Another policy came into force. Raises `Rejected` where what clients put is in its way."""
        state = self._state
        data: Mapping[str, Any] = state.data
        for root in state.bundle.roots if state.bundle else ():
            if document.get(data, _parts(root)) is not MISSING:
                data = document.remove(data, _parts(root))
        for root in bundle.roots:
            value = document.get(bundle.data, _parts(root))
            if value is not MISSING:
                data = document.put(data, _parts(root), value)
        self._state = self._made(bundle, state.modules, data)

    # Questions

    def value(self, path: Path, input: Any) -> Any:
        """The value of `data.<path>`, or `UNDEFINED`."""
        return self._state.rules.value(path, input)

    def solutions(self, query: Any, input: Any) -> list[dict[str, Any]]:
        return self._state.rules.solutions(_query(query), input)

    def compiled(self, query: Any, input: Any, unknowns: Any) -> dict[str, Any]:
        unknowns = list(DEFAULT_UNKNOWNS) if unknowns is None else unknowns
        if not isinstance(unknowns, list) or len(unknowns) > UNKNOWNS_MAX or not all(map(_is_path, unknowns)):
            raise invalid('unknowns must be a list of references such as "input" or "data.users"')
        return compiled(self._state.rules, self._state.rules.parsed(_query(query)), input, unknowns)

    # Policies

    def policies(self) -> list[dict[str, Any]]:
        return [_described(one, self._state.rules.modules[one.name]) for one in self._state.rules.syntax]

    def policy(self, name: str) -> dict[str, Any]:
        for one in self._state.rules.syntax:
            if one.name == name:
                return _described(one, self._state.rules.modules[name])
        raise not_found(f'policy id "{name}"')

    def put_policy(self, name: str, text: str) -> None:
        if not name or len(name) > ID_CHARS_MAX:
            raise invalid(f"a policy id has 1 to {ID_CHARS_MAX} characters")
        if len(text.encode()) > MODULE_BYTES_MAX:
            raise invalid(f"a policy is at most {MODULE_BYTES_MAX} bytes")
        if not text.strip():
            raise invalid("empty module")
        self._refuse_bundled(name)
        modules = {**self._state.modules, name: text}
        if len(modules) > POLICIES_MAX:
            raise invalid(f"more than {POLICIES_MAX} policies")
        state = self._made(self._state.bundle, modules, self._state.data)
        for one in state.rules.syntax:
            if one.name == name:
                self._refuse_owned(one.package)
        self._state = state

    def delete_policy(self, name: str) -> None:
        self.policy(name)
        self._refuse_bundled(name)
        modules = {key: text for key, text in self._state.modules.items() if key != name}
        self._state = self._made(self._state.bundle, modules, self._state.data)

    # Data

    def has_data(self, path: Path) -> bool:
        return document.get(self._state.data, path) is not MISSING

    def put_data(self, path: Path, value: Any) -> None:
        self._write(path, document.put(self._state.data, path, value))

    def patch_data(self, path: Path, patches: Any) -> None:
        data = document.patch(self._state.data, path, patches)
        for one in patches:
            self._refuse_owned((*path, *_parts(one["path"])))
        self._write(path, data, owned_below=True)

    def delete_data(self, path: Path) -> None:
        self._write(path, document.remove(self._state.data, path))

    def _write(self, path: Path, data: Mapping[str, Any], *, owned_below: bool = False) -> None:
        if not owned_below:
            self._refuse_owned(path)
        if document.too_deep(data):
            raise invalid(f"data is nested more than {document.DEPTH_MAX} deep")
        if len(json.dumps(data)) > BUNDLE_BYTES_MAX:
            raise invalid(f"all data together is at most {BUNDLE_BYTES_MAX} bytes")
        self._state = self._made(self._state.bundle, self._state.modules, data)

    # About itself

    def provenance(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "version": VERSION,
            "build_commit": "",
            "build_timestamp": "",
            "build_hostname": "",
        }
        if self._state.bundle:
            found["bundles"] = {"aip": {"revision": self.revision}}
        return found

    def config(self) -> dict[str, Any]:
        return {
            "labels": dict(self.labels),
            "default_decision": "/aip/decision",
            "default_authorization_decision": "/aip/decision",
        }

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = {"labels": dict(self.labels)}
        if self._state.bundle:
            found["bundles"] = {"aip": {"name": "aip", "active_revision": self.revision}}
        return found

    def _made(self, bundle: Bundle | None, modules: Mapping[str, str], data: Mapping[str, Any]) -> State:
        served = {module.path: module.text for module in bundle.served} if bundle else {}
        return State(bundle, modules, data, self._compile({**served, **modules}, data))

    def _refuse_bundled(self, name: str) -> None:
        bundle = self._state.bundle
        if bundle and any(module.path == name for module in bundle.served):
            raise invalid(f'policy {name} is owned by bundle "aip"')

    def _refuse_owned(self, path: Path) -> None:
        """What is the bundle's is written by activating another bundle."""
        for root in self._state.bundle.roots if self._state.bundle else ():
            owned = _parts(root)
            shorter = min(len(owned), len(path))
            if owned[:shorter] == path[:shorter]:
                raise invalid(f'path {"/".join(path)} is owned by bundle "aip"')


def _parts(path: str) -> Path:
    return tuple(part for part in path.split("/") if part)


def _query(query: Any) -> str:
    if not isinstance(query, str) or not query.strip():
        raise invalid("missing required 'query' value")
    if len(query) > QUERY_CHARS_MAX:
        raise invalid(f"a query is at most {QUERY_CHARS_MAX} characters")
    return query


def _is_path(text: Any) -> bool:
    return isinstance(text, str) and text.split(".")[0] in ("input", "data") and all(text.split("."))


def _described(one: Syntax, text: str) -> dict[str, Any]:
    """A policy as OPA lists it. Of the tree, what its clients read: the package, and the names of the rules."""
    path = [{"type": "var", "value": "data"}, *({"type": "string", "value": part} for part in one.package)]
    rules = [{"head": {"name": name}} for name in one.rule_names()]
    return {"id": one.name, "raw": text, "ast": {"package": {"path": path}, "rules": rules}}
