"""The kernels' plain twins: same signatures and results, NumPy alone, nothing clever."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from deadtokens.formats import Codes
from deadtokens.kernels.pairs import BLOCK
from deadtokens.kernels.types import (
    BoolArray,
    Float32Array,
    Float64Array,
    Int32Array,
    Int64Array,
    OrdinalArray,
    RealArray,
    UInt32Array,
    UInt64Array,
)


def hash_rows(
    codes: Codes,
    coefficients: UInt64Array,
    sign_bit: int,
    max_magnitude: int,
    hashes: UInt64Array,
    finite: BoolArray,
) -> None:
    """Twin of `rows.hash_rows`."""
    wide = codes.astype(np.uint64)
    finite[:] = np.all((wide & np.uint64(sign_bit - 1)) <= max_magnitude, axis=1)
    wide[wide == sign_bit] = 0
    hashes[:] = (wide * coefficients).sum(axis=1, dtype=np.uint64)


def first_equal_rows(
    codes: Codes, order: Int64Array, hashes: UInt64Array, sign_bit: int, first: Int64Array
) -> None:
    """Twin of `rows.first_equal_rows` (which never needs the hashes to be good)."""
    del hashes
    seen: dict[bytes, int] = {}
    for row in sorted(order.tolist()):
        values = codes[row].copy()
        values[values == sign_bit] = 0
        first[row] = seen.setdefault(values.tobytes(), row)


def column_extremes(codes: Codes, sign_bit: int, low: Int64Array, high: Int64Array) -> None:
    """Twin of `rows.column_extremes`."""
    wide = codes.astype(np.int64)
    ordinals = np.where(wide < sign_bit, wide, sign_bit - wide)
    low[:] = np.minimum(low, ordinals.min(axis=0))
    high[:] = np.maximum(high, ordinals.max(axis=0))


def fill_blocks(x: RealArray, blocks: RealArray) -> None:
    """Twin of `pairs.fill_blocks`."""
    rows = np.minimum(np.arange(blocks.shape[0] * BLOCK), len(x) - 1)
    blocks[:] = x[rows].reshape(blocks.shape[0], BLOCK, -1).transpose(0, 2, 1)


def _listed(blocks: RealArray, n: int, centre: RealArray, h: float) -> npt.NDArray[Any]:
    exists = (np.arange(len(blocks))[:, None] * BLOCK + np.arange(BLOCK) < n)[:, None, :]
    return (np.abs(blocks - centre[:, None]) >= h) & exists


def count_listed(
    blocks: RealArray, n: int, centre: RealArray, h: float, counts: Int64Array
) -> None:
    """Twin of `pairs.count_listed`."""
    counts[:] = _listed(blocks, n, centre, h).sum(axis=(1, 2))


def fill_lists(
    blocks: RealArray,
    n: int,
    centre: RealArray,
    h: float,
    starts: Int64Array,
    dimensions: Int32Array,
    members: Int32Array,
    values: RealArray,
) -> None:
    """Twin of `pairs.fill_lists`."""
    del starts
    listed = _listed(blocks, n, centre, h)
    dimensions[:], members[:] = np.nonzero(listed)[1:]
    values[:] = blocks[listed]


def pair_distance(a: RealArray, b: RealArray) -> float:
    """Twin of `pairs.pair_distance`."""
    return float(np.abs(a - b).max())


def distance_slab(
    x: RealArray,
    blocks: RealArray,
    starts: Int64Array,
    dimensions: Int32Array,
    members: Int32Array,
    values: RealArray,
    exact_from: float,
    n: int,
    a: int,
    slab: RealArray,
) -> None:
    """Twin of `pairs.distance_slab`: every dimension of every pair."""
    del x, starts, dimensions, members, values, exact_from, n
    for b in range(a, len(blocks)):
        differences = np.abs(blocks[a][:, :, None] - blocks[b][:, None, :])
        slab[:, (b - a) * BLOCK : (b - a + 1) * BLOCK] = differences.max(axis=0)


def _pairs(columns: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    return np.triu_indices(min(BLOCK, columns), 1, columns)


def summarise_slab(
    slab: RealArray,
    keys: UInt32Array,
    columns: int,
    touching: float,
    histogram: Int64Array,
    degrees: Int64Array,
) -> tuple[float, float, float]:
    """Twin of `pairs.summarise_slab`."""
    r, c = _pairs(columns)
    distances = slab[r, c].astype(np.float64)
    histogram += np.bincount(keys[r, c] >> 16, minlength=65536)
    touches = distances <= touching
    degrees += np.bincount(r[touches], minlength=len(degrees))
    degrees += np.bincount(c[touches], minlength=len(degrees))
    if not distances.size:
        return 0.0, float(np.inf), 0.0
    return float(distances.sum()), float(distances.min()), float(distances.max())


def refine_histogram(
    keys: UInt32Array, columns: int, high_bits: int, histogram: Int64Array
) -> None:
    """Twin of `pairs.refine_histogram`."""
    selected = keys[_pairs(columns)]
    selected = selected[selected >> 16 == high_bits]
    histogram += np.bincount(selected & 0xFFFF, minlength=65536)


def nearest_outside(
    slab: RealArray,
    offset: int,
    columns: int,
    labels: Int32Array,
    weights: RealArray,
    ends: Int64Array,
) -> None:
    """Twin of `pairs.nearest_outside`."""
    for r, c in zip(*_pairs(columns), strict=True):
        i, j = int(offset + r), int(offset + c)
        if labels[i] != labels[j]:
            for label in (labels[i], labels[j]):
                held = (weights[label], int(ends[label, 0]), int(ends[label, 1]))
                if (slab[r, c], i, j) < held:
                    weights[label] = slab[r, c]
                    ends[label] = i, j


def any_pair_within(x: RealArray, touching: float, visits: int) -> bool:
    """Twin of `pairs.any_pair_within`."""
    near = (abs(b[0] - a[0]) <= touching for a, b in itertools.combinations(x, 2))
    return sum(near) > visits or any(
        bool(np.abs(a - b).max(initial=0) <= touching) for a, b in itertools.combinations(x, 2)
    )


def count_differing(x: RealArray, counts: Int32Array) -> None:
    """Twin of `pairs.count_differing`."""
    counts[:] = (x[:, None, :] != x[None, :, :]).sum(axis=2)


def population_row(
    populations: Int64Array,
    ranks: Int64Array,
    bins: Int64Array,
    row: Float64Array,
    counts: Int64Array,
) -> None:
    """Twin of `separation.population_row`."""
    ordered = np.sort(populations)[::-1]
    at_ranks = np.where(ranks <= ordered.size, ordered[np.minimum(ranks, ordered.size) - 1], 0)
    place = np.searchsorted(bins, at_ranks, side="right") - 1
    np.add.at(counts, (np.arange(ranks.size), place), 1)
    holes = ordered[ordered >= 2]
    row[:12] = 0
    row[[0, 4]] = ordered.sum()
    row[[1, 2, 3, 5]] = ordered.size, holes.size, ordered.size - holes.size, holes.sum()
    if holes.size:
        median = holes[::-1][(holes.size - 1) // 2]
        row[6:11] = holes[0], holes[-1], holes.mean(), median, holes[:2].sum()
    if holes.size > 1:
        weighted = (np.arange(holes.size, 0, -1) * holes).sum()
        row[11] = 2 * weighted / (holes.size * holes.sum()) - (holes.size + 1) / holes.size


def distance_row(
    ordinals: OrdinalArray,
    lowest: Int64Array,
    first: Int64Array,
    values: Float32Array,
    epsilon: float,
    touching: float,
    row: Float64Array,
) -> bool:
    """Twin of `separation.distance_row`: all pairs, however many."""
    m = len(ordinals)
    row[12:] = 0, 0, 0, 1, 1, 1, 1, 1
    if m == 1:
        return True
    x = values[first[:-1] + ordinals - lowest]
    left, right = np.triu_indices(m, 1)
    distances = np.sort(np.abs(x[left] - x[right]).max(axis=1))
    median = distances[(distances.size - 1) // 2]
    extent = distances[-1], distances.mean(dtype=np.float64), median
    row[12:15] = np.array(extent, dtype=np.float64) / epsilon
    complete, empty = distances[-1] <= touching, distances[0] > touching
    row[15:] = (1, 0, m, 1, 1) if complete else (m, m, 1, 1, 0)
    return bool(complete or empty)


def chunk_rows(
    offsets: Int64Array,
    populations: Int64Array,
    ordinals: OrdinalArray,
    lowest: Int64Array,
    first: Int64Array,
    values: Float32Array,
    epsilon: float,
    touching: float,
    ranks: Int64Array,
    bins: Int64Array,
    rows: Float64Array,
    done: BoolArray,
    ranked: Int64Array,
) -> None:
    """Twin of `separation.chunk_rows`."""
    for i, (begin, end) in enumerate(itertools.pairwise(offsets[: len(rows) + 1])):
        population_row(populations[begin:end], ranks, bins, rows[i], ranked)
        cells = ordinals[begin:end]
        done[i] = distance_row(cells, lowest, first, values, epsilon, touching, rows[i])


def look_up(ordinals: OrdinalArray, lattice: Float32Array, values: Float32Array) -> None:
    """Twin of `separation.look_up`."""
    values[:] = lattice[len(lattice) // 2 + ordinals.astype(np.int64)]
