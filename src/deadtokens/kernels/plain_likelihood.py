"""The plain twins of `deadtokens.kernels.likelihood`: SciPy's tails, dense even grids, no panels.

The integrands are smooth and next to nothing at both ends of a grid, so that the trapezoid rule
converges faster than any power of its step.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_ndtr

from deadtokens.kernels.types import Float64Array, Int64Array

_FALL = 40.0  # exp(-40) = 4e-18 of the peak is where a grid ends
_POINTS = 4001
_PER_SIGMA = 32  # steps at least
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


def _log_cells(a: Float64Array, width: float) -> Float64Array:
    """log(Phi(a + width) - Phi(a)), (k,)."""
    b = a + width
    # Both ends on the side where Phi is small.
    flip = a + b > 0
    a, b = np.where(flip, -b, a), np.where(flip, -a, b)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_b = log_ndtr(b)
        result = log_b + np.log1p(-np.exp(log_ndtr(a) - log_b))
    # In a narrow interval the difference of the two has few digits: there the density is summed.
    narrow = width * (1 + np.abs(a)) < 0.5
    middle, half = (a[narrow] + b[narrow]) / 2, width / 2
    t = half * _NODES
    inner = np.exp(-t * (middle[:, None] + t / 2)) @ _WEIGHTS
    result[narrow] = np.log(half * inner) - middle**2 / 2 - np.log(2 * np.pi) / 2
    return np.asarray(result)


def _heights(
    mu: Float64Array, low: Float64Array, high: Float64Array, count: Int64Array, sigma: float
) -> Float64Array:
    """The log likelihood f at many means, (k,)."""
    total = np.zeros(mu.size)
    for cell in range(count.size):
        total += count[cell] * _log_cells(
            (low[cell] - mu) / sigma, (high[cell] - low[cell]) / sigma
        )
    return total


def _density(
    low: Float64Array, high: Float64Array, count: Int64Array, sigma: float
) -> tuple[Float64Array, Float64Array, float]:
    """An even grid of means less the lowest boundary, exp(f - peak) on it, and the peak."""

    def height(mu: float) -> float:
        return float(_heights(np.array([mu]), low, high, count, sigma)[0])

    origin = low[0]
    low, high = low - origin, high - origin
    ends = 0.0, float(high[-1])
    root = np.sqrt(count.sum())
    found = minimize_scalar(
        lambda mu: -height(mu),
        bounds=ends,
        method="bounded",
        options={"xatol": 0.01 * sigma / root},
    )
    mode, top = float(found.x), -float(found.fun)
    grid = []
    for side in (-1.0, 1.0):
        near, far = 0.0, side * sigma / root
        while top - height(mode + far) < _FALL:
            near, far = far, 2 * far
        for _ in range(6):
            middle = (near + far) / 2
            if top - height(mode + middle) < _FALL:
                near = middle
            else:
                far = middle
        grid.append(mode + far)
    points = max(_POINTS, int(np.ceil((grid[1] - grid[0]) / sigma * _PER_SIGMA)))
    mu = np.linspace(grid[0], grid[1], points)
    heights = _heights(mu, low, high, count, sigma)
    peak = float(heights.max())
    return mu, np.exp(heights - peak), peak


def log_likelihoods(
    first: Int64Array,
    low: Float64Array,
    high: Float64Array,
    count: Int64Array,
    sigma: float,
    result: Float64Array,
) -> None:
    """Twin of `likelihood.log_likelihoods`."""
    for k, (begin, end) in enumerate(itertools.pairwise(first)):
        mu, density, peak = _density(low[begin:end], high[begin:end], count[begin:end], sigma)
        result[k] = peak + np.log(density.sum() * (mu[1] - mu[0]))


def log_unsplits(
    low: Float64Array, high: Float64Array, count: Int64Array, sigma: float, result: Float64Array
) -> None:
    """Twin of `likelihood.log_unsplits`."""
    log_likelihoods(np.arange(result.size + 1), low, high, count, sigma, result)


def centres(
    first: Int64Array,
    low: Float64Array,
    high: Float64Array,
    count: Int64Array,
    sigma: float,
    tail: float,
    mean: Float64Array,
    lower: Float64Array,
    upper: Float64Array,
) -> None:
    """Twin of `likelihood.centres`."""
    for k, (begin, end) in enumerate(itertools.pairwise(first)):
        mu, density, _ = _density(low[begin:end], high[begin:end], count[begin:end], sigma)
        total = density.sum()
        # To one node belongs the density up to half a step beyond it.
        reached = np.cumsum(density) / total
        quantiles = np.interp([tail, 1 - tail], reached, mu + (mu[1] - mu[0]) / 2)
        mean[k] = low[begin] + (mu * density).sum() / total
        lower[k], upper[k] = low[begin] + quantiles
