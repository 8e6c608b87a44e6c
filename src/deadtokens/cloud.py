"""The null model: noise around a centroid, rounded to a format, as probabilities of cells.

Notation (docs/method.md, section 6). A token's value in dimension k is round(c[k] + z) with z of
standard deviation sigma[k], so it falls into the cell of ordinal j with probability (equation 6.1)

    p[k, j] = F((b[k, j] - c[k]) / sigma[k]) - F((b[k, j - 1] - c[k]) / sigma[k])

where b[k, j] is the upper boundary of the cell (`Format.boundaries`) and F the distribution of the
noise at standard deviation 1. Dimensions and tokens are independent. A dimension is *inactive* if
its *modal* (most likely) cell is all but certain, and *active* otherwise.

What is dropped: inactive dimensions count as certain, and cells beyond the *cut* as impossible.
Either costs at most two tails, and a tail is `TAIL` / d, so that a token's distribution is within
2 TAIL of the stated one in total variation, and a trial of n tokens within 2 TAIL n (equation
6.2), which is below 1e-12 for every n that can be drawn (`Cloud.dropped`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from deadtokens.arguments import checked_centroid, checked_sigma
from deadtokens.errors import FormatError, SelectionError
from deadtokens.formats import Float64Array, Format, Intermediate, Ordinals, get_format
from deadtokens.noise import Noise, interval_probabilities, reach, squared_density, upper_tail
from deadtokens.showing import Shown

IndexArray: TypeAlias = npt.NDArray[np.int64]
OrdinalArray: TypeAlias = npt.NDArray[np.signedinteger[Any]]

MOST_TOKENS = 2**32 - 1  # rows are numbered in 32 bits; the last number has another use
DROPPED_LIMIT = 1e-12
TAIL = DROPPED_LIMIT / 2**33
OVERFLOW_LIMIT = 1e-12
CELL_LIMIT = 2**18

# So many cells of a dimension are always added up one by one, and wider ones than this.
_ENUMERATED = 2**16
_NARROW = 1e-5
_NEAR_ZERO = 2.0**-20  # sigmas
BLOCK = 2**15  # cells taken at once


@dataclass(frozen=True)
class CellTable:
    """Cells of non-negligible probability, of each active dimension in turn (a dimensions).

    Attributes:
        first: (a + 1,) int64, where each dimension's cells begin.
        ordinals: (cells,) ordinals, consecutive within a dimension; int16, or int32 for float32.
        probabilities: (cells,) float64.
        modal: (a,) int64, index of each dimension's most likely cell.
        leave: (a,) float64, probability of the other cells together.
    """

    first: IndexArray
    ordinals: OrdinalArray
    probabilities: Float64Array
    modal: IndexArray
    leave: Float64Array


class Cloud(Shown):
    """Noise around a centroid, rounded: a product of discrete distributions, one per dimension.

    Args:
        centroid: (d,) finite real numbers; taken as float32 if ``intermediate`` is "float32".
        sigma: Standard deviation of the noise, whatever its kind: one number or one per dimension.
        noise: "gaussian", "laplace" (scale sigma / sqrt 2) or "uniform" (half-width sigma sqrt 3).
        format: Name of the storage format.
        intermediate: "float32" if centroid + noise is rounded to float32 first, "exact" if not.

    Attributes:
        centroid: (d,) float64, as used.
        sigma: (d,) float64.
        noise, intermediate: As given.
        format: The `Format`.
        modal: (d,) ordinals of the most likely cells (int16, or int32 for float32).
        active: (a,) int64, the active dimensions, ascending.
        table: Cells of the active dimensions; None where they are more than `CELL_LIMIT`.

    Raises:
        SelectionError: A centroid or sigma that is no such thing, or an unknown noise.
        FormatError: An unknown format or intermediate, or numbers beyond the format.
    """

    def __init__(
        self,
        centroid: npt.ArrayLike,
        sigma: npt.ArrayLike,
        *,
        noise: Noise = "gaussian",
        format: str = "bfloat16",  # noqa: A002
        intermediate: Intermediate = "float32",
    ) -> None:
        if noise not in get_args(Noise):
            raise SelectionError(f"unknown noise {noise!r}", remedy=f"use {get_args(Noise)}")
        if intermediate not in get_args(Intermediate):
            raise FormatError(f"intermediate {intermediate!r}", remedy="use 'float32' or 'exact'")
        self.noise: Noise = noise
        self.intermediate: Intermediate = intermediate
        self.format: Format = get_format(format)
        self.centroid: Float64Array = _read_only(checked_centroid(centroid, intermediate))
        self.sigma: Float64Array = _read_only(checked_sigma(sigma, self.centroid.size))
        self.check(1)
        home = self._home()
        below = self.format.boundaries(home - 1, intermediate)
        above = self.format.boundaries(home, intermediate)
        leaving = upper_tail(noise, self._standard(above, slice(None)))
        leaving += upper_tail(noise, -self._standard(below, slice(None)))
        # With sigma 0 nothing leaves, even from a centroid on the boundary itself.
        self.active: IndexArray = _read_only(
            np.flatnonzero((self.sigma > 0) & (leaving > 2 * self._tail))
        )
        self.table: CellTable | None = self._cell_table()
        modal = home.astype(self.ordinal_dtype)
        if self.table is not None:
            modal[self.active] = self.table.ordinals[self.table.modal]
        self.modal: OrdinalArray = _read_only(modal)

    def __repr__(self) -> str:
        low, high = self.sigma.min(), self.sigma.max()
        sigma = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        return (
            f"<Cloud: {self.noise} noise of sigma {sigma} in {self.d:,} dimensions, "
            f"{self.active.size:,} of them active, {self.format.name}>"
        )

    @property
    def d(self) -> int:
        """Number of dimensions."""
        return self.centroid.size

    @property
    def ordinal_dtype(self) -> npt.DTypeLike:
        """The integer type that ordinals are stored in: int32 for float32, else int16."""
        return np.int32 if self.format.bits > 16 else np.int16

    def dropped(self, n_tokens: int) -> float:
        """Bound on the total variation between a trial as drawn and as stated (below 1e-12)."""
        return 2 * TAIL * n_tokens

    def overflow(self, n_tokens: int) -> float:
        """Bound on the chance that a number of a trial overflows the format."""
        largest = np.array([self.format.max_ordinal])
        limit = float(self.format.boundaries(largest, self.intermediate)[0])
        over = upper_tail(self.noise, self._standard(limit, slice(None)))
        under = upper_tail(self.noise, -self._standard(-limit, slice(None)))
        beyond = (np.abs(self.centroid) >= limit) & (self.sigma == 0)
        return min(1.0, n_tokens * float(np.sum(np.where(beyond, 1.0, over + under))))

    def check(self, n_tokens: int) -> None:
        """Refuse a trial that cannot be drawn.

        Raises:
            SelectionError: n_tokens is not in 1 .. `MOST_TOKENS`.
            FormatError: Numbers beyond the format are not negligibly rare in such a trial.
        """
        if not (isinstance(n_tokens, int | np.integer) and 1 <= n_tokens < MOST_TOKENS):
            raise SelectionError(
                f"{n_tokens} tokens", remedy=f"give a whole number, 1 to {MOST_TOKENS - 1}"
            )
        chance = self.overflow(n_tokens)
        if chance > OVERFLOW_LIMIT:
            largest = self.format.values_of(np.array([self.format.max_ordinal]))[0]
            raise FormatError(
                f"values overflow {self.format.name} (largest number {largest:.6g}) with "
                f"probability {chance:.3g} in a trial of {n_tokens} tokens",
                where="cloud",
                remedy="use a smaller sigma or centroid, or a wider format",
            )

    def cells(self, dimension: int) -> tuple[Ordinals, Float64Array]:
        """Ordinals and probabilities of a dimension's cells, with or without a table."""
        dimensions = np.array([dimension])
        if self.sigma[dimension] == 0:
            return self._home()[dimensions], np.ones(1)
        first, ordinals, probabilities = self.cells_within(dimensions, *self.range_of(dimensions))
        return ordinals[first[0] :], probabilities

    def coincidence(self) -> Float64Array:
        """(d,) probability sum_j p[k, j]^2 that two tokens agree in dimension k."""
        result = np.ones(self.d)
        if self.table is None:
            result[self.active] = self.coincidences(self.active)
        elif self.active.size:
            squares = self.table.probabilities**2
            result[self.active] = np.add.reduceat(squares, self.table.first[:-1])
        return result

    def coincidences(self, dimensions: IndexArray) -> Float64Array:
        """The probability that two tokens agree, in each of some active dimensions.

        Cells within 2^-20 sigma of zero are left out where there are several: there the lattice is
        finest, and together they add less than 1e-11 of the sum.
        """
        low, high = self.range_of(dimensions)
        result = np.empty(dimensions.size)
        for i in np.flatnonzero(high - low >= _ENUMERATED).tolist():
            result[i] = self.coincidence_of(int(dimensions[i]))
        narrow = np.flatnonzero(high - low < _ENUMERATED)
        tiny = self._nearest(_NEAR_ZERO * self.sigma[dimensions])
        below = np.where(tiny > 0, np.minimum(high, -tiny - 1), high)
        above = np.where(tiny > 0, np.maximum(low, tiny + 1), high + 1)
        below, above = np.maximum(below, low - 1), np.minimum(above, high + 1)
        total = np.zeros(dimensions.size)
        for first, last in ((low, below), (above, high)):
            for part in blocks((last - first + 1)[narrow]):
                chosen = narrow[part]
                begins, _, p = self.cells_within(dimensions[chosen], first[chosen], last[chosen])
                of = np.repeat(chosen, np.diff(begins))
                total += np.bincount(of, weights=p * p, minlength=total.size)
        result[narrow] = total[narrow]
        return result

    def coincidence_of(self, dimension: int) -> float:
        """The probability that two tokens agree in one dimension.

        Cells far narrower than the noise are taken a binade at a time: there sum p^2 is the cell's
        width times the integral of the squared density, to a relative (width / sigma)^2, and to
        width / sigma for uniform noise, whose ends cut through cells.
        """
        dimensions = np.array([dimension])
        (low,), (high,) = self.range_of(dimensions)
        if high - low < _ENUMERATED:
            return float(np.sum(self.cells(dimension)[1] ** 2))
        fmt, sigma = self.format, float(self.sigma[dimension])
        edges = np.arange(1, (fmt.max_ordinal >> fmt.fraction_bits) + 1) << fmt.fraction_bits
        edges = np.unique(np.concatenate([[low], -edges, [0], edges, [high + 1]]))
        edges = edges[(edges >= low) & (edges <= high + 1)]
        total = 0.0
        for first, last in itertools.pairwise(edges.tolist()):
            # The first cell may have another width than the rest of its binade.
            inner = np.array([first if first >= 0 else last])
            width = float(fmt.ulp(fmt.codes(inner))[0])
            wide = last - first < _ENUMERATED and width > _NARROW * sigma
            ends = np.array([first]), np.array([last - 1 if wide else first])
            total += float(np.sum(self.cells_within(dimensions, *ends)[2] ** 2))
            if not wide:
                boundaries = fmt.boundaries(np.array([first, last - 1]), "exact")
                t = (boundaries - self.centroid[dimension]) / sigma
                total += width / sigma * squared_density(self.noise, float(t[0]), float(t[1]))
        return total

    def probability_near(self, dimension: int, z: Float64Array) -> Float64Array:
        """The probability of the cell that centroid + sigma z falls into, for each z."""
        dimensions = np.full(z.shape, dimension)
        ordinals = self.ordinals_near(dimensions, z)
        return self.probability_between(dimensions, ordinals, ordinals)

    def ordinals_near(self, dimensions: IndexArray, z: Float64Array) -> Ordinals:
        """Ordinals that centroid + sigma z is stored as, in those dimensions (any one shape)."""
        return self._nearest(self.centroid[dimensions] + self.sigma[dimensions] * z)

    def probability_between(
        self, dimensions: IndexArray, low: Ordinals, high: Ordinals
    ) -> Float64Array:
        """The probability that a token's ordinal lies in low .. high (arrays of one shape)."""
        below = self.format.boundaries(low - 1, self.intermediate)
        above = self.format.boundaries(high, self.intermediate)
        lower, upper = self._standard(below, dimensions), self._standard(above, dimensions)
        with np.errstate(over="ignore"):
            width = (above - below) / self.sigma[dimensions]
        return interval_probabilities(self.noise, lower, upper, width)

    @property
    def _tail(self) -> float:
        return TAIL / self.d

    def _standard(self, x: Any, dimensions: Any) -> Float64Array:
        # (x - centroid) / sigma; sigma 0 gives an infinity, or 0 on the centroid itself.
        away = x - self.centroid[dimensions]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.where(away == 0, 0.0, away / self.sigma[dimensions])

    def _nearest(self, x: Float64Array) -> Ordinals:
        # The ordinal that x, within the format, is stored as; for "exact" corrected for the first
        # of the two roundings.
        fmt = self.format
        largest = fmt.values_of(np.array([fmt.max_ordinal]))[0]
        ordinals = fmt.ordinals(fmt.round(np.clip(x, -largest, largest).astype(np.float32)))
        if self.intermediate == "exact":
            above, below = (fmt.boundaries(ordinals - i, "exact") for i in (0, 1))
            odd = ordinals % 2 != 0
            ordinals = ordinals + np.where(odd, x >= above, x > above)
            ordinals = ordinals - np.where(odd, x <= below, x < below)
            ordinals = np.clip(ordinals, -fmt.max_ordinal, fmt.max_ordinal)
        return ordinals

    def _home(self) -> Ordinals:
        return self._nearest(self.centroid)

    def range_of(self, dimensions: IndexArray) -> tuple[Ordinals, Ordinals]:
        """First and last ordinal that can matter, and one more on either side against rounding."""
        far = reach(self.noise, self._tail) * self.sigma[dimensions]
        largest = self.format.max_ordinal
        low = self._nearest(self.centroid[dimensions] - far) - 1
        high = self._nearest(self.centroid[dimensions] + far) + 1
        return np.maximum(low, -largest), np.minimum(high, largest)

    def cells_within(
        self, dimensions: IndexArray, low: Ordinals, high: Ordinals
    ) -> tuple[IndexArray, Ordinals, Float64Array]:
        """Where each dimension's cells begin, and ordinals and probabilities of all cells.

        Those from low to high (low - 1 for none) that are not beyond the cut.
        """
        sizes = high - low + 1
        of = np.repeat(np.arange(dimensions.size), sizes)
        starts = np.cumsum(sizes) - sizes
        ordinals = np.arange(of.size) - np.repeat(starts - low, sizes)
        dims = dimensions[of]
        below = self.format.boundaries(ordinals - 1, self.intermediate)
        above = self.format.boundaries(ordinals, self.intermediate)
        lower, upper = self._standard(below, dims), self._standard(above, dims)
        with np.errstate(over="ignore"):
            width = (above - below) / self.sigma[dims]
        keep = (upper_tail(self.noise, lower) > self._tail) & (
            upper_tail(self.noise, -upper) > self._tail
        )
        kept = np.bincount(of[keep], minlength=dimensions.size)
        first = np.concatenate([[0], np.cumsum(kept)])
        probabilities = interval_probabilities(self.noise, lower[keep], upper[keep], width[keep])
        return first, ordinals[keep], probabilities

    def _cell_table(self) -> CellTable | None:
        low, high = self.range_of(self.active)
        if int(np.sum(high - low + 1)) > CELL_LIMIT + 2 * self.active.size:
            return None
        first, ordinals, probabilities = self.cells_within(self.active, low, high)
        sizes = np.diff(first)
        most = np.maximum.reduceat(probabilities, first[:-1]) if sizes.size else np.zeros(0)
        # The first of equally likely cells: written last to first, so that the first one stays.
        candidates = np.flatnonzero(probabilities == np.repeat(most, sizes))[::-1]
        modal = np.zeros(sizes.size, dtype=np.int64)
        modal[np.repeat(np.arange(sizes.size), sizes)[candidates]] = candidates
        others = probabilities.copy()
        others[modal] = 0.0
        leave = np.add.reduceat(others, first[:-1]) if sizes.size else np.zeros(0)
        return CellTable(
            first=_read_only(first),
            ordinals=_read_only(ordinals.astype(self.ordinal_dtype)),
            probabilities=_read_only(probabilities),
            modal=_read_only(modal),
            leave=_read_only(leave),
        )


def blocks(sizes: IndexArray) -> list[slice]:
    """Slices of neighbours that have some `BLOCK` cells together, or are one."""
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes) // BLOCK)) + 1
    ends = [0, *cuts.tolist(), sizes.size]
    return [slice(a, b) for a, b in itertools.pairwise(ends)]


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array
