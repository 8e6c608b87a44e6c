"""Two matrices row by row, a block at a time: distances, lattice steps, and what rounding does."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from deadtokens.census import first_equal_rows
from deadtokens.formats import Codes, Format, narrowest
from deadtokens.kernels.types import BoolArray, Float64Array, Int64Array
from deadtokens.rows import MadeRows, RowChoice
from deadtokens.sources import Matrix

_BLOCK_NUMBERS = 1 << 20  # of each side, which every thread holds a few times over as float64


def distances(a: Matrix, b: Matrix, workers: int | None = None) -> Float64Array:
    """(n,) Euclidean distances between the rows that both have; exactly 0 where they are equal.

    Meaningless for rows that are not finite.
    """
    found = np.empty(min(a.n_rows, b.n_rows))

    def measure(rows: slice) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            delta = a.values(rows).astype(np.float64)
            delta -= b.values(rows)
            found[rows] = np.sqrt(np.einsum("ij,ij->i", delta, delta))

    _each_block(a, found.size, measure, workers)
    return found


def equal_once_rounded(a: Matrix, b: Matrix, workers: int | None = None) -> BoolArray:
    """(n,) whether rows are equal by value once the finer of the two is rounded as the other is.

    Where neither holds all numbers of the other, A is rounded.
    """
    same = np.empty(min(a.n_rows, b.n_rows), dtype=np.bool_)

    def compare(rows: slice) -> None:
        left, right = a.values(rows), b.values(rows)
        if is_coarser(b, a):
            left = b.format.values(b.format.round(left))
        elif is_coarser(a, b):
            right = a.format.values(a.format.round(right))
        same[rows] = (left == right).all(axis=1)

    _each_block(a, same.size, compare, workers)
    return same


def is_coarser(one: Matrix, other: Matrix) -> bool:
    """Whether the format of one does not hold every number that the other's format can."""
    if one.quantised is not None or other.quantised is not None:
        return False  # that is no rounding of numbers one by one
    held, wanted = one.format, other.format
    smallest = [fmt.min_exponent - fmt.fraction_bits for fmt in (held, wanted)]
    largest = [float(fmt.values_of(np.array([fmt.max_ordinal]))[0]) for fmt in (held, wanted)]
    return (
        held.fraction_bits < wanted.fraction_bits
        or smallest[0] > smallest[1]
        or largest[0] < largest[1]
    )


def groups_once_rounded(matrix: Matrix, fmt: Format, workers: int | None = None) -> Int64Array:
    """(V,) for each row the first that equals it once all are rounded to a format; -1 if none."""

    def make(rows: RowChoice) -> Codes:
        return fmt.round(matrix.values(rows))

    rounded = MadeRows(matrix.shape, make)
    return first_equal_rows(rounded, fmt.sign_bit, fmt.max_ordinal, workers=workers)


def common_lattice(a: Matrix, b: Matrix, rows: Int64Array) -> Format | None:
    """The lattice that rows lie on in both matrices; None where it is not the same, or none."""
    if not rows.size or a.quantised is not None or b.quantised is not None:
        return None
    lattice = _lattice(a, rows)
    return lattice if lattice is _lattice(b, rows) else None


def _lattice(matrix: Matrix, rows: Int64Array) -> Format:
    """The narrowest lattice that the rows' numbers lie on; see `formats.effective_format`."""
    blocks = _blocks(matrix, rows.size)
    return narrowest(matrix.format, (matrix.codes[rows[block]] for block in blocks))


def lattice_steps(a: Matrix, b: Matrix, rows: Int64Array, lattice: Format) -> Int64Array:
    """(n,) largest difference of ordinals between the two vectors of each of some finite rows."""
    steps = np.empty(rows.size, dtype=np.int64)
    for block in _blocks(a, rows.size):
        ordinals = [lattice.ordinals(lattice.round(m.values(rows[block]))) for m in (a, b)]
        steps[block] = np.abs(ordinals[0] - ordinals[1]).max(axis=1)
    return steps


def _blocks(matrix: Matrix, n_rows: int) -> list[slice]:
    step = max(1, _BLOCK_NUMBERS // matrix.n_dimensions)
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def _each_block(
    matrix: Matrix, n_rows: int, work: Callable[[slice], None], workers: int | None
) -> None:
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        list(pool.map(work, _blocks(matrix, n_rows)))
