"""A measured cluster among synthetic ones, metric by metric and jointly (docs/method.md, 11).

Tables in, tables out: nothing is drawn here. Every p-value counts the observation as one of the
T + 1 draws, so that it is valid whatever T is; ties count against significance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from deadtokens.errors import SelectionError, plain
from deadtokens.kernels.types import BoolArray, Float64Array
from deadtokens.montecarlo import FAMILY_LEVEL, called, holm, smallest_p, tails, two_sided
from deadtokens.observed import Measured, observe
from deadtokens.runs import RunFolder, open_run
from deadtokens.showing import Shown
from deadtokens.tabular import Records, Tabular
from deadtokens.trial_tables import INTEGER_COLUMNS
from deadtokens.trials import STATISTICS

Verdict: TypeAlias = Literal[
    "consistent", "mild", "rejected", "exact", "never seen", "not measured"
]

JOINT = "joint"
# Numbers closer than this, relative to their size, are the same number. A mean over pairs is summed
# in an order that depends on how a trial is measured, and division adds roundings: some ulps. The
# least that can truly change, one distance of 2e8 by a lattice step, moves a mean by over 1e-12.
ROUNDING = 64 * float(np.finfo(np.float64).eps)
# The same for rows of programs that may have computed means and distances in float32.
_FLOAT32_ROUNDING = 4 * float(np.finfo(np.float32).eps)
# The one difference among the metrics: rounding errors are relative to its terms, of order 1.
_GINI = STATISTICS.index("gini_coefficient")
# Directions whose eigenvalue of the correlation matrix is below this, relative to the largest,
# count as collinear: rounding leaves some 1e-15 where metrics depend on each other exactly.
_COLLINEAR = 1e-10
# Squared distances this close, relative to their size, are ties: equal rows must have equal rank,
# and their distances are equal only up to the rounding of the decomposition.
_DISTANCE_ROUNDING = 1e-9


DEVIATING = ("never seen", "rejected", "mild")  # verdicts that are not consistent


@dataclass(frozen=True)
class MetricComparison:
    """A metric of the measured cluster beside that of a sigma's trials: a line of comparison.csv.

    None is undefined: a spread of one trial, a z-score or shape where nothing varies, an observed
    value that was not measured.

    Attributes:
        metric: A name of `STATISTICS`, or "joint".
        observed: Of the measured cluster, in the run's units.
        synthetic_mean: Of the trials; likewise the next four.
        synthetic_std: With ddof 1.
        synthetic_median: The ordinary one.
        synthetic_min: The least.
        synthetic_max: The greatest.
        z_score: (observed - mean) / std.
        skewness: Of the trials.
        kurtosis: Their excess kurtosis.
        p_value: Two-sided Monte Carlo p-value (11.2); an upper bound where never seen (11.3).
        p_holm: Adjusted over the metrics that vary in simulation.
        percentile: Trials below the observation in percent, ties by half.
        verdict: In one word or two.
    """

    metric: str
    observed: float | None
    synthetic_mean: float
    synthetic_std: float | None
    synthetic_median: float
    synthetic_min: float
    synthetic_max: float
    z_score: float | None
    skewness: float | None
    kurtosis: float | None
    p_value: float | None
    p_holm: float | None
    percentile: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Tally:
    """Metrics by distance from the trials' mean.

    Attributes:
        within_1: Within one standard deviation.
        within_2: Within two, those within one included.
        beyond_2: Further away.
        constant: Constant in simulation, and so without a z-score.
        not_measured: Without an observation.
    """

    within_1: int
    within_2: int
    beyond_2: int
    constant: int
    not_measured: int


@dataclass(frozen=True)
class SigmaComparison(Shown):
    """The measured cluster beside the trials of one sigma.

    Attributes:
        sigma: The standard deviation of the noise.
        trials: T.
        metrics: One of each of `STATISTICS`, in that order.
        joint: Of the squared distance (11.4), over all metrics at once.
        rank: Independent directions in which the metrics vary.
    """

    sigma: float
    trials: int
    metrics: tuple[MetricComparison, ...]
    joint: MetricComparison
    rank: int

    def __repr__(self) -> str:
        joint = "-" if self.joint.p_value is None else f"{self.joint.p_value:.3g}"
        return f"<SigmaComparison at {self.sigma:.4g}: {self.trials:,} trials, joint p = {joint}>"

    @property
    def n_tested(self) -> int:
        """Metrics that vary in simulation and were measured: the family of Holm's correction."""
        return sum(metric.p_holm is not None for metric in self.metrics)

    @property
    def smallest_p(self) -> float:
        """The smallest two-sided p-value that so many trials can give."""
        return smallest_p(self.trials)

    @property
    def trials_to_reject(self) -> int:
        """Trials from which on a single metric can be rejected after Holm's correction."""
        return max(0, math.ceil(2 * self.n_tested / FAMILY_LEVEL) - 1)

    @property
    def tally(self) -> Tally:
        """Metrics by distance from the trials' mean."""
        sizes = [abs(m.z_score) for m in self.metrics if m.z_score is not None]
        not_measured = self.count("not measured")
        return Tally(
            within_1=sum(size <= 1 for size in sizes),
            within_2=sum(size <= 2 for size in sizes),
            beyond_2=sum(size > 2 for size in sizes),
            constant=len(self.metrics) - len(sizes) - not_measured,
            not_measured=not_measured,
        )

    @property
    def separation(self) -> float:
        """The joint distance from the trials alone, infinite if they never vary in its direction.

        A function of the joint statistic that grows with it (11.5) and, unlike it, does not depend
        on the number of trials, which may differ between sigmas.
        """
        return separation(self.joint.observed or 0.0, self.trials)

    def count(self, verdict: Verdict) -> int:
        """Metrics of that verdict."""
        return sum(metric.verdict == verdict for metric in self.metrics)

    def deviating(self) -> list[MetricComparison]:
        """Metrics that are not consistent, the most deviating first."""
        found = [m for m in self.metrics if m.verdict in DEVIATING]
        return sorted(found, key=lambda m: -math.inf if m.z_score is None else -abs(m.z_score))


