"""L-infinity distances over all pairs without looking at every dimension.

Notation (docs/method.md, section 4). x[i, k] are the vectors, y = x - centre. list(i) holds the
dimensions k where abs(y[i, k]) >= h. If the maximum of abs(x[i, k] - x[j, k]) over list(i)
and list(j) is at least 2h it is the distance, because in any other dimension both deviations are
below h (equation 4.2); otherwise all dimensions are looked at.

Vectors are stored in blocks of `BLOCK`, dimensions first: blocks[b, k, l] = x[b * BLOCK + l, k],
so that the inner loop runs over `BLOCK` neighbours and a block of all dimensions stays in cache.
The last block is filled up with copies of the last vector. Distances of one block's vectors to
those of the same and all later blocks make a *slab*, ``slab[r, c]`` being the distance of vectors
b * BLOCK + r and b * BLOCK + c; only r < c and existing vectors count.

Cost: O(n^2 (list length + 1)) where few pairs stay below 2h, O(n^2 d) at worst.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numba.extending
import numpy as np

from deadtokens.kernels.compiling import array_kernel
from deadtokens.kernels.types import Int32Array, Int64Array, RealArray, UInt32Array

BLOCK = 64


@array_kernel
def fill_blocks(x: RealArray, blocks: RealArray) -> None:
    """Lay out (n, d) vectors as (ceil(n / BLOCK), d, BLOCK) blocks; O(n d), in place."""
    n, d = x.shape
    for b in range(blocks.shape[0]):
        for l in range(BLOCK):  # noqa: E741
            i = min(b * BLOCK + l, n - 1)
            for k in range(d):
                blocks[b, k, l] = x[i, k]


@array_kernel
def count_listed(
    blocks: RealArray, n: int, centre: RealArray, h: float, counts: Int64Array
) -> None:
    """Number of elements with abs(x - centre) >= h of each block's vectors, into ``counts``.

    O(n d), in place.
    """
    for b in range(blocks.shape[0]):
        present = min(BLOCK, n - b * BLOCK)
        count = 0
        for k in range(blocks.shape[1]):
            for l in range(present):  # noqa: E741
                count += abs(blocks[b, k, l] - centre[k]) >= h
        counts[b] = count


@array_kernel
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
    """The elements that `count_listed` counts, block b's at starts[b] : starts[b + 1].

    Of each its dimension, its vector's place in the block, and its value, by dimension. O(n d), in
    place.
    """
    for b in range(blocks.shape[0]):
        present = min(BLOCK, n - b * BLOCK)
        p = starts[b]
        for k in range(blocks.shape[1]):
            for l in range(present):  # noqa: E741
                if p < starts[b + 1] and abs(blocks[b, k, l] - centre[k]) >= h:
                    dimensions[p] = k
                    members[p] = l
                    values[p] = blocks[b, k, l]
                    p += 1


@array_kernel
def _raise_tile(
    block: RealArray,
    dimensions: Int32Array,
    members: Int32Array,
    values: RealArray,
    tile: RealArray,
) -> None:
    """Tile of a block's vectors, given by their lists, against another block's.

    Lists are by dimension, so that the other block is read from one end to the other.
    O(elements listed x BLOCK), in place.
    """
    tile[:] = 0
    for p in range(dimensions.size):
        k = dimensions[p]
        r = members[p]
        value = values[p]
        for c in range(BLOCK):
            difference = abs(block[k, c] - value)
            tile[r, c] = difference if difference > tile[r, c] else tile[r, c]


def _as_integer(number: Any) -> Any:
    """The bits of a non-negative float as an integer, which keeps the order."""
    return number.view(np.int32 if number.dtype == np.float32 else np.int64)


def _as_float(bits: Any) -> Any:
    """The inverse of `_as_integer`."""
    return bits.view(np.float32 if bits.dtype == np.int32 else np.float64)


# Overloads must name their arguments as the implementation does, without annotations.
@nb.extending.overload(_as_integer)
def _compiled_as_integer(number):  # type: ignore[no-untyped-def]
    if number == nb.types.float32:
        return lambda number: np.float32(number).view(np.int32)
    return lambda number: np.float64(number).view(np.int64)


@nb.extending.overload(_as_float)
def _compiled_as_float(bits):  # type: ignore[no-untyped-def]
    if bits == nb.types.int32:
        return lambda bits: np.int32(bits).view(np.float32)
    return lambda bits: np.int64(bits).view(np.float64)


@array_kernel
def pair_distance(a: RealArray, b: RealArray) -> float:
    """The L-infinity distance of two vectors (equation 3.2), over all dimensions; O(d).

    The maximum is taken over the bits: compilers vectorise it for integers, not for floats.
    """
    largest = _as_integer(abs(a[0] - b[0]))
    for k in range(1, a.size):
        largest = max(largest, _as_integer(abs(a[k] - b[k])))
    return _as_float(largest)  # type: ignore[no-any-return]


@array_kernel
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
    """Exact distances of block ``a``'s vectors to those of blocks a, a + 1, ...

    By equation 4.2. With l elements listed of a vector, O(BLOCK n l) time and O(d) for each pair
    that these do not settle; O(BLOCK^2) memory.

    Args:
        x: (n, d) vectors.
        blocks: The same, as `fill_blocks` lays them out.
        starts: (blocks + 1,) where each block's lists start.
        dimensions: Listed dimensions, and
        members: whose they are, and
        values: their values, as `fill_lists` gives them.
        exact_from: Distances over the lists from here on are exact: 2h; 0 if the lists hold every
            dimension that differs from the centre.
        n: Number of vectors.
        a: The block.
        slab: (BLOCK, at least (number of blocks - a) * BLOCK) output.
    """
    forward = np.empty((BLOCK, BLOCK), blocks.dtype)
    backward = np.empty((BLOCK, BLOCK), blocks.dtype)
    for b in range(a, blocks.shape[0]):
        own = slice(starts[a], starts[a + 1])
        _raise_tile(blocks[b], dimensions[own], members[own], values[own], forward)
        other = slice(starts[b], starts[b + 1])
        _raise_tile(blocks[a], dimensions[other], members[other], values[other], backward)
        for r in range(min(BLOCK, n - a * BLOCK)):
            for c in range(min(BLOCK, n - b * BLOCK)):
                distance = max(forward[r, c], backward[c, r])
                if distance < exact_from:
                    distance = pair_distance(x[a * BLOCK + r], x[b * BLOCK + c])
                forward[r, c] = distance
        column = (b - a) * BLOCK
        for r in range(BLOCK):
            for c in range(BLOCK):
                slab[r, column + c] = forward[r, c]


@array_kernel
def summarise_slab(
    slab: RealArray,
    keys: UInt32Array,
    columns: int,
    touching: float,
    histogram: Int64Array,
    degrees: Int64Array,
) -> tuple[float, float, float]:
    """Sum (float64), smallest and largest distance of a slab's pairs; O(BLOCK n), in place.

    Args:
        slab: Distances.
        keys: The same, as integers in the same order.
        columns: Existing vectors from the slab's first on.
        touching: The distance up to which two vectors touch.
        histogram: (65536,) pairs by the high 16 bits of their key, added to.
        degrees: (columns,) touching neighbours of each vector, added to.
    """
    total = 0.0
    smallest = np.inf
    largest = 0.0
    for r in range(min(BLOCK, columns)):
        row_total = 0.0
        degree = 0
        for c in range(r + 1, columns):
            distance = slab[r, c]
            row_total += distance
            if distance < smallest:
                smallest = distance
            if distance > largest:
                largest = distance
            touches = distance <= touching
            degree += touches
            degrees[c] += touches
            histogram[keys[r, c] >> 16] += 1
        degrees[r] += degree
        total += row_total
    return total, smallest, largest


@array_kernel
def refine_histogram(
    keys: UInt32Array, columns: int, high_bits: int, histogram: Int64Array
) -> None:
    """Count a slab's pairs with those high 16 key bits by their low 16, added to (65536,).

    O(BLOCK n), in place.
    """
    for r in range(min(BLOCK, columns)):
        for c in range(r + 1, columns):
            if keys[r, c] >> 16 == high_bits:
                histogram[keys[r, c] & 0xFFFF] += 1


@array_kernel
def nearest_outside(
    slab: RealArray,
    offset: int,
    columns: int,
    labels: Int32Array,
    weights: RealArray,
    ends: Int64Array,
) -> None:
    """For each component, its shortest edge to another one among a slab's pairs (Borůvka's step).

    Ties go to the lower pair (i, j), i < j, which keeps the edges chosen free of cycles.
    O(BLOCK n), in place (docs/method.md, section 5).

    Args:
        slab: Distances.
        offset: Number of the slab's first vector.
        columns: Existing vectors from there on.
        labels: (n,) component of each vector.
        weights: (components,) shortest edge so far, lowered in place.
        ends: (components, 2) its vectors, changed along.
    """
    for r in range(min(BLOCK, columns)):
        i = offset + r
        for c in range(r + 1, columns):
            j = offset + c
            if labels[i] == labels[j]:
                continue
            weight = slab[r, c]
            for label in (labels[i], labels[j]):
                if weight < weights[label] or (
                    weight == weights[label]
                    and (i < ends[label, 0] or (i == ends[label, 0] and j < ends[label, 1]))
                ):
                    weights[label] = weight
                    ends[label, 0] = i
                    ends[label, 1] = j


@array_kernel
def any_pair_within(x: RealArray, touching: float, visits: int) -> bool:
    """Whether any two of the (n, d) vectors touch; they are sorted by their first dimension.

    After looking at ``visits`` pairs it gives up and says that some may: O(n + visits d) time.
    """
    n, d = x.shape
    for i in range(n):
        for j in range(i + 1, n):
            if abs(x[j, 0] - x[i, 0]) > touching:
                break
            visits -= 1
            if visits < 0:
                return True
            within = True
            for k in range(1, d):
                if abs(x[j, k] - x[i, k]) > touching:
                    within = False
                    break
            if within:
                return True
    return False


@array_kernel
def count_differing(x: RealArray, counts: Int32Array) -> None:
    """Hamming distances of (n, d) vectors: differing dimensions of each pair, (n, n); O(n^2 d)."""
    n, d = x.shape
    for i in range(n):
        counts[i, i] = 0
        for j in range(i):
            differing = np.int32(0)
            for k in range(d):
                differing += np.int32(x[i, k] != x[j, k])
            counts[i, j] = differing
            counts[j, i] = differing
