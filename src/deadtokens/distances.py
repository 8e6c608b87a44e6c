"""L-infinity distances between vectors, streamed: their summary, spanning tree and matrix.

The method is in docs/method.md, section 4. Distances are computed a block of rows at a time, so
that no n x n matrix has to exist; where all of them fit in `KEPT_BYTES` they are kept for later
passes, else computed anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from deadtokens.kernels import pairs as kernels
from deadtokens.kernels.types import Int32Array, Int64Array, RealArray, UInt32Array
from deadtokens.listening import watched

Result = TypeVar("Result")

KEPT_BYTES = 2**30
_LISTED_FRACTION = 0.04  # of the dimensions, at most, in a vector's list on average
_LISTED_AT_LEAST = 64  # but never fewer on average: short vectors are listed whole
_SAMPLED_ROWS = 63
_SAMPLED_ELEMENTS = 1 << 16


@dataclass(frozen=True)
class DistanceSummary:
    """Distances over all unordered pairs.

    Attributes:
        n_pairs: Number of pairs, at least 1.
        smallest: The smallest distance.
        largest: The largest.
        mean: The mean, accumulated in float64.
        median: The lower median: the smaller of the two middle values.
        degrees: (n,) int64, vectors that each vector touches.
    """

    n_pairs: int
    smallest: float
    largest: float
    mean: float
    median: float
    degrees: Int64Array


@dataclass(frozen=True)
class SpanningTree:
    """A minimum spanning tree of the complete graph of distances.

    Attributes:
        weights: (n - 1,) edge lengths, ascending.
        edges: (n - 1, 2) int64, the vectors that each edge joins.
        n_vectors: n.
    """

    weights: RealArray
    edges: Int64Array
    n_vectors: int

    def components(self, touching: float) -> Int32Array:
        """(n,) component of each vector in the graph of distances up to ``touching``."""
        kept = self.edges[self.weights <= touching]
        return components(kept, self.n_vectors)


class Distances:
    """The L-infinity distances between the rows of a table, computed as they are needed.

    Args:
        x: (n, d) float32 values (their distances are float32-rounded differences), or integers
            below 2**32 apart, in float32 or float64; n at least 2, d at least 1.
        workers: Threads; all cores by default. The result does not depend on it.
    """

    def __init__(self, x: RealArray, workers: int | None = None) -> None:
        n, d = x.shape
        self.n = n
        self._x = x = np.ascontiguousarray(x)
        self._dtype = x.dtype
        self._workers = workers or os.cpu_count() or 1
        n_blocks = -(-n // kernels.BLOCK)
        self._blocks = np.empty((n_blocks, d, kernels.BLOCK), dtype=x.dtype)
        kernels.fill_blocks(x, self._blocks)
        centre, h, self._exact_from = _lists(x)
        counts = np.empty(n_blocks, dtype=np.int64)
        kernels.count_listed(self._blocks, n, centre, h, counts)
        starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
        dimensions = np.empty(int(starts[-1]), dtype=np.int32)
        self._lists = (starts, dimensions, np.empty_like(dimensions), dimensions.astype(x.dtype))
        kernels.fill_lists(self._blocks, n, centre, h, *self._lists)
        kept = n * (n + kernels.BLOCK) // 2 * x.dtype.itemsize <= KEPT_BYTES
        self._kept: dict[int, RealArray] | None = {} if kept else None

    def summary(self, touching: float) -> DistanceSummary:
        """Extremes, mean, median and degrees over all pairs, exactly; two passes."""
        threshold = float(self._dtype.type(touching))

        def summarise(
            _: int, slab: RealArray, columns: int
        ) -> tuple[tuple[float, float, float], Int64Array, Int64Array]:
            histogram = np.zeros(1 << 16, dtype=np.int64)
            degrees = np.zeros(columns, dtype=np.int64)
            keys = _keys(slab)
            found = kernels.summarise_slab(slab, keys, columns, threshold, histogram, degrees)
            return found, histogram, degrees

        total, smallest, largest = 0.0, np.inf, 0.0
        histogram = np.zeros(1 << 16, dtype=np.int64)
        degrees = np.zeros(self.n, dtype=np.int64)
        for found, slab_histogram, slab_degrees in self._each_slab(summarise):
            total += found[0]
            smallest = min(smallest, found[1])
            largest = max(largest, found[2])
            histogram += slab_histogram
            degrees[self.n - slab_degrees.size :] += slab_degrees
        n_pairs = self.n * (self.n - 1) // 2
        median = self._order_statistic((n_pairs - 1) // 2, histogram)
        return DistanceSummary(n_pairs, smallest, largest, total / n_pairs, median, degrees)

    def spanning_tree(self) -> SpanningTree:
        """A minimum spanning tree, by Borůvka's method: a pass halves the components at least."""
        labels = np.arange(self.n, dtype=np.int32)
        edges = np.empty((0, 2), dtype=np.int64)
        lengths = np.empty(0, dtype=self._dtype)
        n_components = self.n
        while n_components > 1:
            weights, ends = self._shortest_leaving(labels, n_components)
            ends, chosen = np.unique(ends, axis=0, return_index=True)
            edges = np.concatenate([edges, ends])
            lengths = np.concatenate([lengths, weights[chosen]])
            labels = components(edges, self.n)
            n_components = int(labels.max()) + 1
        order = np.lexsort((edges[:, 1], edges[:, 0], lengths))
        return SpanningTree(lengths[order], edges[order], self.n)

    def matrix(self) -> RealArray:
        """All distances, (n, n)."""
        full = np.zeros((self.n, self.n), dtype=self._dtype)

        def place(a: int, slab: RealArray, columns: int) -> None:
            start = a * kernels.BLOCK
            rows = min(kernels.BLOCK, columns)
            full[start : start + rows, start:] = slab[:rows, :columns]
            full[start:, start : start + rows] = slab[:rows, :columns].T

        for _ in self._each_slab(place):
            pass
        return full

    def _each_slab(self, work: Callable[[int, RealArray, int], Result]) -> Iterator[Result]:
        """``work(block, slab, existing columns)`` for every block, in order, in threads."""

        def task(a: int) -> Result:
            return work(a, self._slab(a), self.n - a * kernels.BLOCK)

        blocks = range(len(self._blocks))
        if len(blocks) == 1:
            yield task(0)
            return
        if self._workers == 1:
            yield from watched(map(task, blocks), "blocks of distances", len(blocks))
            return
        with ThreadPoolExecutor(self._workers) as pool:
            done = pool.map(task, blocks)
            yield from watched(done, "blocks of distances", len(blocks))

    def _slab(self, a: int) -> RealArray:
        if self._kept is not None and a in self._kept:
            return self._kept[a]
        shape = (kernels.BLOCK, (len(self._blocks) - a) * kernels.BLOCK)
        slab = np.empty(shape, dtype=self._dtype)
        kernels.distance_slab(
            self._x,
            self._blocks,
            *self._lists,
            self._exact_from,
            self.n,
            a,
            slab,
        )
        if self._kept is not None:
            self._kept[a] = slab
        return slab

    def _order_statistic(self, rank: int, histogram: Int64Array) -> float:
        """The distance of that rank from 0, given the histogram of the keys' high bits."""
        below = np.concatenate([[0], np.cumsum(histogram)])
        high = int(np.searchsorted(below, rank, side="right")) - 1

        def refine(_: int, slab: RealArray, columns: int) -> Int64Array:
            fine = np.zeros(1 << 16, dtype=np.int64)
            kernels.refine_histogram(_keys(slab), columns, high, fine)
            return fine

        fine = sum(self._each_slab(refine), start=np.zeros(1 << 16, dtype=np.int64))
        low = int(np.searchsorted(np.cumsum(fine), rank - below[high], side="right"))
        return _from_key(high << 16 | low, self._dtype)

    def _shortest_leaving(
        self, labels: Int32Array, n_components: int
    ) -> tuple[RealArray, Int64Array]:
        """Each component's shortest edge to another one, ties to the lowest pair of vectors."""

        def search(a: int, slab: RealArray, columns: int) -> tuple[RealArray, Int64Array]:
            weights = np.full(n_components, np.inf, dtype=self._dtype)
            ends = np.full((n_components, 2), self.n, dtype=np.int64)
            offset = a * kernels.BLOCK
            kernels.nearest_outside(slab, offset, columns, labels, weights, ends)
            return weights, ends

        best = np.full(n_components, np.inf, dtype=self._dtype)
        best_ends = np.full((n_components, 2), self.n, dtype=np.int64)
        for weights, ends in self._each_slab(search):
            # Slabs come in the order of their pairs, so an equal length is never a lower pair.
            shorter = (weights < best) | ((weights == best) & (best_ends[:, 0] == self.n))
            best[shorter], best_ends[shorter] = weights[shorter], ends[shorter]
        return best, best_ends


