"""Groups of equal rows: who shares a vector with whom, over a whole matrix or chosen rows."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deadtokens.errors import SelectionError
from deadtokens.formats import Codes
from deadtokens.kernels import rows as kernels
from deadtokens.kernels.types import BoolArray, Float64Array, Int64Array, UInt64Array
from deadtokens.rows import MadeRows, RowChoice, RowCodes
from deadtokens.showing import Shown
from deadtokens.snowball import Snowball
from deadtokens.sources import Matrix, MatrixLike, as_matrix

_BLOCK_ROWS = 4096
_BLOCK_NUMBERS = 1 << 21  # which threads hold each where rows have to be made
_BYTES = 1 << 8  # the sign bit of numbers without a sign: no byte is -0.0, none is infinite
_NEARBY_COLUMNS = 32
NOT_FINITE = -1  # stands for "in no group" in `Census.first`


@dataclass(frozen=True)
class Census(Shown):
    """Which rows of a matrix are equal.

    Attributes:
        first: (V,) int64: for each row the first row with equal values (itself if none came
            before), or -1 for a row with NaN or an infinity, which belongs to no group.
        group_first: (g,) int64: first row of each black hole, the largest black hole first,
            equally large ones by first row.
        group_population: (g,) int64: rows of each black hole.
    """

    first: Int64Array
    group_first: Int64Array
    group_population: Int64Array

    def __repr__(self) -> str:
        return (
            f"<Census of {self.n_rows:,} rows: {self.n_unique:,} distinct vectors, "
            f"{self.n_black_holes:,} black holes with {self.black_hole_population:,} rows>"
        )

    @property
    def n_black_holes(self) -> int:
        """Vectors that two or more rows share."""
        return int(self.group_first.size)

    @property
    def black_hole_population(self) -> int:
        """Rows in black holes."""
        return int(self.group_population.sum())

    @property
    def n_rows(self) -> int:
        """V, the rows of the matrix."""
        return int(self.first.size)

    @property
    def not_finite(self) -> Int64Array:
        """The rows with NaN or an infinity, ascending."""
        return np.flatnonzero(self.first == NOT_FINITE)

    @property
    def n_unique(self) -> int:
        """Distinct finite vectors in the whole matrix."""
        return int((self.first == np.arange(self.first.size)).sum())

    @property
    def groups(self) -> Int64Array:
        """(V,) int64: the black hole of each row, counted from 0 as in `group_first`; else -1."""
        number = np.full(self.first.size + 1, -1, dtype=np.int64)  # the last: rows not finite
        number[self.group_first] = np.arange(self.group_first.size)
        return np.asarray(number[self.first])

    @property
    def group_rows(self) -> list[Int64Array]:
        """The rows of each black hole, ascending, in the order of `group_first`."""
        groups = self.groups
        rows = np.flatnonzero(groups >= 0)
        by_group = rows[np.argsort(groups[rows], kind="stable")]
        starts = np.cumsum(self.group_population) - self.group_population
        return np.split(by_group, starts)[1:]

    @property
    def mask(self) -> BoolArray:
        """(V,) bool: whether each row is in a black hole, having the same vector as another."""
        return self.groups >= 0


def census(matrix: MatrixLike) -> Census:
    """Find the groups of equal rows over every row of a matrix (docs/method.md, section 2).

    Quantised rows are equal when the numbers they stand for are.

    Args:
        matrix: V x d, or whatever `open_matrix` takes; hashed in blocks on all cores, O(V d),
            never copied as a whole.

    Raises:
        SourceError: It cannot be opened.
    """
    matrix = as_matrix(matrix, "matrix")
    layout = matrix.format.sign_bit, matrix.format.max_ordinal
    if matrix.quantised is None or not matrix.quantised.self_contained:
        return _grouped(first_equal_rows(matrix.codes, *layout))
    # Equal bytes are equal numbers, so that one row of each group of equal bytes will do.
    by_bytes = _first_equal_bytes(matrix.quantised.raw)
    rows, group = np.unique(by_bytes, return_inverse=True)
    first = first_equal_rows(_rows_of(matrix.codes, rows), *layout)[group]
    return _grouped(np.where(first == NOT_FINITE, NOT_FINITE, rows[first]))


def raw_census(matrix: Matrix) -> Census:
    """Find the groups of rows of a quantised matrix that are stored as the same bytes.

    Every row is in one, whatever its bytes stand for.

    Raises:
        SelectionError: The matrix is not quantised.
    """
    if matrix.quantised is None:
        raise SelectionError(
            f"rows stored as {matrix.storage} have no quantised bytes",
            where=matrix.source,
            remedy="take the census of their values",
        )
    return _grouped(_first_equal_bytes(matrix.quantised.raw))


def _first_equal_bytes(raw: npt.NDArray[np.uint8]) -> Int64Array:
    return first_equal_rows(raw, sign_bit=_BYTES, max_magnitude=_BYTES - 1)


def _rows_of(codes: RowCodes, rows: Int64Array) -> MadeRows:
    """Some rows of a matrix, as a matrix."""

    def make(choice: RowChoice) -> Codes:
        chosen: Codes = codes[rows[choice]]
        return chosen

    return MadeRows((rows.size, codes.shape[1]), make)


def _grouped(first: Int64Array) -> Census:
    populations = np.bincount(first[first != NOT_FINITE], minlength=first.size)
    group_first = np.flatnonzero(populations >= 2)
    by_size = np.argsort(-populations[group_first], kind="stable")
    group_first = group_first[by_size]
    return Census(first, group_first, populations[group_first])


def first_equal_rows(
    codes: RowCodes,
    sign_bit: int,
    max_magnitude: int,
    *,
    coefficients: UInt64Array | None = None,
    workers: int | None = None,
) -> Int64Array:
    """For each row the first row with equal values; -1 for rows that are not finite.

    Args:
        codes: (V, d) bit patterns.
        sign_bit: The code of -0.0, which equals 0.
        max_magnitude: The largest finite code without sign.
        coefficients: (d,) multipliers of the row hash; any choice gives the same result.
        workers: Threads; all cores by default.
    """
    n_rows, n_dimensions = codes.shape
    step = _block_rows(codes)
    multipliers = _multipliers(n_dimensions) if coefficients is None else coefficients
    hashes = np.empty(n_rows, dtype=np.uint64)
    finite = np.empty(n_rows, dtype=np.bool_)

    def hash_block(start: int) -> None:
        block = slice(start, start + step)
        kernels.hash_rows(
            _plain(codes[block]),
            multipliers,
            sign_bit,
            max_magnitude,
            hashes[block],
            finite[block],
        )

    blocks = range(0, n_rows, step)
    if workers == 1 or len(blocks) == 1:
        for start in blocks:
            hash_block(start)
    else:
        with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            list(pool.map(hash_block, blocks))
    first = np.full(n_rows, NOT_FINITE, dtype=np.int64)
    order = np.argsort(hashes, kind="stable")
    order = order[finite[order]]
    # Only rows that share a hash have to be read again.
    same = hashes[order[1:]] == hashes[order[:-1]]
    shared = np.concatenate([same, [False]]) | np.concatenate([[False], same])
    first[order] = order
    candidates = order[shared[: order.size]]
    _confirm(codes, candidates, hashes, sign_bit, first)
    return first


def _confirm(
    codes: RowCodes, candidates: Int64Array, hashes: UInt64Array, sign_bit: int, first: Int64Array
) -> None:
    """Set ``first`` for the rows that share a hash, sorted by hash and row; a block at a time."""
    earlier = candidates[:0]  # distinct rows of the hash that the last block ended in
    step = _block_rows(codes)
    for start in range(0, candidates.size, step):
        rows = np.concatenate([earlier, candidates[start : start + step]])
        among = np.empty(rows.size, dtype=np.int64)
        order = np.arange(rows.size)
        kernels.first_equal_rows(_plain(codes[rows]), order, hashes[rows], sign_bit, among)
        first[rows] = rows[among]
        distinct = rows[among == order]
        earlier = distinct[hashes[distinct] == hashes[rows[-1]]]


def _block_rows(codes: RowCodes) -> int:
    return min(_BLOCK_ROWS, max(1, _BLOCK_NUMBERS // max(1, codes.shape[1])))


def _multipliers(n: int) -> UInt64Array:
    generator = np.random.Generator(np.random.PCG64(0))
    return np.asarray(generator.integers(0, 2**64, n, dtype=np.uint64) | np.uint64(1))


def _plain(codes: Codes) -> Codes:
    """The codes as kernels take them: contiguous, aligned, no subclass; copied only if need be."""
    return np.require(codes, requirements=["C", "A", "E"])


def rows_nearby(matrix: Matrix, snowball: Snowball) -> int:
    """How many other rows of the matrix lie where a snowball's do.

    In every dimension within the snowball's range, widened on either side by its largest range of
    all dimensions and two lattice steps.
    """
    fmt = snowball.format
    low, high = (fmt.values_of(end).astype(np.float64) for end in snowball.extremes)
    step = fmt.ulp(fmt.codes(np.maximum(*(np.abs(end) for end in snowball.extremes))))
    margin = float((high - low).max()) + 2 * step
    low, high = low - margin, high + margin
    other = np.ones(matrix.n_rows, dtype=np.bool_)
    if snowball.row_ids is not None:
        other[snowball.row_ids] = False
    blocks = range(0, matrix.n_rows, _BLOCK_ROWS)
    return sum(_count_inside(matrix, start, other, low, high) for start in blocks)


def _count_inside(
    matrix: Matrix, start: int, wanted: BoolArray, low: Float64Array, high: Float64Array
) -> int:
    """How many of a block's wanted rows lie between two vectors."""
    codes = matrix.codes[start : start + _BLOCK_ROWS]
    left = np.flatnonzero(wanted[start : start + _BLOCK_ROWS])
    for first in range(0, matrix.n_dimensions, _NEARBY_COLUMNS):
        # Most rows are told apart by the first few columns.
        columns = slice(first, first + _NEARBY_COLUMNS)
        values = matrix.format.values(codes[:, columns][left])
        left = left[((values >= low[columns]) & (values <= high[columns])).all(axis=1)]
        if not left.size:
            break
    return int(left.size)
