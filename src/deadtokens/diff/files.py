"""A comparison of two matrices as files and as JSON values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deadtokens.census import Census
from deadtokens.diff.results import NONE, Diff, GroupChange
from deadtokens.sources import Matrix
from deadtokens.writing import Written, spreadsheet_safe, write_csv

DIFF_FILES = ("diff.csv", "diff_groups.csv")
_ROW_COLUMNS = (
    "row",
    "group_a",
    "population_a",
    "group_b",
    "population_b",
    "moved",
    "steps",
    "change",
    "group_change",
)
_GROUP_COLUMNS = (
    "group_a",
    "change",
    "first_row",
    "population_a",
    "rows_b",
    "trimmed",
    "not_finite",
    "added",
    "vectors_b",
    "populations",
    "groups_b",
    "merged_with",
    "grown_by",
    "moved_rows",
    "distance",
    "steps",
)


def write_diff(folder: Path, found: Diff) -> list[Written]:
    """Write diff.csv (rows in a black hole of either) and diff_groups.csv (the black holes).

    A ``token`` follows the columns where a tokenizer is known. Several numbers in a cell are
    separated by spaces.

    Raises:
        OutputError: The folder cannot be written.
    """
    return [
        _write(folder / DIFF_FILES[0], _ROW_COLUMNS, row_records(found), found),
        _write(folder / DIFF_FILES[1], _GROUP_COLUMNS, map(group_record, found.groups), found),
    ]


def _write(
    path: Path, columns: tuple[str, ...], records: Iterator[dict[str, Any]], found: Diff
) -> Written:
    named = columns if found.texts is None else (*columns, "token")

    def line(record: dict[str, Any]) -> list[object]:
        cells = [_cell(record[column]) for column in columns]
        if found.texts is not None:
            row = record["row"] if "row" in record else record["first_row"]
            cells.append(spreadsheet_safe(found.texts[row]))
        return cells

    count = write_csv(path, named, map(line, records))
    return Written(path, f"{count:,} rows x {len(named)} columns")


def _cell(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def row_records(found: Diff) -> Iterator[dict[str, Any]]:
    """The rows in a black hole of either, as JSON values; None where there is no number."""
    rows = found.rows
    columns = zip(
        rows.row.tolist(),
        *(_known(x.tolist()) for x in (rows.group_a, rows.population_a)),
        *(_known(x.tolist()) for x in (rows.group_b, rows.population_b)),
        (None if math.isnan(x) else x for x in rows.distance.tolist()),
        _known(rows.steps.tolist()),
        rows.change,
        rows.group_change,
        strict=True,
    )
    for values in columns:
        yield dict(zip(_ROW_COLUMNS, values, strict=True))


def _known(numbers: list[int]) -> Iterator[int | None]:
    return (None if number == NONE else number for number in numbers)


def group_record(group: GroupChange) -> dict[str, Any]:
    """What became of a black hole, as JSON values."""
    facts = asdict(group) | {"vectors_b": group.vectors_b}
    return {
        name: list(facts[name]) if isinstance(facts[name], tuple) else facts[name]
        for name in _GROUP_COLUMNS
    }


def diff_facts(found: Diff) -> dict[str, Any]:
    """A comparison as JSON values."""
    texts = found.texts
    rows, groups = list(row_records(found)), [group_record(group) for group in found.groups]
    if texts is not None:
        rows = [record | {"token": texts[record["row"]]} for record in rows]
        groups = [record | {"token": texts[record["first_row"]]} for record in groups]
    return {
        "warnings": list(found.warnings),
        "a": _side(found.a, found.census_a),
        "b": _side(found.b, found.census_b),
        "rows_in_both": found.n_common,
        "compared": found.n_compared,
        "identical": found.identical,
        "trimmed": found.a.n_rows - found.n_common,
        "added": found.b.n_rows - found.n_common,
        "other_tokens": found.other_tokens,
        "lattice": found.lattice.name if found.lattice else None,
        "movement": {"black_holes_of_a": asdict(found.dead), "other_rows": asdict(found.others)},
        "evidence": found.evidence,
        "rounding": [asdict(one) | {"format": one.format.name} for one in found.rounding],
        "tally": found.tally,
        "black_holes": groups,
        "rows": rows,
    }


def _side(matrix: Matrix, census: Census) -> dict[str, Any]:
    return {
        "source": matrix.source,
        "tensor": matrix.tensor,
        "storage": matrix.storage,
        "n_rows": matrix.n_rows,
        "n_dimensions": matrix.n_dimensions,
        "n_unique": census.n_unique,
        "n_black_holes": census.n_black_holes,
        "black_hole_population": census.black_hole_population,
        "not_finite": census.not_finite.size,
    }
