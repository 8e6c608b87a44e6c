"""Synthetic snowballs: a cloud, a number of tokens and a trial number give distinct vectors.

Two samplers, both exact (docs/method.md, section 7): "occupancy" splits groups of equal tokens
and wants few cells; "direct" draws every coordinate. They give different bits for the same trial,
so which one is used is a fixed function of the specification, never of a timing.

A trial's random numbers are a function of (seed, sigma, trial number) alone.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import operator
import struct
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from deadtokens.census import first_equal_rows
from deadtokens.cloud import CELL_LIMIT, CellTable, Cloud, IndexArray, OrdinalArray
from deadtokens.errors import SelectionError
from deadtokens.formats import Float64Array
from deadtokens.kernels import direct, occupancy, random
from deadtokens.snowball import Snowball

SamplerName: TypeAlias = Literal["occupancy", "direct"]

_NOISES = {"gaussian": direct.GAUSSIAN, "laplace": direct.LAPLACE, "uniform": direct.UNIFORM}

# Costs in units of drawing and rounding one coordinate, finding equal rows and counting elements:
# moving one token to another cell, one binomial draw, and looking at a group in passing.
_MOVE_COST = 8.0
_BINOMIAL_COST = 10.0
_VISIT_COST = 0.2


def stream_key(seed: int, sigma: Float64Array) -> int:
    """The 64-bit stream key of a seed and the (d,) sigmas of a cloud.

    Equal sigmas count as the one number that they are, whatever d.

    Raises:
        SelectionError: The seed is not in 0 .. 2^64 - 1.
    """
    numbers = sigma[:1] if np.all(sigma == sigma[0]) else sigma
    numbers = numbers.astype("<f8") + 0.0  # -0.0 becomes 0.0
    content = struct.pack("<QQ", _word(seed, "seed"), numbers.size) + numbers.tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def choose_sampler(cloud: Cloud, n_tokens: int) -> SamplerName:
    """The sampler with less expected work, from the specification alone.

    The direct draw takes n times a coordinates. Occupancy sampling moves, in each dimension, the
    tokens that leave the modal cell, or splits the groups there are by binomial draws, whichever
    is less. The number of groups is at most n and, dimensions being independent, on average at most
    the product of the expected numbers of occupied cells.
    """
    table = cloud.table
    if table is None:
        return "direct"
    occupied = np.add.reduceat(
        -np.expm1(n_tokens * np.log1p(-np.minimum(table.probabilities, 1 - 2.0**-53))),
        table.first[:-1],
    )
    order = np.argsort(table.leave, kind="stable")
    leave = table.leave[order]
    with np.errstate(over="ignore"):
        groups = np.minimum(np.cumprod(np.maximum(occupied[order], 1.0)), float(n_tokens))
    split = np.minimum(_MOVE_COST * n_tokens * leave, _BINOMIAL_COST * groups)
    work = split + _VISIT_COST * np.minimum(groups, n_tokens * leave * groups)
    return "occupancy" if float(work.sum()) <= float(n_tokens) * leave.size else "direct"


def sample(
    cloud: Cloud,
    n_tokens: int,
    *,
    trial: int = 0,
    seed: int = 42,
    sampler: SamplerName | Literal["auto"] = "auto",
) -> Snowball:
    """Draw one trial.

    By the direct draw its rows are the trial's tokens, in the order drawn; by occupancy sampling
    tokens have no order.

    Args:
        cloud: The null model.
        n_tokens: Tokens to draw.
        trial: Number of the trial.
        seed: Any number below 2^64; trials of different seeds are independent.
        sampler: "auto" for `choose_sampler`'s.

    Raises:
        SelectionError: A number out of range, or a sampler that cannot draw this cloud.
        FormatError: The format may overflow.
    """
    cloud.check(n_tokens)
    if sampler == "auto":
        sampler = choose_sampler(cloud, n_tokens)
    if sampler == "occupancy":
        drawn = OccupancySampler(cloud, n_tokens, seed=seed, rows=0).draw(trial, 1)
        ordinals, populations = drawn.ordinals, drawn.populations.copy()
        row_ids = row_vectors = None
    elif sampler == "direct":
        tokens = DirectSampler(cloud, n_tokens, seed=seed).draw(trial)
        ordinals, populations, row_vectors = distinct_rows(tokens)
        row_ids = np.arange(n_tokens)
    else:
        raise SelectionError(
            f"unknown sampler {sampler!r}", remedy=f"use auto or {get_args(SamplerName)}"
        )
    vectors = np.tile(cloud.modal, (populations.size, 1))
    vectors[:, cloud.active] = ordinals
    codes = cloud.format.codes(vectors.astype(np.int64))
    return Snowball(codes, populations, cloud.format, row_ids, row_vectors)


def distinct_rows(ordinals: OrdinalArray) -> tuple[OrdinalArray, IndexArray, IndexArray]:
    """Distinct rows in the order of first appearance, how often each appears, and each row's."""
    unsigned = ordinals.view(f"u{ordinals.itemsize}")
    # Ordinals have one zero only and are all finite: the extreme code, which none has, stands for
    # -0.0, and no magnitude is too large.
    sign_bit = 1 << (8 * ordinals.itemsize - 1)
    first = first_equal_rows(unsigned, sign_bit, sign_bit, workers=1)
    distinct, inverse, populations = np.unique(first, return_inverse=True, return_counts=True)
    vectors = ordinals if distinct.size == len(ordinals) else ordinals[distinct]
    return vectors, populations, inverse


