"""The width of the noise, and where its centre was (docs/method.md, section 12).

The estimate is the maximum of the likelihood, its interval where twice the log likelihood has
fallen by the 95 % quantile of chi-squared. The centre is the posterior mean of each dimension at
that width: not the mean of the rounded rows, which sits in the middle of cells.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from scipy import optimize, stats

from deadtokens.errors import SelectionError
from deadtokens.formats import Float64Array, Format, Intermediate
from deadtokens.geometry import default_epsilon
from deadtokens.kernels.types import BoolArray
from deadtokens.likelihood import Likelihood
from deadtokens.listening import watched
from deadtokens.occupied import OccupiedCells, occupied_cells
from deadtokens.selection import told_of
from deadtokens.showing import Shown
from deadtokens.snowball import Snowball, check_lattice
from deadtokens.sources import MatrixLike

CONFIDENCE = 0.95
_DROP = float(stats.chi2.ppf(CONFIDENCE, 1)) / 2  # 1.92
# Where nothing varies, L(sigma) / L(0) is the chance of that: 5 % at the limit.
_LIMIT_DROP = -float(np.log(1 - CONFIDENCE))  # 3.00
_FINE_REACH = 2.8  # times the interval: where log L has fallen by 15
_FINE_POINTS = 33
_COARSE = 3.0  # ratio of neighbouring sigmas in the first search
_RESOLVED = 1e-13  # of the largest |value|: below, float64 cannot tell where a mean lies
_TOLERANCE = 1e-6  # relative, of sigma
_LEVEL = 1e-3  # log likelihoods so close tell no sigma from another
_EXACT_MOVES = 64  # dimensions whose large influence is computed exactly
_LEFT_OUT = 8  # dimensions, at most, that are left out one after another, and a quarter of all
_WORTH_LEAVING_OUT = 1.0  # standard errors that sigma has to move by


@dataclass(frozen=True)
class Without:
    """The estimate when dimensions are left out."""

    dimensions: tuple[int, ...]
    sigma: float


@dataclass(frozen=True)
class Fit(Shown):
    """A cluster's noise and centre. d dimensions.

    Attributes:
        sigma: Maximum-likelihood standard deviation of the noise; 0 if nothing varies.
        sigma_low: Lower end of the 95 % likelihood-ratio interval; 0 if there is none.
        sigma_high: Its upper end; the upper limit if nothing varies.
        n_tokens: Rows.
        n_zero: Dimensions that are zero, or next to it, in every row: left out.
        varying_only: Whether dimensions were taken to be held only because they vary.
        expected_varying: (equation 12.5) how many dimensions would vary at sigma, means anywhere.
        cells: Occupied cells of every dimension.
        centre: (d,) float64, posterior mean of the noise's centre.
        centre_low: (d,) lower end of its 95 % posterior interval.
        centre_high: (d,) upper end.
        influence: (d,) log(sigma / sigma without the dimension).
        without: Estimates with the most influential dimensions left out, one after another; empty
            if none moves sigma by a standard error.
        without_skipping: The estimate without the dimensions that skip cells; None if none do, or
            all.
        format: The lattice.
        epsilon: The length that distances of these rows are quoted in by default.
        intermediate: How values were taken to be rounded.
        likelihood: What it was computed with.
    """

    sigma: float
    sigma_low: float
    sigma_high: float
    n_tokens: int
    n_zero: int
    varying_only: bool
    expected_varying: float
    cells: OccupiedCells = field(repr=False)
    centre: Float64Array = field(repr=False)
    centre_low: Float64Array = field(repr=False)
    centre_high: Float64Array = field(repr=False)
    influence: Float64Array = field(repr=False)
    without: tuple[Without, ...]
    without_skipping: Without | None
    format: Format = field(repr=False)
    epsilon: float = field(repr=False)
    intermediate: Intermediate
    likelihood: Likelihood = field(repr=False)

    def __repr__(self) -> str:
        return (
            f"<Fit of {self.n_tokens:,} rows: sigma {self.sigma:.4g}, {self.sigma_low:.4g} to "
            f"{self.sigma_high:.4g} if the story holds; "
            f"{self.n_varying:,} of {self.n_dimensions:,} dimensions vary>"
        )

    @property
    def n_dimensions(self) -> int:
        """Dimensions, d."""
        return int(self.centre.size)

    @property
    def n_varying(self) -> int:
        """Dimensions that occupy two cells or more."""
        return int((self.cells.occupied > 1).sum())

    @property
    def sigma_without(self) -> Float64Array:
        """(d,) the estimate without each dimension."""
        return np.asarray(self.sigma * np.exp(-self.influence))

    def centre_at(self, sigma: float) -> Float64Array:
        """(d,) float64: the posterior mean of the centre if that were sigma (equation 12.6)."""
        return self.likelihood.centres(sigma, (1 - CONFIDENCE) / 2)[0]


def fit(
    snowball: Snowball | MatrixLike,
    *,
    varying_only: bool = False,
    intermediate: Intermediate = "float32",
) -> Fit:
    """Estimate the width of the noise and its centre.

    Args:
        snowball: Two rows or more, *all* those of a cluster: rows chosen because they coincide
            have too little noise. Or whatever `open_matrix` takes, for the rows that are measured
            by default.
        varying_only: Say that dimensions that do not vary are missing from the snowball.
        intermediate: "float32" if values were rounded to float32 on the way to the format.

    Raises:
        SelectionError: Nothing to estimate from, ``varying_only`` is wrong, or the numbers are
            quantised.
    """
    snowball, left_out = told_of(snowball, "snowball")
    varying_only = varying_only or left_out
    check_lattice(snowball.quantised, "sigma")
    cells = occupied_cells(snowball)
    likelihood = Likelihood(cells, snowball.format, intermediate, varying_only=varying_only)
    found = _Search(likelihood)
    sigma, low, high = found.estimate()
    at = sigma if sigma > 0 else high
    centre, centre_low, centre_high = likelihood.centres(at, (1 - CONFIDENCE) / 2)
    influence, without = found.influence() if sigma > 0 else (np.zeros(cells.occupied.size), ())
    used = likelihood.used
    return Fit(
        sigma=sigma,
        sigma_low=low,
        sigma_high=high,
        n_tokens=likelihood.n_tokens,
        n_zero=int((~used).sum()),
        varying_only=varying_only,
        expected_varying=float(likelihood.chance_of_varying(at)[used].sum()) if sigma > 0 else 0.0,
        cells=cells,
        centre=centre,
        centre_low=centre_low,
        centre_high=centre_high,
        influence=influence,
        without=without,
        without_skipping=found.without(cells.skipped > 0) if sigma > 0 else None,
        format=snowball.format,
        epsilon=default_epsilon(snowball),
        intermediate=intermediate,
        likelihood=likelihood,
    )


class _Search:
    """log L over log sigma: a coarse grid over all that is possible, a fine one around the peak."""

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood = likelihood
        used = likelihood.used
        first = likelihood.cells.first
        span = likelihood.high[first[1:] - 1] - likelihood.low[first[:-1]]
        # If one dimension in d varies, sigma is about its cell's width over d times the range.
        largest = float(np.abs([likelihood.low, likelihood.high]).max())
        narrowest = float(likelihood.width[used].min())
        bottom = np.log(max(narrowest / (100.0 * int(used.sum())), _RESOLVED * largest))
        # Of two rows in one dimension the likelihood falls as 1 / sigma: its limit is 16 spans.
        top = np.log(20.0 * float(span[used].max()))
        count = int(np.ceil((top - bottom) / np.log(_COARSE))) + 1
        self.coarse = np.linspace(bottom, top, count)
        self.coarse_terms = self._terms(self.coarse)
        totals = self.coarse_terms.sum(axis=1)
        # Two-cell splits alone say nothing of how small sigma is where only they are held.
        self.at_bottom = bool(totals.max() - totals[0] < _LEVEL)
        self.peak = self._peak(totals, self._total)
        self.highest = self._total(self.peak)
        self.drop = _LIMIT_DROP if self.at_bottom else _DROP
        self.low, self.high = self._falls(-1), self._falls(+1)
        self.fine, self.fine_terms = self._fine_grid()

    def estimate(self) -> tuple[float, float, float]:
        """Sigma and the ends of its interval."""
        if self.high is None:
            raise SelectionError(
                "these rows set no upper limit to the noise", remedy="select more rows"
            )
        lower = 0.0 if self.low is None else float(np.exp(self.low))
        sigma = 0.0 if self.at_bottom else float(np.exp(self.peak))
        return sigma, lower, float(np.exp(self.high))

    def influence(self) -> tuple[Float64Array, tuple[Without, ...]]:
        """log(sigma / sigma without the dimension) for each; the most influential left out."""
        order = np.argsort(np.concatenate([self.coarse, self.fine]), kind="stable")
        grid = np.concatenate([self.coarse, self.fine])[order]
        terms = np.concatenate([self.coarse_terms, self.fine_terms])[order]
        error = ((self.peak if self.high is None else self.high) - self.peak) / np.sqrt(2 * _DROP)
        left = self.likelihood.used.copy()
        influence = np.where(left, self.peak - _leave_one_out(grid, terms, left), 0.0)
        # The fine grid tells small moves; larger ones are looked at one by one.
        far = (self.peak - influence < self.fine[0]) | (self.peak - influence > self.fine[-1])
        for dimension in np.flatnonzero(far & left)[:_EXACT_MOVES].tolist():
            alone = self.without(np.arange(left.size) == dimension)
            if alone is not None and alone.sigma > 0:
                influence[dimension] = self.peak - np.log(alone.sigma)
        without: list[Without] = []
        gone: list[int] = []
        moves = influence
        most = min(_LEFT_OUT, max(1, int(self.likelihood.varying.sum()) // 4))
        while len(gone) < most:
            worst = int(np.abs(np.where(left, moves, 0.0)).argmax())
            if abs(moves[worst]) < _WORTH_LEAVING_OUT * error:
                break
            left[worst] = False
            gone.append(worst)
            found = self.without(self.likelihood.used & ~left)
            if found is None:
                break
            without.append(Without(tuple(gone), found.sigma))
            if found.sigma == 0:
                break
            moves = np.where(left, np.log(found.sigma) - _leave_one_out(grid, terms, left), 0.0)
        return influence, tuple(without)

    def without(self, gone: BoolArray) -> Without | None:
        """The estimate without the given dimensions; None if that is all or nothing."""
        left = self.likelihood.used & ~gone
        if not gone.any() or not (left & self.likelihood.varying).any():
            return None
        totals = self.coarse_terms[:, left].sum(axis=1)
        sigma = 0.0
        if totals.max() - totals[0] >= _LEVEL:
            sigma = float(np.exp(self._peak(totals, lambda x: self._total(x, left))))
        return Without(tuple(np.flatnonzero(gone).tolist()), sigma)

    def _terms(self, log_sigmas: Float64Array) -> Float64Array:
        """(points, d) log L_k."""
        with ThreadPoolExecutor() as pool:  # kernels release the GIL
            terms = pool.map(self.likelihood.log_likelihoods, np.exp(log_sigmas))
            what = "points of the likelihood"
            return np.array(list(watched(terms, what, log_sigmas.size)))

    def _total(self, log_sigma: float, chosen: BoolArray | None = None) -> float:
        terms = self.likelihood.log_likelihoods(float(np.exp(log_sigma)))
        return float(terms.sum() if chosen is None else terms[chosen].sum())

    def _peak(self, totals: Float64Array, total: Callable[[float], float]) -> float:
        best = int(totals.argmax())
        ends = self.coarse[max(best - 1, 0)], self.coarse[min(best + 1, self.coarse.size - 1)]
        options = {"xatol": _TOLERANCE}
        found = optimize.minimize_scalar(
            lambda x: -total(x), bounds=ends, method="bounded", options=options
        )
        return float(found.x)

    def _falls(self, side: int) -> float | None:
        """Where, on a side of the peak, log L has fallen by `drop`; None if it does not."""

        def above(log_sigma: float) -> float:
            return self._total(log_sigma) - self.highest + self.drop

        beyond = self.coarse[::side][(self.coarse[::side] - self.peak) * side > 0]
        near = self.peak
        for far in beyond.tolist():
            if above(far) <= 0:
                return float(optimize.brentq(above, near, far, xtol=_TOLERANCE))
            near = far
        return None

    def _fine_grid(self) -> tuple[Float64Array, Float64Array]:
        """The grid around the peak, and log L_k on it."""
        low, high = (
            float(limit) if end is None else self.peak + _FINE_REACH * (end - self.peak)
            for limit, end in ((self.coarse[0], self.low), (self.coarse[-1], self.high))
        )
        grid = np.linspace(low, high, _FINE_POINTS)
        return grid, self._terms(grid)


def _leave_one_out(grid: Float64Array, terms: Float64Array, left: BoolArray) -> Float64Array:
    """(d,) log sigma at the peak of the others' log L, by a parabola through its three points."""
    others = terms[:, left].sum(axis=1, keepdims=True) - terms
    best = np.clip(others.argmax(axis=0), 1, grid.size - 2)
    columns = np.arange(best.size)
    x0, x1, x2 = (grid[best + i] for i in (-1, 0, 1))
    y0, y1, y2 = (others[best + i, columns] for i in (-1, 0, 1))
    rise, fall = (y1 - y0) * (x2 - x1), (y1 - y2) * (x1 - x0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = (rise * (x2 - x1) - fall * (x1 - x0)) / (2 * (rise + fall))
    return np.asarray(x1 + np.where(np.isfinite(shift), shift, 0.0))
