"""How every command of `aip` is made: the same options everywhere, and help that ends with examples one can type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ..settings import Home
from .session import Format, Session


def _set_format(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Session).format = Format(value)


def _set_json(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Session).format = Format.JSON


def _set_home(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.ensure_object(Session).home = Home(value.expanduser().absolute())


def _set_color(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Session).color = False


def shared_options() -> list[click.Parameter]:
    """Understood before and after the command's name. Eager: `--home` must be known when a run's name is completed."""
    common: dict[str, Any] = {"expose_value": False, "is_eager": True}
    formats = click.Choice([one.value for one in Format])
    return [
        click.Option(
            ["-o", "--output"], type=formats, callback=_set_format, help="How to print data.", **common
        ),
        click.Option(["--json"], is_flag=True, callback=_set_json, help="The same as -o json.", **common),
        click.Option(
            ["--home"],
            type=click.Path(path_type=Path, file_okay=False),
            callback=_set_home,
            help="Where the platform keeps its state (default: AIP_HOME, or ~/.aip).",
            **common,
        ),
        click.Option(
            ["--no-color"],
            is_flag=True,
            callback=_set_color,
            help="No colours; NO_COLOR does the same.",
            **common,
        ),
    ]


class Command(click.Command):
    """A command with examples."""

    def __init__(self, *args: Any, examples: str, **kwargs: Any) -> None:
        kwargs["params"] = [*(kwargs.get("params") or ()), *shared_options()]
        super().__init__(*args, **kwargs)
        self.examples = examples.strip().splitlines()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = [record for param in self.params if (record := _own_help(param, ctx))]
        if own:
            with formatter.section("Options"):
                formatter.write_dl(own)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)


def _own_help(param: click.Parameter, ctx: click.Context) -> tuple[str, str] | None:
    """The shared options are told once, in `aip --help`; here only how to print data, which people look for."""
    if not isinstance(param, click.Option) or param.name in ("json", "home", "no_color"):
        return None
    return param.get_help_record(ctx)


def write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    with formatter.section("Examples"):
        for example in examples:
            formatter.write(f"{'':>{formatter.current_indent}}{example.strip()}\n")


class Noun(click.Group):
    """A group of commands about one thing, such as `aip run list | show | events`."""

    command_class = Command

    def __init__(self, *args: Any, examples: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples.strip().splitlines()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)


class Root(Noun):
    """`aip` itself: its commands are listed by what they are for."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[click.Command]], **kwargs: Any) -> None:
        kwargs["params"] = shared_options()
        super().__init__(*args, **kwargs)
        self.sections = sections
        for command in (one for section in sections.values() for one in section):
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for name in self.commands)
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{one.name:<{width}}", one.get_short_help_str(90)) for one in commands], col_spacing=2
                )
