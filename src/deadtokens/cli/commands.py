"""The commands. Each imports what it computes with when it runs, so that ``--help`` is instant."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from deadtokens.kernels.types import BoolArray
    from deadtokens.snowball import Snowball
    from deadtokens.sources import Matrix
    from deadtokens.statistics import Measurement


_MANY_VECTORS = 6000


class Rows(StrEnum):
    """Which rows to measure."""

    DUPLICATES = "duplicates"
    ALL = "all"


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A .safetensors, .npy or .npz file, a folder or index of shards, "
        "builtin:qwen3-4b or builtin:whisper-tiny.en.",
        show_default=False,
    ),
]
Tensor = Annotated[
    str | None,
    typer.Option("--tensor", metavar="NAME", help="The tensor to read, by name."),
]
Mask = Annotated[
    str | None,
    typer.Option(
        "--mask",
        metavar="FILE[:key]",
        help="Take the rows that this mask selects: bool or 0/1 uint8, one entry per row.",
    ),
]
RowsOption = Annotated[
    Rows | None,
    typer.Option(
        "--rows",
        help="Take the rows that equal another (the default), or all (a built-in's default).",
    ),
]
VaryingOnly = Annotated[
    bool,
    typer.Option(
        "--varying-only",
        help="Say that columns in which the rows agree were left out of the source.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def inspect(source: Source, tensor: Tensor = None, json: Json = False) -> None:
    """List tensors that can hold token vectors.

    Says which one is used and why. By default that is the output (unembedding) matrix, or the
    input one where they are tied.
    """
    from deadtokens import sources
    from deadtokens.cli import display, tables

    found = sources.inspect(source, tensor)
    used = found.choice.tensor.name if found.choice else None
    rows: list[dict[str, Any]] = [
        {
            "tensor": candidate.tensor.name,
            "role": candidate.role,
            "shape": list(candidate.tensor.shape),
            "dtype": candidate.tensor.dtype,
            "bytes": candidate.tensor.nbytes,
            "file": candidate.tensor.path.name,
            "used": candidate.tensor.name == used,
        }
        for candidate in found.candidates
    ]
    if json:
        reason = found.choice.reason if found.choice else None
        display.print_json(
            {"source": source, "used": used, "reason": reason, "refusal": found.refusal}
            | {"n_tensors": found.n_tensors, "candidates": rows}
        )
    else:
        tables.candidates_table(rows, found.n_tensors)
        if found.choice:
            display.line(f"used: {used}: {found.choice.reason}")
    if found.refusal:
        from deadtokens.errors import SourceError

        raise SourceError(found.refusal)


def census(
    source: Source,
    tensor: Tensor = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Write census.csv, mask.safetensors and centroid.safetensors here.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Find groups of equal rows: the black holes.

    Every row of the matrix is looked at; the groups are printed largest first.
    """
    from deadtokens.census import census as take_census
    from deadtokens.cli import display, tables
    from deadtokens.exports import CENSUS_FILES, check_spares, write_census
    from deadtokens.sources import open_matrix
    from deadtokens.writing import make_folder

    matrix = open_matrix(source, tensor)
    if output is not None:
        make_folder(output)
        check_spares([output / name for name in CENSUS_FILES], matrix.files)
    found = take_census(matrix)
    norms = found.norms(matrix, None if json else tables.GROUPS_SHOWN)
    members = [rows[:4].tolist() for rows in found.group_rows]
    if json:
        display.print_json(
            {
                "source": matrix.source,
                "tensor": matrix.tensor,
                "format": matrix.format.name,
                "n_rows": found.n_rows,
                "n_dimensions": matrix.n_dimensions,
                "n_unique": found.n_unique,
                "n_black_holes": found.group_first.size,
                "black_hole_population": int(found.group_population.sum()),
                "not_finite": found.not_finite.tolist(),
                "groups": [
                    {"group": i, "population": int(population), "first_row": rows[0], "norm": norm}
                    for i, (population, rows, norm) in enumerate(
                        zip(found.group_population, members, norms.tolist(), strict=True)
                    )
                ],
            }
        )
    else:
        tables.matrix_lines(matrix)
        tables.census_tables(found, matrix, members, norms.tolist())
    if output is None:
        display.message("nothing written: add -o DIR for census.csv, the mask and the centroid")
    else:
        display.announce(write_census(output, matrix, found))