@dataclass(frozen=True)
class Comparison(Tabular):
    """A measured cluster beside the trials of a run.

    Attributes:
        run: The run folder.
        measured: The file, or "the measured row".
        sigmas: One of each of the run's, in its order.
        notes: What was assumed or converted, and what is not comparable.
    """

    run: Path
    measured: str
    sigmas: tuple[SigmaComparison, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        best = self.best
        off = best.count("rejected") + best.count("never seen")
        return (
            f"<Comparison of {plain(self.measured)} with {plain(str(self.run))}: "
            f"at sigma {best.sigma:.4g}, {off} of {len(best.metrics)} statistics set it apart>"
        )

    def columns(self) -> Mapping[str, Any]:
        """The columns of comparison.csv: for each sigma a line per metric and the joint one's."""
        of_metrics = Records(
            MetricComparison, (line for at in self.sigmas for line in (*at.metrics, at.joint))
        )
        each = [len(at.metrics) + 1 for at in self.sigmas]
        return {
            **of_metrics.columns(),
            "sigma": np.repeat([at.sigma for at in self.sigmas], each),
            "trials": np.repeat([at.trials for at in self.sigmas], each),
        }

    @property
    def best(self) -> SigmaComparison:
        """The sigma of the smallest joint statistic; its p-values ignore that it was chosen.

        Where the trials of no sigma vary in the observation's direction, the one at which fewest
        metrics deviate; the first on ties.
        """
        return min(self.sigmas, key=lambda at: (at.separation, len(at.deviating())))


def separation(distance: float, trials: int) -> float:
    """The joint statistic freed of the number of trials: see `SigmaComparison.separation`."""
    n = trials + 1
    largest = (n - 1) ** 2 / n
    if distance >= largest * (1 - _DISTANCE_ROUNDING):
        return math.inf
    return distance / (1 - distance / largest)


def compare(run: RunFolder | str | Path, measured: Measured) -> Comparison:
    """Place a measured cluster among the trials of a run.

    Args:
        run: A sweep's run folder; it may be unfinished, as long as every sigma has some trials.
        measured: A measurement, a row of statistics by name, or the path of a MEASURED.csv.

    Raises:
        SourceError: A file cannot be read, or a part is damaged.
        SelectionError: A sigma without trials, a statistic that is missing or no number, or another
            touching distance than the run's.
    """
    folder = run if isinstance(run, RunFolder) else open_run(run)
    observation = observe(measured)
    observed, notes = observation.for_run(folder.specification)
    sigmas: list[float] = folder.specification["sigmas"]
    _check_trials(folder, sigmas)
    found = tuple(
        compare_trials(sigma, folder.rows(i), observed, foreign=observation.bare)
        for i, sigma in enumerate(sigmas)
    )
    return Comparison(folder.path, observation.where, found, tuple(notes))


def compare_trials(
    sigma: float, trials: Float64Array, observed: Float64Array, *, foreign: bool = False
) -> SigmaComparison:
    """Place a row of statistics among trials.

    Args:
        sigma: Of the trials.
        trials: (T, 20) float64, T at least 1.
        observed: (20,) float64, NaN where not measured.
        foreign: Whether the observation may have been computed in float32.
    """
    rows = _with_ties(trials, observed, foreign=foreign)
    metrics = [
        _metric(name, value, column, constant)
        for name, value, column, constant in zip(
            STATISTICS, observed.tolist(), rows.T, _constant(trials), strict=True
        )
    ]
    family = [i for i, metric in enumerate(metrics) if metric.verdict == "consistent"]
    adjusted = holm([metrics[i].p_value or 0.0 for i in family])
    for i, p_holm in zip(family, adjusted, strict=True):
        metrics[i] = _judged(metrics[i], p_holm)
    joint, rank = _joint(rows, observed)
    return SigmaComparison(sigma, len(trials), tuple(metrics), joint, rank)


def _check_trials(run: RunFolder, sigmas: Sequence[float]) -> None:
    held = [sum(part.count for part in run.leading(i)) for i in range(len(sigmas))]
    if all(held):
        return
    lacking = [f"{sigma:g}" for sigma, count in zip(sigmas, held, strict=True) if not count]
    raise SelectionError(
        f"no trials yet for sigma {', '.join(lacking[:3])}"
        + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""),
        where=run.path,
        remedy=f"finish the sweep: {run.command(max(held) or 1000)}",
    )


