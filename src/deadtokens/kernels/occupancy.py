"""Occupancy sampling: the groups of equal tokens of a trial, without drawing the tokens.

One group of n tokens is split by one dimension after another, rarest to split first; tokens are
exchangeable, so which of them leave a group does not matter, only how many (docs/method.md,
section 7). Each token leaves the most likely cell of a dimension with that dimension's
probability q, independently. Two exact ways to draw the leavers of a group of p tokens:

- p q large: one binomial draw;
- otherwise a clock. Going past a token uses up -log(1 - q) of an exponential time; where it runs
  out, that token leaves and the clock is set anew (equation 7.1). The exponential has no memory, so
  what is left of it is carried to the next group and the next dimension: a dimension that nobody
  leaves costs one comparison.

The leavers are then dealt to the other cells, the most likely first.

Notation: a dimensions are active; *columns* number them in ascending order, *steps* in the order
of splitting. *Entries* are the cells other than the most likely one, step after step. Kernels work
in place, O(1) memory besides the arrays they are given.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deadtokens.kernels.compiling import kernel
from deadtokens.kernels.random import (
    BINOMIAL_MEAN,
    NO_ROW,
    Words,
    binomial,
    exponential,
    start_stream,
    uniform,
)
from deadtokens.kernels.types import Float64Array, Int64Array, OrdinalArray

# So many leavers of a group are dealt to cells one by one; more, by a binomial for each cell.
SCRATCH_SIZE = 32
# So many entries are searched one after another, the rest by halving.
_LINEAR = 8


class OccupancyTable(NamedTuple):
    """What the kernel needs to know of a cloud; a steps, e entries.

    Attributes:
        column: (a,) int64, the column that each step splits.
        leave: (a,) float64, probability q of leaving the most likely cell.
        hazard: (a,) float64, -log(1 - q).
        first: (a + 1,) int64, first entry of each step.
        ordinal: (e,) int16 or int32, the entry's ordinal.
        cell: (e,) int64, the entry's number among all cells of the cloud, for counting.
        cumulative: (e,) float64, probability of this entry or an earlier one of the same step,
            given that the token leaves; 1 for the last.
        share: (e,) float64, probability of this entry given this or a later one; 1 for the last.
        modal: (a,) int16 or int32, ordinal of the most likely cell of each *column*.
    """

    column: Int64Array
    leave: Float64Array
    hazard: Float64Array
    first: Int64Array
    ordinal: OrdinalArray
    cell: Int64Array
    cumulative: Float64Array
    share: Float64Array
    modal: OrdinalArray


@kernel
def find_entry(cumulative: Float64Array, first: int, last: int, u: float) -> int:
    """The first entry of first .. last - 1 with u <= cumulative; O(log(last - first))."""
    linear = min(last, first + _LINEAR)
    for entry in range(first, linear):
        if u <= cumulative[entry]:
            return entry
    low = linear
    high = last - 1
    while low < high:
        middle = (low + high) >> 1
        if u <= cumulative[middle]:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def _place(
    group: int,
    count: int,
    entry: int,
    column: int,
    vacant: bool,
    groups: int,
    table: OccupancyTable,
    populations: Int64Array,
    codes: OrdinalArray,
) -> int:
    # Puts `count` leavers of `group` into an entry's cell: into the group itself if nobody is left
    # in it, else into a new one, O(a). Returns the number of groups, or -1 if there is no room.
    if vacant:
        codes[group, column] = table.ordinal[entry]
        populations[group] = count
        return groups
    if groups == populations.size:
        return -1
    for k in range(codes.shape[1]):
        codes[groups, k] = codes[group, k]
    codes[groups, column] = table.ordinal[entry]
    populations[groups] = count
    return groups + 1


@kernel
def _deal(
    group: int,
    leavers: int,
    step: int,
    groups: int,
    table: OccupancyTable,
    state: Words,
    ahead: Words,
    scratch: Int64Array,
    populations: Int64Array,
    codes: OrdinalArray,
    counts: Int64Array,
) -> int:
    # Splits the leavers off a group, in O(`SCRATCH_SIZE`) draws or one for each entry. Returns the
    # number of groups, or -1 if there is no room.
    first = table.first[step]
    last = table.first[step + 1]
    column = table.column[step]
    populations[group] -= leavers
    vacant = populations[group] == 0
    if last - first == 1 or leavers == 1:
        entry = first
        if last - first > 1:
            entry = find_entry(table.cumulative, first, last, uniform(state, ahead))
        counts[table.cell[entry]] += leavers
        return _place(group, leavers, entry, column, vacant, groups, table, populations, codes)  # type: ignore[no-any-return]
    if leavers > SCRATCH_SIZE or last - first == 2:
        left = leavers
        for entry in range(first, last):
            count = binomial(state, ahead, left, table.share[entry])
            if count > 0:
                counts[table.cell[entry]] += count
                groups = _place(
                    group, count, entry, column, vacant, groups, table, populations, codes
                )
                vacant = False
                left -= count
                if left == 0 or groups < 0:
                    break
        return groups
    for i in range(leavers):
        entry = find_entry(table.cumulative, first, last, uniform(state, ahead))
        j = i
        while j > 0 and scratch[j - 1] > entry:
            scratch[j] = scratch[j - 1]
            j -= 1
        scratch[j] = entry
    start = 0
    for i in range(1, leavers + 1):
        if i == leavers or scratch[i] != scratch[start]:
            entry = scratch[start]
            counts[table.cell[entry]] += i - start
            groups = _place(
                group, i - start, entry, column, vacant, groups, table, populations, codes
            )
            if groups < 0:
                break
            vacant = False
            start = i
    return groups


@kernel
def occupancy_trial(
    n_tokens: int,
    table: OccupancyTable,
    state: Words,
    ahead: Words,
    scratch: Int64Array,
    populations: Int64Array,
    codes: OrdinalArray,
    counts: Int64Array,
) -> int:
    """Draw one trial from the stream (state, ahead), which the caller has started.

    O(m a) time at most for the visits of groups, far less where steps are passed in one comparison,
    and a draw for every token that leaves by the clock.

    Args:
        n_tokens: n >= 1.
        table: The cloud's.
        state: The stream's state.
        ahead: The stream's words.
        scratch: (SCRATCH_SIZE,) int64, overwritten.
        populations: (r,) int64, receives the populations.
        codes: (r, a) ordinals, receives the distinct vectors.
        counts: (cells,) int64: the tokens in every cell *other than the most likely of its
            dimension* are added.

    Returns:
        The number m of groups; -1 if there are more than r, with counts then spoilt.
    """
    clock = exponential(state, ahead)
    most = np.float64(n_tokens)
    groups = int(np.int64(1))  # a literal would have `_deal` compiled for itself too
    populations[0] = n_tokens
    for k in range(codes.shape[1]):
        codes[0, k] = table.modal[k]
    for step in range(table.leave.size):
        leave = table.leave[step]
        hazard = table.hazard[step]
        every = n_tokens * hazard
        all_by_clock = n_tokens * leave <= BINOMIAL_MEAN
        if all_by_clock and clock >= every:
            clock -= every
            continue
        # Within a dimension the clock is counted in tokens still to be gone past.
        inverse = 1.0 / hazard
        wound = int(min(clock * inverse, most))
        wait = wound
        # The clock has been looked at if it is to decide for all: then it must.
        largest = n_tokens if all_by_clock else int(BINOMIAL_MEAN / leave)
        first = table.first[step]
        two_cells = table.first[step + 1] - first == 1
        to_come = n_tokens
        for group in range(groups):
            population = populations[group]
            to_come -= population
            leavers = 0
            if population > largest:
                leavers = binomial(state, ahead, population, leave)
                if leavers == 0:
                    continue
            else:
                if wait >= population:
                    wait -= population
                    continue
                left = population
                while wait < left:
                    leavers += 1
                    left -= wait + 1
                    clock = exponential(state, ahead)
                    wound = int(min(clock * inverse, most))
                    wait = wound
                wait -= left
            if leavers == population and (two_cells or leavers == 1):
                # A whole group changes its cell, most often a single token: no new group.
                entry = first
                if not two_cells:
                    entry = find_entry(
                        table.cumulative, first, table.first[step + 1], uniform(state, ahead)
                    )
                codes[group, table.column[step]] = table.ordinal[entry]
                counts[table.cell[entry]] += leavers
            else:
                groups = _deal(
                    group, leavers, step, groups, table, state, ahead, scratch, populations,
                    codes, counts,
                )  # fmt: skip
                if groups < 0:
                    return -1
            if all_by_clock and wait >= to_come:
                wait -= to_come
                break
        clock = max(clock - (wound - wait) * hazard, 0.0)
    return groups


@kernel
def occupancy_chunk(
    n_tokens: int,
    most_groups: int,
    key: int,
    first_trial: int,
    n_trials: int,
    table: OccupancyTable,
    state: Words,
    ahead: Words,
    scratch: Int64Array,
    offsets: Int64Array,
    populations: Int64Array,
    codes: OrdinalArray,
    counts: Int64Array,
) -> int:
    """Draw trials first_trial .. first_trial + n_trials - 1, one after another.

    O(m a) time at most for each, as `occupancy_trial`.

    Args:
        n_tokens: n >= 1.
        most_groups: A number that no trial can have more distinct vectors than, n at most.
        key: The stream key, uint64.
        first_trial: Number of the first trial, uint64.
        n_trials: How many at most.
        table: The cloud's.
        state: (STATE_SIZE,) uint64, overwritten.
        ahead: (AHEAD,) uint64, overwritten.
        scratch: (SCRATCH_SIZE,) int64, overwritten.
        offsets: (at least n_trials + 1,) int64, receives where each trial's rows begin.
        populations: (r,) int64, r >= most_groups.
        codes: (r, a) ordinals.
        counts: (cells,) int64, added to as in `occupancy_trial`.

    Returns:
        The number t of trials done, smaller than n_trials if there was no room for the next one.
        The distinct vectors of the i-th are the rows offsets[i] to offsets[i + 1].
    """
    offsets[0] = 0
    for i in range(n_trials):
        start = offsets[i]
        # Only a trial that fits surely is begun, so that none is drawn for nothing.
        if populations.size - start < most_groups:
            return i
        start_stream(state, ahead, key, NO_ROW, np.uint64(first_trial) + np.uint64(i), 0)
        groups = occupancy_trial(
            n_tokens, table, state, ahead, scratch, populations[start:], codes[start:], counts
        )
        offsets[i + 1] = start + groups
    return n_trials
