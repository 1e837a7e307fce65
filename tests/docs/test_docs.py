"""The documents keep their word: what they show can be typed, compiled and parsed, and their tables are complete.

Commands go through click's own parser, python blocks through the compiler, plans through the plan parser; agents that a page
defines are made. No command is run and no platform started.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

import aip as package
from aip import Context, errors, testing
from aip.agent import manifest
from aip.cli.exit_code import ExitCode, of_error
from aip.cli.main import aip
from aip.cli.session import Session
from aip.client import Platform
from aip.orchestration.parse import parse
from aip.orchestration.parse.vocabulary import KNOWN, NOT_YET, NOT_YET_USES, NOT_YET_VALUES
from aip.settings import DEFAULT_LIMITS, Home

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "architecture-guide.md"
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*/README.md")]
)

# What documents may type beside `aip` and the scripts of this repository.
OTHER_PROGRAMS = {
    "cat",
    "cd",
    "cp",
    "export",
    "git",
    "kill",
    "less",
    "ls",
    "pip",
    "ps",
    "python",
    "rm",
    "tail",
}
# The guide is a promise: its text below the note is not ours to edit.
GUIDE_SHA256 = "aae75df88f490bbb20bd5ef5a51f54e79a558c6523efb9a00ea8252b0c35509e"


class Block(NamedTuple):
    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            if match[1] in languages:
                found.append(Block(document, text[: match.start()].count("\n") + 1, match[1], match[2]))
    return found


def lines_typed(block: Block) -> Iterator[str]:
    """In a console block what follows `$ `; in a bash block every line."""
    for line in block.text.splitlines():
        if block.language == "console":
            if line.startswith("$ "):
                yield line[2:]
        elif line.strip() and not line.lstrip().startswith("#"):
            yield line


def commands(line: str) -> Iterator[list[str]]:
    """The simple commands of a shell line, without assignments and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    skip = False
    for word in [*lexer, ";"]:
        if set(word) <= set(";&|"):
            if words:
                yield words
            words = []
        elif set(word) <= set("<>"):
            skip = True
        elif skip:
            skip = False
        elif words or not re.fullmatch(r"[A-Z_]+=.*", word):
            words.append(word)


def typed_lines() -> list[tuple[str, str]]:
    return [(str(block), line) for block in blocks("console", "bash") for line in lines_typed(block)]


def parse_as_aip(args: list[str], home: Home) -> None:
    """Everything that click does before it calls a command: names, options, types."""
    command: click.Command = aip
    context = command.make_context("aip", list(args), obj=Session(home=home))
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        context = found.make_context(name, rest, parent=context)
        command = found


@pytest.mark.parametrize(("where", "line"), typed_lines())
def test_every_command_in_the_documents_can_be_typed(where: str, line: str, tmp_path: Path) -> None:
    for program, *args in commands(line):
        if program.rpartition("/")[2] == "aip":
            parse_as_aip(args, Home(tmp_path))
        elif program.startswith("scripts/"):
            assert (ROOT / program).is_file(), f"{where}: {program} is not in the repository"
        else:
            name = program.rpartition("/")[2]
            assert name in OTHER_PROGRAMS, f"{where}: {program} is not known to this test"


def test_a_command_that_does_not_exist_would_be_found(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError):
        parse_as_aip(["run", "shwo", "last"], Home(tmp_path))
    with pytest.raises(click.UsageError):
        parse_as_aip(["submit", "plan.yaml", "--dteach"], Home(tmp_path))


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_every_python_block_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def defined_in(block: Block) -> dict[str, Any]:
    """What a block of python defines, under the names it gives."""
    names: dict[str, Any] = {"__name__": "of_a_document"}
    exec(block.text, names)
    return {name: one for name, one in names.items() if getattr(one, "__module__", "") == "of_a_document"}


@pytest.mark.parametrize("block", [b for b in blocks("python") if "Agent):" in b.text], ids=str)
def test_every_agent_in_the_documents_is_one(block: Block) -> None:
    agents = defined_in(block).values()
    assert agents
    assert [agent for agent in agents if not manifest(agent)["capabilities"]] == []


async def test_the_configured_agent_of_the_reference_gets_its_configuration_and_no_secret_of_nobody() -> None:
    writer = defined_in(next(one for one in blocks("python") if "class Config" in one.text))["Writer"]
    critic = testing.configured(writer, "critic", tone="harsh", token="secret:OF_NOBODY")
    async with testing.platform(critic) as p:
        assert await p.call("critic/any", "sign", text="no") == "no (harsh)"
        with pytest.raises(errors.NotFound, match="OF_NOBODY"):
            await p.call("critic/any", "post", text="hello")


@pytest.mark.parametrize("block", [b for b in blocks("yaml") if "apiVersion: aip/" in b.text], ids=str)
def test_every_plan_in_the_documents_is_a_valid_plan(block: Block) -> None:
    assert parse(block.text.encode(), str(block), DEFAULT_LIMITS).tasks


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_between_documents_leads_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    missing = set()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists():
            missing.add(link)
        elif anchor:
            assert anchor in anchors(target), f"{link} names no heading"
    assert missing == set()


