"""Results as tables in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from deadtokens.cli.display import left_out, line, new_table, print_table
from deadtokens.errors import plain
from deadtokens.formats import get_format
from deadtokens.montecarlo import Feature, called, p_words, spread_words
from deadtokens.sources import Matrix
from deadtokens.statistics import Cell, Connectivity, Measurement
from deadtokens.wording import duration, size

if TYPE_CHECKING:
    from deadtokens.kernels.types import Float64Array
    from deadtokens.selection import Selection
    from deadtokens.snowball import Snowball
    from deadtokens.solving import Solution
    from deadtokens.specification import Sweep
    from deadtokens.summaries import SigmaTotals
    from deadtokens.theory import Expectation


_THRESHOLDS_SHOWN = 12
_EVIDENCE_SHOWN = 20
_NOTES = {"rejected": "rejects", "mild": "mild", "consistent": ""}
_SMALLEST = 1e-300  # products of chances below this have no digits left

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


def warning_lines(warnings: Sequence[str]) -> None:
    """What warns of a result; it stands before everything else."""
    for warning in warnings:
        line(f"warning: {warning}")


def matrix_lines(matrix: Matrix, warnings: Sequence[str] | None = None) -> None:
    """What was opened, after what warns of it: by default the matrix's own warnings."""
    warning_lines(matrix.warnings if warnings is None else warnings)
    shape = f"{matrix.n_rows:,} rows x {matrix.n_dimensions:,} dimensions"
    line(f"{matrix.source}: {matrix.tensor}, {shape}, {matrix.storage}")
    line(f"  {matrix.note or matrix.reason}")
    for note in matrix.notes:
        line(f"  note: {note}")


def candidates_table(rows: Sequence[dict[str, Any]], n_tensors: int) -> None:
    """Tensors that can hold token vectors."""
    table = new_table("tensor", "role", "shape", "dtype", "bytes", "file", "used")
    for row in rows:
        shape = " x ".join(f"{n:,}" for n in row["shape"])
        used = "used" if row["used"] else ""
        cells = (row["tensor"], row["role"], shape, row["dtype"], f"{row['bytes']:,}", row["file"])
        table.add_row(*(Text(plain(cell)) for cell in (*cells, used)))
    print_table(table)
    line(f"{len(rows):,} of {n_tensors:,} tensors can hold token vectors")
    for row in rows[:_EVIDENCE_SHOWN]:
        line(
            f"  {row['tensor']}: {'; '.join(row['evidence']) or 'nothing speaks for or against it'}"
        )
    left_out(len(rows) - _EVIDENCE_SHOWN, "more", ": the evidence for all of them is in --json")


def measurement_tables(
    measurement: Measurement, chosen: Selection, snowball: Snowball, *, saved: bool
) -> None:
    """The statistics by section, then topology against distance."""
    line(
        f"measured: {chosen.words}, as {measurement.row['format']}; "
        f"{snowball.varying.size:,} of {snowball.codes.shape[1]:,} dimensions vary"
    )
    statistics_tables(measurement, saved=saved)


def statistics_tables(measurement: Measurement, *, saved: bool = False) -> None:
    """Epsilon and where it comes from, the statistics by section, topology against distance."""
    row = measurement.row
    line(f"epsilon = {row['epsilon']:.10g}: {measurement.epsilon_origin}")
    line(f"touching = {row['touching']:.10g}")
    table = new_table("", "value", "meaning")
    table.columns[1].justify = "right"
    for title, metrics in _SECTIONS.items():
        table.add_row(Text(title, style="bold"))
        for metric, meaning in metrics.items():
            table.add_row(f"  {metric}", _value(metric, row), _meaning(metric, meaning, row))
    print_table(table)
    if measurement.estimated:
        line(
            "Mean and median distances are estimates from sampled pairs, +- a standard error; "
            "the largest is exact."
        )
    if measurement.blank_reason:
        line(f"Topology is blank: {measurement.blank_reason}.")
    if measurement.lacking:
        line(f"{measurement.lacking}.")
    if measurement.connectivity:
        _connectivity_table(measurement.connectivity, row, saved=saved)


