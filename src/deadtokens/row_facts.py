"""What is said of some rows of a matrix: their norms, labels and scripts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deadtokens.kernels.types import Float64Array, Int64Array
from deadtokens.sources import Matrix
from deadtokens.tokens import Labels

_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Composition:
    """What the tokens of a group of rows are.

    Attributes:
        n_rows: The rows.
        labels: How many rows have each label, the most frequent first.
        scripts: How many have each script, likewise; rows without text left out.
    """

    n_rows: int
    labels: dict[str, int]
    scripts: dict[str, int]


def composition(labels: Labels | None, rows: Int64Array) -> Composition:
    """Labels and scripts of rows; empty without a tokenizer."""
    if labels is None:
        return Composition(rows.size, {}, {})
    by_frequency = sorted(labels.label_counts(rows).items(), key=lambda item: -item[1])
    return Composition(rows.size, dict(by_frequency), labels.script_counts(rows))


def row_norms(matrix: Matrix, rows: Int64Array) -> Float64Array:
    """Euclidean norms of rows."""
    norms = np.empty(rows.size)
    for start in range(0, rows.size, _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        norms[block] = np.linalg.norm(matrix.values(rows[block]).astype(np.float64), axis=1)
    return norms
