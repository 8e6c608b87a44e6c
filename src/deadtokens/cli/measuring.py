"""The command that measures a cluster, or saved trials of one."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deadtokens.cli.commands import (
    Json,
    Mask,
    Rows,
    RowsOption,
    Source,
    StoredAs,
    Tensor,
    check_choice,
    selected,
)
from deadtokens.cli.options import Touching

if TYPE_CHECKING:
    from deadtokens.saved_trials import MeasuredTrials, SavedTrials
    from deadtokens.selection import Selection
    from deadtokens.snowball import Snowball
    from deadtokens.sources import Matrix
    from deadtokens.statistics import Measurement

_MANY_VECTORS = 6000


def measure(
    source: Source,
    tensor: Tensor = None,
    stored_as: StoredAs = None,
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
    touching: Touching = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE.csv",
            help="Write the row of statistics, of saved trials one each.",
        ),
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
    Of saved trials (trials x tokens x dimensions) each is a cluster of all its rows; they are
    measured one by one, with the format and epsilon of them all, and summarised.
    """
    from deadtokens.sources import PREFIX, open_matrix, open_model

    check_choice(mask, rows)
    if output is not None:
        _check_output(output)
    model = None if source.startswith(PREFIX) else open_model(source, format=stored_as)
    if model is not None:
        from deadtokens.saved_trials import trials_of

        trials = trials_of(model, tensor)
        if trials is not None:
            _refuse_for_trials(rows, save)
            _measure_trials(trials, mask, (epsilon, touching), output, json)
            return
    matrix = model.matrix(tensor) if model else open_matrix(source, tensor, format=stored_as)
    _measure_matrix(matrix, (mask, rows), (epsilon, touching), (output, save), json)


def _check_output(output: Path) -> None:
    from deadtokens.errors import OutputError
    from deadtokens.writing import check_place, make_folder

    check_place(output)
    if output.suffix.lower() != ".csv":
        raise OutputError("not a .csv file", where=output, remedy="name one with -o FILE.csv")
    make_folder(output.parent)


def _measure_matrix(
    matrix: Matrix,
    choice: tuple[str | None, Rows | None],
    lengths: tuple[float | None, float | None],
    places: tuple[Path | None, Path | None],
    json: bool,
) -> None:
    """Measure the rows that a mask or a name chooses, and write the row and the cluster."""
    from deadtokens.cli import display, tables
    from deadtokens.exports import CLUSTER_FILES, write_measurement
    from deadtokens.files import array_file
    from deadtokens.statistics import EXACT_LIMIT
    from deadtokens.statistics import measure as measure_snowball
    from deadtokens.writing import check_spares, make_folder

    mask, rows = choice
    output, save = places
    if save is not None:
        make_folder(save)
    results = [output] if output is not None else []
    results += [save / name for name in CLUSTER_FILES] if save is not None else []
    check_spares(results, (*matrix.files, *([array_file(mask)] if mask is not None else [])))
    snowball, chosen = selected(matrix, mask, rows)
    if _MANY_VECTORS < snowball.n_unique <= EXACT_LIMIT:
        display.message(
            f"{snowball.n_unique:,} distinct vectors: distances of all "
            f"{snowball.n_unique * (snowball.n_unique - 1) // 2:,} pairs, which takes a while"
        )
    measurement = measure_snowball(snowball, *lengths)
    if json:
        display.print_json(_facts(matrix, chosen, measurement))
    else:
        tables.matrix_lines(matrix)
        tables.measurement_tables(measurement, chosen, snowball, saved=bool(save))
    if output is not None:
        display.announce([write_measurement(output, measurement)])
    if save is not None:
        _save(save, snowball, measurement)


def _save(folder: Path, snowball: Snowball, measurement: Measurement) -> None:
    from deadtokens.cli import display
    from deadtokens.exports import CELLS_LIMIT, MATRIX_LIMIT, count_varying, write_cluster
    from deadtokens.occupied import occupied_cells

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
    display.announce(write_cluster(folder, snowball, measurement))


def _refuse_for_trials(rows: Rows | None, save: Path | None) -> None:
    """Refuse what has no meaning for trials, of which each is a cluster of all its rows."""
    from deadtokens.errors import SelectionError

    if save is not None:
        raise SelectionError(
            "--save writes one cluster, and this file holds trials",
            remedy="write their rows of statistics with -o FILE.csv; for one trial as data, save "
            "it as a matrix of its own",
        )
    if rows not in (None, Rows.ALL):
        raise SelectionError(
            f"--rows {rows} with saved trials: rows chosen because they lie close are no fair "
            "sample of a trial",
            remedy="leave --rows out, all rows of each trial are measured; or choose tokens with "
            "--mask",
        )