@dataclass(frozen=True)
class Chunk:
    """Consecutive trials: the i-th has the rows offsets[i] to offsets[i + 1].

    Attributes:
        first_trial: Number of the first of these t trials.
        offsets: (t + 1,) int64.
        populations: (rows,) int64.
        ordinals: (rows, a) in the cloud's active dimensions; int16, or int32 for float32.
    """

    first_trial: int
    offsets: IndexArray
    populations: IndexArray
    ordinals: OrdinalArray


class OccupancySampler:
    """Occupancy sampling of trials of one cloud, with the work space of one worker.

    Args:
        cloud: One with a table.
        n_tokens: Tokens of a trial, n.
        seed: Below 2^64.
        rows: Room for the distinct vectors of a chunk; there is always enough for one trial.
        table: The cloud's `occupancy_table`, if it was made elsewhere.

    Attributes:
        counts: (cells,) int64, tokens in every cell of ``cloud.table`` *but the modal ones*, over
            all trials drawn; `cell_counts` fills those in.
        trials: Number of trials drawn.

    Raises:
        SelectionError: There is no table, or a number out of range.
        FormatError: The format may overflow.
    """

    def __init__(
        self,
        cloud: Cloud,
        n_tokens: int,
        *,
        seed: int = 42,
        rows: int | None = None,
        table: occupancy.OccupancyTable | None = None,
    ) -> None:
        cloud.check(n_tokens)
        self.cloud = cloud
        self.n_tokens = n_tokens
        self.key = np.uint64(stream_key(seed, cloud.sigma))
        self.table = table or occupancy_table(cloud)
        self.counts: IndexArray = np.zeros(cell_table(cloud).ordinals.size, dtype=np.int64)
        self.trials = 0
        # No more distinct vectors than tokens, or than combinations of cells.
        self._most = min(n_tokens, math.prod(np.diff(cell_table(cloud).first).tolist()))
        rows = max(self._most, self._most + 4096 if rows is None else rows)
        self._state = np.zeros(random.STATE_SIZE, dtype=np.uint64)
        self._ahead = np.zeros(random.AHEAD, dtype=np.uint64)
        self._scratch = np.zeros(occupancy.SCRATCH_SIZE, dtype=np.int64)
        self._populations = np.empty(rows, dtype=np.int64)
        self._ordinals = np.empty((rows, self.table.modal.size), dtype=self.table.modal.dtype)

    def draw(self, first_trial: int, n_trials: int) -> Chunk:
        """Draw up to n_trials trials: fewer if the rows of another might not fit, but one at least.

        The arrays of the chunk are views of the work space, overwritten by the next call.
        """
        first = np.uint64(_word(first_trial, "trial"))
        offsets = np.zeros(n_trials + 1, dtype=np.int64)
        done = occupancy.occupancy_chunk(
            self.n_tokens, self._most, self.key, first, n_trials, self.table, self._state,
            self._ahead, self._scratch, offsets, self._populations, self._ordinals, self.counts,
        )  # fmt: skip
        self.trials += done
        rows = int(offsets[done])
        return Chunk(
            first_trial, offsets[: done + 1], self._populations[:rows], self._ordinals[:rows]
        )

    def forget(self) -> None:
        """Start counting anew."""
        self.counts[:] = 0
        self.trials = 0

    def cell_counts(self) -> IndexArray:
        """(cells,) int64: tokens in every cell of ``cloud.table``, over all trials drawn."""
        return complete_counts(self.cloud, self.counts, self.n_tokens * self.trials)


