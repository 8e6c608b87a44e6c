"""Which lattice cells a snowball's rows occupy in each dimension, and how many rows each cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deadtokens.errors import SelectionError
from deadtokens.formats import Ordinals
from deadtokens.kernels.types import Int64Array
from deadtokens.snowball import Snowball


@dataclass(frozen=True)
class OccupiedCells:
    """Occupied cells of every dimension in turn (d dimensions).

    Attributes:
        first: (d + 1,) int64, where each dimension's cells begin; one cell or more each.
        ordinals: (cells,) int64, ascending within a dimension.
        rows: (cells,) int64, rows in each cell.
        vectors: (cells,) int64, distinct vectors in each cell.
    """

    first: Int64Array
    ordinals: Ordinals
    rows: Int64Array
    vectors: Int64Array

    @property
    def occupied(self) -> Int64Array:
        """(d,) occupied cells of each dimension."""
        return np.diff(self.first)

    @property
    def skipped(self) -> Int64Array:
        """(d,) empty cells between occupied ones of each dimension."""
        span = self.ordinals[self.first[1:] - 1] - self.ordinals[self.first[:-1]] + 1
        return np.asarray(span - self.occupied)

    @property
    def fullest(self) -> Ordinals:
        """(d,) the ordinal of each dimension's fullest cell, the first among equals."""
        dimension = np.repeat(np.arange(self.first.size - 1), self.occupied)
        order = np.lexsort((self.ordinals, -self.rows, dimension))
        return np.asarray(self.ordinals[order[self.first[:-1]]])


def occupied_cells(snowball: Snowball) -> OccupiedCells:
    """Count rows per dimension and cell.

    Raises:
        SelectionError: There are no vectors, or one is not finite.
    """
    if snowball.n_unique == 0:
        raise SelectionError("no vectors", remedy="select at least one row")
    fmt = snowball.format
    low, high = snowball.extremes
    ordinals, rows, vectors = [], [], []
    for dimension in range(low.size):
        if low[dimension] == high[dimension]:
            ordinals.append(low[dimension : dimension + 1])
            rows.append(np.array([snowball.n_tokens]))
            vectors.append(np.array([snowball.n_unique]))
            continue
        cells, inverse, held = np.unique(
            fmt.ordinals(snowball.codes[:, dimension]), return_inverse=True, return_counts=True
        )
        ordinals.append(cells)
        vectors.append(held)
        rows.append(np.bincount(inverse, weights=snowball.populations).astype(np.int64))
    first = np.concatenate([[0], np.cumsum([cells.size for cells in ordinals])])
    return OccupiedCells(
        first.astype(np.int64),
        np.concatenate(ordinals),
        np.concatenate(rows).astype(np.int64),
        np.concatenate(vectors).astype(np.int64),
    )
