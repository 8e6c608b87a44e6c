"""How results look in a terminal: tables on stdout, messages on stderr."""

from __future__ import annotations

import contextlib
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deadtokens.errors import plain
from deadtokens.wording import size
from deadtokens.writing import Written, json_text

_LONGEST_TOKEN = 24
_WIDTH, _WIDE = 80, 120
_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?( ?%)?|-|inf|nan|none")
_NARROWEST_FILE = 10_000  # a file or pipe has no width of its own; tables must not be cut there

Part: TypeAlias = str | Table
_recording: ContextVar[list[Part] | None] = ContextVar("recording", default=None)


@contextlib.contextmanager
def recorded() -> Iterator[list[Part]]:
    """Collect the lines and tables of a result instead of printing them."""
    parts: list[Part] = []
    token = _recording.set(parts)
    try:
        yield parts
    finally:
        _recording.reset(token)


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = max(console.width, _NARROWEST_FILE)
    return console


def line(text: str, advice: str = "") -> None:
    """One line of a result; the advice, about the command's options, is for its readers alone."""
    if (parts := _recording.get()) is not None:
        parts.append(plain(text))
        return
    _console().print(Text(plain(text + advice)), soft_wrap=True)


def advice(text: str) -> None:
    """A line about commands, for the readers of a terminal alone."""
    if _recording.get() is None:
        line(text)


def names(texts: Sequence[str], most_lines: int, where: str) -> None:
    """Names one after another, as many as so many lines of 80 columns hold."""
    lines = packed(texts, _WIDTH - 2)[:most_lines]
    held = sum(map(len, lines))
    for i, together in enumerate(lines):
        last = i == len(lines) - 1 and held == len(texts)
        line(f"  {', '.join(together)}{'' if last else ','}")
    left_out(len(texts) - held, "more", where)


def packed(texts: Sequence[str], width: int) -> list[list[str]]:
    """Texts in lines of at most so many columns with commas between, none of them broken."""
    lines: list[list[str]] = []
    taken = width
    for text in map(plain, texts):
        if taken + len(text) + 2 > width:
            lines.append([])
            taken = 0
        lines[-1].append(text)
        taken += len(text) + 2
    return lines


def is_wide() -> bool:
    """Whether tables have room for columns that can be left out."""
    return _recording.get() is not None or _console().width >= _WIDE


def left_out(n: int, what: str, where: str) -> None:
    """Say how many a table leaves out, and in which of the command's files they are."""
    if n > 0:
        line(f"and {n:,} {what}", where)


def heading(text: str) -> None:
    """A line that starts a part of the output."""
    line("")
    _console().print(Text(f"$ {text}", style="bold"), soft_wrap=True)


def message(text: str) -> None:
    """One line about the work, not of its result."""
    print(plain(text), file=sys.stderr)  # noqa: T201


def print_json(facts: dict[str, Any]) -> None:
    """A result for machines: strict JSON, infinities and NaN as null."""
    sys.stdout.write(json_text(_plain(facts)) + "\n")


def announce(files: Iterable[Written]) -> None:
    """Say what was written: content and size."""
    for file in files:
        message(f"wrote {file.path}: {file.content}, {size(file.path.stat().st_size)}")


@contextlib.contextmanager
def resumable(command: str) -> Iterator[None]:
    """On Ctrl-C, say how to go on, and end with exit status 130."""
    try:
        yield
    except KeyboardInterrupt:
        message(f"interrupted; finished trials are kept. To go on: {command}")
        raise typer.Exit(130) from None


def sections_table(columns: Sequence[str], sections: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Tables one below the other with columns in common, each under its title."""
    table = new_table(*columns)
    for title, rows in sections.items():
        if title:
            table.add_row(Text(title, style="bold"))
        for cells in rows:
            table.add_row(*map(text_cell, cells))
    print_table(table)


def print_table(table: Table) -> None:
    """A table on stdout, without trailing blanks where that is no terminal.

    Columns of numbers are aligned on the right; a cell's lines are broken where it says so only,
    or between words.
    """
    for column in table.columns:
        cells = [str(cell) for cell in column.cells if str(cell)]
        if cells and all(_NUMBER.fullmatch(cell) for cell in cells):
            column.justify = "right"
    if (parts := _recording.get()) is not None:
        parts.append(table)
        return
    console = _console()
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as printed:
        console.print(table)
    sys.stdout.write("".join(f"{row.rstrip()}\n" for row in printed.get().splitlines()))


def quoted(text: str) -> str:
    """A token between quotes, shortened; what drives a terminal is escaped where it is printed."""
    short = text if len(text) <= _LONGEST_TOKEN else text[: _LONGEST_TOKEN - 1] + "…"
    return f"'{short}'"


def text_cell(text: str) -> Text:
    """A cell of a table, with whatever drives a terminal spelled as escapes."""
    return Text(plain(text))


def new_table(*columns: str) -> Table:
    """An empty table."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _plain(value: Any) -> Any:
    """Values as the json module takes them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
