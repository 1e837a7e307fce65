"""`aip audit erase | retain`: what the log's keeper may take from it, each told in the log itself. Neither can be taken back.

A platform that runs does it in its audit log's process. Where none runs, the command takes the log as its writer; a log that some
process still has is refused (`audit.held`).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from ..errors import NotFound, UsageError
from . import measure
from .command import Command
from .output import show_value
from .session import Session, person, session

if TYPE_CHECKING:
    from ..governance.custody import Custody
    from ..governance.erasure import Vault

AUDIT_LOG = "audit"


@click.command(
    "erase",
    cls=Command,
    examples="""
    aip audit erase ada@example.org --dry-run
    aip audit erase ada@example.org --reason "request 4711"
    """,
)
@click.argument("name", metavar="PERSON")
@click.option(
    "--reason", default="", metavar="TEXT", help="Why; it stays in the log for good, so no name in it."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be erased.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(name: str, reason: str, dry_run: bool, yes: bool) -> None:
    """Destroy the key of a person's values in the log: nobody can read them from then on, and every proof still holds.

    PERSON is the name under which agents noted the values. What others kept - a backup of the keys, an opened copy - is not
    reached. The entry about it names the key and not the person.
    """
    from ..governance.custody import sealed_under
    from ..governance.segments import lines
    from .audit import log_of

    one = session()
    log = log_of(one, None)
    key = _vault(one).key_id(name)
    if key is None:
        raise NotFound("nothing in the log is sealed for that person", hint="say the name as agents noted it")
    entries = sealed_under(lines(log), key)
    if not dry_run:
        _agreed(one, yes, f"Erase one person's values in {measure.count(entries, 'record')}?")
        with one.platform_if_any() as platform:
            if platform is not None:
                platform.ask(AUDIT_LOG, "erase", person=name, by=person(), reason=reason)
            else:
                with _custody(one) as custody:
                    custody.erase(name, person(), reason, one.clock())

    def tell() -> None:
        done = "would be" if dry_run else "were"
        one.write(f"{measure.count(entries, 'record')} {done} erased: key {key}")

    show_value(one, {"key": key, "entries": entries, "erased": not dry_run}, tell)


@click.command(
    "retain",
    cls=Command,
    examples="""
    aip audit retain --days 400 --dry-run
    aip audit retain --days 400 --yes
    aip audit retain --days 30 --short
    """,
)
@click.option(
    "--days", type=click.FloatRange(min=0), required=True, help="Keep the bodies of entries so long."
)
@click.option("--short", is_flag=True, help="The six months that the EU AI Act asks for do not apply here.")
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def retain(days: float, short: bool, dry_run: bool, yes: bool) -> None:
    """Drop the bodies of entries that are older, whole sealed segments at a time; their hashes stay, and so does every proof.

    Only what the log's own checkpoint covers goes. What has to be kept longer: export it before.
    """
    from ..governance.custody import due
    from ..governance.retention import Retention
    from .audit import log_of

    one = session()
    log = log_of(one, None)
    retention = Retention(days, short)
    going = due(log, retention, one.clock())
    entries = sum(segment.end - segment.first for segment in going)
    dropped = 0
    if going and not dry_run:
        _agreed(one, yes, f"Drop the bodies of {measure.count(entries, 'record')}?")
        with one.platform_if_any() as platform:
            if platform is not None:
                asked = {"keep_days": days, "short": short, "by": person()}
                while more := platform.ask(AUDIT_LOG, "retain", **asked)["dropped"]:
                    dropped += more
            else:
                with _custody(one) as custody:
                    while more := custody.retain(retention, person(), one.clock()):
                        dropped += more

    def tell() -> None:
        if not going:
            one.write("nothing is old enough: a segment goes when all of it is")
        elif dry_run:
            last = measure.moment(going[-1].ended_at)
            one.write(f"entries {going[0].first} to {going[-1].end - 1}, of before {last}, would be dropped")
        else:
            one.write(f"{measure.count(dropped, 'record')} dropped; `aip audit verify` still holds")

    show_value(one, {"segments": len(going), "entries": entries, "dropped": dropped}, tell)


def _vault(one: Session) -> Vault:
    from ..governance.erasure import KeyFolder, Vault

    return Vault(KeyFolder(one.folder.root / "keys" / "persons"), os.urandom)


def _custody(one: Session) -> Custody:
    from ..governance.custody import Custody
    from ..governance.key_file import signer_of

    signer = signer_of(one.folder.root / "keys" / "audit.key", "aip/audit", os.urandom)
    return Custody(one.folder.audit, signer, _vault(one))


def _agreed(one: Session, yes: bool, question: str) -> None:
    if yes:
        return
    if one.machine or not sys.stdin.isatty():
        raise UsageError("this cannot be taken back", hint="look with --dry-run, then say --yes")
    if not click.confirm(question, err=True):
        raise UsageError("nothing was done")


COMMANDS = (erase, retain)