def measure(
    source: Source,
    tensor: Tensor = None,
    mask: Mask = None,
    rows: RowsOption = None,
    epsilon: Annotated[
        float | None,
        typer.Option(
            "--epsilon",
            metavar="E",
            help="The length in which distances are quoted; by default a ULP, printed.",
        ),
    ] = None,
    touching: Annotated[
        float | None,
        typer.Option(
            "--touching",
            metavar="X",
            help="The distance up to which two vectors touch; by default 2 epsilon.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.csv", help="Write the row of statistics."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            metavar="DIR",
            help="Write the cluster as data: vectors, dimensions, distances, thresholds.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure a cluster: the table of statistics.

    The cluster is what the chosen rows make: their distinct vectors and populations. The table
    holds counts, black holes, distances and topology, and says how topology depends on distance.
    """
    from deadtokens.cli import display, tables
    from deadtokens.errors import OutputError
    from deadtokens.exports import (
        CELLS_LIMIT,
        CLUSTER_FILES,
        MATRIX_LIMIT,
        check_spares,
        count_varying,
        write_cluster,
        write_measurement,
    )
    from deadtokens.files import array_file
    from deadtokens.occupied import occupied_cells
    from deadtokens.sources import open_matrix
    from deadtokens.statistics import EXACT_LIMIT
    from deadtokens.statistics import measure as measure_snowball
    from deadtokens.writing import check_place, make_folder

    check_choice(mask, rows)
    if save is not None:
        make_folder(save)
    if output is not None:
        check_place(output)
        if output.suffix.lower() != ".csv":
            raise OutputError("not a .csv file", where=output, remedy="name one with -o FILE.csv")
        make_folder(output.parent)
    matrix = open_matrix(source, tensor)
    places = [output] if output is not None else []
    places += [save / name for name in CLUSTER_FILES] if save is not None else []
    check_spares(places, (*matrix.files, *([array_file(mask)] if mask is not None else [])))
    snowball = selected(matrix, mask, rows)
    if _MANY_VECTORS < snowball.n_unique <= EXACT_LIMIT:
        display.message(
            f"{snowball.n_unique:,} distinct vectors: distances of all "
            f"{snowball.n_unique * (snowball.n_unique - 1) // 2:,} pairs, which takes a while"
        )
    measurement = measure_snowball(snowball, epsilon, touching)
    which = selection_name(matrix, mask, rows)
    if json:
        display.print_json(_facts(matrix, which, measurement))
    else:
        tables.matrix_lines(matrix)
        tables.measurement_tables(measurement, which, snowball, saved=bool(save))
    if output is not None:
        display.announce([write_measurement(output, measurement)])
    if save is not None:
        if snowball.n_unique > MATRIX_LIMIT:
            display.message(
                f"no pairs.safetensors: {snowball.n_unique:,} distinct vectors are more than the "
                f"{MATRIX_LIMIT:,} whose pairwise matrices are written"
            )
        n_cells = count_varying(occupied_cells(snowball))
        if n_cells > CELLS_LIMIT:
            display.message(
                f"no dimensions.csv: {n_cells:,} occupied cells are more than the "
                f"{CELLS_LIMIT:,} that are written"
            )
        display.announce(write_cluster(save, snowball, measurement))


def check_choice(mask: str | None, rows: Rows | None) -> None:
    """Refuse two ways of choosing rows at once."""
    from deadtokens.errors import SelectionError

    if mask is not None and rows is not None:
        raise SelectionError("both --mask and --rows", remedy="give one of them")


def chosen_rows(matrix: Matrix, mask: str | None, rows: Rows | None) -> BoolArray:
    """The mask of the rows that the options choose."""
    from deadtokens.census import load_mask, rows_to_measure

    return load_mask(mask, matrix) if mask is not None else rows_to_measure(matrix, rows)


def selected(matrix: Matrix, mask: str | None, rows: Rows | None) -> Snowball:
    """The snowball of the rows that the options choose."""
    from deadtokens.census import snowball_of

    return snowball_of(matrix, chosen_rows(matrix, mask, rows))


def selection_name(matrix: Matrix, mask: str | None, rows: Rows | None) -> str:
    """What the options choose: duplicates, all, or a mask."""
    return rows or matrix.default_rows if mask is None else f"mask {mask}"


def _facts(matrix: Matrix, which: str, measurement: Measurement) -> dict[str, Any]:
    connectivity = measurement.connectivity
    return {
        "source": matrix.source,
        "tensor": matrix.tensor,
        "storage": matrix.format.name,
        "rows": which,
        **measurement.row,
        "epsilon_origin": measurement.epsilon_origin,
        "estimated": measurement.estimated,
        "blank_reason": measurement.blank_reason,
        "connected_at": connectivity.connected_at if connectivity else None,
        "complete_at": connectivity.complete_at if connectivity else None,
    }
