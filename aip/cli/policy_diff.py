"""`aip policy diff OLD NEW`: which decisions would change.

Two policies cannot be compared by their text: a rule that moved changes nothing, and one number may open a door. So both are
asked the same questions: given ones (recorded inputs, one a line), or generated ones that hit what either policy mentions. That
no decision changed over N inputs is evidence, not proof; the command says N.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click

from ..errors import InvalidPayload, NotFound, UsageError
from . import measure, text
from .command import Command
from .exit_code import ExitCode
from .output import show_value
from .session import Session, session

PATH = click.Path(path_type=Path)
INPUT_BYTES_MAX = 2**20  # One input document, with room for a payload's worth of attributes.
INPUTS_MAX = 100_000  # Minutes of an engine: more belongs into a test of one's own.
CHANGES_KEPT_MAX = 1_000  # The counts are of all; this many are told with their input.
GRAVEST_FIRST = ("opened", "closed", "obliges_otherwise", "says_otherwise")
SHOWN_MAX = 10  # On a screen; `-o json` has what is kept.


@click.command(
    "diff",
    cls=Command,
    examples="""
    aip policy diff policies new-policies
    aip policy diff policies policies --new-config policies/strict/config.json
    aip policy diff old.tar.gz new.tar.gz --inputs recorded.ndjson -o json
    """,
)
@click.argument("old", metavar="OLD", type=PATH)
@click.argument("new", metavar="NEW", type=PATH)
@click.option("--old-config", type=PATH, help="Another configuration for OLD.")
@click.option("--new-config", type=PATH, help="Another configuration for NEW.")
@click.option("--inputs", "given", type=PATH, help="A file with one input document a line.")
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1, INPUTS_MAX),
    default=2_000,
    show_default=True,
    help="How many to generate.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same inputs.")
def diff(
    old: Path,
    new: Path,
    old_config: Path | None,
    new_config: Path | None,
    given: Path | None,
    count: int,
    seed: int,
) -> None:
    """Show which decisions change between two policies.

    OLD and NEW are folders or archives. Ends with 0 where no decision changed, with 1 where one did.
    """
    from ..governance.policy.generate import generate
    from ..governance.policy.rollout import read
    from .policy_engine import loaded

    one = session()
    before, after = loaded(read(old, old_config)), loaded(read(new, new_config))
    if given is not None:
        inputs: Iterable[Any] = documents(given)
    else:
        # Half of them from what each mentions: a role that only one knows must come up, too.
        pools = zip(*(generate(side.bundle, seed) for side in (before, after)), strict=True)
        inputs = islice(chain.from_iterable(pools), count)
    counts, changes = compare(before, after, inputs)
    changed = {kind: number for kind, number in counts.items() if kind != "same"}
    told = {"inputs": counts.total(), "changed": changed, "changes": changes}
    show_value(one, told, lambda: tell(one, counts, changes))
    click.get_current_context().exit(ExitCode.FAILED if changed else ExitCode.OK)


def compare(before: Any, after: Any, inputs: Iterable[Any]) -> tuple[Counter[str], list[dict[str, Any]]]:
    """How many decisions changed in which way, and the first changes with their input, the gravest before the others."""
    counts: Counter[str] = Counter()
    changes: list[dict[str, Any]] = []
    for document in inputs:
        old, new = before.decide(document), after.decide(document)
        kind = change(old, new)
        counts[kind] += 1
        if kind != "same" and len(changes) < CHANGES_KEPT_MAX:
            changes.append({"change": kind, "input": document, "old": old, "new": new})
    return counts, sorted(changes, key=lambda one: GRAVEST_FIRST.index(one["change"]))


def change(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What became of a decision, by the gravest that did."""
    if old["allow"] != new["allow"]:
        return "opened" if new["allow"] else "closed"
    if old["obligations"] != new["obligations"]:
        return "obliges_otherwise"
    rules = [[reason["rule"] for reason in side["reasons"]] for side in (old, new)]
    return "same" if rules[0] == rules[1] else "says_otherwise"


def documents(path: Path) -> Iterator[Any]:
    """Input documents of a file, one a line."""
    try:
        with path.open("rb") as file:
            for number in range(1, INPUTS_MAX + 1):
                line = file.readline(INPUT_BYTES_MAX + 1)
                if not line:
                    return
                if len(line) > INPUT_BYTES_MAX:
                    raise UsageError(f"{path}:{number}: longer than {INPUT_BYTES_MAX} bytes")
                if line.strip():
                    yield _document(line, f"{path}:{number}")
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from error


def _document(line: bytes, place: str) -> Any:
    """The document with all its fields, as the platform would ask."""
    from ..governance.policy.input import plain, read_input

    try:
        return plain(read_input(json.loads(line)))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place}: not JSON: {error}", hint="one input document a line") from None
    except InvalidPayload as error:
        raise UsageError(f"{place}: {error.message}", hint=error.hint) from None


def tell(one: Session, counts: Counter[str], changes: list[dict[str, Any]]) -> None:
    asked = measure.count(counts.total(), "input")
    if counts["same"] == counts.total():
        one.write(f"no decision changed over {asked}")
        return
    kinds = ", ".join(
        f"{number} {kind.replace('_', ' ')}" for kind, number in counts.most_common() if kind != "same"
    )
    one.write(f"{kinds}, of {asked}")
    for item in changes[:SHOWN_MAX]:
        one.write(text.line(f"{item['change'].replace('_', ' ')}: {text.compact_json(item['input'])}"))
        for side in ("old", "new"):
            rules = ", ".join(dict.fromkeys(reason["rule"] for reason in item[side]["reasons"])) or "no rule"
            one.write("  " + text.line(f"{side}  {'allow' if item[side]['allow'] else 'deny'}  {rules}"))
