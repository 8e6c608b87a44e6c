"""Which rows are measured: the dead cluster where there is one, else rows that equal another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deadtokens.census import NOT_FINITE, census, first_equal_rows
from deadtokens.cluster import find_cluster
from deadtokens.errors import SelectionError
from deadtokens.formats import convert, effective_format
from deadtokens.kernels.types import BoolArray, Int64Array
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


def snowball_of(
    matrix: MatrixLike, rows: npt.NDArray[np.integer] | BoolArray | None = None
) -> Snowball:
    """The snowball that chosen rows of a matrix make.

    The rows' effective format decides the lattice: float32 storage of bfloat16 (or float16)
    numbers is taken as that. Quantised numbers lie on none and stay as they are.

    Args:
        matrix: The matrix, or whatever `open_matrix` takes.
        rows: Row numbers, or a boolean mask over all rows; by default those that are measured by
            default. Vectors are ordered by first row.

    Raises:
        SourceError: The matrix cannot be opened.
        SelectionError: The mask has another length, rows are out of range or repeated, or one is
            not finite; or there are no rows to measure by default.
    """
    matrix = as_matrix(matrix, "matrix")
    if rows is None:
        rows = rows_to_measure(matrix).rows
    chosen = _row_numbers(rows, matrix.n_rows)
    codes = matrix.codes[chosen if chosen.size < matrix.n_rows else slice(None)]
    first = first_equal_rows(codes, matrix.format.sign_bit, matrix.format.max_ordinal)
    if bool(np.any(first == NOT_FINITE)):
        bad = chosen[first == NOT_FINITE]
        raise SelectionError(
            f"{bad.size:,} of the {chosen.size:,} rows measured hold NaN or an infinity "
            f"(the first: row {int(bad[0])})",
            where=matrix.source,
            remedy="leave them out: --mask DIR/mask.safetensors:finite after census -o DIR",
        )
    distinct, row_vectors, populations = np.unique(first, return_inverse=True, return_counts=True)
    vectors = codes[distinct] if distinct.size < len(codes) else codes
    quantised = matrix.quantised.kind if matrix.quantised else ""
    fmt = matrix.format if quantised else effective_format(vectors, matrix.format)
    return Snowball(
        codes=convert(vectors, matrix.format, fmt),
        populations=populations.astype(np.int64),
        format=fmt,
        row_ids=chosen,
        row_vectors=row_vectors.astype(np.int64),
        quantised=quantised,
    )


def _row_numbers(rows: npt.NDArray[np.integer] | BoolArray, n_rows: int) -> Int64Array:
    rows = np.asarray(rows)
    if rows.size and rows.dtype != np.bool_ and not np.issubdtype(rows.dtype, np.integer):
        raise SelectionError(f"rows of dtype {rows.dtype}", remedy="give integers or a bool mask")
    if rows.dtype == np.bool_:
        if rows.shape != (n_rows,):
            raise SelectionError(
                f"a mask of shape {list(rows.shape)} for a matrix of {n_rows:,} rows",
                remedy="give one entry per row",
            )
        return np.flatnonzero(rows)
    if rows.ndim == 1 and rows.size == n_rows > 2 and set(np.unique(rows)) <= {0, 1}:
        raise SelectionError("rows that look like a 0/1 mask", remedy="give it as bool")
    numbers = np.unique(rows).astype(np.int64)
    if rows.ndim != 1 or numbers.size != rows.size:
        raise SelectionError("rows that repeat or are not a list", remedy="give each row once")
    if numbers.size and not 0 <= int(numbers[0]) <= int(numbers[-1]) < n_rows:
        raise SelectionError(
            f"rows from {int(numbers[0])} to {int(numbers[-1])} in a matrix of {n_rows:,} rows",
            remedy="count rows from 0",
        )
    return numbers


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