def components(edges: Int64Array, n: int) -> Int32Array:
    """(n,) connected component of each of n vectors joined by (e, 2) edges."""
    from scipy.sparse import coo_array  # a sixth of a second that few processes need
    from scipy.sparse.csgraph import connected_components

    joined = (np.ones(len(edges), dtype=np.bool_), (edges[:, 0], edges[:, 1]))
    labels = connected_components(coo_array(joined, shape=(n, n)), directed=False)[1]
    return np.asarray(labels, dtype=np.int32)


def _lists(x: RealArray) -> tuple[RealArray, float, float]:
    """The centre and threshold h of the lists, and the distance from which on they settle a pair.

    Any centre gives the same distances; one of smaller h settles more pairs. The median of some
    rows is a value that most rows share, where they do. Where it could settle next to none, because
    rows are in two camps as ordinals on both sides of zero are, the middle of the range is tried.
    """
    rows = x[:: max(1, len(x) // _SAMPLED_ROWS)]
    common = np.ascontiguousarray(np.partition(rows, len(rows) // 2, axis=0)[len(rows) // 2])
    h = _list_threshold(x, common)
    with np.errstate(over="ignore"):
        widest = float((rows.max(axis=0) - rows.min(axis=0)).max())
    if h > 0 and 2 * h > 0.8 * widest:
        with np.errstate(over="ignore"):
            middle = np.ascontiguousarray((x.min(axis=0) + x.max(axis=0)) / 2, dtype=x.dtype)
        other = _list_threshold(x, middle)
        if other < h:
            common, h = middle, other
    if h == 0:
        return common, float(np.finfo(x.dtype).smallest_subnormal), 0.0
    return common, h, 2 * h


def _list_threshold(x: RealArray, centre: RealArray) -> float:
    """The quantile that leaves `_LISTED_FRACTION` of a sample of the elements' deviations above it.

    Zero, for listing every element off the centre, where most lie on it or vectors are short.
    """
    n, d = x.shape
    fraction = max(_LISTED_FRACTION, min(1.0, _LISTED_AT_LEAST / d))
    if fraction == 1:
        return 0.0
    step = max(1, n * d // _SAMPLED_ELEMENTS) | 1
    elements = np.arange(0, n * d, step)
    with np.errstate(over="ignore", invalid="ignore"):
        deviations = np.abs(x.reshape(-1)[elements] - centre[elements % d])
    return float(np.quantile(deviations, 1 - fraction, method="lower"))


def _keys(slab: RealArray) -> UInt32Array:
    """Distances as 32-bit integers in the same order: the bits of float32, float64's integers."""
    return slab.view(np.uint32) if slab.dtype == np.float32 else slab.astype(np.uint32)


def _from_key(key: int, dtype: npt.DTypeLike) -> float:
    if np.dtype(dtype) == np.float32:
        return float(np.array([key], dtype=np.uint32).view(np.float32)[0])
    return float(key)
