"""`aip policy`: what is allowed here, why, and how to change that."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import Corrupt, NotFound, UsageError
from . import measure, policy_diff, policy_key, policy_serve, text
from .command import Noun
from .exit_code import ExitCode
from .output import Column, show_rows, show_value
from .session import Session, session

if TYPE_CHECKING:
    from ..governance.policy.bundle import Bundle

PATH = click.Path(path_type=Path)
PROBLEMS_SHOWN_MAX = 20
CONFIG_HELP = "Another configuration: a JSON file that stands in for data.aip.config."

TEST_COLUMNS = (
    Column("TEST", lambda row: row["name"]),
    Column("FILE", lambda row: row["file"]),
    Column("RESULT", lambda row: "holds" if row["passed"] else row["problem"]),
)


@click.group(
    "policy",
    cls=Noun,
    examples="""
    aip policy show
    aip policy check policies
    aip policy explain input.json
    aip policy reload policies
    """,
)
def policy() -> None:
    """What is allowed: test, check, explain, diff, build, sign, reload, rollback, show, serve."""


for command in (policy_diff.diff, policy_key.key, policy_key.sign, policy_serve.serve):
    policy.add_command(command)


@policy.command(
    "test",
    examples="""
    aip policy test
    aip policy test policies -o json
    """,
)
@click.argument("path", metavar="[DIR]", type=PATH, required=False)
@click.option("--config", type=PATH, help=CONFIG_HELP)
def test(path: Path | None, config: Path | None) -> None:
    """Run the tests of a policy. Ends with 3 where one does not hold."""
    from .policy_engine import tested

    one = session()
    engine, results = tested(bundle_of(path, config))
    rows = [
        {"name": test.name, "file": test.file, "passed": test.passed, "problem": test.problem}
        for test in results
    ]
    failed = [row for row in rows if not row["passed"]]
    if one.machine or failed:
        show_rows(one, rows if one.machine else failed, TEST_COLUMNS, nothing="")
    if not one.machine:
        one.write(
            f"{measure.count(len(rows), 'test')}: {len(rows) - len(failed)} hold, {len(failed)} do not ({engine})"
        )
    click.get_current_context().exit(ExitCode.PLAN_INVALID if failed else ExitCode.OK)


@policy.command(
    "check",
    examples="""
    aip policy check policies
    aip policy check policy.tar.gz --trust ops.pub.pem
    aip policy check policies --config policies/strict/config.json
    """,
)
@click.argument("path", metavar="[DIR]", type=PATH, required=False)
@click.option("--config", type=PATH, help=CONFIG_HELP)
@click.option(
    "--trust", type=PATH, help="A public key that must have signed it; its file name is the key's id."
)
def check(path: Path | None, config: Path | None, trust: Path | None) -> None:
    """Check all that a platform would check before it serves a policy.

    Layout, limits, signature, syntax, functions, tests, and that the fast engine decides as the reference engine does. Ends
    with 3 where the policy is invalid, with 8 where its signature does not verify.
    """
    from ..governance.policy.rego import prepare

    one = session()
    found = bundle_of(path, config)
    signed_by = verified(found, trust) if trust else ""
    with problems_told(one):
        ready = prepare(found)
    certificate = ready.certificate
    told = {
        **described(found),
        "signed_by": signed_by,
        "tests": len(ready.tests),
        "engine": ready.engine.name,
        "compared_on": certificate.decided if certificate else 0,
        "why": ready.why,
    }

    def render() -> None:
        one.write(
            f"{text.line(found.revision)}: {measure.count(len(ready.tests), 'test')} hold, no problem found"
        )
        one.write(text.line(f"engine  {ready.engine.name}{f' ({ready.why})' if ready.why else ''}"))
        if certificate:
            one.write(f"agrees with {certificate.reference} on {certificate.decided:,} generated inputs")
        if signed_by:
            one.write(text.line(f"signed by {signed_by}"))

    show_value(one, told, render)


@policy.command(
    "explain",
    examples="""
    aip policy explain input.json
    aip policy explain -
    aip policy explain --from-audit 4711 --exit-code
    aip policy explain input.json --policy policies --config policies/strict/config.json
    """,
)
@click.argument("path", metavar="[FILE|-]", required=False)
@click.option(
    "--from-audit",
    metavar="ID",
    help="The input of a recorded decision: an entry's number, or the decision's id.",
)
@click.option("--policy", "asked", type=PATH, help="A bundle to ask instead of the policy in force.")
@click.option("--config", type=PATH, help=CONFIG_HELP)
@click.option("--exit-code", "by_code", is_flag=True, help="End with 4 where it is denied.")
def explain(
    path: str | None, from_audit: str | None, asked: Path | None, config: Path | None, by_code: bool
) -> None:
    """Decide about one input, and show the rules that spoke and where they stand."""
    from ..governance.policy.input import plain, read_input
    from .policy_engine import loaded

    one = session()
    if (path is None) == (from_audit is None):
        raise UsageError("name one input", hint="a file, - for stdin, or --from-audit ID")
    document = recorded(one, from_audit) if from_audit else typed(str(path))
    given = plain(read_input(document))
    decided = loaded(bundle_of(asked, config)).decide(given, id=from_audit or "")
    show_value(one, {**decided, "input": given}, lambda: tell_decision(one, decided))
    click.get_current_context().exit(
        ExitCode.DENIED_OR_HELD if by_code and not decided["allow"] else ExitCode.OK
    )


@policy.command(
    "build",
    examples="""
    aip policy build policies --out policy.tar.gz
    aip policy build policies --config policies/strict/config.json --out strict.tar.gz
    """,
)
@click.argument("path", metavar="[DIR]", type=PATH, required=False)
@click.option("--config", type=PATH, help=CONFIG_HELP)
@click.option("--out", type=PATH, required=True, help="Where to write the archive.")
def build(path: Path | None, config: Path | None, out: Path) -> None:
    """Make a policy one file. The same files always make the same archive."""
    from ..governance.policy.bundle import build as packed

    one = session()
    found = bundle_of(path, config)
    out.write_bytes(packed(found))
    show_value(
        one,
        {**described(found), "out": str(out)},
        lambda: one.say(text.line(f"{out}: {measure.count(len(found.files), 'file')}, {found.digest}")),
    )


@policy.command(
    "reload",
    examples="""
    aip policy reload policies
    aip policy reload strict.tar.gz
    aip policy reload policies --config policies/strict/config.json
    """,
)
@click.argument("path", metavar="[DIR]", type=PATH, required=False)
@click.option("--config", type=PATH, help=CONFIG_HELP)
def reload(path: Path | None, config: Path | None) -> None:
    """Bring a policy into force. Whatever is wrong with it, the one in force stays."""
    from ..governance.policy import rollout

    one = session()
    with problems_told(one):
        version, ready = rollout.activate(one.folder, path or rollout.shipped(), config)
    told = {
        "revision": version.revision,
        "digest": version.digest,
        "engine": ready.engine.name,
        "why": ready.why,
    }
    show_value(one, told, lambda: one.say(text.line(f"{version.revision} is in force ({ready.engine.name})")))
    if not one.machine:
        one.say("next  aip policy rollback, if it was wrong")


@policy.command("rollback", examples="aip policy rollback")
def rollback() -> None:
    """Back to the policy that was in force before; again, to the one before that."""
    from ..governance.policy import rollout

    one = session()
    version = rollout.roll_back(one.folder)
    told = {"revision": version.revision, "digest": version.digest}
    show_value(one, told, lambda: one.say(text.line(f"{version.revision} is in force again")))


@policy.command(
    "show",
    examples="""
    aip policy show
    aip policy show -o json
    aip policy show --schema
    """,
)
@click.option("--schema", is_flag=True, help="The JSON Schema of the input document instead.")
def show(schema: bool) -> None:
    """What is in force, and what one could go back to."""
    from ..governance.policy import rollout, store
    from ..governance.policy.input import SCHEMA

    one = session()
    if schema:
        one.write(text.pretty_json(SCHEMA))
        return
    versions = store.load(rollout.folder(one.folder))
    trust = rollout.trusted(one.folder)
    found = rollout.in_force(one.folder)
    told = {
        "in_force": described(found) if found else None,
        "shipped": described(bundle_of(rollout.shipped(), None)) if not found else None,
        "good": [version.revision for version in versions.good],
        "failed": versions.failed.revision if versions.failed else None,
        "activations": versions.number,
        "trusted_keys": None if trust is None else sorted(trust.keys),
    }
    show_value(one, told, lambda: tell_state(one, told))


# What the commands share --------------------------------------------------------------------------------------------------


def bundle_of(path: Path | None, config: Path | None) -> Bundle:
    """The bundle that was named; else the one in force; else the shipped one."""
    from ..governance.policy import rollout

    one = session()
    with problems_told(one):
        if path is not None:
            return rollout.read(path, config)
        found = rollout.in_force(one.folder)
        if found is None:
            return rollout.read(rollout.shipped(), config)
        return rollout.with_config(found, config)


def verified(found: Bundle, key: Path) -> str:
    from ..governance.policy.engine import BundleRejected
    from ..governance.policy.rollout import key_id
    from ..governance.policy.signature import Trust, verify

    if not key.is_file():
        raise NotFound(f"there is no key at {key}")
    name = key_id(key)
    try:
        return verify(found.files, Trust.from_pem({name: key.read_bytes()}))
    except BundleRejected as error:
        raise Corrupt(error.message, hint=error.hint) from error


def described(found: Bundle) -> dict[str, Any]:
    config = found.data.get("aip", {}).get("config", {})
    return {
        "revision": found.revision,
        "digest": found.digest,
        "mode": config.get("mode", ""),
        "roots": list(found.roots),
        "modules": len(found.served),
        "signed_by": found.signed_by,
    }


def typed(path: str) -> Any:
    from ..governance.policy.rollout import json_of

    if path != "-":
        return json_of(Path(path), policy_diff.INPUT_BYTES_MAX)
    try:
        return json.loads(sys.stdin.read(policy_diff.INPUT_BYTES_MAX + 1))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"stdin is not JSON: {error}") from error


def recorded(one: Session, wanted: str) -> Any:
    """The input of a decision in the audit log: by the number of its entry, or by the decision's id."""
    from ..governance.audit import log_path, read

    for entry in read(log_path(one.folder.audit)):
        detail = entry.get("detail") or {}
        if wanted not in (str(entry.get("index")), detail.get("decision"), detail.get("id")):
            continue
        if not isinstance(detail.get("input"), dict):
            raise NotFound(
                f"audit entry {entry.get('index')} ({entry.get('kind')}) holds no input of a decision",
                hint="`aip audit tail --kind message.refused` lists refusals; those by policy hold one",
            )
        return detail["input"]
    raise NotFound(f"no audit entry or decision {wanted}", hint="see `aip audit tail --kind message.refused`")


