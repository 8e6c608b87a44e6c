"""Passes over a matrix, block by block: distances from points, sketches, means of rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from deadtokens.formats import FLOAT32, Codes, effective_format, is_exact
from deadtokens.kernels import nearness as kernels
from deadtokens.kernels.types import BoolArray, Float32Array, Float64Array, Int64Array
from deadtokens.rows import MadeRows, RowChoice
from deadtokens.sources import Matrix

_BLOCK_NUMBERS = 1 << 20  # that a thread holds as float32
_MEAN_ROWS = 4096  # of more rows, so many evenly spaced ones make the mean
_SAMPLE_ROWS = 512


@dataclass(frozen=True)
class Ordering:
    """How far the rows of a matrix lie from a point.

    Attributes:
        distances: (V,) float64, Euclidean; NaN for rows that are not finite.
        steps: (V,) int64: lattice steps from the lattice's nearest point, the most in any
            dimension; -1 for rows that are not finite. None if the matrix is quantised.
        zero: (V,) bool: rows of zeros only.
        resolution: The distance that rounding alone can make: two rows that were equal before they
            were rounded differ by one lattice step in each dimension at most.
        close: Lattice steps that are an eighth of a binade, of the way from a number to its double:
            no coordinate changes its sign in so few, unless it is next to nothing.
    """

    distances: Float64Array
    steps: Int64Array | None
    zero: BoolArray
    resolution: float
    close: int


def orderings(
    matrix: Matrix, finite: BoolArray, centres: Sequence[Float64Array], workers: int | None = None
) -> list[Ordering]:
    """Distances of all rows from several points, in one pass.

    Args:
        matrix: V x d.
        finite: (V,) bool: rows without NaN and infinities.
        centres: (d,) each.
        workers: Threads; all cores by default. The result does not depend on it.
    """
    n = matrix.n_rows
    sign_bit = matrix.format.sign_bit
    nearest = [matrix.format.round(centre.astype(np.float32)) for centre in centres]
    ordinals = [matrix.format.ordinals(codes) for codes in nearest]
    squared = np.empty((len(centres), n))
    steps = np.empty((len(centres), n), dtype=np.int64)
    zero = np.empty(n, dtype=np.bool_)

    def measure(block: slice) -> None:
        codes, values = _block(matrix, block)
        for i, centre in enumerate(centres):
            outputs = squared[i, block], steps[i, block], zero[block]
            kernels.distances(codes, values, centre, ordinals[i], sign_bit, *outputs)

    _over_blocks(matrix, measure, workers)
    squared[:, ~finite] = np.nan
    steps[:, ~finite] = -1
    zero &= finite
    return [
        Ordering(
            np.sqrt(squared[i]),
            None if matrix.quantised else steps[i],
            zero,
            float(np.linalg.norm(matrix.format.ulp(codes))),
            max(1, (1 << matrix.format.fraction_bits) // 8),
        )
        for i, codes in enumerate(nearest)
    ]


def sketches(
    matrix: Matrix, signs: Float32Array, width: int, workers: int | None = None
) -> Float32Array:
    """(V, min(d, width)) float32: the columns with signs, dealt round and added up."""
    sketch = np.empty((matrix.n_rows, min(matrix.n_dimensions, width)), dtype=np.float32)

    def project(block: slice) -> None:
        kernels.project(_block(matrix, block)[1], signs, sketch[block])

    _over_blocks(matrix, project, workers)
    return sketch


def mean_of(matrix: Matrix, rows: Int64Array) -> Float64Array:
    """(d,) the mean of rows; of more than 4,096, of so many evenly spaced ones."""
    if rows.size > _MEAN_ROWS:
        rows = rows[np.linspace(0, rows.size - 1, _MEAN_ROWS).astype(np.int64)]
    total = np.zeros(matrix.n_dimensions)
    step = _step(matrix)
    for start in range(0, rows.size, step):
        total += matrix.values(rows[start : start + step]).sum(axis=0, dtype=np.float64)
    return total / rows.size


def mean_and_norms(
    matrix: Matrix, rows: BoolArray, workers: int | None = None
) -> tuple[Float64Array, Float64Array]:
    """(d,) the mean of the rows of a mask, and (V,) the norms of all; in one pass.

    The mean is zero if there are none; norms of rows that are not in the mask are NaN.
    """
    sums: dict[int, Float64Array] = {}
    squared = np.full(matrix.n_rows, np.nan)

    def add(block: slice) -> None:
        values = _block(matrix, block)[1].astype(np.float64)
        chosen = rows[block]
        if not chosen.all():
            values = values[chosen]
        squared[block][chosen] = np.einsum("ij,ij->i", values, values)
        sums[block.start] = values.sum(axis=0)

    _over_blocks(matrix, add, workers)
    total = np.zeros(matrix.n_dimensions)
    for start in sorted(sums):  # in an order that threads do not decide
        total += sums[start]
    return np.asarray(total / max(1, int(rows.sum()))), np.sqrt(squared)


def on_its_lattice(matrix: Matrix, workers: int | None = None) -> Matrix:
    """The matrix in the format that its numbers lie on: float32 may hold bfloat16 or float16."""
    if matrix.format is not FLOAT32 or matrix.quantised is not None:
        return matrix
    sample = np.linspace(0, matrix.n_rows - 1, min(matrix.n_rows, _SAMPLE_ROWS)).astype(np.int64)
    fmt = effective_format(matrix.codes[sample], FLOAT32)
    exact: list[bool] = []

    def check(block: slice) -> None:
        if all(exact):
            exact.append(is_exact(matrix.codes[block], FLOAT32, fmt))

    if fmt is not FLOAT32:
        _over_blocks(matrix, check, workers)
    if not exact or not all(exact):
        return matrix
    wide = matrix.codes

    def narrow(rows: RowChoice) -> Codes:
        return fmt.round(FLOAT32.values(wide[rows]))

    return replace(matrix, codes=MadeRows(matrix.shape, narrow), format=fmt)


def _step(matrix: Matrix) -> int:
    return max(1, _BLOCK_NUMBERS // matrix.n_dimensions)


def _block(matrix: Matrix, block: slice) -> tuple[Codes, Float32Array]:
    """Codes and values of rows, as kernels take them."""
    codes = np.require(matrix.codes[block], requirements=["C", "A", "E"])
    with np.errstate(invalid="ignore"):  # rows with NaN are no rows to speak of
        return codes, matrix.format.values(codes)


def _over_blocks(matrix: Matrix, work: Callable[[slice], None], workers: int | None) -> None:
    """Call ``work`` on slices that cover all rows, in threads."""
    step = _step(matrix)
    blocks = [slice(start, start + step) for start in range(0, matrix.n_rows, step)]
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        list(pool.map(work, blocks))
