"""The agents of plan.yaml: thin over `research/`, which knows nothing of plans. What reads files runs in threads.

A `folder` of None is the documents beside this file: they travel to the cells with the code.
"""

from pathlib import Path
from typing import Any

from research import notes, report, review, search, shelf
from research.report import Report

import aip

Json = dict[str, Any]

DOCUMENTS = Path(__file__).parent / "documents"


class NothingFound(aip.errors.NotFound):
    """The documents do not speak about the question: another attempt would find as little."""

    default_hint = "ask in the words of the documents, or give a folder with -i documents=FOLDER"


class Librarian(aip.Agent):
    """Finds documents in a folder and reads them. Stateless: any number of replicas may work side by side."""

    @aip.capability("library.find")
    def find(self, folder: str | None, question: str, limit: int) -> list[str]:
        """The names of the documents that speak most about a question, the best first."""
        place = _library(folder)
        gists = {name: shelf.gist_of(place, name) for name in shelf.names(place)}
        return [name for name, _ in search.ranked(question, gists)[:limit]]

    @aip.capability("library.read", cost={"tool_calls": 1})
    def read(self, folder: str | None, document: str, question: str) -> Json:
        """What one document says about a question: quotes, with the numbers of their sentences."""
        return notes.take(document, shelf.text_of(_library(folder), document), question)


class Author(aip.Agent):
    """Writes a report out of notes, and keeps the drafts of runs."""

    @aip.capability("report.write")
    def write(self, question: str, notes: list[Json | None]) -> Json:
        """Notes are None where a document could not be read."""
        said = [note for note in notes if note is not None]
        if not any(note["quotes"] for note in said):
            raise NothingFound("no document says anything about this question")
        return report.compose(question, said).model_dump(mode="json")

    @aip.capability("report.keep")
    def keep(self, draft: Json, found: list[str], notes: list[Json | None], output: str, slot: str) -> str:
        """The draft as a file that a person can read before deciding; its path."""
        unread = [name for name, note in zip(found, notes, strict=True) if note is None]
        folder = Path(output) / "drafts" / shelf.checked(slot)
        return str(shelf.put(folder, "report.md", report.render(Report.model_validate(draft), unread)))

    @aip.capability("report.discard")
    def discard(self, output: str, slot: str) -> bool:
        """Undo `keep`. Whether there was a draft; twice does no harm."""
        return shelf.discard(Path(output) / "drafts", slot)


class Citations(aip.Agent):
    """Reads the documents again and compares."""

    @aip.capability("report.review")
    def review(self, draft: Json, question: str, notes: list[Json | None], folder: str | None) -> Json:
        given = Report.model_validate(draft)
        documents = {}
        for name in {one.document for one in given.statements}:
            try:
                documents[name] = shelf.text_of(_library(folder), name)
            except aip.errors.AIPError:  # What cannot be read supports nothing: the review says so by name.
                continue
        return review.citations(given, documents)


class Coverage(aip.Agent):
    """Holds the report against the question and against what was read."""

    @aip.capability("report.review")
    def review(self, draft: Json, question: str, notes: list[Json | None], folder: str | None) -> Json:
        said = [note for note in notes if note is not None]
        return review.coverage(Report.model_validate(draft), question, said)


class Tone(aip.Agent):
    """Reads nothing but the report."""

    @aip.capability("report.review")
    def review(self, draft: Json, question: str, notes: list[Json | None], folder: str | None) -> Json:
        return review.tone(Report.model_validate(draft))


class Publisher(aip.Agent):
    """Puts a report where the world sees it, once."""

    @aip.capability("report.publish")
    async def publish(self, draft: Json, kept: str, output: str, slot: str, ctx: aip.Context) -> Json:
        """What is published is the draft that was approved: the very file, not another rendering of it."""
        given = Report.model_validate(draft)
        place = Path(output) / "published"

        def action() -> Json:
            path = shelf.put(place, f"{shelf.slug(given.title)}.md", Path(kept).read_text(encoding="utf-8"))
            with (place / "log.txt").open("a", encoding="utf-8") as log:  # What readers were told, and when.
                log.write(f"{slot} {path.name}\n")
            return {"path": str(path), "statements": len(given.statements)}

        # The action adds a line, so it is not repeatable: the key is what makes it happen once for a run.
        done: Json = await ctx.effect("publish", action, key=f"publish/{slot}")
        return done

    @aip.capability("report.tidy")
    def tidy(self, output: str, slot: str) -> bool:
        """Put the run's draft away, published or not. Whether there was one."""
        return shelf.discard(Path(output) / "drafts", slot)


def _library(folder: str | None) -> Path:
    return DOCUMENTS if folder is None else Path(folder)
