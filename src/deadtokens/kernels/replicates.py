"""Occupied cells of simulated dimensions whose means lie anywhere relative to the lattice.

Notation (docs/method.md, section 14). A dimension's mean is drawn uniformly over one cell; its n
tokens are not drawn but counted: how many lie above the cell's upper boundary, of these how many
above the next one, and so on, each a binomial draw given the one before; likewise below.
O(cells passed) for a dimension, in place.
"""

from __future__ import annotations

import math

import numpy as np

from deadtokens.kernels.compiling import kernel
from deadtokens.kernels.random import NO_ROW, Words, binomial, start_stream, uniform
from deadtokens.kernels.types import Float64Array, Int64Array

TOTALS = 5
_TRIES = 1000  # at which a replicate is taken as it is
_SQRT2 = math.sqrt(2.0)
# A mean farther than this from both boundaries, in standard deviations, leaves no token outside.
_REACH = 10.0


@kernel
def _upper_tail(z: float) -> float:
    return 0.5 * math.erfc(z / _SQRT2)


@kernel
def _outwards(
    state: Words,
    ahead: Words,
    left: int,
    certain: float,
    mean: float,
    sigma: float,
    sign: int,
    boundaries: Float64Array,
    place: int,
) -> tuple[int, int, int, int, float]:
    # Goes outwards over the boundaries from `place` on, with `left` tokens that lie beyond the one
    # before with probability `certain`. Returns the tokens that stay before the first boundary;
    # then, of the cells beyond it, how many are occupied, the number of the nearest and of the
    # farthest of them (the first cell is 1), and the pairs of tokens that share one.
    stayed = left
    occupied = 0
    nearest = 0
    farthest = 0
    pairs = 0.0
    chance = certain
    step = 0
    while left > 0:
        index = place + sign * step
        tail = 0.0
        if 0 <= index < boundaries.size:
            tail = _upper_tail(sign * (boundaries[index] - mean) / sigma)
        beyond = 0
        if tail > 0.0:
            beyond = binomial(state, ahead, left, min(1.0, tail / chance))
        here = left - beyond
        if step == 0:
            stayed = here
        elif here > 0:
            occupied += 1
            farthest = step
            if nearest == 0:
                nearest = step
            pairs += 0.5 * here * (here - 1.0)
        left = beyond
        chance = tail
        step += 1
    return stayed, occupied, nearest, farthest, pairs


@kernel
def replicate(
    n_tokens: int,
    sigma: float,
    conditional: bool,
    first: Int64Array,
    boundaries: Float64Array,
    home: Int64Array,
    state: Words,
    ahead: Words,
    totals: Float64Array,
) -> None:
    """Draw one replicate from the stream (state, ahead), which the caller has started.

    O(k + cells passed) time.

    Args:
        n_tokens: Tokens.
        sigma: Of the noise, above 0.
        conditional: Whether a dimension is drawn anew until it varies.
        first: (k + 1,) int64, where each dimension's boundaries begin.
        boundaries: float64, ascending boundaries of cells around each dimension's home, far enough
            out for no token to pass the last.
        home: (k,) int64, index of the lower boundary of the cell that the mean lies in.
        state: The stream's state.
        ahead: The stream's words.
        totals: (`TOTALS`,) float64, receives over all dimensions: how many vary; occupied cells;
            empty cells between occupied ones; dimensions that have such; pairs of tokens in the
            same cell.
    """
    totals[:] = 0.0
    for k in range(home.size):
        edges = boundaries[first[k] : first[k + 1]]
        below = home[k] - first[k]
        low = edges[below]
        width = edges[below + 1] - low
        near = min(0.5 * width, _REACH * sigma)
        while True:
            mean = low + width * uniform(state, ahead)
            if conditional:
                # Only a mean near a boundary can vary; a mean elsewhere would be drawn in vain.
                offset = 2.0 * near * uniform(state, ahead)
                mean = low + (offset if offset < near else width - (offset - near))
            down, cells_above, nearest_above, farthest_above, pairs_above = _outwards(
                state, ahead, n_tokens, 1.0, mean, sigma, 1, edges, below + 1
            )
            # Those not above the cell lie at its upper boundary or below with this probability.
            certain = 1.0 - _upper_tail((low + width - mean) / sigma)
            inside, cells_below, nearest_below, farthest_below, pairs_below = _outwards(
                state, ahead, down, certain, mean, sigma, -1, edges, below
            )
            occupied = cells_above + cells_below + (1 if inside > 0 else 0)
            if occupied > 1 or not conditional:
                break
        # An empty home cell is skipped only if both sides are occupied.
        highest = 0 if inside > 0 else -nearest_below
        lowest = 0 if inside > 0 else nearest_above
        if cells_above > 0:
            highest = farthest_above
        if cells_below > 0:
            lowest = -farthest_below
        skipped = highest - lowest + 1 - occupied
        totals[0] += 1.0 if occupied > 1 else 0.0
        totals[1] += occupied
        totals[2] += skipped
        totals[3] += 1.0 if skipped > 0 else 0.0
        totals[4] += pairs_above + pairs_below + 0.5 * inside * (inside - 1.0)


@kernel
def replicates(
    key: int,
    first_number: int,
    n_tokens: int,
    sigmas: Float64Array,
    conditional: bool,
    first: Int64Array,
    boundaries: Float64Array,
    home: Int64Array,
    state: Words,
    ahead: Words,
    totals: Float64Array,
) -> None:
    """Draw replicates first_number .. first_number + r - 1, a stream each, until something varies.

    O(r (k + cells passed)) time.

    Args:
        key: The stream key, uint64.
        first_number: Of the first replicate, uint64.
        n_tokens: As in `replicate`.
        sigmas: (r,) float64, the noise of each.
        conditional: As in `replicate`, and so
        first: are
        boundaries: the
        home: others.
        state: (STATE_SIZE,) uint64, overwritten.
        ahead: (AHEAD,) uint64, overwritten.
        totals: (r, `TOTALS`) float64, overwritten.
    """
    for i in range(sigmas.size):
        number = np.uint64(first_number) + np.uint64(i)
        start_stream(state, ahead, key, NO_ROW, number, 0)
        # Nothing is tested where nothing varies, so that such a replicate is none.
        for _ in range(_TRIES):
            replicate(
                n_tokens, sigmas[i], conditional, first, boundaries, home, state, ahead, totals[i]
            )
            if totals[i, 0] > 0:
                break
