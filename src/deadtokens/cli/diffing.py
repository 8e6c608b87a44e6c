"""The command that compares two models: diff."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deadtokens.cli.commands import Json, StoredAs, Tensor, Tokenizer

if TYPE_CHECKING:
    from deadtokens.census import Census
    from deadtokens.diff import Diff, GroupChange
    from deadtokens.sources import Matrix

_GROUPS_SHOWN = 40
_ROWS_SHOWN = 20
_NUMBERS_SHOWN = 4


def diff(
    source_a: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE_A", help="The base: a source as for census.", show_default=False
        ),
    ],
    source_b: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE_B", help="What became of it: another source.", show_default=False
        ),
    ],
    tensor: Tensor = None,
    stored_as: StoredAs = None,
    tensor_b: Annotated[
        str | None,
        typer.Option(
            "--tensor-b", metavar="NAME", help="The tensor of B, if it has another name there."
        ),
    ] = None,
    tokenizer: Tokenizer = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Write diff.csv and diff_groups.csv here."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare two models: what became of the black holes of one in the other.

    Say a base and its fine-tuned child: black holes that split, merged, moved, grew or were
    trimmed, row by row, and how far dead rows moved against all others. Rows are matched by number.
    """
    from deadtokens.cli import display
    from deadtokens.diff import diff as compare
    from deadtokens.diff.files import DIFF_FILES, diff_facts, write_diff
    from deadtokens.sources import like_with_like, open_matrix
    from deadtokens.writing import check_place, check_spares, make_folder

    a = open_matrix(source_a, tensor, format=stored_as)
    b = open_matrix(source_b, tensor if tensor_b is None else tensor_b, format=stored_as)
    if tensor is None and tensor_b is None:
        a, b = like_with_like(a, b)
    if output is not None:
        make_folder(output)
        places = [check_place(output / name) for name in DIFF_FILES]
        read = (*a.files, *b.files, *([tokenizer] if tokenizer is not None else []))
        check_spares(places, read)
    found = compare(a, b, tokenizer=tokenizer)
    if json:
        display.print_json(diff_facts(found))
    else:
        show(found)
    if output is None:
        display.message("nothing written: add -o DIR for diff.csv, row by row, and diff_groups.csv")
    else:
        display.announce(write_diff(output, found))


def show(found: Diff) -> None:
    """What moved, and what became of each black hole."""
    from deadtokens.cli import display
    from deadtokens.sources import roles_compared

    for warning in found.warnings:
        display.line(f"warning: {warning}")
    display.line(_side("A", found.a, found.census_a))
    display.line(_side("B", found.b, found.census_b))
    if roles := roles_compared(found.a, found.b):
        display.line(f"compared: {roles}")
    for name, matrix in (("A", found.a), ("B", found.b)):
        for note in matrix.notes:
            display.line(f"  note: {name}: {note}")
    for text in (_rows_line(found), *_rounding_lines(found), *_token_lines(found)):
        display.line(text)
    _movement_table(found)
    display.line(found.evidence)
    if not found.groups:
        display.line("neither has two rows that are equal")
        return
    tally = ", ".join(f"{n:,} {change}" for change, n in found.tally.items())
    display.line(f"black holes: {tally}")
    _groups_table(found)
    _rows_table(found)


def _side(name: str, matrix: Matrix, census: Census) -> str:
    in_holes = census.black_hole_population
    text = (
        f"{name}: {matrix.source}: {matrix.tensor}, {matrix.n_rows:,} rows x "
        f"{matrix.n_dimensions:,} dimensions, {matrix.storage}; {census.n_black_holes:,} black "
        f"holes with {in_holes:,} rows"
    )
    if census.not_finite.size:
        text += f"; {census.not_finite.size:,} rows hold NaN or an infinity, in no group"
    return text


def _rows_line(found: Diff) -> str:
    text = (
        f"{found.n_common:,} rows in both, of which {found.identical:,} are identical and "
        f"{found.n_compared - found.identical:,} moved"
    )
    odd = found.n_common - found.n_compared
    trimmed, added = found.a.n_rows - found.n_common, found.b.n_rows - found.n_common
    text += f", {odd:,} not finite in one of them" if odd else ""
    text += f"; {trimmed:,} rows of A are beyond B's matrix" if trimmed else ""
    return text + (f"; {added:,} rows of B are beyond A's matrix" if added else "")


