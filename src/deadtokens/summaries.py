"""What a run's parts come to: trials.csv, summary.csv, and the totals of elements and ranks."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from deadtokens.cloud import Cloud
from deadtokens.elements import ElementTotals, cell_deviations, inactive_deviations
from deadtokens.kernels.types import Float64Array, Int64Array
from deadtokens.runs import RunFolder, missing_parts
from deadtokens.sampling import SamplerName, cell_table
from deadtokens.showing import Shown, ShownList
from deadtokens.statistics import COLUMNS
from deadtokens.tabular import Tabular
from deadtokens.trial_tables import SUMMARY_COLUMNS, TERM_COLUMNS, OfSigma, Summary, Trials
from deadtokens.trials import STATISTICS, TrialSpec
from deadtokens.writing import check_place, replacing, write_csv

RESULT_FILES = ("trials.csv", "summary.csv", "elements.npz")
_CSV_ROWS = 20_000
_CSV_BLOCKS = 8


class Moments(NamedTuple):
    """Of a distribution; skewness and excess kurtosis are NaN where nothing varies."""

    mean: float
    std: float
    skewness: float
    excess_kurtosis: float


@dataclass(frozen=True)
class SigmaTotals(Shown):
    """What all trials of one sigma add up to.

    Attributes:
        sigma: The standard deviation of the noise.
        sampler: How trials were drawn.
        rows: (trials, 20) float64, the statistics of `STATISTICS`.
        ranked: (ranks, bins) int64, trials by population at each rank.
        deviations: (k,) float64: where the pooled distribution of value minus centroid
            has its mass: cells, or the centres of bins.
        counts: (k,) int64, elements there; every token and dimension counts.
        edges: (k + 1,) float64 of the bins; None where deviations are exact.
        moments: Of all elements, from every trial.
    """

    sigma: float
    sampler: str
    rows: Float64Array
    ranked: Int64Array
    deviations: Float64Array
    counts: Int64Array
    edges: Float64Array | None
    moments: Moments

    def __repr__(self) -> str:
        unique = self.metric("n_unique").mean()
        return (
            f"<SigmaTotals: sigma {self.sigma:.4g}, {len(self.rows):,} trials, "
            f"{unique:,.5g} distinct vectors on average>"
        )

    def metric(self, name: str) -> Float64Array:
        """(trials,) float64, a statistic of every trial."""
        return np.asarray(self.rows[:, STATISTICS.index(name)])


class Totals(ShownList[SigmaTotals], Tabular):
    """What the trials of a sweep add up to, by sigma; as a table, the lines of summary.csv."""

    def of_sigmas(self) -> tuple[OfSigma, ...]:
        """The trials of each sigma."""
        return tuple(OfSigma(of_sigma.sigma, of_sigma.rows) for of_sigma in self)

    def columns(self) -> Mapping[str, Any]:
        """The columns of summary.csv."""
        return Summary(self.of_sigmas()).columns()


def sigma_totals(
    run: RunFolder, index: int, cloud: Cloud, spec: TrialSpec, sampler: SamplerName
) -> SigmaTotals:
    """Read a sigma's parts and add them up; the result does not depend on how they were cut.

    Raises:
        SourceError: A part is damaged, or holds trials that another one holds too; or trial 0 is
            in none.
    """
    blocks = []
    ranked = np.zeros((spec.ranks.size, spec.population_bins.size), dtype=np.int64)
    elements = np.zeros(_n_element_counts(cloud, sampler), dtype=np.int64)
    power_sums = [0] * 4
    for part in run.leading(index):
        batch = run.read(part)
        blocks.append(batch.rows)
        ranked += batch.ranked.reshape(ranked.shape)
        elements += batch.elements
        power_sums = [a + b for a, b in zip(power_sums, batch.power_sums, strict=True)]
    if not blocks:
        raise missing_parts(run)
    rows = np.concatenate(blocks)
    each = spec.n_tokens * len(rows)  # elements per dimension
    inactive = inactive_deviations(cloud)
    if sampler == "occupancy":
        deviations = np.concatenate([cell_deviations(cloud), inactive])
        counts = np.concatenate([elements, np.full(inactive.size, each)])
        edges = None
        powers = [
            math.fsum((counts * deviations**p).tolist()) / (each * cloud.d) for p in range(1, 5)
        ]
    else:
        edges = ElementTotals(cloud).edges
        deviations = (edges[1:] + edges[:-1]) / 2
        counts = elements + each * np.histogram(inactive, edges)[0]
        powers = [
            (float(power_sums[p] * ElementTotals.UNIT) + each * math.fsum(inactive ** (p + 1)))
            / (each * cloud.d)
            for p in range(4)
        ]
    return SigmaTotals(
        float(cloud.sigma[0]),
        sampler,
        rows,
        ranked,
        deviations,
        counts,
        edges,
        _moments(powers),
    )


def _n_element_counts(cloud: Cloud, sampler: SamplerName) -> int:
    return cell_table(cloud).ordinals.size if sampler == "occupancy" else ElementTotals.BINS


def _moments(powers: list[float]) -> Moments:
    """From the means of powers 1 to 4 about the centroid, which is close to the mean."""
    m1, p2, p3, p4 = powers
    m2 = p2 - m1**2
    m3 = p3 - 3 * m1 * p2 + 2 * m1**3
    m4 = p4 - 4 * m1 * p3 + 6 * m1**2 * p2 - 3 * m1**4
    if m2 <= 0:
        return Moments(m1, 0.0, math.nan, math.nan)
    return Moments(m1, math.sqrt(m2), m3 / m2**1.5, m4 / m2**2 - 3)


def check_results(folder: Path) -> None:
    """Refuse a run folder in which results could not be written, before any work.

    Raises:
        OutputError: There is a folder, device or pipe in place of one.
    """
    for name in RESULT_FILES:
        check_place(folder / name)


def write_trials(path: Path, trials: Trials) -> None:
    """Write trials.csv: the 21 columns, sigma, epsilon, touching, format; a line per trial."""
    blocks = [
        OfSigma(of_sigma.sigma, of_sigma.rows[start : start + _CSV_ROWS], start)
        for of_sigma in trials.of_sigmas
        for start in range(0, len(of_sigma.rows), _CSV_ROWS)
    ]
    with replacing(path) as file, ThreadPoolExecutor() as pool:
        # Arrow would quote the names.
        file.write((",".join((*COLUMNS, *TERM_COLUMNS)) + "\n").encode())
        for i in range(0, len(blocks), _CSV_BLOCKS):  # so that not all lines are held at once
            for lines in pool.map(partial(_csv_lines, trials), blocks[i : i + _CSV_BLOCKS]):
                file.write(lines)


def _csv_lines(trials: Trials, block: OfSigma) -> bytes:
    lines = io.BytesIO()
    options = arrow_csv.WriteOptions(include_header=False, quoting_style="none")
    arrow_csv.write_csv(pa.table(trials.block(block)), lines, options)
    return lines.getvalue()


def write_summary(path: Path, summary: Summary) -> None:
    """Write summary.csv: per sigma and metric the mean, std (ddof 1), range and quartiles."""
    write_csv(path, SUMMARY_COLUMNS, summary.lines())


def write_elements(path: Path, totals: Sequence[SigmaTotals]) -> None:
    """Write elements.npz: the pooled distribution of value minus centroid, for each sigma.

    Arrays ``sigma``, ``mean``, ``std``, ``skewness``, ``excess_kurtosis``, and for the i-th sigma
    ``deviation_i`` and ``count_i``: the cells, or the centres of bins, and the elements there;
    ``edges_i`` where they are bins.
    """
    arrays: dict[str, Any] = {"sigma": np.array([of_sigma.sigma for of_sigma in totals])}
    for name in Moments._fields:
        arrays[name] = np.array([getattr(of_sigma.moments, name) for of_sigma in totals])
    for i, of_sigma in enumerate(totals):
        arrays[f"deviation_{i}"] = of_sigma.deviations
        arrays[f"count_{i}"] = of_sigma.counts
        if of_sigma.edges is not None:
            arrays[f"edges_{i}"] = of_sigma.edges
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)
