"""Rows copied from a trained one: padding, or added tokens that began as another token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deadtokens.census import Census
from deadtokens.kernels.types import BoolArray, Float64Array, Int64Array
from deadtokens.tokens import Labels

_TYPICAL = 0.01, 0.99  # quantiles of the norms of live rows, between which a trained row's lies
_FEWEST = 20  # rows that quantiles are taken of
_WITHOUT_TOKEN = ("padding", "unknown")
_TRAINED = ("ordinary", "byte", "partial UTF-8")


@dataclass(frozen=True)
class Copies:
    """A group of equal rows, of which one was trained and the others are its copies.

    Attributes:
        donor: The row that was trained.
        rows: (m,) int64: its copies.
        certain: Whether it is told which of them is the donor; else it is the first.
    """

    donor: int
    rows: Int64Array
    certain: bool

    @property
    def words(self) -> str:
        """Which rows are copies of which."""
        n = self.rows.size
        copies = f"{n:,} rows are copies" if n != 1 else f"row {int(self.rows[0]):,} is a copy"
        if self.certain:
            return f"{copies} of row {self.donor:,}, which is trained and not counted as dead"
        return (
            f"{copies} of row {self.donor:,} or the other way round: one of them may be trained, "
            f"and row {self.donor:,} is not counted as dead"
        )


def find_copies(
    found: Census, elsewhere: BoolArray, norms: Float64Array, labels: Labels | None
) -> list[Copies]:
    """Black holes that lie among live rows and have a donor.

    A black hole is made of copies if its vector is as long as those of live rows are, it lies
    outside the dead cluster, and what its rows are tells one apart: the only one with a token, the
    only ordinary token, or, of rows up to the last one of the matrix, the one before these.

    Args:
        found: The census.
        elsewhere: (V,) bool: rows known to be dead by where they lie.
        norms: (V,) float64: lengths of all rows; NaN for those that are not finite.
        labels: What the tokenizer says of the rows, if there is one.
    """
    live = ~(elsewhere | found.mask) & np.isfinite(norms) & (norms > 0)
    if int(live.sum()) < _FEWEST:
        return []
    low, high = np.quantile(norms[live], _TYPICAL)
    copies = []
    for rows in found.group_rows:
        if elsewhere[rows].any() or not low <= norms[rows[0]] <= high:
            continue
        made = _by_label(rows, labels) if labels is not None else _by_place(rows, found.n_rows)
        if made is not None:
            copies.append(made)
    return copies


def _by_label(rows: Int64Array, labels: Labels) -> Copies | None:
    names = [labels.label_of(int(row)) for row in rows]
    with_token = [row for row, name in zip(rows, names, strict=True) if name not in _WITHOUT_TOKEN]
    ordinary = [row for row, name in zip(rows, names, strict=True) if name in _TRAINED]
    candidates = with_token if len(with_token) == 1 else ordinary
    # Nobody copies a row into a token that is kept for later: such a group was never trained.
    if len(candidates) != 1 or "reserved" in names:
        return None
    donor = int(candidates[0])
    return Copies(donor, rows[rows != donor], certain=True)


def _by_place(rows: Int64Array, n_rows: int) -> Copies | None:
    """By where they lie alone: rows that repeat one up to the end of the matrix are padding."""
    padding = rows[1:]
    if padding.size < 2 or not np.array_equal(padding, np.arange(n_rows - padding.size, n_rows)):
        return None
    return Copies(int(rows[0]), padding, certain=bool(rows[0] + 1 != padding[0]))
