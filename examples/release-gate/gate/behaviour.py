"""What a module does when it is imported: risky calls that its top-level code reaches, each with the road that leads there.

Theory. Importing a module runs its top-level statements and class bodies, decorators and default values, and whatever functions
those call. The tracer follows exactly that: it starts at the top level and enters a function only through a call it can
name (a function of the module, a method through `self`, `cls` or an instance whose class is known, a nested function, a
lambda, a name that was assigned from one of these, `getattr(os, "system")`, `__import__("os").system`). A function that
nobody calls at import is not entered, and what it would do is not reported. Calls that leave the module are `Leap`s;
`reach.py` follows them. Text that is handed to `exec` as a literal is parsed and followed too.

What it does not see: targets chosen at run time (a table of callables, a plug-in name), effects of native code, and arguments'
values. It also does not know which branch of an `if` is taken: both are. An honest "nothing found" is therefore no proof.

Source: the execution model of the language reference, chapter 4 and 8.7; the sinks are those of the standard library's "security
considerations" page and of the common network packages.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .source import FunctionNode, Unit, Unparsed, bind_import, blocks, is_main_guard, is_typing_guard, parse

SCOPES_MAX = 2_000  # Functions entered from one module: the largest real ones enter some hundreds.
NODES_MAX = 2_000_000  # Expression nodes looked at for one module; generated tables are the large ones.
LITERAL_CODE_DEPTH_MAX = 3
ROAD_STEPS_MAX = 12
DOTTED_PARTS_MAX = 24

_PROCESS = (
    *(f"os.{name}" for name in ("system", "popen", "startfile", "fork", "forkpty", "posix_spawn", "posix_spawnp")),
    *(f"os.exec{name}" for name in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    *(f"os.spawn{name}" for name in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    *(f"subprocess.{name}" for name in ("run", "call", "check_call", "check_output", "getoutput", "getstatusoutput", "Popen")),
    *("pty.spawn", "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell", "_posixsubprocess.fork_exec"),
)  # fmt: skip
_NETWORK = (
    *(f"socket.{name}" for name in ("socket", "create_connection", "getaddrinfo", "gethostbyname", "create_server")),
    *("urllib.request.urlopen", "urllib.request.urlretrieve", "http.client.HTTPConnection", "http.client.HTTPSConnection"),
    *("ftplib.FTP", "smtplib.SMTP", "telnetlib.Telnet", "asyncio.open_connection"),
    *("urllib3.PoolManager", "aiohttp.ClientSession"),
    *(f"{package}.{verb}" for package in ("requests", "httpx") for verb in ("get", "post", "put", "request")),
    *("requests.Session", "httpx.Client"),
)  # fmt: skip
_WRITE = (
    *(f"os.{name}" for name in ("remove", "unlink", "rename", "replace", "rmdir", "removedirs", "chmod", "symlink", "truncate")),
    *(f"shutil.{name}" for name in ("rmtree", "move", "copy", "copy2", "copyfile", "copytree")),
    *(f"pathlib.Path.{name}" for name in ("write_text", "write_bytes", "unlink", "rename", "replace", "rmdir", "symlink_to")),
)  # fmt: skip
_DESERIALISE = (
    *(f"{module}.{name}" for module in ("pickle", "_pickle", "cloudpickle", "dill", "marshal") for name in ("load", "loads")),
    *("pickle.Unpickler", "shelve.open", "joblib.load"),
)  # fmt: skip
_NATIVE = (
    *(f"ctypes.{name}" for name in ("CDLL", "PyDLL", "WinDLL", "OleDLL")),
    *(f"ctypes.{name}.LoadLibrary" for name in ("cdll", "pydll", "windll", "oledll")),
    *("ctypes.cdll.__getattr__", "_ctypes.dlopen", "cffi.FFI.dlopen"),
)  # fmt: skip
SINKS: dict[str, str] = {
    **dict.fromkeys(
        ("exec", "eval", "code.interact", "runpy.run_path", "types.CodeType", "types.FunctionType"),
        "risk.exec",
    ),
    **dict.fromkeys(_PROCESS, "risk.process"),
    **dict.fromkeys(_NETWORK, "risk.network"),
    **dict.fromkeys(_WRITE, "risk.write"),
    **dict.fromkeys(_DESERIALISE, "risk.deserialise"),
    **dict.fromkeys(_NATIVE, "risk.native"),
}
DECODERS = frozenset(
    (
        *(f"base64.{name}" for name in ("b64decode", "b32decode", "b16decode", "b85decode", "a85decode", "urlsafe_b64decode")),
        *(f"base64.{name}" for name in ("standard_b64decode", "decodebytes")),
        *("zlib.decompress", "bz2.decompress", "lzma.decompress", "gzip.decompress", "codecs.decode", "bytes.fromhex"),
        *("binascii.a2b_base64", "binascii.unhexlify", "binascii.a2b_hex", "marshal.loads"),
    )
)  # fmt: skip
_DECODER_WORD = re.compile(rb"base64|decompress|codecs|fromhex|binascii|marshal")
_CODE_RUNNERS = ("exec", "eval")
_DANGEROUS_MODULES = frozenset({"os", "subprocess", "builtins", "__builtins__", "ctypes", "socket", "pty"})
_STDLIB = frozenset(sys.stdlib_module_names) | frozenset(sys.builtin_module_names)
_IMPORTERS = ("__import__", "importlib.import_module", "importlib.__import__")
_LEAVES = frozenset({ast.Constant, ast.Name, ast.Load, ast.Store, ast.Del})
_WRITING_MODES = frozenset("wax+")


@dataclass(frozen=True, slots=True)
class Sink:
    """One risky call that an import reaches. `road` are the places it goes through, first the one that starts it."""

    rule: str
    call: str
    file: str
    line: int
    excerpt: str
    road: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leap:
    """A call at import that leaves the module."""

    target: str
    road: tuple[str, ...]


@dataclass(slots=True)
class Trace:
    sinks: list[Sink] = field(default_factory=list)
    leaps: dict[str, Leap] = field(default_factory=dict)
    truncated: bool = False  # A limit was reached: there may be more.


@dataclass(slots=True)
class _Scope:
    """A body being walked: its qualified name ("" is the module), its methods' class, and what its names stand for."""

    qualname: str
    owner: str
    road: tuple[str, ...]
    names: dict[str, str] = field(default_factory=dict)
    instances: dict[str, str] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()  # Parameters: they shadow what has the same name outside.
    decoded: set[str] = field(default_factory=set)  # Names that hold something that was decoded.
    depth: int = 0


