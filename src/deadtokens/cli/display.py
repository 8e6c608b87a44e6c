"""How results look in a terminal: tables on stdout, messages on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deadtokens.census import Census
from deadtokens.errors import plain
from deadtokens.exports import Written
from deadtokens.sources import Matrix
from deadtokens.statistics import Cell, Connectivity, Measurement

_GROUPS_SHOWN = 40
_THRESHOLDS_SHOWN = 12
_NARROWEST_FILE = 10_000  # a file or pipe has no width of its own; tables must not be cut there

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
        "max_ulp": "largest difference of ordinals",
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
    _console().print(table)
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
    for group, population in enumerate(found.group_population[:_GROUPS_SHOWN].tolist()):
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
    _console().print(table)
    left = found.group_first.size - _GROUPS_SHOWN
    if left > 0:
        line(f"and {left:,} smaller ones: all of them in census.csv (-o DIR) and in --json")


def measurement_tables(
    measurement: Measurement, which: str, n_varying: int, *, saved: bool
) -> None:
    """The statistics by section, then topology against distance."""
    row = measurement.row
    line(f"measured: {which}, as {row['format']}; {n_varying:,} dimensions vary")
    line(f"epsilon = {row['epsilon']:.8g}: {measurement.epsilon_origin}")
    line(f"touching = {row['touching']:.8g}")
    table = _table("", "value", "meaning")
    table.columns[1].justify = "right"
    for title, metrics in _SECTIONS.items():
        table.add_row(Text(title, style="bold"))
        for metric, meaning in metrics.items():
            table.add_row(f"  {metric}", _value(metric, row), _meaning(metric, meaning, row))
    _console().print(table)
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
    _console().print(table)
    left = len(distances) - _THRESHOLDS_SHOWN
    if left > 0:
        where = "are in thresholds.csv" if saved else "go to thresholds.csv with --save DIR"
        line(f"and {left:,} more distances, which {where}")


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
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:,.1f}" if metric.endswith(("bh_size", "_ulp")) else f"{value:,.3f}"
    error = row.get(f"{metric}_se")
    return text if error is None else f"{text} +- {error:.2g}"


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
