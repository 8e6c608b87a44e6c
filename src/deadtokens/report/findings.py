"""What a run folder holds, for the page. Every part but the sweep may be missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deadtokens.compare import DEVIATING, separation
from deadtokens.kernels.types import Int64Array
from deadtokens.report.census_findings import CensusFindings
from deadtokens.specification import Sweep
from deadtokens.summaries import SigmaTotals

JOINT = "joint"


@dataclass(frozen=True)
class Compared:
    """A metric of the real cluster beside the trials of a sigma: a line of comparison.csv."""

    sigma: float
    trials: int
    metric: str
    observed: float | None
    mean: float | None
    std: float | None
    median: float | None
    low: float | None
    high: float | None
    z: float | None
    p: float | None
    p_holm: float | None
    verdict: str


@dataclass(frozen=True)
class Tested:
    """A feature of one of the tests in tests.json."""

    test: str
    name: str
    observed: float | None
    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    verdict: str


@dataclass(frozen=True)
class Answer:
    """Whether the story fits, in the words of tests.json; ``fits`` is None if that is unclear."""

    fits: bool | None
    headline: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Fit:
    """The fitted sigma, and the lines of fit/dimensions.csv as numbers by column."""

    sigma: float
    low: float | None
    high: float | None
    facts: Mapping[str, Any]
    notes: tuple[str, ...]
    dimensions: tuple[Mapping[str, float | None], ...]


@dataclass(frozen=True)
class Cluster:
    """The real cluster as `deadtokens.exports.write_cluster` stores it.

    Attributes:
        populations: (m,) rows that hold each vector.
        first_rows: (m,) the first row that holds it; None where rows have no numbers.
        l_inf: (m, m) distances; None where they were not written.
        cells: Of each varying dimension its occupied cells: (dimension, ordinal, value, rows).
        thresholds: (distance, components), ascending; empty where they are not known.
    """

    populations: Int64Array
    first_rows: Int64Array | None
    l_inf: npt.NDArray[np.float32] | None
    cells: tuple[tuple[int, int, float, int], ...]
    thresholds: tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class Findings:
    """All that the page can show; what the run lacks is None or empty.

    Attributes:
        name: Of the folder.
        manifest: Its manifest.
        sweep: What was simulated.
        totals: Of each sigma that has trials, in run order.
        measured: The real cluster's row of statistics: numbers, and ``format``.
        compared: Lines of comparison.csv.
        theory: Lines of theory.csv, by column.
        fit: The fitted sigma.
        cluster: The real cluster.
        tested: Features of the tests.
        answer: Whether the story fits.
        study: study.json.
        census: What is known of all rows of the matrix.
    """

    name: str
    manifest: Mapping[str, Any]
    sweep: Sweep
    totals: tuple[SigmaTotals, ...]
    measured: Mapping[str, float] | None
    compared: tuple[Compared, ...]
    theory: tuple[Mapping[str, float | None], ...]
    fit: Fit | None
    cluster: Cluster | None
    tested: tuple[Tested, ...]
    answer: Answer | None
    study: Mapping[str, Any] | None
    census: CensusFindings | None

    @property
    def main(self) -> SigmaTotals:
        """The sigma that the page opens with.

        Nearest the study's or the fitted one; else the one at which the real cluster deviates
        least; without one, the first at which some tokens coincide and others do not.
        """
        study = self.study or {}
        # "sigma" is how version 0.1.0 called it.
        wanted = study.get("simulated_sigma") or study.get("sigma")
        wanted = wanted or (self.fit.sigma if self.fit else self._best())
        if not isinstance(wanted, int | float) or not wanted > 0:
            n = self.sweep.spec.n_tokens
            partly = (t for t in self.totals if 1 < np.median(t.metric("n_unique")) < n)
            return next(partly, self.totals[0])
        fitted = math.log(wanted)
        positive = [of_sigma for of_sigma in self.totals if of_sigma.sigma > 0]
        return min(
            positive or self.totals[:1],
            key=lambda of_sigma: abs(math.log(of_sigma.sigma or 1) - fitted),
        )

    def _best(self) -> float:
        """The sigma of the smallest joint statistic, then of the fewest deviations; 0 if none."""
        joint = [line for line in self.compared if line.metric == JOINT]

        def deviation(line: Compared) -> tuple[float, int]:
            off = sum(one.verdict in DEVIATING for one in self.compared_at(line.sigma))
            return separation(line.observed or 0.0, line.trials), off

        return min(joint, key=deviation).sigma if joint else 0.0

    def compared_at(self, sigma: float) -> list[Compared]:
        """The comparison's lines for a sigma."""
        return [line for line in self.compared if math.isclose(line.sigma, sigma, rel_tol=1e-9)]