class DirectSampler:
    """The direct draw of trials of one cloud, with the work space of one worker.

    Args:
        cloud: Any.
        n_tokens: Tokens of a trial, n.
        seed: Below 2^64.

    Raises:
        SelectionError: A number out of range.
        FormatError: The format may overflow.
    """

    def __init__(self, cloud: Cloud, n_tokens: int, *, seed: int = 42) -> None:
        cloud.check(n_tokens)
        self.cloud = cloud
        self.n_tokens = n_tokens
        self.key = np.uint64(stream_key(seed, cloud.sigma))
        self._centroid = cloud.centroid[cloud.active]
        self._sigma = cloud.sigma[cloud.active]
        a = cloud.active.size
        self._z = np.zeros(a)
        self._words = np.zeros(a + a % 2, dtype=np.uint64)
        self._doubtful = np.zeros(a, dtype=np.uint8)
        self._state = np.zeros(random.STATE_SIZE, dtype=np.uint64)
        self._ahead = np.zeros(random.AHEAD, dtype=np.uint64)

    def draw(
        self, trial: int, out: OrdinalArray | None = None, first_token: int = 0
    ) -> OrdinalArray:
        """Ordinals of a trial's tokens in the cloud's active dimensions, (n, a); int16 or int32.

        With ``out``, of any number of rows, only that many tokens from first_token on: a trial too
        large for memory can be drawn piece by piece.
        """
        if out is None:
            out = np.empty((self.n_tokens, self._z.size), dtype=self.cloud.ordinal_dtype)
        fmt = self.cloud.format
        direct.direct_rows(
            out, self._centroid, self._sigma, _NOISES[self.cloud.noise],
            self.cloud.intermediate == "float32", fmt.fraction_bits, fmt.min_exponent,
            self.key, first_token, np.uint64(_word(trial, "trial")), self._z, self._words,
            self._doubtful, self._state, self._ahead,
        )  # fmt: skip
        return out


def complete_counts(cloud: Cloud, counts: IndexArray, tokens: int) -> IndexArray:
    """Counts with the modal cells', given the others' and the number of tokens in all."""
    table = cell_table(cloud)
    result = counts.copy()
    result[table.modal] = 0
    if table.modal.size:
        result[table.modal] = tokens - np.add.reduceat(result, table.first[:-1])
    return result


def occupancy_table(cloud: Cloud) -> occupancy.OccupancyTable:
    """A cloud's table as the kernel wants it: rarest to split first, likeliest cells first.

    Raises:
        SelectionError: The cloud has no table.
    """
    table = cell_table(cloud)
    sizes = np.diff(table.first)
    order = np.argsort(table.leave, kind="stable")
    step_of_column = np.empty(order.size, dtype=np.int64)
    step_of_column[order] = np.arange(order.size)
    other = np.ones(table.ordinals.size, dtype=bool)
    other[table.modal] = False
    cell = np.flatnonzero(other)
    step = np.repeat(step_of_column, sizes)[cell]
    sort = np.lexsort((cell, -table.probabilities[cell], step))
    cell, step = cell[sort], step[sort]
    probability = table.probabilities[cell]
    first = np.concatenate([[0], np.cumsum(sizes[order] - 1)])
    cumulative, share = np.empty(cell.size), np.empty(cell.size)
    for low, high in itertools.pairwise(first.tolist()):
        # From the least likely on, so that small probabilities are not lost in large sums.
        remaining = np.cumsum(probability[low:high][::-1])[::-1]
        share[low:high] = probability[low:high] / remaining
        cumulative[low : high - 1] = 1 - remaining[1:] / remaining[0]
        cumulative[high - 1] = share[high - 1] = 1.0
    return occupancy.OccupancyTable(
        column=order,
        leave=table.leave[order],
        hazard=-np.log1p(-table.leave[order]),
        first=first,
        ordinal=table.ordinals[cell],
        cell=cell,
        cumulative=cumulative,
        share=share,
        modal=table.ordinals[table.modal],
    )


def cell_table(cloud: Cloud) -> CellTable:
    """The cloud's table.

    Raises:
        SelectionError: It has none.
    """
    if cloud.table is None:
        raise SelectionError(
            f"a cloud of more than {CELL_LIMIT} cells", remedy="use the sampler 'direct'"
        )
    return cloud.table


def _word(number: int, name: str) -> int:
    try:
        value = operator.index(number)
    except TypeError:
        value = -1
    if not 0 <= value < 2**64:
        raise SelectionError(f"{number!r}", where=name, remedy="give a whole number below 2^64")
    return value