def features_table(features: Sequence[Feature], p_holm: Sequence[float]) -> None:
    """Features of the real cluster beside simulated ones."""
    table = new_table("feature", "observed", "simulated", "95 % of them", "p", "p (Holm)", "note")
    for found, adjusted in zip(features, p_holm, strict=True):
        table.add_row(
            found.name,
            _number(found.observed),
            spread_words(found.mean, found.std),
            f"{_number(found.low)} to {_number(found.high)}",
            p_words(found.p_value),
            p_words(adjusted),
            _NOTES[called(found.p_value, adjusted)],
        )
    print_table(table)


def _connectivity_table(connectivity: Connectivity, row: dict[str, Cell], *, saved: bool) -> None:
    epsilon = float(row["epsilon"] or 0)
    line(
        f"The graph is connected from {_length(connectivity.connected_at, epsilon)} on, and "
        f"complete from {_length(connectivity.complete_at, epsilon)} on."
    )
    table = new_table("vectors touch up to", "in epsilon", "components")
    table.add_row("0", "0", f"{row['n_unique']:,}")
    distances = connectivity.distances.tolist()
    components = connectivity.n_components.tolist()
    for distance, n in list(zip(distances, components, strict=True))[:_THRESHOLDS_SHOWN]:
        table.add_row(f"{distance:.6g}", f"{distance / epsilon:.4g}", f"{n:,}")
    print_table(table)
    where = "are in thresholds.csv" if saved else "go to thresholds.csv with --save DIR"
    left_out(len(distances) - _THRESHOLDS_SHOWN, "more distances", f", which {where}")


def sweep_tables(totals: Sequence[SigmaTotals]) -> None:
    """Key metrics: of one sigma mean and spread each, of several a line per sigma."""
    if len(totals) == 1:
        table = new_table("metric", "mean", "std or range")
        for name in _KEY_METRICS:
            table.add_row(name, *_mean_and_spread(totals[0].metric(name)))
        print_table(table)
        return
    table = new_table("sigma", "trials", *_KEY_METRICS)
    for of_sigma in totals:
        cells = (" ".join(_mean_and_spread(of_sigma.metric(name))) for name in _KEY_METRICS)
        table.add_row(f"{of_sigma.sigma:.4g}", f"{len(of_sigma.rows):,}", *cells)
    print_table(table)


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


def theory_table(expected: Sequence[Expectation], touching: float) -> None:
    """Expectations, a line per sigma, and the distance they are for."""
    expectations_table(expected)
    line(f"tokens touch up to {touching:.10g}; +- a standard error, and without one exact")


def expectations_table(expected: Sequence[Expectation]) -> None:
    """Expectations, a line per sigma."""
    from deadtokens.exports import theory_row

    names = [name for name in theory_row(expected[0]) if not name.endswith("_se")]
    table = new_table(*names)
    for row in map(theory_row, expected):
        table.add_row(f"{row['sigma']:.6g}", *(_expected(row, name) for name in names[1:]))
    print_table(table)


def solution_lines(
    metric: str, value: float, solutions: Sequence[Solution], between: tuple[float, float]
) -> None:
    """The sigmas that solve for a metric."""
    for found in solutions:
        line(f"{metric} = {value:.10g} at {solution_words(found)}")
    line(f"searched: sigma from {between[0]:.4g} to {between[1]:.4g}")


def solution_words(found: Solution) -> str:
    """A solution and its standard error."""
    error = f"+- {found.sigma_se:.2g}" if found.sigma_se else "(exact)"
    return f"sigma = {found.sigma:.10g} {error}"


def _expected(row: dict[str, float | None], name: str) -> str:
    value, error = row[name] or 0.0, row.get(f"{name}_se")
    if value < _SMALLEST and name in ("coinciding_pairs", "touching_probability"):
        return f"< {_SMALLEST:g}"
    return f"{value:,.6g}" + (f" +- {error:.2g}" if error else "")


def _mean_and_spread(values: Float64Array) -> tuple[str, str]:
    from deadtokens.trial_tables import spread

    mean = float(values.mean())
    std = spread(values)
    if std == 0:
        return f"{mean:,.5g}", f"({values.min():,.5g} to {values.max():,.5g})"
    return f"{mean:,.5g}", f"+- {std:.3g}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


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
