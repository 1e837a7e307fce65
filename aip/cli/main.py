"""`aip`: the root of all commands, and the one place where errors become exit codes.

Whatever a command raises ends here. `AIPError`s are told and mapped by the table in `exit_code`; click's own usage
errors are told in the same words; anything else is a defect of AIP and says so, with its traceback.
"""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NoReturn

import click

from ..errors import AIPError, UsageError
from . import (
    about,
    agents,
    audit,
    effects,
    init,
    kill,
    plan,
    platform,
    policy,
    run,
    schedule,
    secret,
    steer,
    submit,
    top,
)
from .command import Root
from .exit_code import ExitCode
from .session import Format, Session

SECTIONS: dict[str, list[click.Command]] = {
    "Start here": [init.init, submit.submit, agents.agents, plan.plan],
    "Runs": [
        run.run,
        run.logs,
        steer.approve,
        steer.cancel,
        steer.pause,
        steer.resume,
        steer.retry,
        schedule.schedule,
    ],
    "The platform": [platform.up, platform.down, platform.status, top.top, platform.doctor],
    "Governance": [kill.kill, policy.policy, effects.effects, audit.audit, secret.secret],
    "This command": [about.completion, about.version],
}


class Aip(Root):
    """The root, with its errors told."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> NoReturn:
        one = extra.setdefault("obj", Session())
        one.format = asked_format(sys.argv[1:] if args is None else args) or one.format
        prepare_streams(machine=one.machine)
        extra["standalone_mode"] = False
        try:
            result = super().main(args, *rest, **extra)
            # Click gives back what `ctx.exit` was told, else what the command returned: ours return None.
            sys.exit(result if isinstance(result, int) else ExitCode.OK)
        except click.Abort:
            one.say("interrupted")
            sys.exit(ExitCode.INTERRUPTED)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(ExitCode.USAGE)
        except click.ClickException as error:
            sys.exit(_tell(one, _usage(error)))
        except AIPError as error:
            sys.exit(_tell(one, error))
        except Exception:  # noqa: BLE001  # The last line of defence: a defect is told as one, never as a failed run.
            one.err.file.write(traceback.format_exc())
            one.say("this is a defect of AIP, not of your input; please report it with the lines above")
            sys.exit(ExitCode.DEFECT)


def asked_format(args: Sequence[str]) -> Format | None:
    """The format that the words ask for, read before they are parsed: an error in them is told in it too."""
    found = None
    for word, following in zip_longest(args, args[1:], fillvalue=""):
        if word == "--json":
            found = Format.JSON
        for option in ("-o", "--output"):
            value = (
                following
                if word == option
                else word.removeprefix(option).lstrip("=")
                if word.startswith(option)
                else ""
            )
            if value in {one.value for one in Format}:
                found = Format(value)
    return found


def prepare_streams(*, machine: bool) -> None:
    """No character may end a command: what a terminal cannot show is shown as `?`. JSON is UTF-8 (RFC 8259, 8.1)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8" if machine else None, errors="replace")


def _tell(one: Session, error: AIPError) -> ExitCode:
    from .failure import report

    return report(one, error)


def _usage(error: click.ClickException) -> UsageError:
    """Click's error in our words: what, and the help of the command that was meant."""
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx else "aip"
    return UsageError(error.format_message(), hint=f"see `{path} --help`")


@click.group(
    "aip",
    cls=Aip,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    examples="""
    aip init hello && aip submit hello/plan.yaml
    aip agents call agents:Greeter.greet -i name=Ada
    aip run show last
    """,
)
def aip() -> None:
    """The Agent Infrastructure Platform: supervised agents, one road for every message.

    Exit codes: 0 ok, 1 the run failed, 2 usage, 3 plan invalid, 4 denied or held, 5 cancelled or killed, 6 time or
    budget, 7 no platform, 8 verification failed.
    """


def main() -> NoReturn:
    aip.main(prog_name="aip")