def _measure_trials(
    trials: SavedTrials,
    mask: str | None,
    lengths: tuple[float | None, float | None],
    output: Path | None,
    json: bool,
) -> None:
    """Measure every trial, print their summary, write a row each."""
    from deadtokens.cli import display
    from deadtokens.exports import write_rows
    from deadtokens.files import array_file
    from deadtokens.formats import FLOAT32
    from deadtokens.masks import load_mask
    from deadtokens.saved_trials import measure_trials
    from deadtokens.wording import duration
    from deadtokens.writing import check_spares

    read = (*trials.files, *([array_file(mask)] if mask is not None else []))
    check_spares([output] if output is not None else [], read)
    tokens = load_mask(mask, trials.matrix(0)) if mask is not None else None
    started = time.perf_counter()
    if sys.stderr.isatty() and trials.storage is FLOAT32:
        display.message("reading every number once: of which format are they?")
    measured = measure_trials(trials, mask=tokens, epsilon=lengths[0], touching=lengths[1])
    seconds = time.perf_counter() - started
    which = "all rows of each trial" if mask is None else f"mask {mask} of each trial"
    if json:
        display.print_json(_trials_facts(trials, which, measured))
    else:
        _trials_tables(trials, which, measured)
        display.line(f"trials           {trials.shape[0]:,}")
        display.line(f"time             {duration(seconds)}")
        display.line(f"trials per s     {trials.shape[0] / seconds:,.1f}")
    if output is not None:
        display.announce([write_rows(output, measured.rows)])
    else:
        display.message("nothing written: add -o FILE.csv for a row of statistics a trial")


def _trials_tables(trials: SavedTrials, which: str, measured: MeasuredTrials) -> None:
    """What was opened and measured, then each statistic over the trials."""
    from deadtokens.cli import display

    n_trials, n_tokens, d = trials.shape
    shape = f"{n_trials:,} trials x {n_tokens:,} tokens x {d:,} dimensions"
    first = measured.rows[0]
    display.line(f"{trials.source}: {trials.tensor}, {shape}, {trials.storage.name}")
    display.line(f"  {trials.reason}")
    display.line(f"measured: {which}, as {measured.format.name}")
    display.line(f"epsilon = {first['epsilon']:.10g}: {measured.epsilon_origin}")
    display.line(f"touching = {first['touching']:.10g}")
    summary_tables(measured)


def summary_tables(measured: MeasuredTrials) -> None:
    """Each statistic over the trials."""
    from deadtokens.cli import display

    n_trials = len(measured.rows)
    summary = measured.summary()
    some_blank = any(row["trials"] != n_trials for row in summary.values())
    columns = list(next(iter(summary.values())))
    shown = columns if some_blank else columns[1:]
    table = display.new_table("", *shown)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, row in summary.items():
        table.add_row(name, *(_number(row[column]) for column in shown))
    display.print_table(table)
    if measured.estimated:
        display.line(
            f"Mean and median distances of {measured.estimated:,} trials are estimates from "
            "sampled pairs, with their standard errors in the columns that end in _se."
        )
    if measured.blank_reasons:
        trial, reason = next(iter(measured.blank_reasons.items()))
        blank = f"{len(measured.blank_reasons):,} trials"
        display.line(f"Topology of {blank} is blank (trial {trial}: {reason}).")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    whole = float(value).is_integer() and abs(value) < 1e15
    return f"{value:,.0f}" if whole else f"{value:,.5g}"


def _trials_facts(trials: SavedTrials, which: str, measured: MeasuredTrials) -> dict[str, Any]:
    first = measured.rows[0]
    return {
        "source": trials.source,
        "tensor": trials.tensor,
        "storage": trials.storage.name,
        "shape": list(trials.shape),
        "rows": which,
        **{name: first[name] for name in ("epsilon", "touching", "format")},
        "epsilon_origin": measured.epsilon_origin,
        "estimated": measured.estimated,
        "blank_reasons": {str(trial): text for trial, text in measured.blank_reasons.items()},
        "summary": measured.summary(),
        "trials": measured.rows,
    }


def _facts(matrix: Matrix, chosen: Selection, measurement: Measurement) -> dict[str, Any]:
    connectivity = measurement.connectivity
    return {
        "source": matrix.source,
        "tensor": matrix.tensor,
        "warnings": list(matrix.warnings),
        "storage": matrix.storage,
        "rows": chosen.name,
        "rows_reason": chosen.reason or None,
        **measurement.row,
        "epsilon_origin": measurement.epsilon_origin,
        "estimated": measurement.estimated,
        "blank_reason": measurement.blank_reason,
        "lacking": measurement.lacking or None,
        "connected_at": connectivity.connected_at if connectivity else None,
        "complete_at": connectivity.complete_at if connectivity else None,
    }
