"""`aip plan make "goal"`: a plan from a goal, by declared methods or by a model."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import NotFound, UsageError
from . import text
from .key_value import KEY_VALUE, collected
from .output import show_value
from .plan_output import WritesPlan, asked, write_new
from .session import Session, session

if TYPE_CHECKING:
    from ..orchestration.planner import Made, Method, Offers

AGENTS_FILE = "agents.py"
METHODS_FILE = "methods.yaml"
SOURCE_BYTES_MAX = 4 * 2**20  # A module of agents; larger ones are generated.
AGENT_BASES = ("Agent", "LLMAgent")
MODEL_TIMEOUT_S = 120.0  # Of one answer: a plan is a few thousand tokens, and small machines are slow.
MODEL_TOKENS_MAX = 8_000


@click.command(
    "make",
    cls=WritesPlan,
    examples="""
    aip plan make "search for 'bees', then summarise each page" -o plan.yaml
    aip plan make "write a report, review and revise it" --agents agents.py
    aip plan make "debate whether to publish" --template debate --from registry
    aip plan make "report on bees" --model-url http://127.0.0.1:8080/v1 --model-name small --api-key secret:KEY
    """,
)
@click.argument("goal", metavar="GOAL")
@click.option(
    "-i",
    "--input",
    "inputs",
    type=KEY_VALUE,
    multiple=True,
    help="What the plan is given; @FILE for a file's content; repeatable.",
)
@click.option(
    "--agents",
    "sources",
    multiple=True,
    metavar="FILE|module:Class",
    help=f"Whose capabilities to plan with; repeatable (default: {AGENTS_FILE}).",
)
@click.option(
    "--from", "origin", type=click.Choice(["registry"]), help="Plan with what a running platform has."
)
@click.option(
    "--methods",
    "methods_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Methods (default: {METHODS_FILE} beside the agents, if it is there).",
)
@click.option("--template", metavar="NAME", help="Only by this template or method.")
@click.option(
    "--model-url", metavar="URL", help="Ask a model behind this OpenAI-compatible endpoint instead."
)
@click.option("--model-name", "--model", metavar="NAME", help="The model there.")
@click.option("--api-key", metavar="secret:NAME", default="", help="Its key, by name.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def make(
    goal: str,
    inputs: tuple[tuple[str, str], ...],
    sources: tuple[str, ...],
    origin: str | None,
    methods_path: Path | None,
    template: str | None,
    model_url: str | None,
    model_name: str | None,
    api_key: str,
    force: bool,
) -> None:
    """Make a plan that reaches a goal.

    Without a model: methods that were declared, shapes of work that come with AIP (map-reduce, review-loop, debate,
    pipeline), and capabilities found by the goal's own words. Where there is no way, it says so and ends with 3.
    """
    from ..orchestration.planner import make as make_plan
    from ..orchestration.planner import offers_of, offers_of_registry

    one = session()
    given = {name: typed(value) for name, value in collected(inputs).items()}
    if origin and sources:
        raise UsageError("--agents and --from registry exclude each other", hint="keep one of them")
    if (model_url is None) != (model_name is None):
        raise UsageError("a model has an address and a name", hint="give --model-url and --model-name")
    folder, entries = (Path.cwd(), []) if origin else found_agents(sources)
    if origin:
        with one.platform() as platform:
            offers = offers_of_registry(platform.types())
    else:
        offers = offers_of(one.library.inspect_code(folder, entries))
    if model_url is not None and model_name is not None:
        made = _ask_model(one, goal, offers, given, (model_url, model_name, api_key))
    else:
        made = make_plan(goal, offers, declared_methods(folder, methods_path), given, template=template)
    _deliver(one, made, force)


def _deliver(one: Session, made: Made, force: bool) -> None:
    """The plan where it was asked for; how it came about on the other stream."""
    path = asked(click.get_current_context())
    for note in made.notes:
        one.say(note)
    for name in made.unused:
        one.say(f"{name} was given, and nothing in the plan reads it")
    if path is not None:
        write_new(Path(path), made.text, force=force)
        one.say(f"next  aip plan graph {path}   or   aip submit {path}")
    told = {
        "plan": made.plan.name,
        "file": path,
        "notes": list(made.notes),
        "unused": list(made.unused),
        "tasks": list(made.plan.tasks),
        "text": made.text,
    }
    if path is None or one.machine:
        show_value(one, told, lambda: one.write(text.block(made.text, 10**7).rstrip("\n")))
    else:
        one.write(path)


def declared_methods(folder: Path, path: Path | None) -> list[Method]:
    """The methods of the file that was named, or of the one beside the agents."""
    from ..orchestration.planner import parse_methods

    found = path or folder / METHODS_FILE
    if path is None and not found.is_file():
        return []
    return parse_methods(read_source(found), str(found))


def found_agents(sources: tuple[str, ...]) -> tuple[Path, list[str]]:
    """The folder that the agents' code is in, and their entries. A file's agents are read off its text, not by running it."""
    named = sources or (AGENTS_FILE,)
    folders, entries = set[Path](), list[str]()
    for source in named:
        if ":" in source:
            folders.add(Path.cwd())
            entries.append(source)
            continue
        path = Path(source)
        folders.add(path.absolute().parent)
        found = agents_in(read_source(path), path)
        entries += [f"{path.stem}:{name}" for name in found]
    if len(folders) > 1:
        raise UsageError(
            "the agents of one plan stand in one folder",
            hint=f"named were {', '.join(sorted(map(str, folders)))}",
        )
    return folders.pop(), list(dict.fromkeys(entries))


def agents_in(source: bytes, path: Path) -> list[str]:
    """The agent classes of a module: those with a capability of their own, or a base in it or of AIP that makes them one."""
    try:
        tree = ast.parse(source, str(path))
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{path} is not Python: {error}") from None
    found: dict[str, None] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            bases = [_last_name(base) for base in node.bases]
            has_capability = any(_is_capability(method) for method in node.body)
            if has_capability or any(base in found or base in AGENT_BASES[1:] for base in bases):
                found[node.name] = None
    if not found:
        raise NotFound(
            f"{path} has no agent with a capability",
            hint="mark a method with @aip.capability, or name the class: --agents agents:Greeter",
        )
    return list(found)


def _is_capability(node: ast.stmt) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    marks = [one.func if isinstance(one, ast.Call) else one for one in node.decorator_list]
    return any(_last_name(mark) == "capability" for mark in marks)


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def read_source(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(SOURCE_BYTES_MAX)
    except OSError as error:
        hint = "name the file with your agents: --agents FILE" if path.name == AGENTS_FILE else ""
        raise NotFound(f"cannot read {path}: {error.strerror}", hint=hint) from None


def typed(value: Any) -> Any:
    """A value as typed: JSON where it is a number, a list, a map, true or false; else the text itself, or what a file held."""
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        return value
    return value if isinstance(found, str) or found is None else found


def _ask_model(
    one: Session, goal: str, offers: Offers, given: dict[str, Any], model: tuple[str, str, str]
) -> Made:
    import asyncio

    from ..orchestration.planner import propose
    from .plan_model import completion

    url, name, key = model

    async def ask() -> Made:
        async with completion(url, name, key, one.folder, MODEL_TIMEOUT_S, MODEL_TOKENS_MAX) as complete:
            return await propose(goal, offers, complete, given)

    one.say(f"asking {name}")
    return asyncio.run(ask())
