"""How results look in a terminal: tables on stdout, messages on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deadtokens.census import Census
from deadtokens.errors import plain
from deadtokens.exports import Written
from deadtokens.formats import get_format
from deadtokens.sources import Matrix
from deadtokens.statistics import Cell, Connectivity, Measurement

if TYPE_CHECKING:
    from deadtokens.kernels.types import Float64Array
    from deadtokens.snowball import Snowball
    from deadtokens.summaries import SigmaTotals
    from deadtokens.sweep import Progress, Sweep

GROUPS_SHOWN = 40
_THRESHOLDS_SHOWN = 12
_NARROWEST_FILE = 10_000  # a file or pipe has no width of its own; tables must not be cut there

_KEY_METRICS = (
    "n_unique",
    "n_black_holes",
    "n_singletons",
    "black_hole_population",
    "largest_bh",
    "gini_coefficient",
    "max_l_inf",
    "n_components",
    "largest_component_density",
    "global_density",
)

_SECTIONS: dict[str, dict[str, str]] = {
    "Basic counts": {
        "n_tokens": "rows measured",
        "n_unique": "distinct vectors",
        "n_black_holes": "vectors that two or more rows share",
        "n_singletons": "vectors that one row holds",
        "total_population": "rows in black holes and singletons",
        "black_hole_population": "rows in black holes",
    },
    "Black holes": {
        "largest_bh": "rows in the largest",
        "smallest_bh": "rows in the smallest",
        "mean_bh_size": "mean rows",
        "median_bh_size": "lower median of rows",
        "top2_population": "rows in the two largest",
        "gini_coefficient": "inequality of their populations",
    },
    "Extent, in units of epsilon": {
        "max_l_inf": "largest L-infinity distance",
        "mean_l_inf": "mean over pairs",
        "median_l_inf": "lower median over pairs",
    },
    "Extent, in lattice steps": {
        "max_ulp": "largest difference of ordinals; thousands mean a change of sign",
        "mean_ulp": "mean over pairs",
        "median_ulp": "lower median over pairs",
    },
    "Topology": {
        "n_components": "connected components",
        "n_isolated": "vectors that touch no other",
        "largest_component_size": "vectors in the largest component",
        "largest_component_density": "edges there, over possible ones",
        "global_density": "edges overall, over possible ones",
    },
}


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = max(console.width, _NARROWEST_FILE)
    return console


def line(text: str) -> None:
    """One line of a result."""
    _console().print(Text(plain(text)), soft_wrap=True)


def heading(text: str) -> None:
    """A line that starts a part of the output."""
    line("")
    _console().print(Text(f"$ {text}", style="bold"), soft_wrap=True)


def message(text: str) -> None:
    """One line about the work, not of its result."""
    print(text, file=sys.stderr)  # noqa: T201


def print_json(facts: dict[str, Any]) -> None:
    """A result for machines: strict JSON, infinities and NaN as null."""
    sys.stdout.write(json.dumps(_plain(facts), indent=2, allow_nan=False) + "\n")


def announce(files: Iterable[Written]) -> None:
    """Say what was written: content and size."""
    for file in files:
        message(f"wrote {file.path}: {file.content}, {size(file.path.stat().st_size)}")


def size(n_bytes: float) -> str:
    """Bytes in decimal units."""
    if n_bytes < 1000:
        return f"{n_bytes:.0f} bytes"
    power = min(int(math.log10(n_bytes)) // 3, 3)
    return f"{n_bytes / 1000**power:.1f} {('', 'kB', 'MB', 'GB')[power]}"


def matrix_lines(matrix: Matrix) -> None:
    """What was opened."""
    shape = f"{matrix.n_rows:,} rows x {matrix.n_dimensions:,} dimensions"
    line(f"{matrix.source}: {matrix.tensor}, {shape}, {matrix.format.name}")
    line(f"  {matrix.note or matrix.reason}")


def candidates_table(rows: Sequence[dict[str, Any]], n_tensors: int) -> None:
    """Tensors that can hold token vectors."""
    table = _table("tensor", "role", "shape", "dtype", "bytes", "file", "used")
    for row in rows:
        shape = " x ".join(f"{n:,}" for n in row["shape"])
        used = "used" if row["used"] else ""
        cells = (row["tensor"], row["role"], shape, row["dtype"], f"{row['bytes']:,}", row["file"])
        table.add_row(*(Text(plain(cell)) for cell in (*cells, used)))
    _print_table(table)
    line(f"{len(rows):,} of {n_tensors:,} tensors can hold token vectors")


def census_tables(
    found: Census, matrix: Matrix, members: Sequence[Sequence[int]], norms: Sequence[float]
) -> None:
    """Counts over the matrix, then its black holes, largest first."""
    in_groups = int(found.group_population.sum())
    line(
        f"{found.n_rows:,} rows, {found.n_unique:,} distinct vectors, "
        f"{found.group_first.size:,} black holes with {in_groups:,} rows"
    )
    if found.not_finite.size:
        shown = ", ".join(map(str, found.not_finite[:10]))
        more = ", ..." if found.not_finite.size > 10 else ""
        line(f"{found.not_finite.size:,} rows hold NaN or an infinity, in no group: {shown}{more}")
    if not found.group_first.size:
        line("no two rows are equal")
        return
    known = matrix.token_ids is not None
    table = _table("group", "population", "share of rows", "norm", "first rows")
    if known:
        table.add_column("first tokens", justify="left")
    for group, population in enumerate(found.group_population[:GROUPS_SHOWN].tolist()):
        cells = [
            str(group),
            f"{population:,}",
            f"{population / found.n_rows:.3%}",
            f"{norms[group]:.5g}",
            _some(members[group], population),
        ]
        if matrix.token_ids is not None:
            tokens = [int(i) for i in matrix.token_ids[list(members[group])] if i >= 0]
            cells.append(_some(tokens, population))
        table.add_row(*cells)
    _print_table(table)
    left = found.group_first.size - GROUPS_SHOWN
    if left > 0:
        line(f"and {left:,} smaller ones: all of them in census.csv (-o DIR) and in --json")


def measurement_tables(
    measurement: Measurement, which: str, snowball: Snowball, *, saved: bool
) -> None:
    """The statistics by section, then topology against distance."""
    row = measurement.row
    rows = {"duplicates": "the rows that equal another", "all": "all rows"}.get(which, which)
    line(
        f"measured: {rows}, as {row['format']}; {snowball.varying.size:,} of "
        f"{snowball.codes.shape[1]:,} dimensions vary"
    )
    line(f"epsilon = {row['epsilon']:.10g}: {measurement.epsilon_origin}")
    line(f"touching = {row['touching']:.10g}")
    table = _table("", "value", "meaning")
    table.columns[1].justify = "right"
    for title, metrics in _SECTIONS.items():
        table.add_row(Text(title, style="bold"))
        for metric, meaning in metrics.items():
            table.add_row(f"  {metric}", _value(metric, row), _meaning(metric, meaning, row))
    _print_table(table)
    if measurement.estimated:
        line(
            "Mean and median distances are estimates from sampled pairs, +- a standard error; "
            "the largest is exact."
        )
    if measurement.blank_reason:
        line(f"Topology is blank: {measurement.blank_reason}.")
    if measurement.connectivity:
        _connectivity_table(measurement.connectivity, row, saved=saved)


def _connectivity_table(connectivity: Connectivity, row: dict[str, Cell], *, saved: bool) -> None:
    epsilon = float(row["epsilon"] or 0)
    line(
        f"The graph is connected from {_length(connectivity.connected_at, epsilon)} on, and "
        f"complete from {_length(connectivity.complete_at, epsilon)} on."
    )
    table = _table("vectors touch up to", "in epsilon", "components")
    for column in table.columns:
        column.justify = "right"
    table.add_row("0", "0", f"{row['n_unique']:,}")
    distances = connectivity.distances.tolist()
    components = connectivity.n_components.tolist()
    for distance, n in list(zip(distances, components, strict=True))[:_THRESHOLDS_SHOWN]:
        table.add_row(f"{distance:.6g}", f"{distance / epsilon:.4g}", f"{n:,}")
    _print_table(table)
    left = len(distances) - _THRESHOLDS_SHOWN
    if left > 0:
        where = "are in thresholds.csv" if saved else "go to thresholds.csv with --save DIR"
        line(f"and {left:,} more distances, which {where}")


def sweep_tables(totals: Sequence[SigmaTotals]) -> None:
    """Key metrics: of one sigma mean and spread each, of several a line per sigma."""
    if len(totals) == 1:
        table = _table("metric", "mean", "std or range")
        for name in _KEY_METRICS:
            table.add_row(name, *_mean_and_spread(totals[0].metric(name)))
        _print_table(table)
        return
    table = _table("sigma", "trials", *_KEY_METRICS)
    for of_sigma in totals:
        cells = (" ".join(_mean_and_spread(of_sigma.metric(name))) for name in _KEY_METRICS)
        table.add_row(f"{of_sigma.sigma:.4g}", f"{len(of_sigma.rows):,}", *cells)
    _print_table(table)


def sweep_closing(sweep: Sweep, held: int, done: int, seconds: float, written: int) -> None:
    """What was done, how fast, and what keeping the embeddings would have taken."""
    sigmas = sweep.sigmas
    span = f"{sigmas[0]:g}" if len(sigmas) == 1 else f"{len(sigmas)} from {sigmas[0]:g} to "
    span += "" if len(sigmas) == 1 else f"{sigmas[-1]:g}"
    per_trial = sweep.spec.n_tokens * sweep.centroid.size
    embeddings = held * per_trial * get_format(sweep.format).bits // 8
    line(f"trials           {held:,} held, {done:,} of them new")
    line(f"sigma            {span}")
    line(f"time             {duration(seconds)}")
    line(f"trials per s     {done / seconds:,.0f}")
    line(f"bytes written    {size(written)}; the embeddings would have taken {size(embeddings)}")


def _mean_and_spread(values: Float64Array) -> tuple[str, str]:
    from deadtokens.summaries import spread

    mean = float(values.mean())
    std = spread(values)
    if std == 0:
        return f"{mean:,.5g}", f"({values.min():,.5g} to {values.max():,.5g})"
    return f"{mean:,.5g}", f"+- {std:.3g}"


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"


@contextlib.contextmanager
def progress_bar(total: int, *, shown: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr with trials per second and time left; yields what reports to it."""
    if not shown:
        yield lambda _: None
        return
    from rich import progress as bars

    with bars.Progress(
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("trials, {task.fields[speed]} per s,"),
        bars.TimeRemainingColumn(),
        bars.TextColumn("left"),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("", total=total, speed="-")

        def report(progress: Progress) -> None:
            speed = bar.tasks[0].speed
            shown_speed = f"{speed:,.0f}" if speed else "-"
            bar.update(task, completed=progress.done, speed=shown_speed)

        yield report


def _print_table(table: Table) -> None:
    console = _console()
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as printed:
        console.print(table)
    sys.stdout.write("".join(f"{row.rstrip()}\n" for row in printed.get().splitlines()))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _length(distance: float, epsilon: float) -> str:
    return f"{distance:.6g} ({distance / epsilon:.4g} epsilon)"


def _value(metric: str, row: dict[str, Cell]) -> str:
    value = row[metric]
    if value is None:
        return "-"
    number = float(value)
    error = row.get(f"{metric}_se")
    if error is not None:
        return f"{number:,.6g} +- {float(error):.2g}"
    if isinstance(value, int) or metric in ("max_ulp", "median_ulp", "median_bh_size"):
        return f"{number:,.0f}"
    if metric in ("mean_bh_size", "mean_ulp"):
        return f"{number:,.1f}"
    return f"{number:,.3f}" if number == 0 or 1e-2 <= number < 1e6 else f"{number:.4g}"


def _meaning(metric: str, meaning: str, row: dict[str, Cell]) -> str:
    if metric == "top2_population" and row["n_tokens"]:
        return f"{meaning}: {float(row[metric] or 0) / float(row['n_tokens']):.1%} of all rows"
    return meaning


def _some(numbers: Sequence[int], total: int) -> str:
    return ", ".join(map(str, numbers)) + (", ..." if total > len(numbers) else "")


def _plain(value: Any) -> Any:
    """Values as the json module takes them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
