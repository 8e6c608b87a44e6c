"""Trials as tables: a line per trial, and what they come to, a line per sigma and statistic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deadtokens.kernels.types import Float64Array
from deadtokens.statistics import COLUMNS
from deadtokens.tabular import Tabular
from deadtokens.trials import STATISTICS

# Everything that counts something is a whole number.
INTEGER_COLUMNS = frozenset(
    name for name in COLUMNS if name.startswith(("n_", "total", "black", "largest_bh", "smallest"))
) | {"trial_id", "top2_population", "largest_component_size"}
# What a line of trials.csv has besides the 21 columns: the same for all trials of a sigma.
TERM_COLUMNS = ("sigma", "epsilon", "touching", "format")
SUMMARY_COLUMNS = (
    "sigma",
    "metric",
    "trials",
    "mean",
    "std",
    "min",
    "q25",
    "median",
    "q75",
    "max",
)


@dataclass(frozen=True)
class OfSigma:
    """Trials of one sigma, one after another.

    Attributes:
        sigma: The standard deviation of the noise.
        rows: (trials, 20) float64, the statistics of `STATISTICS`.
        first: The first trial.
    """

    sigma: float
    rows: Float64Array
    first: int = 0

    def columns(self) -> dict[str, Any]:
        """The 21 columns: whole numbers as such."""
        return trial_columns(self.first, self.rows)


@dataclass(frozen=True)
class Trials(Tabular):
    """The trials of a run, a line each, as in trials.csv.

    Attributes:
        of_sigmas: Those of each sigma, in the run's order.
        epsilon: The length in which distances are quoted.
        touching: The distance up to which two vectors touch.
        format: Storage format's name.
    """

    of_sigmas: tuple[OfSigma, ...]
    epsilon: float
    touching: float
    format: str

    def __repr__(self) -> str:
        count = sum(len(of_sigma.rows) for of_sigma in self.of_sigmas)
        return f"<Trials: {count:,} of {len(self.of_sigmas):,} sigmas>"

    def columns(self) -> Mapping[str, Any]:
        """The 21 columns, then sigma, epsilon, touching and format."""
        blocks = [self.block(of_sigma) for of_sigma in self.of_sigmas]
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    def block(self, of_sigma: OfSigma) -> dict[str, Any]:
        """All columns of some trials."""
        terms = (of_sigma.sigma, self.epsilon, self.touching, self.format)
        return of_sigma.columns() | {
            name: np.full(len(of_sigma.rows), value)
            for name, value in zip(TERM_COLUMNS, terms, strict=True)
        }

    def summary(self) -> Summary:
        """What they come to, as in summary.csv."""
        return Summary(self.of_sigmas)


@dataclass(frozen=True)
class Summary(Tabular):
    """What trials come to: a line per sigma and statistic, as in summary.csv.

    Attributes:
        of_sigmas: The trials of each sigma.
    """

    of_sigmas: Sequence[OfSigma]

    def __repr__(self) -> str:
        return f"<Summary of {len(self.of_sigmas):,} sigmas x {len(STATISTICS)} statistics>"

    def lines(self) -> Iterable[tuple[Any, ...]]:
        """Sigma, statistic, trials, mean, std (ddof 1), range and quartiles."""
        for of_sigma in self.of_sigmas:
            for name, values in zip(STATISTICS, of_sigma.rows.T, strict=True):
                yield of_sigma.sigma, name, len(values), *summary_of(values)

    def columns(self) -> Mapping[str, Any]:
        """The columns of summary.csv."""
        return dict(zip(SUMMARY_COLUMNS, map(list, zip(*self.lines(), strict=True)), strict=True))


def trial_columns(first: int, rows: Float64Array) -> dict[str, Any]:
    """Trials from `first` on, (trials, 20), as the 21 columns: whole numbers as such."""
    columns: dict[str, Any] = {"trial_id": np.arange(first, first + len(rows))}
    for name, values in zip(STATISTICS, rows.T, strict=True):
        columns[name] = values.astype(np.int64) if name in INTEGER_COLUMNS else values
    return columns


def summary_of(values: Float64Array) -> tuple[float | None, ...]:
    """Mean, std, min, quartiles and max; no std for a single value."""
    std = spread(values) if values.size > 1 else None
    quartiles = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return (float(values.mean()), std, float(values.min()), *quartiles, float(values.max()))


def spread(values: Float64Array) -> float:
    """Standard deviation (ddof 1); exactly 0 of values that are all the same."""
    if values.size < 2 or values.min() == values.max():
        return 0.0
    return float(values.std(ddof=1))
