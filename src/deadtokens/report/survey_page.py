"""A survey → one HTML page: a table of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from deadtokens.errors import plain
from deadtokens.report.drawing import Page, render_page
from deadtokens.report.opening import Card, Opening
from deadtokens.report.tablekit import Cell, Table
from deadtokens.report.words import count, typeset
from deadtokens.survey_lines import COLUMN_TITLES, OF_A_PAGE, Surveyed, cells, short_names
from deadtokens.writing import Written, replacing, shell_line

_TEXT = ("source", "format", "tied", "populations")


def write_survey_page(path: Path, lines: Sequence[Surveyed], pages: Mapping[str, Path]) -> Written:
    """Write the page about a survey.

    Args:
        path: Where.
        lines: Its lines.
        pages: The page of each source that has one, beside or below this one.

    Raises:
        OutputError: The file cannot be written.
    """
    links = {source: page.relative_to(path.parent).as_posix() for source, page in pages.items()}
    content = render_page(survey_page(lines, links)).encode("utf-8", "backslashreplace")
    with replacing(path) as file:
        file.write(content)
    return Written(path, "the page")


def survey_page(lines: Sequence[Surveyed], links: Mapping[str, str]) -> Page:
    """The page of a survey, with links to the pages of its sources."""
    good = [line for line in lines if not line.error]
    bad = [line for line in lines if line.error]
    tables = [_models(good, links)] if good else []
    tables += [_errors(bad)] if bad else []
    command = shell_line(["deadtokens", "survey", *(line.source for line in lines), "-o", "survey"])
    return Page(_opening(good, bad), [], tables, [], [plain(command)])


def _opening(good: Sequence[Surveyed], bad: Sequence[Surveyed]) -> Opening:
    with_dead = sum(bool(line.dead) for line in good)
    return Opening(
        title="Survey",
        question="Which models have dead tokens?",
        answer=f"{with_dead:,} of {len(good):,}",
        mood="no" if with_dead else "none",
        headline=f"{count(len(good), 'model')} read, {count(len(bad), 'source')} not.",
        sentences=(),
        cards=tuple(_cards(good)),
        story="",
        warnings=tuple(
            typeset(f"{line.source}: {warning}") for line in good for warning in line.warnings
        ),
    )


def _cards(good: Sequence[Surveyed]) -> list[Card]:
    rows = sum(line.vocabulary or 0 for line in good)
    return [
        Card("Rows", f"{rows:,}", "of all matrices"),
        Card("Dead rows", f"{sum(line.dead or 0 for line in good):,}", "of all matrices"),
        Card("Black holes", f"{sum(line.black_holes or 0 for line in good):,}", "groups of rows"),
        Card("Clusters", f"{sum(bool(line.cluster) for line in good):,}", "set apart by a void"),
    ]


def _models(lines: Sequence[Surveyed], links: Mapping[str, str]) -> Table:
    names = short_names([line.source for line in lines])
    columns = list(COLUMN_TITLES)[:OF_A_PAGE]
    rows = tuple(
        tuple(
            Cell(
                plain(text),
                _sorted_by(line, name),
                link=links.get(line.source, "") if name == "source" else "",
            )
            for name, text in zip(columns, cells(line, names[line.source])[:OF_A_PAGE], strict=True)
        )
        for line in lines
    )
    numeric = tuple(name not in _TEXT for name in columns)
    note = "A row per model; click a column to sort by it. survey.csv says more of each."
    if links:
        note += " A name leads to the model's own page."
    return Table("models", "Models", note, tuple(COLUMN_TITLES[name] for name in columns),
                 numeric, rows)  # fmt: skip


def _sorted_by(line: Surveyed, name: str) -> float | None:
    value = max(line.populations, default=None) if name == "populations" else getattr(line, name)
    return float(value) if isinstance(value, int | float) else None


def _errors(lines: Sequence[Surveyed]) -> Table:
    rows = tuple((Cell(plain(line.source)), Cell(plain(line.error))) for line in lines)
    return Table("errors", "Sources that could not be read", "", ("source", "error"),
                 (False, False), rows)  # fmt: skip