def trace(unit: Unit, starts: Iterable[tuple[str, tuple[str, ...]]] = (("", ()),)) -> Trace:
    """Follow `starts` (qualified name, road so far) within the module; the default start is the import itself."""
    tracer = _Tracer(unit)
    for qualname, road in starts:
        tracer.enter(qualname, road)
    tracer.run()
    return tracer.trace


class _Tracer:
    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.trace = Trace()
        self.entered: set[str] = set()
        self.pending: list[_Scope] = []
        self.nodes = 0
        self.decoders = bool(_DECODER_WORD.search(unit.data))  # Spares most modules most of the work.
        self.locals: dict[str, FunctionNode] = {}  # Nested functions and lambdas, by qualified name.

    # -- scopes

    def enter(self, qualname: str, road: tuple[str, ...], depth: int = 0) -> bool:
        """Queue a scope by name; False where the module has no such thing. A class means its construction."""
        if qualname in self.unit.classes and qualname:
            for method in ("__new__", "__init__", "__post_init__"):
                self.enter(f"{qualname}.{method}", road, depth)
            return True
        if qualname and self._function(qualname) is None:
            return False
        if qualname not in self.entered:
            self.entered.add(qualname)
            if len(self.entered) > SCOPES_MAX:
                self.trace.truncated = True
                return True
            owner = qualname.rpartition(".")[0]
            self.pending.append(
                _Scope(qualname, owner if owner in self.unit.classes else "", road, depth=depth)
            )
        return True

    def _function(self, qualname: str) -> FunctionNode | None:
        return self.unit.functions.get(qualname) or self.locals.get(qualname)

    def run(self) -> None:
        while self.pending:
            scope = self.pending.pop(0)
            if not scope.qualname:
                # The module's own names are those that every scope sees, so they go to the unit.
                scope.names, scope.instances = self.unit.aliases, self.unit.instances
                self.body(self.unit.tree.body, scope)
                continue
            node = self._function(scope.qualname)
            if node is not None:
                arguments = node.args
                every = [
                    *arguments.posonlyargs,
                    *arguments.args,
                    *arguments.kwonlyargs,
                    arguments.vararg,
                    arguments.kwarg,
                ]
                scope.hidden = frozenset(item.arg for item in every if item is not None)
                if isinstance(node, ast.Lambda):
                    self.expressions(node.body, scope)
                else:
                    self.body(node.body, scope)

    def body(self, statements: list[ast.stmt], scope: _Scope) -> None:
        pending = list(reversed(statements))
        while pending:
            node = pending.pop()
            if is_main_guard(node) or is_typing_guard(node):
                pending += reversed(node.orelse)  # type: ignore[attr-defined]
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.definition(node, scope)
            elif isinstance(node, ast.ClassDef):
                self.definition(node, scope)
                pending += [
                    item
                    for item in reversed(node.body)
                    if not isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
                ]
                for item in node.body:
                    if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                        self.decorations(item, scope)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                if scope.qualname:
                    bind_import(self.unit, node, scope.names)
            else:
                for child in _children(node):
                    if isinstance(child, ast.expr | ast.withitem):
                        self.expressions(child, scope)
                self.assignment(node, scope)
                pending += reversed(list(blocks(node)))

    def definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, scope: _Scope) -> None:
        self.decorations(node, scope)
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                self.target(f"{self.dotted(base, scope) or '?'}.__init_subclass__", node, scope)
            for keyword in node.keywords:
                if keyword.arg == "metaclass":
                    self.target(f"{self.dotted(keyword.value, scope) or '?'}.__new__", node, scope)
        elif scope.qualname:
            qualname = f"{scope.qualname}.{node.name}"
            self.locals[qualname] = node
            scope.names[node.name] = f"{self.unit.name}.{qualname}"

    def decorations(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, scope: _Scope) -> None:
        for decorator in node.decorator_list:
            self.expressions(decorator, scope)
            if not isinstance(decorator, ast.Call):
                self.target(self.dotted(decorator, scope), decorator, scope)
        if not isinstance(node, ast.ClassDef):
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                if default is not None:
                    self.expressions(default, scope)

    # -- names

    def assignment(self, node: ast.stmt, scope: _Scope) -> None:
        """`e = exec`, `run = getattr(os, "system")`, `client = Client()`, `text = b64decode(...)`: what a name stands for."""
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            return
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [item.id for item in targets if isinstance(item, ast.Name)]
        if not names:
            return
        value = node.value
        known = None
        if isinstance(value, ast.Lambda):
            known = self.remember(value, scope)
        elif isinstance(value, ast.Name | ast.Attribute | ast.Call):
            known = self.dotted(value, scope)
        for name in names:
            if known and known != name:
                scope.names.setdefault(name, known)
            elif isinstance(value, ast.Call):
                made = self.dotted(value.func, scope)
                if made:
                    scope.instances.setdefault(name, made)
            if self.decodes(value, scope):
                scope.decoded.add(name)

    def remember(self, node: ast.Lambda, scope: _Scope) -> str:
        qualname = f"{scope.qualname}.<lambda:{node.lineno}:{node.col_offset}>".lstrip(".")
        self.locals[qualname] = node
        return f"{self.unit.name}.{qualname}"

    def dotted(self, node: ast.expr | None, scope: _Scope) -> str | None:
        """What an expression stands for, as an absolute dotted name, or None where it is chosen at run time."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if len(parts) > DOTTED_PARTS_MAX:
            return None
        base: str | None = None
        if isinstance(node, ast.Name):
            base = self.name(node.id, scope, bool(parts))
        elif isinstance(node, ast.Call):
            base = self.fetched(node, scope)
            if base is None and parts:
                base = self.dotted(node.func, scope)  # A method of what was just made: Path(...).write_text.
        if base is None:
            return None
        full = ".".join([base, *reversed(parts)])
        return full.removeprefix("builtins.").removeprefix("__builtins__.")

    def name(self, name: str, scope: _Scope, attribute: bool) -> str | None:
        if name in ("self", "cls") and scope.owner:
            return f"{self.unit.name}.{scope.owner}"
        if name in scope.hidden and name not in scope.names:
            return None
        for names in (scope.names, self.unit.aliases):
            if name in names:
                return names[name]
        if attribute:
            for instances in (scope.instances, self.unit.instances):
                if name in instances:
                    return instances[name]
        if name in self.unit.functions or name in self.unit.classes:
            return f"{self.unit.name}.{name}"
        return name

    def fetched(self, node: ast.Call, scope: _Scope) -> str | None:
        """`__import__("os")` and `getattr(os, "system")` with literal names."""
        function = self.dotted(node.func, scope)
        if function in _IMPORTERS and node.args and isinstance(node.args[0], ast.Constant):
            module = node.args[0].value
            return module if isinstance(module, str) else None
        if function == "getattr" and len(node.args) >= 2 and isinstance(node.args[1], ast.Constant):
            base, attribute = self.dotted(node.args[0], scope), node.args[1].value
            return f"{base}.{attribute}" if base and isinstance(attribute, str) else None
        return None

    # -- calls

    def expressions(self, root: ast.AST, scope: _Scope) -> None:
        pending = [root]
        while pending:
            node = pending.pop()
            self.nodes += 1
            if self.nodes > NODES_MAX:
                self.trace.truncated = True
                return
            if isinstance(node, ast.Call):
                self.call(node, scope)
            elif isinstance(node, ast.Lambda):
                continue  # Runs when it is called; `call` and `assignment` see to that.
            elif isinstance(node, ast.NamedExpr):
                self.assignment(ast.Assign([node.target], node.value), scope)
            pending += _children(node)

    def call(self, node: ast.Call, scope: _Scope) -> None:
        if isinstance(node.func, ast.Lambda):
            self.target(self.remember(node.func, scope), node, scope)
            return
        name = self.dotted(node.func, scope)
        if name is None:
            self.dynamic(node, scope)
        elif name in _CODE_RUNNERS:
            self.code(name, node, scope)
        elif name in SINKS:
            self.sink(SINKS[name], name, node, scope)
        elif name in ("open", "io.open", "os.fdopen"):
            if self.writes(node):
                self.sink("risk.write", name, node, scope)
        else:
            self.target(name, node, scope)

    def target(self, name: str | None, node: ast.expr | ast.stmt, scope: _Scope) -> None:
        if name is None or name.startswith("?"):
            return
        road = (*scope.road, f"{self.unit.path}:{node.lineno}")[-ROAD_STEPS_MAX:]
        own = self.unit.name + "."
        if name.startswith(own) and self.enter(name.removeprefix(own), road, scope.depth):
            return
        if "." in name and name.partition(".")[0] not in _STDLIB:
            self.trace.leaps.setdefault(name, Leap(name, road))

    def code(self, name: str, node: ast.Call, scope: _Scope) -> None:
        """`exec` and `eval`: literal text is followed, decoded text is the worst there is."""
        text = node.args[0] if node.args else None
        if isinstance(text, ast.Constant) and isinstance(text.value, str | bytes):
            self.literal(text.value, node, scope)
        rule = "risk.obfuscated" if text is not None and self.decodes(text, scope) else "risk.exec"
        self.sink(rule, name, node, scope)

    def literal(self, text: str | bytes, node: ast.Call, scope: _Scope) -> None:
        if scope.depth >= LITERAL_CODE_DEPTH_MAX:
            self.trace.truncated = True
            return
        try:
            inner = parse(text.encode() if isinstance(text, str) else text, self.unit.name, self.unit.path)
        except (Unparsed, UnicodeEncodeError):
            return  # `exec` would fail on it as well.
        for item in ast.walk(inner.tree):
            if hasattr(item, "lineno"):
                item.lineno = node.lineno
        below = _Scope(scope.qualname, scope.owner, scope.road, scope.names, scope.instances, scope.hidden)
        below.depth = scope.depth + 1
        below.names = {**scope.names, **inner.aliases}
        self.body(inner.tree.body, below)

    def decodes(self, node: ast.expr, scope: _Scope) -> bool:
        """Whether a decoder's result is anywhere in the expression."""
        if not self.decoders:
            return False
        for item in ast.walk(node):
            if isinstance(item, ast.Name) and item.id in scope.decoded:
                return True
            if isinstance(item, ast.Call) and self.dotted(item.func, scope) in DECODERS:
                return True
        return False

    def dynamic(self, node: ast.Call, scope: _Scope) -> None:
        """`getattr(os, <computed>)(...)`: the name is hidden, the module is not."""
        inner = node.func
        if (
            isinstance(inner, ast.Call)
            and len(inner.args) >= 2
            and self.dotted(inner.func, scope) == "getattr"
        ):
            base = self.dotted(inner.args[0], scope)
            if base in _DANGEROUS_MODULES and not isinstance(inner.args[1], ast.Constant):
                self.sink("risk.dynamic", f"getattr({base}, …)", node, scope)

    @staticmethod
    def writes(node: ast.Call) -> bool:
        modes = (
            [node.args[1]]
            if len(node.args) > 1
            else [item.value for item in node.keywords if item.arg == "mode"]
        )
        return any(
            isinstance(m, ast.Constant) and isinstance(m.value, str) and set(m.value) & _WRITING_MODES
            for m in modes
        )

    def sink(self, rule: str, name: str, node: ast.expr, scope: _Scope) -> None:
        road = scope.road[-ROAD_STEPS_MAX:]
        self.trace.sinks.append(
            Sink(rule, name, self.unit.path, node.lineno, self.unit.excerpt(node.lineno), road)
        )


def _children(node: ast.AST) -> list[ast.AST]:
    """`ast.iter_child_nodes` without leaves: this is the hottest loop of the whole audit."""
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if value.__class__ is list:
            found += [item for item in value if item.__class__ not in _LEAVES and isinstance(item, ast.AST)]
        elif value.__class__ not in _LEAVES and isinstance(value, ast.AST):
            found.append(value)
    return found


def unique(sinks: Iterable[Sink]) -> Iterator[Sink]:
    """One per place and rule, the one with the shortest road."""
    best: dict[tuple[str, str, int], Sink] = {}
    for item in sinks:
        key = (item.file, item.rule, item.line)
        if key not in best or (len(item.road), item.road) < (len(best[key].road), best[key].road):
            best[key] = item
    return iter(best[key] for key in sorted(best))