def _with_ties(trials: Float64Array, observed: Float64Array, *, foreign: bool) -> Float64Array:
    """The trials, with the observed value in the places where theirs is the same up to rounding."""
    tolerance = np.full(len(STATISTICS), ROUNDING)
    if foreign:
        inexact = [name not in INTEGER_COLUMNS for name in STATISTICS]
        tolerance[inexact] = _FLOAT32_ROUNDING
    size = np.abs(observed)
    size[_GINI] = max(size[_GINI], 1.0)
    return np.where(np.abs(trials - observed) <= tolerance * size, observed, trials)


def _constant(rows: Float64Array) -> BoolArray:
    """(20,) whether a column is constant up to rounding."""
    size = np.abs(rows).max(axis=0)
    size[_GINI] = max(size[_GINI], 1.0)
    return np.asarray(np.ptp(rows, axis=0) <= ROUNDING * size)


def _metric(name: str, observed: float, values: Float64Array, constant: bool) -> MetricComparison:
    """A metric before Holm's correction: one that varies is "consistent" until `_judged`."""
    mean = float(values.mean())
    std = None if values.size < 2 else 0.0 if constant else float(values.std(ddof=1))
    verdict: Verdict = "consistent"
    z_score = p_value = percentile = None
    if math.isnan(observed):
        verdict = "not measured"
    else:
        percentile = _percentile(observed, values)
        if not constant:
            z_score = (observed - mean) / std if std else None
            p_value = two_sided(*tails(observed, values))
        elif (values == observed).any():
            verdict, p_value = "exact", 1.0
        else:
            verdict, p_value = "never seen", 1 / (values.size + 1)
    skewness, kurtosis = (None, None) if constant else _shape(values, mean)
    return MetricComparison(
        metric=name,
        observed=None if math.isnan(observed) else observed,
        synthetic_mean=mean,
        synthetic_std=std,
        synthetic_median=float(np.median(values)),
        synthetic_min=float(values.min()),
        synthetic_max=float(values.max()),
        z_score=z_score,
        skewness=skewness,
        kurtosis=kurtosis,
        p_value=p_value,
        p_holm=None,
        percentile=percentile,
        verdict=verdict,
    )


def _judged(metric: MetricComparison, p_holm: float) -> MetricComparison:
    return replace(metric, p_holm=p_holm, verdict=called(metric.p_value or 0.0, p_holm))


def _joint(trials: Float64Array, observed: Float64Array) -> tuple[MetricComparison, int]:
    """The squared distance of the observation among those of the trials, and their rank."""
    distances, rank = _squared_distances(np.vstack([trials, observed]))
    observed_distance, simulated = float(distances[-1]), distances[:-1]
    ties = np.abs(simulated - observed_distance) <= _DISTANCE_ROUNDING * observed_distance
    simulated[ties] = observed_distance
    constant = bool(np.ptp(simulated) <= _DISTANCE_ROUNDING * simulated.max())
    placed = _metric(JOINT, observed_distance, simulated, constant)
    p_value = tails(observed_distance, simulated)[1]
    verdict = called(p_value, p_value)
    return replace(placed, z_score=None, p_value=p_value, verdict=verdict), rank


def _squared_distances(points: Float64Array) -> tuple[Float64Array, int]:
    """Of (n, 20) points from their mean, in their own covariance (11.4), and its rank.

    Everything here is a symmetric function of the points, so that the ranks of distances are those
    of exchangeable points: no point may be left out of the mean or the covariance.
    """
    measured = ~np.isnan(points[-1])
    kept = points[:, measured]
    kept = kept[:, ~_constant(points)[measured]]
    if not kept.size:
        return np.zeros(len(points)), 0
    kept = kept / np.abs(kept).max(axis=0)  # squares of anything finite are finite then
    whitened = (kept - kept.mean(axis=0)) / kept.std(axis=0, ddof=1)
    for _ in range(2):  # what rounding leaves of small eigenvalues, the second time takes away
        # einsum, because its sums do not depend on how many threads the machine has.
        covariance = np.einsum("ij,ik->jk", whitened, whitened) / (len(points) - 1)
        sizes, directions = np.linalg.eigh(covariance)
        wide = sizes > _COLLINEAR * sizes[-1]
        whitened = np.einsum("ij,jk->ik", whitened, directions[:, wide] / np.sqrt(sizes[wide]))
    return (whitened**2).sum(axis=1), whitened.shape[1]


def _percentile(observed: float, values: Float64Array) -> float:
    below, up_to = (values < observed).sum(), (values <= observed).sum()
    return float(50 * (below + up_to) / values.size)


def _shape(values: Float64Array, mean: float) -> tuple[float, float]:
    """Skewness and excess kurtosis, without corrections for bias."""
    deviations = (values - mean) / values.std()
    return float((deviations**3).mean()), float((deviations**4).mean() - 3)
