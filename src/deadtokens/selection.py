"""Which rows are measured: the dead cluster where there is one, else rows that equal another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deadtokens.census import census, snowball_of
from deadtokens.cluster import find_cluster
from deadtokens.errors import SelectionError
from deadtokens.kernels.types import BoolArray
from deadtokens.snowball import Snowball
from deadtokens.sources import Matrix, MatrixLike, as_matrix

_WORDS = {
    "cluster": "the dead cluster",
    "duplicates": "the rows that equal another",
    "all": "all rows",
}


@dataclass(frozen=True)
class Selection:
    """Rows chosen by name.

    Attributes:
        rows: (V,) bool.
        name: ``"cluster"``, ``"duplicates"``, ``"all"``, or what else says where they come from.
        reason: Why these: what sets a cluster apart, or why there is none; else empty.
    """

    rows: BoolArray
    name: str
    reason: str = ""

    @property
    def words(self) -> str:
        """Which rows these are, and why."""
        because = f" ({self.reason})" if self.reason else ""
        return f"{_WORDS.get(self.name, self.name)}{because}"


def rows_to_measure(
    matrix: Matrix, which: str | None = None, *, workers: int | None = None
) -> Selection:
    """The rows that ``--rows`` names.

    Args:
        matrix: The matrix.
        which: ``"cluster"`` for the dead cluster, ``"duplicates"`` for the rows that equal another,
            ``"all"``, or None: all rows of a source that holds dead rows only, else the cluster if
            there is one, else duplicates.
        workers: Threads; all cores by default.

    Raises:
        SelectionError: Another name, or there are no such rows.
    """
    if which not in (None, "cluster", "duplicates", "all"):
        raise SelectionError(f"rows {which!r}", remedy="use 'cluster', 'duplicates' or 'all'")
    if which == "all" or (which is None and matrix.default_rows == "all"):
        return Selection(np.ones(matrix.n_rows, dtype=np.bool_), "all")
    found = census(matrix)
    reason = ""
    if which != "duplicates":
        search = find_cluster(matrix, found, second=False, workers=workers)
        if search.rows.any():
            return Selection(search.rows, "cluster", search.evidence())
        reason = search.reason
        if which == "cluster":
            raise SelectionError(
                f"nothing to measure: {reason}",
                where=matrix.source,
                remedy="leave --rows out for the rows that equal another, or name rows with --mask",
            )
    if not found.mask.any():
        because = f"{reason}; and " if reason else ""
        raise SelectionError(
            f"nothing to measure: {because}no two of the {matrix.n_rows:,} rows are equal",
            where=matrix.source,
            remedy="use --rows all, or name rows with --mask",
        )
    return Selection(found.mask, "duplicates", reason)


def as_snowball(source: Snowball | MatrixLike, argument: str) -> Snowball:
    """A snowball, or that of the rows which are measured by default of whatever holds a matrix.

    Args:
        source: A snowball, or as for `deadtokens.sources.as_matrix`.
        argument: What the caller's function calls it, for errors.

    Raises:
        SourceError: It is none of these, or cannot be opened.
        SelectionError: There are no such rows.
    """
    return told_of(source, argument)[0]


def told_of(source: Snowball | MatrixLike, argument: str) -> tuple[Snowball, bool]:
    """As `as_snowball`, and whether the source leaves out dimensions in which its rows agree."""
    if isinstance(source, Snowball):
        return source, False
    matrix = as_matrix(source, argument)
    held = getattr(source, "snowball", None)
    if not isinstance(held, Snowball):
        held = snowball_of(matrix, rows_to_measure(matrix).rows)
    return held, matrix.varying_only