def test_every_page_is_found_from_the_readme_and_from_another_page() -> None:
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    linked = {
        document: set(re.findall(r"\]\((?:docs/)?([\w-]+\.md)[)#]", document.read_text(encoding="utf-8")))
        for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    }
    assert pages - linked.pop(ROOT / "README.md") == set()
    assert pages - set().union(*(names - {document.name} for document, names in linked.items())) == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_document_names_somebodys_machine(document: Path) -> None:
    found = re.findall(r"(?<![\w.])/(?:work|root|home|Users|mnt)/\S*", document.read_text(encoding="utf-8"))
    assert found == []


def test_the_promise_of_the_architecture_guide_stands_unchanged() -> None:
    _, _, promise = GUIDE.read_text(encoding="utf-8").partition("\n---\n\n")
    assert hashlib.sha256(promise.encode()).hexdigest() == GUIDE_SHA256


def test_the_guides_snippet_is_taken_from_the_guide_and_not_from_a_copy() -> None:
    source = ROOT / "examples" / "guide" / "run.py"
    spec = importlib.util.spec_from_file_location("guide_run", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    snippet = module.snippet(GUIDE.read_text(encoding="utf-8"))
    assert "await orchestrator.execute(plan)" in snippet
    assert "execute(" not in source.read_text(encoding="utf-8")
    with pytest.raises(LookupError):
        module.snippet("# another guide")


def test_the_agents_of_the_hello_example_pass_their_own_tests() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "test_agents.py"],
        cwd=ROOT / "examples" / "hello",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout


# The reference is complete ---------------------------------------------------------------------------------------------

ERRORS = [
    errors.AIPError,
    *(one for one in errors.AIPError.by_code.values() if one.__module__ == errors.__name__),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_every_error_is_listed_with_its_code_and_what_follows_from_it(error: type[errors.AIPError]) -> None:
    retry = "yes" if error.retryable else "no"
    assert f"| `{error.__name__}` | `{error.code}` | {retry} | {of_error(error.code).value} |" in API


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_code_is_listed(code: ExitCode) -> None:
    assert f"\n| {code.value} | " in API


def test_every_key_of_a_plan_stands_in_the_reference_plan() -> None:
    plan = next(block.text for block in blocks("yaml") if block.document.name == "api.md")
    used = set(re.findall(r"([\w$]+):", re.sub(r" #.*", "", plan)))
    assert {key for keys in KNOWN.values() for key in keys} - used == set()


@pytest.mark.parametrize("word", sorted({*NOT_YET_USES}.union(*NOT_YET.values(), *NOT_YET_VALUES.values())))
def test_every_refused_word_of_the_draft_is_named(word: str) -> None:
    assert re.search(rf"`(?:\w+: )?{re.escape(word)}`", API)


@pytest.mark.parametrize("section", sorted(NOT_YET))
def test_no_word_that_works_is_called_refused(section: str) -> None:
    said = re.search(rf"^\| {section} \| (.*?)(?:;| \|$)", API, re.MULTILINE)
    assert said is not None
    assert set(re.findall(r"`(\w+)`", said[1])) - NOT_YET[section] == set()


def test_every_code_of_every_part_is_told_on_some_page() -> None:
    for module in pkgutil.walk_packages(package.__path__, "aip."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    ours = {
        code for code, one in errors.AIPError.by_code.items() if one.__module__.partition(".")[0] == "aip"
    }
    assert sorted(code for code in ours if f"`{code}`" not in pages) == []


def test_every_room_stands_in_the_architecture() -> None:
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "aip").rglob("__init__.py")}
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    outer = {room for room in rooms if room.count("/") == 1} - {"aip/protocols"}
    protocols = {room for room in rooms if re.fullmatch(r"aip/protocols/\w+", room)}
    assert (
        sorted(room for room in outer | protocols if f"`{room}`" not in page and f" {room}" not in page) == []
    )


def test_every_command_of_the_command_line_is_listed() -> None:
    def names(group: click.Group, path: str) -> Iterator[str]:
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                yield from names(command, f"{path} {name}")
            else:
                yield f"{path} {name}"

    assert [name for name in names(aip, "aip") if not re.search(rf"`{name}[` ]", API)] == []


def test_every_public_name_is_described() -> None:
    names = [f"aip.{name}" for name in package.__all__ if name not in ("AIPError", "AgentFailed")]
    context = [name for name in vars(Context) if not name.startswith("_")]
    platform = [
        name for name in vars(Platform) if not name.startswith("_") and name not in ("ask", "submit_spec")
    ]
    said = set(re.findall(r"[\w.]+", API))
    absent = [name for name in [*names, *context, *platform] if name not in said]
    assert absent == []


def test_every_option_of_every_command_is_listed() -> None:
    def options(command: click.Command) -> set[str]:
        seen = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
        own = {name for one in seen for name in one.opts}
        inner = command.commands.values() if isinstance(command, click.Group) else []
        return own.union(*map(options, inner))

    said = set(re.findall(r"--?[\w-]+", API))
    short = {"--input", "--limit", "--follow", "--output"}  # Listed as -i, -n, -f and -o.
    assert options(aip) - said - short == set()
