"""How likely the occupied cells are for each width of the noise (docs/method.md, section 12).

Per dimension, the unknown mean is integrated over a flat prior. Three kinds of dimensions:

- *unsplit*: one occupied cell. The integral depends on the cell's width only (equation 12.3), so
  each width is done once.
- *smooth*: cells far narrower than the spread of the values. There a Gaussian's likelihood holds
  with Sheppard's correction for rounding (equation 12.4), and no cell has to be visited.
- the others: quadrature over the occupied cells (`kernels.likelihood`).

Which kind a dimension is depends on its counts alone, never on sigma, so that the likelihood has
no steps.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from deadtokens.errors import SelectionError
from deadtokens.formats import Float64Array, Format, Intermediate
from deadtokens.kernels import likelihood as kernels
from deadtokens.kernels.types import BoolArray, Int64Array
from deadtokens.occupied import OccupiedCells

# Widest cell over standard deviation up to which a dimension is smooth: what the expansion leaves
# out then moves sigma by less than 2e-5 of itself.
_SMOOTH = 0.25
_REACH = 30.0  # standard deviations that the range of any sample stays below
_ZERO = 1e-12  # of the largest number: what is smaller in every row counts as zero


class Likelihood:
    """log L(sigma) of a cluster, dimension by dimension.

    Args:
        cells: Occupied cells.
        fmt: The lattice.
        intermediate: How values were rounded (`Format.boundaries`).
        varying_only: Whether dimensions are there only because they vary.

    Attributes:
        used: (d,) bool: the dimensions that count, all but those that are zero, or less than 1e-12
            of the largest number, in every row.
        varying: (d,) bool: those that occupy two cells or more.
        low, high: (cells,) float64, boundaries of the occupied cells.
        width: (d,) float64, width of each dimension's fullest cell.

    Raises:
        SelectionError: Nothing to estimate from: one row, or zeros only; or a dimension does not
            vary although all are said to.
    """

    def __init__(
        self, cells: OccupiedCells, fmt: Format, intermediate: Intermediate, *, varying_only: bool
    ) -> None:
        self.cells = cells
        self.n_tokens = int(cells.rows[cells.first[0] : cells.first[1]].sum())
        self.varying_only = varying_only
        self.low = fmt.boundaries(cells.ordinals - 1, intermediate)
        self.high = fmt.boundaries(cells.ordinals, intermediate)
        self.varying: BoolArray = cells.occupied > 1
        # A constant next to zero says no more than zero itself: its cell is as good as no width.
        largest = max(float(np.abs(self.low).max()), float(np.abs(self.high).max()))
        distance = np.maximum(np.abs(self.low), np.abs(self.high))[cells.first[:-1]]
        constant = (cells.ordinals[cells.first[:-1]] != 0) & (distance > _ZERO * largest)
        self.used: BoolArray = self.varying | constant
        fullest = cells.fullest
        self.width: Float64Array = fmt.boundaries(fullest, intermediate) - fmt.boundaries(
            fullest - 1, intermediate
        )
        self._check()
        self.mean, self.std = self._moments()
        widest = np.maximum.reduceat(self.high - self.low, cells.first[:-1])
        # Few occupied cells for such a spread are no sample of a Gaussian: outliers, say.
        filled = 2 * cells.occupied >= np.minimum(self.n_tokens, 2 * self.std / widest)
        self.smooth: BoolArray = self.varying & (widest < _SMOOTH * self.std) & filled
        self._unsplit, self._unsplit_kind = _distinct_widths(self.width, self.used & ~self.varying)
        self._chance, self._chance_kind = _distinct_widths(self.width, self.varying)
        self.split: BoolArray = self.varying & ~self.smooth
        self._split = _chosen_cells(cells, self.low, self.high, self.split)
        self._sums = self._smooth_sums()

    def log_likelihoods(self, sigma: float) -> Float64Array:
        """(d,) log L_k(sigma), up to a constant in each dimension; 0 where not used."""
        result = np.zeros(self.varying.size)
        unsplit = _log_unsplits(self._unsplit, self.n_tokens, sigma)
        result[self.used & ~self.varying] = unsplit[self._unsplit_kind]
        of_split = np.empty(int(self.split.sum()))
        kernels.log_likelihoods(*self._split, sigma, of_split)
        result[self.split] = of_split
        squares, spread, weighted = self._sums
        a, b = spread / sigma**2, weighted / sigma**2
        # What rounding adds to sigma^2, to first order; a Gaussian's where that is not small.
        logarithm = np.log(sigma**2) + a / (1 + a)
        result[self.smooth] = (
            -(self.n_tokens - 1) * logarithm - squares / sigma**2 * (1 - b / (1 + b) ** 2)
        ) / 2
        if self.varying_only:
            result[self.varying] -= self._log_chances(sigma)
        return result

    def chance_of_varying(self, sigma: float) -> Float64Array:
        """(d,) the chance that a dimension of that width varies, its mean anywhere (12.5)."""
        width = np.where(self.width > 0, self.width, 1.0)
        whole = np.exp(_log_unsplits(width, self.n_tokens, sigma))
        return np.asarray(np.clip(1 - whole / width, 0.0, 1.0))

    def centres(self, sigma: float, tail: float) -> tuple[Float64Array, Float64Array, Float64Array]:
        """(d,) posterior mean of each dimension's centre, and the quantiles tail and 1 - tail.

        Dimensions that are zero in every row have the centre 0 and no uncertainty.
        """
        mean, lower, upper = (np.zeros(self.varying.size) for _ in range(3))
        spread = sigma / np.sqrt(self.n_tokens)
        far = spread * -float(special.ndtri(tail))
        at = self.smooth
        mean[at], lower[at], upper[at] = (self.mean[at] + x for x in (0.0, -far, far))
        found = tuple(np.empty(int(self.split.sum())) for _ in range(3))
        kernels.centres(*self._split, sigma, tail, *found)
        mean[self.split], lower[self.split], upper[self.split] = found
        at = self.used & ~self.varying
        start = self.low[self.cells.first[:-1]][at]
        widths = self._unsplit
        found = tuple(np.empty(widths.size) for _ in range(3))
        first = np.arange(widths.size + 1)
        counts = np.full(widths.size, self.n_tokens)
        kernels.centres(first, np.zeros(widths.size), widths, counts, sigma, tail, *found)
        # Both halves of a cell are alike: its middle is the mean to the last bit.
        found[0][:] = widths / 2
        for place, of_width in zip((mean, lower, upper), found, strict=True):
            place[at] = start + of_width[self._unsplit_kind]
        return mean, lower, upper

    def _check(self) -> None:
        if self.n_tokens < 2:
            raise SelectionError("one row says nothing of noise", remedy="select more rows")
        if not self.used.any():
            raise SelectionError(
                "every dimension is zero in every row", remedy="select rows that hold something"
            )
        if self.varying_only and not self.varying.all():
            raise SelectionError(
                f"dimension {int(np.flatnonzero(~self.varying)[0])} does not vary, though only "
                "dimensions that vary are said to be held",
                remedy="leave varying_only out",
            )

    def _moments(self) -> tuple[Float64Array, Float64Array]:
        """(d,) mean and standard deviation of cell midpoints, over rows."""
        starts = self.cells.first[:-1]
        middle = (self.low + self.high) / 2
        origin = middle[starts]  # near the values, so that no digits are lost
        away = middle - np.repeat(origin, self.cells.occupied)
        mean = np.add.reduceat(self.cells.rows * away, starts) / self.n_tokens
        away -= np.repeat(mean, self.cells.occupied)
        variance = np.add.reduceat(self.cells.rows * away**2, starts) / (self.n_tokens - 1)
        return origin + mean, np.sqrt(variance)

    def _smooth_sums(self) -> tuple[Float64Array, Float64Array, Float64Array]:
        """In smooth dimensions: the sum of (x - mean)^2, and what rounding adds to sigma^2.

        The latter is w^2 / 12 on average over rows, and weighted by (x - mean)^2.
        """
        first, low, high, rows = _chosen_cells(self.cells, self.low, self.high, self.smooth)
        if first.size == 1:
            return np.zeros(0), np.zeros(0), np.zeros(0)
        away = (low + high) / 2 - np.repeat(self.mean[self.smooth], np.diff(first))
        terms = (away**2, (high - low) ** 2, (high - low) ** 2 * away**2)
        squares, widths, products = (np.add.reduceat(rows * term, first[:-1]) for term in terms)
        return squares, widths / (12 * self.n_tokens), products / (12 * squares)

    def _log_chances(self, sigma: float) -> Float64Array:
        # E[min(w, sigma R)] = w - E[(w - sigma R)+] (equation 12.5). Far beyond the range's
        # reach it is sigma E[R], which the difference of two large numbers would not tell.
        widths = np.minimum(self._chance, _REACH * sigma)
        return np.asarray(
            np.log(widths - np.exp(_log_unsplits(widths, self.n_tokens, sigma)))[self._chance_kind]
        )


def _log_unsplits(widths: Float64Array, n_tokens: int, sigma: float) -> Float64Array:
    result = np.empty(widths.size)
    kernels.log_unsplits(
        np.zeros(widths.size), widths, np.full(widths.size, n_tokens), sigma, result
    )
    return result


def _distinct_widths(width: Float64Array, chosen: BoolArray) -> tuple[Float64Array, Int64Array]:
    distinct, kind = np.unique(width[chosen], return_inverse=True)
    return distinct, kind


def _chosen_cells(
    cells: OccupiedCells, low: Float64Array, high: Float64Array, chosen: BoolArray
) -> tuple[Int64Array, Float64Array, Float64Array, Int64Array]:
    sizes = cells.occupied
    keep = np.repeat(chosen, sizes)
    first = np.concatenate([[0], np.cumsum(sizes[chosen])]).astype(np.int64)
    return first, low[keep], high[keep], cells.rows[keep]
