"""L-infinity distances over all pairs of a trial's vectors, and their summary, on a device.

Notation (docs/method.md, section 4). y = x - centre, and list(i) holds the L dimensions in which
abs(y[i]) is largest. In any other dimension it is below h[i], the float32 number after the largest
of the others. So if the maximum over list(i) and list(j) of abs(x[i] - x[j]) is at least
h[i] + h[j], it is the distance; other pairs are looked at in all dimensions. Lists of equal length
take the place of the host's equal thresholds, because a device wants equal work per row.

A maximum does not depend on order, and sums are taken over whole numbers: the results are those of
`deadtokens.distances`, bit for bit, or `Summary.exact` is False.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from deadtokens.distances import DistanceSummary, SpanningTree
from deadtokens.kernels.types import Int64Array

_LISTED_FRACTION = 0.04
_LISTED_AT_LEAST = 64
_SAMPLED_ROWS = 63
_INFINITY = 0x7F800000  # its bits
# Devices may take float32 numbers below 2^-126 for zero, which shows in no distance above this.
_SMALLEST = 2.0**-120
_EXACT = 2**53


def distance_matrix(x: torch.Tensor, tile_bytes: int) -> torch.Tensor:
    """(m, m) float32 distances between the rows of (m, a) float32 vectors.

    Args:
        x: Vectors, at least one dimension.
        tile_bytes: Room for what is computed at a time, besides the result; at least one row or
            pair is.
    """
    m, a = x.shape
    listed = min(a, max(_LISTED_AT_LEAST, round(_LISTED_FRACTION * a)))
    y = (x - x[:: max(1, m // _SAMPLED_ROWS)].median(dim=0).values).abs_()
    largest = y.topk(min(listed + 1, a), dim=1)
    dimensions = largest.indices[:, :listed]
    own = x.gather(1, dimensions)
    by_dimension = x.T.contiguous()
    del y
    result = torch.empty((m, m), dtype=x.dtype, device=x.device)
    step = max(1, tile_bytes // (8 * listed * m))
    for rows in torch.split(torch.arange(m, device=x.device), step):
        differences = by_dimension[dimensions[rows]].sub_(own[rows, :, None])
        result[rows] = torch.linalg.vector_norm(differences, ord=torch.inf, dim=1)
    result = torch.maximum(result, result.T)
    if listed < a:
        last = largest.values[:, listed].view(torch.int32)
        _settle_close_pairs(x, result, (last + 1).clamp(max=_INFINITY).view(x.dtype), tile_bytes)
    return result


def _settle_close_pairs(
    x: torch.Tensor, distances: torch.Tensor, h: torch.Tensor, tile_bytes: int
) -> None:
    """Compute over all dimensions the distances of pairs that lists do not settle, in place."""
    m, a = x.shape
    at_once = max(1, tile_bytes // (12 * a))
    step = max(1, tile_bytes // (16 * m))
    for start in range(0, m, step):
        rows = slice(start, start + step)
        close = (distances[rows] < h[rows, None] + h).triu(start + 1)
        for pairs in torch.split(close.nonzero(), at_once):
            i, j = pairs[:, 0] + start, pairs[:, 1]
            exact = torch.linalg.vector_norm(x[i] - x[j], ord=torch.inf, dim=1)
            distances[i, j] = exact
            distances[j, i] = exact


@dataclass(frozen=True)
class Summary:
    """Distances over all unordered pairs, and the touching graph.

    Attributes:
        distances: As the host would give it.
        exact: Whether it is bit for bit: no distance is subnormal or infinite, and a sum of float64
            numbers in any order is the one here. Where not, the host has to measure the trial.
        forest: What stands in for the spanning tree: every vector joined to the first one of its
            component in the touching graph.
    """

    distances: DistanceSummary
    exact: bool
    forest: SpanningTree


def summarise(distances: torch.Tensor, touching: float, tile_bytes: int) -> Summary:
    """Summary of an (m, m) matrix of distances, m at least 2.

    Args:
        distances: Symmetric, float32, zeros on the diagonal, which is overwritten for a while.
        touching: The distance up to which two vectors touch, a float32 number.
        tile_bytes: Room for what is computed at a time.
    """
    m = len(distances)
    n_pairs = m * (m - 1) // 2
    bits = distances.view(torch.int32)
    tiles = torch.split(bits, max(1, tile_bytes // (64 * m)))
    distances.fill_diagonal_(torch.inf)
    smallest = bits.amin()
    distances.fill_diagonal_(0.0)
    # The diagonal is m zeros, and every pair is there twice.
    median = _order_statistic(tiles, m + 2 * ((n_pairs - 1) // 2), bits)
    unit = torch.stack([_last_bits(tile).amin() for tile in tiles]).amin()
    total = torch.stack([_in_units(tile, unit).sum() for tile in tiles]).sum()
    touches = distances <= touching
    degrees = touches.sum(dim=1) - 1
    found = torch.stack([smallest, bits.amax(), median, unit]).cpu().numpy()
    low, high, middle = (float(number) for number in found[:3].view(np.float32))
    exponent = int(found[3]) - 150
    in_units = n_pairs * high / 2.0**exponent if np.isfinite(high) else np.inf
    mean = float(int(total) // 2) * 2.0**exponent / n_pairs
    labels = np.arange(m)
    if low <= touching < high:
        labels = _components(touches)
    return Summary(
        DistanceSummary(n_pairs, low, high, mean, float(middle), degrees.cpu().numpy()),
        exact=bool(low >= _SMALLEST and in_units < _EXACT),
        forest=_forest(labels),
    )


def _order_statistic(
    tiles: tuple[torch.Tensor, ...], rank: int, like: torch.Tensor
) -> torch.Tensor:
    """The bits of the number of that rank, from 0, found bit by bit; int32, no dimensions."""
    key = like.new_zeros(())
    for bit in range(30, -1, -1):
        candidate = key + (1 << bit)
        below = torch.stack([torch.count_nonzero(tile < candidate) for tile in tiles]).sum()
        key = torch.where(below <= rank, candidate, key)
    return key


def _exponents(bits: torch.Tensor) -> torch.Tensor:
    """The e of float32 numbers that are significand times 2^(e - 150)."""
    return (bits >> 23).clamp(min=1)


def _significands(bits: torch.Tensor) -> torch.Tensor:
    return (bits & 0x7FFFFF) | ((bits >= 1 << 23).int() << 23)


def _last_bits(bits: torch.Tensor) -> torch.Tensor:
    """Exponents of the last bit that is set in each non-negative float32 number; 255 for zero."""
    significands = _significands(bits)
    last = ((significands & -significands).float().view(torch.int32) >> 23) - 127
    return torch.where(bits == 0, 255, _exponents(bits) + last)


def _in_units(bits: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """Non-negative float32 numbers as int64 multiples of 2^(unit - 150), which divides them."""
    shift = _exponents(bits) - unit
    return (_significands(bits).long() << shift.clamp(0, 39)) >> (-shift).clamp(0, 31)


def _components(touches: torch.Tensor) -> Int64Array:
    """(m,) the first vector of each vector's component, given (m, m) bool."""
    m = len(touches)
    labels = torch.arange(m, device=touches.device)
    while True:
        # A vector touches itself, and a label is a vector of the same component.
        lowest = torch.where(touches, labels, m).amin(dim=1)
        lowest = lowest[lowest]
        if torch.equal(lowest, labels):
            return np.asarray(labels.cpu())
        labels = lowest


def _forest(labels: Int64Array) -> SpanningTree:
    joined = np.flatnonzero(labels != np.arange(labels.size))
    edges = np.stack([labels[joined], joined], axis=1)
    return SpanningTree(np.zeros(joined.size, dtype=np.float32), edges, labels.size)