def tell_decision(one: Session, decided: dict[str, Any]) -> None:
    one.write("allow" if decided["allow"] else "deny")
    for reason in decided["reasons"]:
        place = f"  {reason['file']}:{reason['line']}" if reason["file"] else ""
        one.write("  " + text.line(f"{reason['rule']}: {reason['text']}{place}"))
    for obligation in decided["obligations"]:
        one.write("  " + text.line(f"obliges  {text.compact_json(obligation)}"))
    one.write(text.line(f"by {decided['revision']} ({decided['engine']})"))


def tell_state(one: Session, told: dict[str, Any]) -> None:
    found = told["in_force"] or told["shipped"]
    where = "in force" if told["in_force"] else "shipped with AIP; nothing else was brought into force"
    one.write(text.line(f"{found['revision']}  {where}"))
    one.write(text.line(f"mode    {found['mode'] or 'its own'}"))
    signed = f"signed by {found['signed_by']}" if found["signed_by"] else "not signed"
    keys = told["trusted_keys"]
    demanded = (
        "no key is demanded"
        if keys is None
        else f"one of these keys is demanded: {', '.join(keys) or 'none'}"
    )
    one.write(text.line(f"signed  {signed}; {demanded}"))
    for revision in told["good"]:
        one.write(text.line(f"before  {revision}"))
    if told["failed"]:
        one.write(text.line(f"left    {told['failed']}, by a rollback"))


@contextmanager
def problems_told(one: Session) -> Iterator[None]:
    """Tells every problem of a rejected policy, not only the first, before the rejection ends the command."""
    from ..governance.policy.engine import BundleRejected

    try:
        yield
    except BundleRejected as error:
        if not one.machine:
            for problem in error.details.get("problems", [])[1:PROBLEMS_SHOWN_MAX]:
                one.say(text.line(problem))
        raise
