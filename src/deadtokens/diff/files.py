"""A comparison of two matrices as files and as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deadtokens.census import Census
from deadtokens.diff.results import Diff, GroupChange
from deadtokens.sources import Matrix
from deadtokens.writing import Written, spreadsheet_safe, write_csv

DIFF_FILES = ("diff.csv", "diff_groups.csv")
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
        _write(folder / DIFF_FILES[0], list(found.columns()), row_records(found)),
        _write(folder / DIFF_FILES[1], _group_columns(found), group_records(found)),
    ]


def _write(path: Path, columns: Sequence[str], records: Sequence[dict[str, Any]]) -> Written:
    write_csv(path, columns, ([_cell(record[name]) for name in columns] for record in records))
    return Written(path, f"{len(records):,} rows x {len(columns)} columns")


def _group_columns(found: Diff) -> tuple[str, ...]:
    return _GROUP_COLUMNS if found.texts is None else (*_GROUP_COLUMNS, "token")


def _cell(value: object) -> object:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return spreadsheet_safe(value) if isinstance(value, str) else value


def row_records(found: Diff) -> list[dict[str, Any]]:
    """The rows in a black hole of either, as JSON values; None where there is no number."""
    records: list[dict[str, Any]] = found.table().to_pylist()
    return records


def group_records(found: Diff) -> list[dict[str, Any]]:
    """What became of each black hole, as JSON values; its first row's token, where known."""
    return [_group_record(group, found.texts) for group in found.groups]


def _group_record(group: GroupChange, texts: Sequence[str] | None) -> dict[str, Any]:
    facts = asdict(group) | {"vectors_b": group.vectors_b}
    record = {
        name: list(facts[name]) if isinstance(facts[name], tuple) else facts[name]
        for name in _GROUP_COLUMNS
    }
    return record if texts is None else record | {"token": texts[group.first_row]}


def diff_facts(found: Diff) -> dict[str, Any]:
    """A comparison as JSON values."""
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
        "black_holes": group_records(found),
        "rows": row_records(found),
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
