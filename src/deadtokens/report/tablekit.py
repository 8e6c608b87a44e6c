"""Tables as the page wants them: what stands in each cell, and the number it is sorted by."""

from __future__ import annotations

from dataclasses import dataclass

from deadtokens.report.words import count, figure

ROWS_AT_MOST = 250


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and the number it is sorted by (None: by the text); what it leads to."""

    text: str
    number: float | None = None
    mark: str = ""
    link: str = ""


@dataclass(frozen=True)
class Table:
    """A table that sorts: ``numeric`` says which columns hold numbers, aligned right."""

    name: str
    title: str
    note: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]


def shown_of(shown: int, there: int, thing: str, which: str) -> str:
    """How many of the things there are stand in a table, and which."""
    if shown == there:
        return f"{count(there, thing)}."
    return f"{shown:,} of {count(there, thing)}: {which}."


def number_cell(value: float | None, digits: int = 4) -> Cell:
    """A cell with a number."""
    return Cell(figure(value, digits), value)