def _rounding_lines(found: Diff) -> list[str]:
    lines = []
    for one in found.rounding:
        changed = {
            "A": "black holes of B that hold several vectors of A",
            "B": "black holes of A that hold several vectors of B",
        }[one.side]
        lines.append(
            f"rounding alone can merge rows: {one.side} rounded to {one.format.name} has "
            f"{one.n_black_holes:,} black holes, {one.arising:,} of them from rows that differ "
            f"before; it explains {one.explained:,} of the {one.changed:,} {changed}"
        )
    for name, matrix in (("A", found.a), ("B", found.b)):
        if matrix.quantised is not None:
            lines.append(
                f"{name} is quantised ({matrix.storage}), which by itself moves rows and can make "
                "them equal"
            )
    return lines


def _token_lines(found: Diff) -> list[str]:
    if not found.other_tokens:
        return []
    return [
        f"WARNING: {found.other_tokens:,} of {found.n_common:,} rows stand for another token in B "
        "than in A; they are compared all the same, by number"
    ]


def _movement_table(found: Diff) -> None:
    from deadtokens.cli import display

    rounded = bool(found.rounding)
    columns = ["", "rows in both", "did not move"]
    columns += ["not beyond rounding"] if rounded else []
    table = display.new_table(*columns, "median distance", "largest")
    for column in table.columns[1:]:
        column.justify = "right"
    sides = (("in black holes of A", found.dead), ("all other rows", found.others))
    for name, movement in sides:
        cells = [name, f"{movement.n_rows:,}", f"{movement.still:,}"]
        cells += [f"{movement.still_once_rounded:,}"] if rounded else []
        table.add_row(*cells, _length(movement.median), _length(movement.largest))
    display.print_table(table)


def _groups_table(found: Diff) -> None:
    from deadtokens.cli import display

    columns = ["group of A", "rows", "change", "rows per vector of B", "groups of B"]
    columns += ["merged with", "grown by", "largest move"]
    columns += ["steps"] if found.lattice is not None else []
    columns += ["first row"] + (["its token"] if found.texts is not None else [])
    table = display.new_table(*columns)
    for group in found.groups[:_GROUPS_SHOWN]:
        table.add_row(*map(display.text_cell, _group_cells(found, group)))
    display.print_table(table)
    where = ": all of them in diff_groups.csv (-o DIR) and in --json"
    display.left_out(len(found.groups) - _GROUPS_SHOWN, "more", where)


def _group_cells(found: Diff, group: GroupChange) -> list[str]:
    from deadtokens.cli import display

    rows = group.rows_b if group.group_a is None else group.population_a
    cells = [
        "-" if group.group_a is None else str(group.group_a),
        f"{rows:,}",
        group.change,
        _some(group.populations),
        _some(group.groups_b),
        _some(group.merged_with),
        f"{group.grown_by:,}" if group.grown_by else "-",
        _length(group.distance),
    ]
    if found.lattice is not None:
        cells.append("-" if group.steps is None else f"{group.steps:,}")
    cells.append(str(group.first_row))
    if found.texts is not None:
        cells.append(display.quoted(found.texts[group.first_row]))
    return cells


def _rows_table(found: Diff) -> None:
    """The first rows that did not stay as they were."""
    from itertools import islice

    from deadtokens.cli import display
    from deadtokens.diff.files import row_records

    changed = (record for record in row_records(found) if record["change"] != "unchanged")
    shown = list(islice(changed, _ROWS_SHOWN))
    left = sum(change != "unchanged" for change in found.rows.change) - len(shown)
    if not shown:
        return
    columns = ["row", "group of A", "its rows", "group of B", "its rows", "moved", "change"]
    table = display.new_table(*columns, *(["token"] if found.texts is not None else []))
    for record in shown:
        names = ("group_a", "population_a", "group_b", "population_b")
        numbers = ("-" if record[name] is None else f"{record[name]:,}" for name in names)
        cells = [str(record["row"]), *numbers, _length(record["moved"]), record["change"]]
        if found.texts is not None:
            cells.append(display.quoted(found.texts[record["row"]]))
        table.add_row(*map(display.text_cell, cells))
    display.print_table(table)
    display.left_out(left, "more rows", ": all of them in diff.csv (-o DIR) and in --json")


def _length(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _some(numbers: tuple[int, ...]) -> str:
    if not numbers:
        return "-"
    more = ", ..." if len(numbers) > _NUMBERS_SHOWN else ""
    return ", ".join(f"{n:,}" for n in numbers[:_NUMBERS_SHOWN]) + more
