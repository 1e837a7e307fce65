"""A report: statements, each with the sentence that it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1, max_length=2_000)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Statement(Part):
    """`text` is the report's own wording; `quote` is the document's, word for word."""

    text: Text
    document: Text
    sentence: int = Field(ge=1)
    quote: Text


class Section(Part):
    heading: Text
    statements: tuple[Statement, ...] = Field(min_length=1, max_length=20)


class Report(Part):
    title: Text
    sections: tuple[Section, ...] = Field(min_length=1, max_length=50)

    @property
    def statements(self) -> list[Statement]:
        return [statement for section in self.sections for statement in section.statements]


def compose(question: str, notes: Sequence[dict[str, Any]]) -> Report:
    """A section for each document that said something, in the order given. Its statements are the quotes themselves."""
    sections = [
        Section(
            heading=note["title"] or note["document"],
            statements=tuple(
                Statement(
                    text=one["quote"],
                    document=note["document"],
                    sentence=one["sentence"],
                    quote=one["quote"],
                )
                for one in note["quotes"]
            ),
        )
        for note in notes
        if note["quotes"]
    ]
    return Report(title=question, sections=tuple(sections))


def render(report: Report, unread: Sequence[str] = ()) -> str:
    """As Markdown: numbered sources at the end, and what could not be read, so that nobody takes silence for absence."""
    sources = list(dict.fromkeys((one.document, one.sentence, one.quote) for one in report.statements))
    number = {source: place for place, source in enumerate(sources, 1)}
    lines = [f"# {report.title}"]
    for section in report.sections:
        said = " ".join(
            f"{one.text} [{number[one.document, one.sentence, one.quote]}]" for one in section.statements
        )
        lines += ["", f"## {section.heading}", "", said]
    lines += ["", "## Sources", ""]
    lines += [
        f"{place}. {document}, sentence {sentence}: “{quote}”"
        for (document, sentence, quote), place in number.items()
    ]
    if unread:
        lines += ["", f"Not read: {', '.join(unread)}."]
    return "\n".join(lines) + "\n"
