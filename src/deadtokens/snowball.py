"""The snowball: distinct vectors with their populations, real or synthetic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from deadtokens.errors import SelectionError
from deadtokens.formats import Codes, Float32Array, Format, Ordinals
from deadtokens.kernels.rows import column_extremes
from deadtokens.showing import Shown


def no_lattice(kind: str) -> str:
    """Why numbers of a quantisation have no ULPs and no cells, in words."""
    return (
        f"{kind} numbers lie on no fixed lattice: each block of them in a row has its own step, so "
        "that ULPs and cells mean nothing, and columns of a block are not independent"
    )


def check_lattice(kind: str, what: str, where: object = None) -> None:
    """Refuse what asks how rounding to a lattice has treated numbers that were quantised.

    Args:
        kind: The quantisation, "" if there is none.
        what: What asks.
        where: The source.

    Raises:
        SelectionError: The numbers are quantised.
    """
    if kind:
        raise SelectionError(
            f"{what} cannot be computed: {no_lattice(kind)}",
            where=where,
            remedy="use the file it was quantised from; census and measure work on this one too",
        )


@dataclass(frozen=True)
class Snowball(Shown):
    """A cluster of token vectors, as its distinct vectors and how many rows hold each.

    Attributes:
        codes: (m, d) bit patterns of the distinct vectors, all finite.
        populations: (m,) int64, rows that hold each vector.
        format: The lattice the numbers lie on.
        row_ids: (n,) int64, the rows in the matrix; None where they come from none.
        row_vectors: (n,) int64, the vector that each of those rows holds; None likewise.
        quantised: The quantisation that the numbers were stored in, e.g. ``"Q8_0"``: then they lie
            on no lattice, whatever the format. "" where they do.
    """

    codes: Codes
    populations: npt.NDArray[np.int64]
    format: Format
    row_ids: npt.NDArray[np.int64] | None = None
    row_vectors: npt.NDArray[np.int64] | None = None
    quantised: str = ""

    def __repr__(self) -> str:
        return (
            f"<Snowball of {self.n_tokens:,} rows: {self.n_unique:,} distinct vectors in "
            f"{self.codes.shape[1]:,} dimensions, {self.storage}>"
        )

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.populations.shape != self.codes.shape[:1]:
            raise SelectionError(
                f"a snowball of codes {self.codes.shape} and populations {self.populations.shape}",
                remedy="give m x d codes and m populations",
            )
        if self.populations.size and int(self.populations.min()) < 1:
            raise SelectionError("a vector that no row holds", remedy="give populations from 1 up")

    @property
    def storage(self) -> str:
        """What the numbers are: the format's name, or the quantisation's."""
        return self.quantised or self.format.name

    @property
    def n_tokens(self) -> int:
        """Rows in all."""
        return int(self.populations.sum())

    @property
    def n_unique(self) -> int:
        """Distinct vectors."""
        return int(self.codes.shape[0])

    def row_order(self) -> npt.NDArray[np.int64]:
        """(n,) the vector that each row holds; vector after vector where rows have no order."""
        if self.row_vectors is not None:
            return self.row_vectors
        return np.repeat(np.arange(self.n_unique), self.populations)

    @cached_property
    def extremes(self) -> tuple[Ordinals, Ordinals]:
        """Lowest and highest ordinal of each dimension, (d,) each.

        Raises:
            SelectionError: There are no vectors, or one is not finite.
        """
        if self.n_unique == 0:
            raise SelectionError("no vectors", remedy="select at least one row")
        low = np.full(self.codes.shape[1], np.iinfo(np.int64).max)
        high = np.full(self.codes.shape[1], np.iinfo(np.int64).min)
        column_extremes(np.ascontiguousarray(self.codes), self.format.sign_bit, low, high)
        if max(int(high.max(initial=0)), -int(low.min(initial=0))) > self.format.max_ordinal:
            raise SelectionError("vectors with NaN or an infinity", remedy="leave them out")
        return low, high

    @property
    def varying(self) -> npt.NDArray[np.intp]:
        """The dimensions in which the vectors are not all equal, ascending."""
        if self.n_unique == 0:
            return np.zeros(0, dtype=np.intp)
        low, high = self.extremes
        return np.flatnonzero(low != high)

    def values(self, dimensions: npt.NDArray[np.intp] | slice = slice(None)) -> Float32Array:
        """The distinct vectors as float32 values, (m, d) or the given columns of it."""
        return self.format.values(self.codes[:, dimensions])

    def centroid(self) -> npt.NDArray[np.float64]:
        """The mean over rows, (d,) float64: the vectors' mean weighted by population.

        It is the mean of *rounded* rows, which is not the centre of the noise that made them unless
        that is well above the ULP.

        Raises:
            SelectionError: There are no rows.
        """
        if self.n_unique == 0:
            raise SelectionError("no rows, so no mean", remedy="select at least one row")
        total = np.zeros(self.codes.shape[1])
        for start in range(0, self.n_unique, 1024):
            block = slice(start, start + 1024)
            values = self.format.values(self.codes[block]).astype(np.float64)
            total += self.populations[block].astype(np.float64) @ values
        return total / self.n_tokens
