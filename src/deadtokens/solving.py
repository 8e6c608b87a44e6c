"""The sigma at which an expected number takes a given value (docs/method.md, section 10).

All but the number of black holes rise or fall with sigma (as long as sigma does not exceed the
centroid's own numbers, around which the lattice grows with it), so that there is one solution,
found by Brent's method in log sigma. Black holes first grow in number as vectors split off and then
vanish again; there, and where the ends of the range do not enclose the value, a grid finds all
changes of sign. Estimates keep their random numbers while sigma
changes, so that they are smooth enough to be solved for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from deadtokens.cloud import Cloud
from deadtokens.errors import FormatError, SelectionError
from deadtokens.formats import Float64Array, Intermediate, get_format
from deadtokens.noise import Noise
from deadtokens.showing import Shown, ShownList
from deadtokens.tabular import Records, Tabular
from deadtokens.theory import Expectation, expectation, log_coincidence
from deadtokens.touching import LOG_SMALLEST, lengths, log_touching_probability

METRICS = (
    "coinciding_pairs",
    "n_unique",
    "n_singletons",
    "n_black_holes",
    "black_hole_population",
    "touching_probability",
)
_GRID_PER_DECADE = 12  # where solutions may be several
_STEP = 0.02  # of log sigma either side, for the slope
_FAR = 16  # so many times fewer pairs than would do: the metric is at its limit
_PLATEAU = 1e-9  # relative: closer than this to the value is no change of sign


@dataclass(frozen=True)
class Solution(Shown):
    """A sigma at which an expected number has the value asked for.

    Attributes:
        sigma: Standard deviation of the noise.
        sigma_se: Its standard error, from that of the estimate (equation 10.11); 0 where exact.
        expectation: What to expect there.
    """

    sigma: float
    sigma_se: float
    expectation: Expectation

    def __repr__(self) -> str:
        return f"<Solution: sigma {self.sigma:.6g} +- {self.sigma_se:.2g}, {self.expectation!r}>"


class Solutions(ShownList[Solution], Tabular):
    """Sigmas that solve one question; as a table, a line each with the numbers expected there."""

    def columns(self) -> Mapping[str, Any]:
        """sigma, sigma_se, then the fields of `Expectation`."""
        expected = Records(Expectation, (found.expectation for found in self)).columns()
        errors = [found.sigma_se for found in self]
        return {"sigma": expected["sigma"], "sigma_se": errors, **expected}


def solve(
    centroid: npt.ArrayLike,
    metric: str,
    value: float,
    n_tokens: int,
    *,
    between: tuple[float, float] | None = None,
    touching: float | None = None,
    epsilon: float | None = None,
    noise: Noise = "gaussian",
    format: str = "bfloat16",  # noqa: A002
    intermediate: Intermediate = "float32",
) -> Solutions:
    """The sigmas at which a metric's expectation is that value, ascending; one but for black holes.

    Args:
        centroid: (d,) finite numbers.
        metric: One of `METRICS`.
        value: What it is to be.
        n_tokens: Tokens of a trial.
        between: The range of sigma to search; `default_range` by default.
        touching: As for `theory`, and so are the others.
        epsilon: The ULP of the centroid's largest |value| by default.
        noise: Kind of noise.
        format: Storage format.
        intermediate: "float32" if centroid + noise is rounded to float32 first.

    Raises:
        SelectionError: No such metric, a value that it cannot take, or not in that range.
        FormatError: An unknown format, or values that would overflow it.
    """
    if metric not in METRICS:
        raise SelectionError(f"unknown metric {metric!r}", remedy=f"use {', '.join(METRICS)}")

    def cloud(sigma: float) -> Cloud:
        return Cloud(centroid, sigma, noise=noise, format=format, intermediate=intermediate)

    cloud(0.0).check(n_tokens)
    least, most = _bounds(metric, n_tokens)
    if not least < value < most:
        raise SelectionError(
            f"{metric} = {value:.10g} is the value of no sigma",
            remedy=f"with {n_tokens:,} tokens, give a number above {least} and below {most:.10g}",
        )
    _, limit = lengths(cloud(0.0).centroid, format, epsilon, touching)
    if between is None:
        between = default_range(
            cloud(0.0).centroid, n_tokens, noise=noise, format=format, intermediate=intermediate
        )
    low, high = between
    if not (math.isfinite(high) and 0 < low < high):
        raise SelectionError(
            f"sigma from {low:g} to {high:g}", remedy="give a range of two positive numbers"
        )

    @cache
    def log_value(log_sigma: float) -> float:
        return _log_metric(cloud(math.exp(log_sigma)), metric, value, n_tokens, limit)

    def excess(log_sigma: float) -> float:
        return log_value(log_sigma) - math.log(value)

    ends = math.log(low), math.log(high)
    roots = [] if metric == "n_black_holes" else _roots(excess, *ends, several=False)
    roots = roots or _roots(excess, *ends, several=True)
    if not roots:
        at_ends = (expectation(cloud(sigma), n_tokens, touching=limit) for sigma in between)
        found = [float(getattr(expected, metric)) for expected in at_ends]
        raise SelectionError(
            f"{metric} = {value:.10g} is not reached: it is {found[0]:.6g} at sigma {low:.4g} and "
            f"{found[1]:.6g} at sigma {high:.4g}" + _peak(log_value, metric, low, high),
            remedy="give another value or, as --sigma, a wider range",
        )
    solutions = []
    for root in roots:
        sigma = math.exp(root)
        expected = expectation(cloud(sigma), n_tokens, touching=limit)
        error = float(getattr(expected, f"{metric}_se", 0.0))
        slope = (excess(root + _STEP) - excess(root - _STEP)) / (2 * _STEP) if error else 1.0
        sigma_se = sigma * error / (value * abs(slope)) if slope else math.inf
        solutions.append(Solution(sigma, sigma_se, expected))
    return Solutions(solutions)


def default_range(
    centroid: npt.ArrayLike,
    n_tokens: int,
    *,
    noise: Noise = "gaussian",
    format: str = "bfloat16",  # noqa: A002
    intermediate: Intermediate = "float32",
) -> tuple[float, float]:
    """The range of sigma searched by default, from the ULPs of the centroid's d numbers.

    From a thousandth of the median ULP over d, at which hardly any number is close enough to a
    boundary to leave its cell, to ten thousand of the largest, or as far as nothing overflows.
    Zeros count only if there is nothing else.
    """
    fmt = get_format(format)
    values = np.asarray(centroid, dtype=np.float64).astype(np.float32)
    values = values[values != 0] if np.any(values != 0) else values
    ulps = fmt.ulp(fmt.round(values))
    low, high = float(np.median(ulps)) / (1e3 * np.size(centroid)), 1e4 * float(ulps.max())
    while high > 2 * low:
        try:
            cloud = Cloud(centroid, high, noise=noise, format=format, intermediate=intermediate)
            cloud.check(n_tokens)
            break
        except FormatError:
            high /= 2
    return low, high


def _bounds(metric: str, n_tokens: int) -> tuple[int, float]:
    """What the metric is always above and below, or at."""
    if metric == "coinciding_pairs":
        return 0, n_tokens * (n_tokens - 1) / 2
    if metric == "touching_probability":
        return 0, 1.0
    if metric == "n_black_holes":
        return 0, n_tokens / 2
    return int(metric == "n_unique"), float(n_tokens)


def _log_metric(cloud: Cloud, metric: str, value: float, n_tokens: int, touching: float) -> float:
    """The log of the metric, never below that of the smallest number.

    Where it is far from the value for want of coinciding pairs, its limit takes its place.
    """
    cloud.check(n_tokens)
    if metric == "touching_probability":
        return max(log_touching_probability(cloud, touching)[0], LOG_SMALLEST)
    grows = metric in ("n_unique", "n_singletons")
    distance = n_tokens - value if grows else value
    few = math.log(distance / _FAR) - math.log(n_tokens * (n_tokens - 1) / 2)
    coincidence = log_coincidence(cloud, few)
    if coincidence < few:
        return math.log(n_tokens) if grows else LOG_SMALLEST
    if metric == "coinciding_pairs":
        return coincidence + math.log(n_tokens * (n_tokens - 1) / 2)
    expected = float(getattr(expectation(cloud, n_tokens), metric))
    return math.log(expected) if expected > 0 else LOG_SMALLEST


def _roots(
    excess: Callable[[float], float], low: float, high: float, *, several: bool
) -> list[float]:
    """Where the function changes its sign, between low and high."""
    from scipy.optimize import brentq

    points = math.ceil(_GRID_PER_DECADE * (high - low) / math.log(10)) if several else 1
    grid = np.linspace(low, high, points + 1).tolist()
    grid[-1] = high
    clear = [x for x in grid if abs(excess(x)) > _PLATEAU]
    # The value at an end of the range is a solution if it is gone a step further in.
    inner = ((low, low + _STEP), (high, high - _STEP))
    roots = [x for x, y in inner if abs(excess(x)) <= _PLATEAU < abs(excess(y)) / 10]
    roots += [
        float(brentq(excess, a, b, xtol=1e-10, rtol=1e-15))
        for a, b in itertools.pairwise(clear)
        if (excess(a) > 0) != (excess(b) > 0)
    ]
    return sorted(roots)


def _peak(log_value: Callable[[float], float], metric: str, low: float, high: float) -> str:
    """Words about the largest value on the grid, where that is at neither end."""
    if metric != "n_black_holes":
        return ""
    points = math.ceil(_GRID_PER_DECADE * math.log10(high / low))
    grid: Float64Array = np.linspace(math.log(low), math.log(high), points + 1)
    best = max(grid.tolist(), key=log_value)
    return f", at most about {math.exp(log_value(best)):.6g}, at sigma {math.exp(best):.4g}"
