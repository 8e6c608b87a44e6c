"""The chance that two random tokens touch, in closed form (docs/method.md, section 10).

Two tokens touch if, in every dimension, their float32-rounded |difference| is at most
float32(touching). Dimensions are independent, so the chance is a product over dimensions k of

    t_k = sum_j p[k, j] sum_{i touching j} p[k, i]                                        (10.9)

and the cells i that touch cell j are neighbours in the lattice, so that the inner sum is one
interval of the noise. The outer sum runs over all cells, or over points of a quadrature where
there are too many.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from deadtokens.cloud import Cloud, IndexArray, blocks
from deadtokens.errors import SelectionError
from deadtokens.formats import FLOAT32, Float64Array, Format, Ordinals, get_format
from deadtokens.noise import interval_probabilities, quantile

LOG_SMALLEST = -745.2  # exp of less is 0 in float64
_CELLS = 2**17  # enumerated, if the cloud has no table
_SHIFTS = 8  # independent quadratures of a dimension; their spread gives the standard error
_POINTS = 2**18  # of all quadratures together,
_POINTS_AT_LEAST = 32  # but not fewer than this in each,
_POINTS_AT_MOST = 2**13  # nor more


def lengths(
    centroid: npt.ArrayLike,
    format: str = "bfloat16",  # noqa: A002
    epsilon: float | None = None,
    touching: float | None = None,
) -> tuple[float, float]:
    """Epsilon and touching of synthetic snowballs, defaults filled in.

    Args:
        centroid: (d,) finite numbers.
        format: Name of the storage format.
        epsilon: By default the ULP of the centroid's largest |value|.
        touching: By default 2 epsilon.

    Raises:
        SelectionError: A length that is not a positive number.
        FormatError: An unknown format.
    """
    if epsilon is None:
        fmt = get_format(format)
        largest = np.array([np.abs(np.asarray(centroid, dtype=np.float64)).max()])
        epsilon = float(fmt.ulp(fmt.round(largest.astype(np.float32)))[0])
    for name, length in (("epsilon", epsilon), ("touching", touching)):
        if length is not None and not (math.isfinite(length) and length > 0):
            raise SelectionError(f"{name} {length!r}", remedy="give a positive number")
    return epsilon, 2 * epsilon if touching is None else touching


def log_touching_probability(cloud: Cloud, touching: float, seed: int = 0) -> tuple[float, float]:
    """Log of the chance that two tokens touch, and the standard error of that log.

    The error is 0 where every cell was looked at. -inf stands for a chance below 1e-323.

    Args:
        cloud: The null model.
        touching: The distance up to which tokens touch, taken as float32.
        seed: Of the quadratures' shifts, which depend on it and the dimension alone.
    """
    with np.errstate(over="ignore"):
        limit = np.float32(touching)
    if vanishes(cloud, float(limit)):
        return -math.inf, 0.0
    low, high = cloud.range_of(cloud.active)
    apart = np.flatnonzero(_difference(cloud.format, low, high) > limit)
    # What is least certain and costs least comes first, so that a product that vanishes ends early.
    n_cells = (high - low + 1)[apart]
    order = np.lexsort((n_cells, -cloud.sigma[cloud.active[apart]]))
    apart, n_cells = apart[order], n_cells[order]
    by_cells = np.sort(n_cells)
    fitting = int(np.searchsorted(np.cumsum(by_cells), _CELLS, side="right"))
    enumerated = np.ones(apart.size, dtype=bool)
    if cloud.table is None and fitting < apart.size:
        enumerated = n_cells < by_cells[fitting]
    n_rest = int(np.sum(~enumerated))
    points = int(np.clip(_POINTS // (_SHIFTS * max(n_rest, 1)), _POINTS_AT_LEAST, _POINTS_AT_MOST))
    shifts = np.random.Generator(np.random.PCG64(seed)).random((cloud.d, _SHIFTS))

    log_chance, variance = 0.0, 0.0
    for part in blocks(np.where(enumerated, n_cells, _SHIFTS * points)):
        some, exact = apart[part], enumerated[part]
        if exact.any():
            k = some[exact]
            chances = _over_cells(cloud, cloud.active[k], low[k], high[k], limit)
            log_chance += float(np.sum(np.log(np.minimum(chances, 1.0))))
        if not exact.all():
            dimensions = cloud.active[some[~exact]]
            repeated = _by_quadrature(cloud, dimensions, shifts[dimensions], points, limit)
            means = repeated.mean(axis=1)
            log_chance += float(np.sum(np.log(np.minimum(means, 1.0))))
            variance += float(np.sum(repeated.var(axis=1, ddof=1) / _SHIFTS / means**2))
        if log_chance < LOG_SMALLEST:
            return -math.inf, 0.0
    return log_chance, math.sqrt(variance)


def touching_probability(cloud: Cloud, touching: float, seed: int = 0) -> tuple[float, float]:
    """The chance that two tokens touch, and its standard error (0 where it is exact)."""
    log_chance, error = log_touching_probability(cloud, touching, seed)
    chance = math.exp(log_chance)
    return chance, chance * error


def vanishes(cloud: Cloud, distance: float) -> bool:
    """Whether the chance that two tokens lie within a distance is seen to be below 1e-323.

    The cells within that distance of a number make an interval of at most two distances and two
    of the widest cells, which no noise falls into more often than into one around its centre.
    """
    low, high = cloud.range_of(cloud.active)
    outermost = cloud.format.codes(np.maximum(np.abs(low), np.abs(high)))
    half = (distance + cloud.format.ulp(outermost)) / cloud.sigma[cloud.active] * (1 + 1e-6)
    chances = interval_probabilities(cloud.noise, -half, half, 2 * half)
    return float(np.sum(np.log(np.minimum(chances, 1.0)))) < LOG_SMALLEST


def highest_touching(fmt: Format, ordinals: Ordinals, limit: np.float32) -> Ordinals:
    """The highest ordinal that touches each ordinal (of finite numbers).

    It is found from the real boundary of float32 above the limit, and then set right by the
    float32 difference itself, which is monotone.
    """
    if not np.isfinite(limit):
        return np.full(ordinals.shape, fmt.max_ordinal)
    code = np.array([limit]).view(np.uint32)
    boundary = float(FLOAT32.boundaries(FLOAT32.ordinals(code), "exact")[0])
    values = fmt.values_of(ordinals)
    largest = float(fmt.values_of(np.array([fmt.max_ordinal]))[0])
    reached = np.clip(values.astype(np.float64) + boundary, -largest, largest)
    highest = fmt.ordinals(fmt.round(reached.astype(np.float32)))
    highest = np.clip(highest, ordinals, fmt.max_ordinal)
    while (too_far := _difference(fmt, ordinals, highest) > limit).any():
        highest = highest - too_far
    while True:
        above = np.minimum(highest + 1, fmt.max_ordinal)
        more = (above > highest) & (_difference(fmt, ordinals, above) <= limit)
        if not more.any():
            return highest
        highest = highest + more


def _difference(fmt: Format, low: Ordinals, high: Ordinals) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.asarray(fmt.values_of(high) - fmt.values_of(low), dtype=np.float32)


def _chance_near(
    cloud: Cloud, dimensions: IndexArray, ordinals: Ordinals, limit: np.float32
) -> Float64Array:
    """The chance that a token touches the number of that ordinal, in that dimension."""
    high = highest_touching(cloud.format, ordinals, limit)
    low = -highest_touching(cloud.format, -ordinals, limit)
    return cloud.probability_between(dimensions, low, high)


def _over_cells(
    cloud: Cloud, dimensions: IndexArray, low: Ordinals, high: Ordinals, limit: np.float32
) -> Float64Array:
    """(dimensions,) chances of touching, summed over all cells."""
    first, ordinals, p = cloud.cells_within(dimensions, low, high)
    of = np.repeat(np.arange(dimensions.size), np.diff(first))
    near = _chance_near(cloud, dimensions[of], ordinals, limit)
    return np.asarray(np.bincount(of, p * near, dimensions.size), dtype=np.float64)


def _by_quadrature(
    cloud: Cloud, dimensions: IndexArray, shifts: Float64Array, points: int, limit: np.float32
) -> Float64Array:
    """(dimensions, shifts) unbiased estimates of the chances of touching.

    Each is a mean over evenly spaced quantiles of the noise, shifted at random (equation 10.10).
    """
    u = (np.arange(points) + shifts[:, :, None]) / points
    k = np.broadcast_to(dimensions[:, None, None], u.shape).ravel()
    ordinals = cloud.ordinals_near(k, quantile(cloud.noise, u.ravel()))
    return np.asarray(_chance_near(cloud, k, ordinals, limit).reshape(u.shape).mean(axis=2))
