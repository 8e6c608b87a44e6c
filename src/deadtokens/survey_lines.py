"""The lines of a survey: what is told of each model, as text and as survey.csv."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePath
from typing import Any, get_args, get_origin, get_type_hints

from deadtokens.errors import SourceError, one_line, plain
from deadtokens.showing import Shown
from deadtokens.writing import Written, spreadsheet_safe, spreadsheet_text, write_csv

_NO_PATHS = ("builtin:", "hf:")
# Names that files of weights have whatever the model is.
_SAY_NOTHING = frozenset(
    {"model", "pytorch_model", "model.safetensors.index", "consolidated", "weights"}
)


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
    "dead_named": "dead special",
    "cluster": "cluster",
    "black_holes": "black holes",
    # So many fit 80 columns, and with the next four a page: survey.csv has all.
    "populations": "their rows",
    "dead_input": "dead in input",
    "padding": "padding",
    "unreachable": "unreachable",
    "distinct": "distinct",
    "dimensions": "dimensions",
    "format": "format",
    "tied": "tied",
    "seconds": "s",
}
NARROW, OF_A_PAGE = 6, 10  # columns that fit 80 characters, and a page
_POPULATIONS_SHOWN = 4


def cells(line: Surveyed, name: str) -> list[str]:
    """A line's values as text, in the order of `COLUMN_TITLES`, with that name of the source."""
    return [name, *(_cell(line, column) for column in list(COLUMN_TITLES)[1:])]


def short_names(sources: Sequence[str]) -> dict[str, str]:
    """Of each path its last parts: as many as tell it from the others, and say what it is.

    What is no path, as builtin: and hf: sources are none, stays as it is.
    """
    parts = {source: PurePath(source).parts for source in sources}
    names: dict[str, str] = {}
    for source, own in parts.items():
        if source.startswith(_NO_PATHS) or len(own) < 2:
            names[source] = source
            continue
        count = 2 if PurePath(source).stem in _SAY_NOTHING else 1
        others = [other for name, other in parts.items() if name != source]
        while count < len(own) and any(other[-count:] == own[-count:] for other in others):
            count += 1
        names[source] = str(PurePath(*own[-count:]))
    return names


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


def read_survey(path: Path) -> list[Surveyed]:
    """The lines of a survey.csv; none where there is no such file.

    Raises:
        SourceError: It is no survey's.
    """
    if not path.exists():
        return []
    hints = get_type_hints(Surveyed)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                Surveyed(**{name: _value(line[name], hints[name]) for name in hints})
                for line in csv.DictReader(file)
            ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"cannot be read as a survey's ({one_line(error)})",
            where=path,
            remedy="move it away, or choose another folder with -o",
        ) from None


def _value(cell: str, hint: Any) -> Any:
    """What a cell of survey.csv says, by the type of its field."""
    if hint is str:
        return spreadsheet_text(cell)
    if get_origin(hint) is tuple:
        of_numbers = get_args(hint)[0] is int
        parts = cell.split() if of_numbers else cell.split(". ") if cell else []
        return tuple(int(part) for part in parts) if of_numbers else tuple(parts)
    if not cell:
        return None
    if bool in get_args(hint):
        return cell == "True"
    return float(cell) if hint is float else int(cell)


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
