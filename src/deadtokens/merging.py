"""Rows that would equal another one if a matrix were rounded to a coarser format."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deadtokens.census import NOT_FINITE, first_equal_rows
from deadtokens.formats import Codes, Format
from deadtokens.rows import MadeRows, RowChoice
from deadtokens.sources import Matrix


def merging(matrix: Matrix, target: Format, *, workers: int | None = None) -> int:
    """How many rows would equal another one if the matrix were rounded to a format.

    Rows that are equal already count. Rows that hold NaN or an infinity, or would after rounding
    (numbers beyond the format's largest), equal nothing and do not.

    Args:
        matrix: The matrix; rounded block by block, never as a whole.
        target: The format.
        workers: Threads; all cores by default.
    """
    codes = MadeRows(matrix.shape, _rounder(matrix, target))
    first = first_equal_rows(codes, target.sign_bit, target.max_ordinal, workers=workers)
    first = first[first != NOT_FINITE]
    populations = np.bincount(first)
    return int(populations[populations >= 2].sum())


def _rounder(matrix: Matrix, target: Format) -> Callable[[RowChoice], Codes]:
    """What makes rows of the matrix in another format: by a table where there are few codes."""
    storage, codes = matrix.format, matrix.codes
    if storage.bits > 16:
        return lambda rows: target.round(storage.values(codes[rows]))
    every = np.arange(1 << storage.bits).astype(storage.code_dtype)
    with np.errstate(invalid="ignore"):  # of NaN
        table = target.round(storage.values(every))
    return lambda rows: np.asarray(table[codes[rows]])
