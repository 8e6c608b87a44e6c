"""Statistics of many small snowballs in one compiled call, without looking at pairs.

Notation (docs/method.md, section 8). A trial has m distinct vectors, given by the cells they occupy
in a dimensions. Dimensions are taken by range, the widest first. A dimension in which only two
cells are occupied splits every group of vectors that agree so far into two, and every pair that it
separates is exactly its range apart (equation 8.1): the pair agrees in all wider dimensions, and no
later one is wider. From the first dimension with three or more occupied cells on, the pairs that
are left are looked at one by one. The distances found, with how many pairs have each, come in
descending order, so that mean, median and extremes need no sorting of pairs.

Cost: O(m a) per trial and the pairs left, in place of O(m^2 a).
"""

from __future__ import annotations

import numpy as np

from deadtokens.kernels.compiling import array_kernel
from deadtokens.kernels.types import BoolArray, Float32Array, Float64Array, Int64Array, OrdinalArray

PAIRS_AT_MOST = 200_000  # pairs looked at one by one; trials with more are left to `pairs`


@array_kernel
def population_row(
    populations: Int64Array,
    ranks: Int64Array,
    bins: Int64Array,
    row: Float64Array,
    counts: Int64Array,
) -> None:
    """Counts and black-hole statistics of one trial, into the first 12 places of a row.

    As in docs/method.md, section 3. With h black holes O(m + h log h) time, O(log b) for each rank,
    and O(h) memory.

    Args:
        populations: (m,) of its vectors.
        ranks: (r,) ranks, from 1, at which populations are looked at.
        bins: (b,) lowest population of each bin: 0, which stands for no vector, 1, 2, ...
        row: (20,) output.
        counts: (r, bins) int64: one is added in each rank's bin.
    """
    n_tokens = 0
    n_holes = 0
    for j in range(populations.size):
        n_tokens += populations[j]
        n_holes += populations[j] >= 2
    holes = np.empty(n_holes, np.int64)
    place = 0
    for j in range(populations.size):
        if populations[j] >= 2:
            holes[place] = populations[j]
            place += 1
    holes.sort()
    total = 0
    ranked = 0
    for i in range(n_holes):
        total += holes[i]
        ranked += (i + 1) * holes[i]
    for r in range(ranks.size):
        rank = ranks[r]
        if rank <= n_holes:
            population = holes[n_holes - rank]
            counts[r, np.searchsorted(bins, population, side="right") - 1] += 1
        else:
            counts[r, 1 if rank <= populations.size else 0] += 1
    row[0] = n_tokens
    row[1] = populations.size
    row[2] = n_holes
    row[3] = populations.size - n_holes
    row[4] = n_tokens
    row[5] = total
    row[6:12] = 0.0
    if n_holes > 0:
        row[6] = holes[n_holes - 1]
        row[7] = holes[0]
        row[8] = total / n_holes
        row[9] = holes[(n_holes - 1) // 2]
        row[10] = holes[n_holes - 1] + (holes[n_holes - 2] if n_holes > 1 else 0)
    if n_holes > 1:
        row[11] = 2 * ranked / (n_holes * total) - (n_holes + 1) / n_holes


@array_kernel
def _widest_of_many(ranges: Float32Array) -> Int64Array:
    # Numbers that are not negative are in the order of their bits. `population_row` sorts int64
    # too, so that no other sort has to be compiled.
    bits = ranges.view(np.int32)
    keys = np.empty(ranges.size, np.int64)
    for i in range(ranges.size):
        keys[i] = (-np.int64(bits[i]) << 32) | i
    keys.sort()
    return keys & 0xFFFFFFFF


@array_kernel
def _widest_first(ranges: Float32Array) -> Int64Array:
    # A few are sorted by insertion, several times as fast. O(a log a) beyond these.
    if ranges.size > 40:
        return _widest_of_many(ranges)  # type: ignore[no-any-return]
    order = np.empty(ranges.size, np.int64)
    for i in range(ranges.size):
        j = i
        while j > 0 and ranges[order[j - 1]] < ranges[i]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = i
    return order


@array_kernel
def _split(
    ordinals: OrdinalArray,
    dimension: int,
    low: int,
    members: Int64Array,
    scratch: Int64Array,
    starts: Int64Array,
    n_groups: int,
    next_starts: Int64Array,
) -> tuple[int, int]:
    # Splits every group of two or more by whether its vectors are in cell `low`. Groups lie one
    # after another in members; single vectors are dropped. Returns groups left, pairs separated.
    # O(members).
    separated = 0
    kept = 0
    place = 0
    next_starts[0] = 0
    for g in range(n_groups):
        begin = starts[g]
        end = starts[g + 1]
        n_low = 0
        n_high = 0
        for i in range(begin, end):
            vector = members[i]
            if ordinals[vector, dimension] == low:
                members[begin + n_low] = vector
                n_low += 1
            else:
                scratch[n_high] = vector
                n_high += 1
        separated += n_low * n_high
        if n_low >= 2:
            for i in range(n_low):
                members[place + i] = members[begin + i]
            place += n_low
            kept += 1
            next_starts[kept] = place
        if n_high >= 2:
            for i in range(n_high):
                members[place + i] = scratch[i]
            place += n_high
            kept += 1
            next_starts[kept] = place
    return kept, separated


@array_kernel
def distance_row(
    ordinals: OrdinalArray,
    lowest: Int64Array,
    first: Int64Array,
    values: Float32Array,
    epsilon: float,
    touching: float,
    row: Float64Array,
) -> bool:
    """Extent and topology of one trial, into the last 8 places of a row.

    The largest distance by equation 4.1, the others by equation 8.1: O(m a) time, O(a) at most for
    each pair left, and O(m + a + pairs left) memory.

    Args:
        ordinals: (m, a) cells of the distinct vectors.
        lowest: (a,) ordinal of each dimension's first cell in the table.
        first: (a + 1,) where each dimension's cells begin in ``values``.
        values: (cells,) their values.
        epsilon: The length in which distances are quoted.
        touching: The distance up to which vectors touch, a float32 number.
        row: (20,) output.

    Returns:
        Whether it could be done: False if too many pairs are left, or the touching graph is neither
        complete nor empty; the row's last places are then unspecified.
    """
    m, a = ordinals.shape
    row[12:20] = 0.0
    if m <= 1:
        row[15:20] = 1.0
        return True
    low = np.empty(a, np.int64)
    high = np.empty(a, np.int64)
    for k in range(a):
        low[k] = ordinals[0, k]
        high[k] = ordinals[0, k]
    for i in range(1, m):
        for k in range(a):
            ordinal = np.int64(ordinals[i, k])
            low[k] = min(low[k], ordinal)
            high[k] = max(high[k], ordinal)
    n_varying = 0
    dimensions = np.empty(a, np.int64)
    ranges = np.empty(a, np.float32)
    for k in range(a):
        if low[k] != high[k]:
            top = values[first[k] + high[k] - lowest[k]]
            bottom = values[first[k] + low[k] - lowest[k]]
            ranges[n_varying] = top - bottom
            dimensions[n_varying] = k
            n_varying += 1
    order = _widest_first(ranges[:n_varying])
    n_pairs = m * (m - 1) // 2

    members = np.arange(m)
    scratch = np.empty(m, np.int64)
    starts = np.empty(m + 1, np.int64)
    next_starts = np.empty(m + 1, np.int64)
    starts[0] = 0
    starts[1] = m
    n_groups = 1
    distances = np.empty(n_varying, np.float32)
    counts = np.empty(n_varying, np.int64)
    n_distances = 0
    left = n_pairs
    p = 0
    while p < n_varying and left > 0:
        k = dimensions[order[p]]
        two_cells = True
        for i in range(starts[n_groups]):
            ordinal = ordinals[members[i], k]
            if ordinal != low[k] and ordinal != high[k]:
                two_cells = False
                break
        if not two_cells:
            break
        n_groups, separated = _split(
            ordinals, k, low[k], members, scratch, starts, n_groups, next_starts
        )
        starts, next_starts = next_starts, starts
        if separated > 0:
            distances[n_distances] = ranges[order[p]]
            counts[n_distances] = separated
            n_distances += 1
            left -= separated
        p += 1
    if left > PAIRS_AT_MOST:
        return False
    near = np.empty(left, np.float32)
    q = 0
    for g in range(n_groups if left > 0 else 0):
        for i in range(starts[g], starts[g + 1]):
            for j in range(starts[g], i):
                largest = np.float32(0.0)
                for r in range(p, n_varying):
                    if ranges[order[r]] <= largest:
                        break
                    k = dimensions[order[r]]
                    offset = first[k] - lowest[k]
                    difference = abs(
                        values[offset + ordinals[members[i], k]]
                        - values[offset + ordinals[members[j], k]]
                    )
                    largest = max(largest, difference)
                near[q] = largest
                q += 1
    near.sort()

    total = 0.0
    for distance in near:
        total += distance
    for i in range(n_distances - 1, -1, -1):
        total += np.float64(distances[i]) * counts[i]
    rank = (n_pairs - 1) // 2
    if rank < left:
        median = near[rank]
    else:
        below = left
        i = n_distances - 1
        while below + counts[i] <= rank:
            below += counts[i]
            i -= 1
        median = distances[i]
    largest = ranges[order[0]]
    smallest = near[0] if left > 0 else distances[n_distances - 1]
    row[12] = largest / epsilon
    row[13] = total / n_pairs / epsilon
    row[14] = median / epsilon
    if largest <= touching:
        row[15] = 1
        row[16] = 0
        row[17] = m
        row[18] = 1.0
        row[19] = 1.0
    elif smallest > touching:
        row[15] = m
        row[16] = m
        row[17] = 1
        row[18] = 1.0
        row[19] = 0.0
    else:
        return False
    return True


@array_kernel
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
    """The statistics of a chunk of trials: the i-th has vectors offsets[i] to offsets[i + 1].

    The costs of `population_row` and `distance_row` for each: O(m a), summed over trials.

    Args:
        offsets: (trials + 1,).
        populations: (vectors,) of all of them.
        ordinals: (vectors, a), and so on as for `distance_row`.
        lowest: As for `distance_row`, and so are
        first: this,
        values: this,
        epsilon: this
        touching: and this.
        ranks: (r,) ranks from 1, and
        bins: (b,) bins of populations, both as for `population_row`.
        rows: (trials, 20) output.
        done: (trials,) output: whether `distance_row` could do it.
        ranked: (r, bins) trials by population at each rank, added to.
    """
    for i in range(rows.shape[0]):
        begin = offsets[i]
        end = offsets[i + 1]
        population_row(populations[begin:end], ranks, bins, rows[i], ranked)
        done[i] = distance_row(
            ordinals[begin:end], lowest, first, values, epsilon, touching, rows[i]
        )


@array_kernel
def look_up(ordinals: OrdinalArray, lattice: Float32Array, values: Float32Array) -> None:
    """Values of (m, a) ordinals from the lattice's, lattice[0] being the lowest one's; O(m a)."""
    middle = lattice.size // 2
    for i in range(ordinals.shape[0]):
        for k in range(ordinals.shape[1]):
            values[i, k] = lattice[middle + ordinals[i, k]]
