"""Are the dimensions independent? An exact permutation test (docs/method.md, section 13).

Under every model that rounds independent dimensions, whatever its centre, its noise and its width,
all assignments of a column's cells to rows are equally likely once the column's counts are given.
So the cells of each column are dealt anew, and features of whole rows are looked at: what the
columns' counts alone say cannot change the answer.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from deadtokens.errors import SelectionError
from deadtokens.formats import Float64Array
from deadtokens.kernels import permutations as kernels
from deadtokens.kernels import random
from deadtokens.kernels.types import Int64Array, UInt64Array
from deadtokens.listening import watched
from deadtokens.montecarlo import (
    FAMILY_LEVEL,
    MILD_LEVEL,
    Feature,
    feature,
    holm,
    p_words,
    smallest_p,
    spread_words,
)
from deadtokens.occupied import OccupiedCells, occupied_cells
from deadtokens.sampling import stream_key
from deadtokens.selection import as_snowball
from deadtokens.showing import Shown
from deadtokens.snowball import Snowball, check_lattice
from deadtokens.sources import MatrixLike

# The features, fixed beforehand: those counted of equal rows, then the correlations.
FEATURES = (*kernels.COUNTS, "squared_correlations")

# As many permutations as keep (permutations + 1) x rows x dimensions below this, out of three.
_DEALT_CELLS = 2_000_000_000
_PERMUTATIONS = (9_999, 4_999, 1_999)

# Correlations are between this many dimensions at most, and fewer where rows are so many that
# their standardised values would take more than 128 MiB.
_CORRELATED = 512
_STANDARDISED_NUMBERS = 1 << 24

# Permutations of a block share work space: about 4 MiB of standardised values.
_BLOCK_NUMBERS = 1 << 19
_BLOCK_PERMUTATIONS = 256

# Sums of products differ by rounding with the order of rows, some 1e-13 of the whole. What is
# closer to the observed number than this is a tie.
_TIE_RELATIVE, _TIE_ABSOLUTE = 1e-9, 1e-12

_LAST_STREAM = 2**64 - 1
_NOUNS = {
    "n_unique": "{} distinct vectors",
    "n_black_holes": "{} black holes",
    "n_singletons": "{} singletons",
    "largest_bh": "{} rows in the largest black hole",
    "coinciding_pairs": "{} pairs of equal rows",
    "squared_correlations": "squared correlations of {}",
}


@dataclass(frozen=True)
class Independence(Shown):
    """Joint features of a cluster beside those under independent dimensions.

    Attributes:
        features: `FEATURES` in their order; none if there was nothing to test.
        p_holm: Their p-values corrected for being several.
        n_rows: Rows tested.
        n_varying: Dimensions in which they differ.
        n_correlated: Dimensions that squared_correlations is taken over.
        permutations: How often the cells were dealt anew.
        reason: Why there was nothing to test, None if there was.
    """

    features: tuple[Feature, ...]
    p_holm: tuple[float, ...]
    n_rows: int
    n_varying: int
    n_correlated: int
    permutations: int
    reason: str | None = None

    def __repr__(self) -> str:
        said = self.reason or ("rejected" if self.rejected else "not rejected")
        return f"<Independence of {self.n_varying:,} dimensions, {self.n_rows:,} rows: {said}>"

    @property
    def departures(self) -> tuple[str, ...]:
        """The features that reject independence, at `FAMILY_LEVEL` over all of them."""
        both = zip(self.features, self.p_holm, strict=True)
        return tuple(found.name for found, p in both if p <= FAMILY_LEVEL)

    @property
    def rejected(self) -> bool:
        """Whether independence is rejected."""
        return bool(self.departures)

    @property
    def mild(self) -> tuple[str, ...]:
        """The features that do not reject it, but whose own p-value is at most `MILD_LEVEL`."""
        both = zip(self.features, self.p_holm, strict=True)
        return tuple(
            found.name for found, p in both if p > FAMILY_LEVEL and found.p_value <= MILD_LEVEL
        )

    def feature(self, name: str) -> Feature:
        """The feature of that name."""
        return self.features[FEATURES.index(name)]


def independence(
    snowball: Snowball | MatrixLike,
    *,
    permutations: int | None = None,
    seed: int = 42,
    workers: int | None = None,
) -> Independence:
    """Test whether the dimensions of a cluster's rows are independent.

    Args:
        snowball: Rows, of which only dimensions that vary are looked at; or whatever `open_matrix`
            takes, for the rows that are measured by default.
        permutations: How often to deal the cells anew; by default 9,999, fewer for many rows and
            dimensions (`default_permutations`).
        seed: Below 2^64.
        workers: Threads; all cores by default. The result does not depend on it.

    Raises:
        SelectionError: No permutations, a seed out of range, or the numbers are quantised.
    """
    snowball = as_snowball(snowball, "snowball")
    check_lattice(snowball.quantised, "independence")
    if permutations is not None and permutations < 1:
        raise SelectionError(f"{permutations} permutations", remedy="give at least one")
    key = stream_key(seed, np.array([-1.0]))  # which is the sigma of no cloud
    n, n_varying = snowball.n_tokens, int(snowball.varying.size)
    if n_varying < 2:
        rows = "1 row" if n == 1 else f"{n:,} rows"
        reason = f"of {rows}, {n_varying} dimensions vary: it takes two to depend on each other"
        return Independence((), (), n, n_varying, 0, 0, reason)
    table = _ColumnTable.of(snowball, key)
    times = permutations or default_permutations(n, n_varying)
    observed = [*_count_populations(snowball.populations), _squared_correlations(table, snowball)]
    simulated = _simulate(table, key, times, workers or os.cpu_count() or 1)
    correlations = simulated[:, -1]
    tied = np.isclose(correlations, observed[-1], rtol=_TIE_RELATIVE, atol=_TIE_ABSOLUTE)
    correlations[tied] = observed[-1]
    features = tuple(
        feature(name, value, column)
        for name, value, column in zip(FEATURES, observed, simulated.T, strict=True)
    )
    corrected = tuple(holm([found.p_value for found in features]))
    return Independence(features, corrected, n, n_varying, table.n_correlated, times)


def sentence(found: Feature) -> str:
    """A feature in words: what was seen, and what independent dimensions give."""
    seen = _NOUNS[found.name].format(f"{found.observed:,.0f}")
    return f"{seen} where independent dimensions give {spread_words(found.mean, found.std)}"


def verdict(result: Independence) -> str:
    """The answer of the test in a sentence or two."""
    if result.reason:
        return f"Nothing to test: {result.reason}."
    level = f"at the {100 * FAMILY_LEVEL:g} % family-wise level"
    mild = "; ".join(
        f"{sentence(found)} (p = {p_words(found.p_value)}; "
        f"one-sided {p_words(min(found.p_lo, found.p_hi))})"
        for found in map(result.feature, result.mild)
    )
    if len(FEATURES) * smallest_p(result.permutations) > FAMILY_LEVEL:
        answer = f"Not rejected {level}, which {result.permutations:,} permutations cannot do."
    elif not result.rejected:
        answer = f"Not rejected {level}."
    else:
        first, *others = result.departures
        answer = f"Rejected {level}: {sentence(result.feature(first))}"
        answer += f"; also by {', '.join(others)}." if others else "."
    return f"{answer} Mild: {mild}." if mild else answer


def default_permutations(n_rows: int, n_varying: int) -> int:
    """As many of `_PERMUTATIONS` as deal at most 2e9 cells in all, and never fewer than 1,999."""
    room = _DEALT_CELLS // max(1, n_rows * n_varying)
    return next((times for times in _PERMUTATIONS if times < room), _PERMUTATIONS[-1])


@dataclass(frozen=True)
class _ColumnTable:
    """What the permutations need of the varying dimensions: the cells' counts, nothing of rows.

    Columns are in descending order of their counts' entropy, so that the first ones are those
    whose correlations are taken. The cells of a column come fullest first.

    Attributes:
        dimensions: (v,) the dimension of each column.
        first: (v + 1,) number of each column's first cell.
        ordinals: (cells,) of the lattice.
        counts: (cells,) rows in each.
        words: (cells,) what a row in the cell adds to its hash.
        scores: (cells,) the cell's value, its column standardised to mean 0 and norm 1 over rows.
        n_rows: Rows.
        n_correlated: Columns whose correlations are taken.
    """

    dimensions: npt.NDArray[np.intp]
    first: Int64Array
    ordinals: Int64Array
    counts: Int64Array
    words: UInt64Array
    scores: Float64Array
    n_rows: int
    n_correlated: int

    @classmethod
    def of(cls, snowball: Snowball, key: int) -> _ColumnTable:
        cells = occupied_cells(snowball)
        columns = [_fullest_first(cells, dimension) for dimension in snowball.varying]
        entropy = [_entropy(counts) for _, counts in columns]
        order = np.argsort(-np.array(entropy), kind="stable")
        sizes = np.array([columns[k][1].size for k in order])
        first = np.concatenate([[0], np.cumsum(sizes)])
        ordinals = np.concatenate([columns[k][0] for k in order])
        counts = np.concatenate([columns[k][1] for k in order])
        values = snowball.format.values_of(ordinals).astype(np.float64)
        # A random word for each cell, from the one stream that no permutation uses.
        words = np.empty(counts.size + counts.size % 2, dtype=np.uint64)
        random.fill_words(words, np.uint64(key), random.NO_ROW, np.uint64(_LAST_STREAM), 0)
        words = words[: counts.size]
        words[first[:-1]] = 0
        n = snowball.n_tokens
        return cls(
            dimensions=snowball.varying[order],
            first=first,
            ordinals=ordinals,
            counts=counts,
            words=words,
            scores=_standardised(values, counts, first),
            n_rows=n,
            n_correlated=min(order.size, _CORRELATED, max(2, _STANDARDISED_NUMBERS // n)),
        )


def _fullest_first(cells: OccupiedCells, dimension: int) -> tuple[Int64Array, Int64Array]:
    """The occupied cells of a dimension, fullest first, then by ordinal, and their rows."""
    of_dimension = slice(cells.first[dimension], cells.first[dimension + 1])
    ordinals, rows = cells.ordinals[of_dimension], cells.rows[of_dimension]
    order = np.argsort(-rows, kind="stable")
    return ordinals[order], rows[order]


def _entropy(counts: Int64Array) -> float:
    share = counts / counts.sum()
    return -float((share * np.log(share)).sum())


def _standardised(values: Float64Array, counts: Int64Array, first: Int64Array) -> Float64Array:
    column = np.repeat(np.arange(first.size - 1), np.diff(first))

    def over_rows(numbers: Float64Array) -> Float64Array:
        return np.asarray(np.add.reduceat(counts * numbers, first[:-1])[column])

    steps = values - values[first[:-1]][column]  # so that little is lost where values are close
    centred = steps - over_rows(steps) / counts[first[0] : first[1]].sum()
    return np.asarray(centred / np.sqrt(over_rows(centred**2)))


def _count_populations(populations: Int64Array) -> list[float]:
    holes = populations[populations >= 2]
    pairs = int((holes * (holes - 1) // 2).sum())
    counted = (populations.size, holes.size, populations.size - holes.size)
    return [*counted, int(holes.max(initial=0)), pairs]


def _squared_correlations(table: _ColumnTable, snowball: Snowball) -> float:
    """Equation (13.1) of the rows as they are."""
    scores = np.empty((table.n_correlated, snowball.n_unique))
    for k in range(table.n_correlated):
        cells = slice(table.first[k], table.first[k + 1])
        order = np.argsort(table.ordinals[cells])
        held = snowball.format.ordinals(snowball.codes[:, table.dimensions[k]])
        place = np.searchsorted(table.ordinals[cells][order], held)
        scores[k] = table.scores[cells][order][place]
    return float(_sum_over_pairs((scores * snowball.populations) @ scores.T, table.n_rows))


def _sum_over_pairs(products: Float64Array, n_rows: int) -> Float64Array:
    """Equation (13.1) from (..., c, c) correlations."""
    diagonal = np.einsum("...ii->...i", products)
    squares = np.einsum("...ij,...ij->...", products, products) - (diagonal**2).sum(axis=-1)
    return np.asarray(n_rows * squares / 2)


def _simulate(table: _ColumnTable, key: int, times: int, workers: int) -> Float64Array:
    """(times, features) of permutations 0 to times - 1."""
    numbers = table.n_rows * table.n_correlated
    size = min(_BLOCK_PERMUTATIONS, max(1, _BLOCK_NUMBERS // numbers))
    room = 1 << int(table.n_rows).bit_length()

    def block(start: int) -> Float64Array:
        n_block = min(size, times - start)
        dealt = np.empty((n_block, table.n_correlated, table.n_rows))
        rows = np.empty((n_block, len(kernels.COUNTS)), dtype=np.int64)
        kernels.deal_columns(
            np.uint64(key), np.uint64(start), table.first, table.counts, table.words, table.scores,
            np.empty(table.n_rows + 2, dtype=np.uint64),
            np.empty(table.n_rows, dtype=np.int32), np.empty(table.n_rows, dtype=np.uint64),
            np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.int64),
            np.zeros(random.STATE_SIZE, dtype=np.uint64), np.zeros(random.AHEAD, dtype=np.uint64),
            dealt, rows,
        )  # fmt: skip
        correlations = _sum_over_pairs(dealt @ dealt.transpose(0, 2, 1), table.n_rows)
        return np.column_stack([rows, correlations])

    # BLAS would start threads of its own in each of these.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
        try:
            blocks = pool.map(block, range(0, times, size))
            return np.concatenate(list(watched(blocks, "permutations", times, each=size)))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
