"""The lines of a survey: what is told of each model, as text and as survey.csv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from deadtokens.errors import plain
from deadtokens.showing import Shown
from deadtokens.writing import Written, spreadsheet_safe, write_csv


@dataclass(frozen=True)
class Surveyed(Shown):
    """A line of a survey.

    Attributes:
        source: As it was named.
        error: Why there is nothing else; empty if all went well.
        tensor: The matrix's name.
        vocabulary: V, its rows.
        dimensions: d, its columns.
        format: Its storage format, or quantisation.
        tied: Whether input and output are one matrix; None where the source does not say.
        distinct: Distinct vectors.
        black_holes: Vectors that two or more rows share.
        populations: Rows of the largest black holes.
        cluster: Rows of the dead cluster; None if no void sets one apart.
        dead: Rows that count as dead; None where it is undecided whether there are any.
        dead_input: Rows dead in the input matrix, where it is another one.
        dead_named: Special, reserved and added tokens among the dead; None without a tokenizer.
        named: Special, reserved and added tokens in all.
        unreachable: Tokens that the tokenizer cannot produce.
        padding: Rows beyond the tokenizer.
        seconds: What it took.
        warnings: Where the evidence for its matrices conflicts or is thin, a sentence each.
    """

    source: str
    error: str = ""
    tensor: str = ""
    vocabulary: int | None = None
    dimensions: int | None = None
    format: str = ""
    tied: bool | None = None
    distinct: int | None = None
    black_holes: int | None = None
    populations: tuple[int, ...] = ()
    cluster: int | None = None
    dead: int | None = None
    dead_input: int | None = None
    dead_named: int | None = None
    named: int | None = None
    unreachable: int | None = None
    padding: int | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        dead = "undecided" if self.dead is None else f"{self.dead:,} dead"
        what = self.error or f"{dead} of {self.vocabulary:,} rows"
        return f"<Surveyed {plain(f'{self.source}: {what}')}>"


COLUMN_TITLES = {
    "source": "source",
    "vocabulary": "rows",
    "dead": "dead",
    "cluster": "cluster",
    "black_holes": "black holes",
    "populations": "their rows",
    "dead_named": "dead special",
    "dead_input": "dead in input",
    "padding": "padding",
    "unreachable": "unreachable",
    "distinct": "distinct",
    "dimensions": "dimensions",
    "format": "format",
    "tied": "tied",
    "seconds": "s",
}
_POPULATIONS_SHOWN = 4


def cells(line: Surveyed) -> list[str]:
    """A line's values as text, in the order of `COLUMN_TITLES`."""
    return [_cell(line, name) for name in COLUMN_TITLES]


def _cell(line: Surveyed, name: str) -> str:
    value = getattr(line, name)
    if name == "dead" and value is None and not line.error:
        return "undecided"
    if name == "populations":
        shown = ", ".join(f"{n:,}" for n in line.populations[:_POPULATIONS_SHOWN])
        return shown + (", ..." if (line.black_holes or 0) > _POPULATIONS_SHOWN else "")
    if name == "dead_named" and value is not None:
        return f"{value:,} of {line.named:,}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value or "-")


def write_survey(path: Path, lines: Sequence[Surveyed]) -> Written:
    """Write survey.csv: a line per source.

    Raises:
        OutputError: The file cannot be written.
    """
    columns = [field.name for field in fields(Surveyed)]
    write_csv(path, columns, [_csv_line(line) for line in lines])
    return Written(path, f"{len(lines):,} rows x {len(columns)} columns")


def _csv_line(line: Surveyed) -> list[object]:
    return [
        spreadsheet_safe(value) if isinstance(value, str) else value
        for value in (
            asdict(line)
            | {"populations": " ".join(map(str, line.populations))}
            | {"warnings": ". ".join(line.warnings)}
        ).values()
    ]
