"""Do single dimensions fill their cells as rounded Gaussian noise does (docs/method.md, 14)?

The width of the noise is told here from how often two tokens share a cell (equation 14.1), or from
how many cells are occupied where only dimensions that vary are held: that a few dimensions skip
cells hardly moves it, while the likelihood would give up everything else to explain them.
Replicates draw it from what the data leave open, and each dimension's mean uniformly over a cell of
the lattice. (Means at their posterior means would not do: there, dimensions that did not split
never would.) Each replicate is refitted, and its counts are moved by the difference that its width
makes, so that only what no width explains counts.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from deadtokens.fit import Fit
from deadtokens.fit import fit as estimate
from deadtokens.formats import Float64Array, Ordinals
from deadtokens.kernels import likelihood as likelihood_kernels
from deadtokens.kernels import random
from deadtokens.kernels.replicates import TOTALS, replicates
from deadtokens.kernels.types import BoolArray, Int64Array
from deadtokens.listening import watched
from deadtokens.montecarlo import Feature, feature, holm
from deadtokens.sampling import stream_key
from deadtokens.showing import Shown
from deadtokens.snowball import Snowball
from deadtokens.sources import MatrixLike

FEATURES = ("varying_dimensions", "occupied_cells", "skipped_cells", "skipping_dimensions")
MOST_REPLICATES = 4_999
FEWEST_REPLICATES = 1_999
_CELLS = 100_000  # passed in a replicate, up to which there are many
_MOST_CELLS = 20_000_000  # passed in a replicate, beyond which none is drawn
_PILOTS = 499  # replicates that tell how far the width is open
_BLOCK = 64
_REACH = 30.0  # standard deviations of `_Expected.sigma` beyond which no token of a replicate lies
_OPEN = 3.0  # how many times wider than that a replicate's noise is at most
# Dimensions with cells up to this wide, in sigmas, and of about this spread, are left out.
_NARROW = 0.25
_SPREAD = 0.6, 1.5
_THIN = 1e-4  # half-widths in sigmas below which a cell's chance is its density times its width
# They stand where the streams of a cloud have their sigma, which is never negative.
_PILOT_STREAM, _STREAM = -2.0, -3.0


@dataclass(frozen=True)
class Marginals(Shown):
    """The test's result.

    Attributes:
        features: One for each of `FEATURES`, without the first two where the fit took only
            dimensions that vary to be held. Empty if there is nothing to test.
        sigma: The width that makes tokens share cells as often as they do.
        replicates: How many were drawn.
        n_dimensions: Dimensions that were looked at.
        reason: Why nothing was tested, None if something was.
    """

    features: tuple[Feature, ...]
    sigma: float
    replicates: int
    n_dimensions: int
    reason: str | None = None

    def __repr__(self) -> str:
        smallest = f"smallest p {min(self.p_holm):.3g} after Holm" if self.features else self.reason
        return f"<Marginals of {self.n_dimensions:,} dimensions: {smallest}>"

    @cached_property
    def p_holm(self) -> tuple[float, ...]:
        """Holm's adjusted p-values, over the features of this test alone."""
        return tuple(holm([found.p_value for found in self.features]))


def marginals(
    fit: Fit | Snowball | MatrixLike,
    *,
    count: int | None = None,
    seed: int = 42,
    workers: int | None = None,
) -> Marginals:
    """Test occupied and skipped cells per dimension against rounded Gaussian noise.

    Args:
        fit: The cluster's; or what `fit` takes, which then is fitted first.
        count: Replicates; by default a fixed function of the cells that one passes.
        seed: Of the replicates, below 2^64.
        workers: Threads; all cores by default. The result does not depend on it.

    Raises:
        SelectionError: A seed out of range, or as for `fit`.
        SourceError: As for `fit`.
    """
    if not isinstance(fit, Fit):
        fit = estimate(fit)
    if not fit.likelihood.varying.any():
        return Marginals((), 0.0, 0, 0, "no dimension varies")
    chosen = _chosen(fit)
    observed = _observed(fit, chosen)
    if not observed[0]:
        reason = "the noise is far wider than the cells of every dimension that varies"
        return Marginals((), 0.0, 0, int(chosen.sum()), reason)
    expected = _Expected(fit, chosen, observed)
    low, high = _reached(fit, chosen, expected.sigma)
    passed = int(np.sum(high - low))
    if passed > _MOST_CELLS:
        reason = f"the noise reaches {passed:,} cells, more than the {_MOST_CELLS:,} gone over here"
        return Marginals((), expected.sigma, 0, int(chosen.sum()), reason)
    lattice = _lattice(fit, chosen, (low, high))
    if count is None:
        count = MOST_REPLICATES if passed <= _CELLS else FEWEST_REPLICATES

    def drawn(sigmas: Float64Array, stream: float) -> Float64Array:
        return _draw(fit, lattice, sigmas, stream_key(seed, np.array([stream])), workers)

    own = np.log([expected.sigma])
    pilots = expected.refitted(drawn(np.full(_PILOTS, expected.sigma), _PILOT_STREAM)) - own
    # The real lattice is not even, so refits are off by a little: replicates make up for it.
    generator = np.random.Generator(np.random.PCG64([seed, 1]))
    open_by = pilots.std(ddof=1) * generator.standard_normal(count) - pilots.mean()
    totals = drawn(expected.sigma * np.exp(np.minimum(open_by, np.log(_OPEN))), _STREAM)
    totals[:, :2] += expected.counts(own) - expected.counts(expected.refitted(totals))
    features = [
        feature(name, value, np.round(values, 9))  # equal counts stay equal
        for name, value, values in zip(FEATURES, observed, totals.T, strict=False)
    ]
    told = 2 if fit.varying_only else 0
    return Marginals(tuple(features[told:]), expected.sigma, count, int(chosen.sum()))


def _chosen(fit: Fit) -> BoolArray:
    """(d,) the dimensions looked at: those that count, and whose cells are not all but continuous.

    Left out are dimensions whose cells are far narrower than the noise and whose values are as far
    apart as the noise makes them: which cells they occupy is a matter of chance. The noise is told
    from all dimensions, as below or, where the cells of most are far narrower than the values are
    apart, from how far that is in the median: what contradicts the story must not be able to excuse
    itself.
    """
    likelihood = fit.likelihood
    used = likelihood.used
    spread = float(np.median(likelihood.std[used]))
    if np.median(likelihood.width[used]) < _NARROW * spread:
        sigma = spread  # most dimensions are all but continuous: few tokens share a cell, if any
    else:
        sigma = _Expected(fit, used, _observed(fit, used)).sigma
    low, high = (spread * sigma for spread in _SPREAD)
    plain = (likelihood.std > low) & (likelihood.std < high)
    return used & ~(plain & (likelihood.width < _NARROW * sigma))


def _reached(fit: Fit, chosen: BoolArray, sigma: float) -> tuple[Ordinals, Ordinals]:
    """Lowest and highest ordinal of each dimension whose upper boundary may be passed."""
    fmt = fit.format
    home = fit.cells.fullest[chosen]
    middle = fmt.values_of(home).astype(np.float64)
    largest = float(fmt.values_of(np.array([fmt.max_ordinal]))[0])
    ends = (np.clip(middle + side * _REACH * sigma, -largest, largest) for side in (-1, +1))
    low, high = (fmt.ordinals(fmt.round(end.astype(np.float32))) for end in ends)
    low = np.maximum(np.minimum(low, home) - 2, -fmt.max_ordinal - 1)
    return low, np.minimum(np.maximum(high, home) + 1, fmt.max_ordinal)


def _lattice(
    fit: Fit,
    chosen: BoolArray,
    reached: tuple[Ordinals, Ordinals],
) -> tuple[Int64Array, Float64Array, Int64Array]:
    """Boundaries around the fullest cell of each dimension, as the kernel takes them."""
    low, high = reached
    sizes = high - low + 1
    first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    ordinals = np.arange(first[-1]) - np.repeat(first[:-1] - low, sizes)
    home = first[:-1] + fit.cells.fullest[chosen] - 1 - low
    return first, fit.format.boundaries(ordinals, fit.intermediate), home


def _draw(
    fit: Fit,
    lattice: tuple[Int64Array, Float64Array, Int64Array],
    sigmas: Float64Array,
    key: int,
    workers: int | None,
) -> Float64Array:
    """(replicates, `TOTALS`), a stream each."""
    totals = np.empty((sigmas.size, TOTALS))

    def block(start: int) -> None:
        part = slice(start, start + _BLOCK)
        state = np.zeros(random.STATE_SIZE, dtype=np.uint64)
        ahead = np.zeros(random.AHEAD, dtype=np.uint64)
        replicates(
            np.uint64(key), np.uint64(start), fit.n_tokens, sigmas[part], fit.varying_only,
            *lattice, state, ahead, totals[part],
        )  # fmt: skip

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        blocks = pool.map(block, range(0, sigmas.size, _BLOCK))
        list(watched(blocks, "replicates", sigmas.size, each=_BLOCK))
    return totals


def _observed(fit: Fit, chosen: BoolArray) -> Float64Array:
    """(`TOTALS`,) what `replicate` gives, of the real cluster."""
    cells = fit.cells
    pairs = np.add.reduceat(cells.rows * (cells.rows - 1) / 2, cells.first[:-1])[chosen]
    occupied, skipped = cells.occupied[chosen], cells.skipped[chosen]
    counts = ((occupied > 1).sum(), occupied.sum(), skipped.sum(), (skipped > 0).sum())
    return np.array([*counts, pairs.sum()], dtype=np.float64)


class _Expected:
    """What to expect at a width, means anywhere relative to an even lattice (14.1 to 14.3).

    An even lattice is what the real one is within a binade; what that leaves out is the same for
    the real cluster and its replicates.

    Attributes:
        sigma: The width at which as many pairs of tokens share a cell as do.
    """

    _POINTS = 241
    _NODES = 1_001

    def __init__(self, fit: Fit, chosen: BoolArray, observed: Float64Array) -> None:
        self.n = fit.n_tokens
        self.conditional = fit.varying_only
        self._widths = np.unique(fit.likelihood.width[chosen], return_counts=True)
        widths = self._widths[0]
        bottom = widths.min() / (1e3 * chosen.sum())
        self._set_curve(np.geomspace(bottom, 10 * widths.max(), 4 * self._POINTS))
        rough = float(np.exp(self.refitted(observed[None])[0]))
        self._set_curve(np.geomspace(rough / _OPEN**2, rough * _OPEN**2, self._POINTS))
        self._counts = self._counts_at(self.sigmas)
        self.sigma = float(np.exp(self.refitted(observed[None])[0]))

    def refitted(self, totals: Float64Array) -> Float64Array:
        """(k,) log sigma at which what tells it is expected to be as in (k, `TOTALS`) totals."""
        return np.interp(self._telling(totals), self._curve, np.log(self.sigmas))

    def counts(self, log_sigmas: Float64Array) -> Float64Array:
        """(k, 2) expected dimensions that vary, and occupied cells."""
        at = np.log(self.sigmas)
        return np.stack([np.interp(log_sigmas, at, column) for column in self._counts.T], axis=1)

    def _telling(self, totals: Float64Array) -> Float64Array:
        # Among dimensions that vary, how often cells are shared says next to nothing of sigma.
        return totals[:, 1] if self.conditional else -totals[:, 4]

    def _set_curve(self, sigmas: Float64Array) -> None:
        """What tells sigma, as it is expected at each of them."""
        self.sigmas = sigmas
        widths, numbers = self._widths
        if self.conditional:
            curve = self._counts_at(sigmas)[:, 1]
        else:
            curve = (
                -self.n * (self.n - 1) / 2 * (self._agreeing(sigmas[:, None] / widths) @ numbers)
            )
        # Both rise with sigma; where they hardly do, rounding must not make them fall.
        self._curve = np.maximum.accumulate(curve)

    def _counts_at(self, sigmas: Float64Array) -> Float64Array:
        """(k, 2) expected dimensions that vary, and occupied cells."""
        widths, numbers = self._widths
        u = sigmas[:, None] / widths
        varying, more = self._varying(u), self._occupied(u) - 1
        if self.conditional:
            varying, more = np.ones_like(varying), more / np.maximum(varying, 1e-300)
        return np.stack([varying @ numbers, (1 + more) @ numbers], axis=1)

    def _varying(self, u: Float64Array) -> Float64Array:
        """The chance that a dimension varies, sigma over width being u (12.5)."""
        result = np.empty(u.size)
        counts = np.full(u.size, self.n)
        # A cell wider than this holds all of a range; beyond, the difference would lose its digits.
        width = np.minimum(1 / u.ravel(), 2 * _REACH)
        likelihood_kernels.log_unsplits(np.zeros(u.size), width, counts, 1.0, result)
        return np.asarray((width - np.exp(result)).reshape(u.shape) * u)

    def _occupied(self, u: Float64Array) -> Float64Array:
        """Occupied cells: the chance that a cell is, integrated over where the mean lies."""
        grid = np.geomspace(u.min(), u.max(), 2 * self._POINTS)
        further = np.empty(grid.size)
        for i, ratio in enumerate(grid.tolist()):
            # From the boundary, in sigmas: outside the cell up to where no token reaches it, inside
            # down to its middle. Outside, occupied counts; inside, empty counts against it.
            half = 0.5 / ratio
            z = np.linspace(-min(half, _REACH), _REACH, self._NODES)
            p = special.ndtr(-z) - special.ndtr(-z - 2 * half)
            if half < _THIN:
                p = 2 * half * np.exp(-((z + half) ** 2) / 2) / np.sqrt(2 * np.pi)
            seen = -np.expm1(self.n * np.log1p(-np.minimum(p, 1 - 1e-16)))
            further[i] = 2 * (np.trapezoid(seen, z) - min(half, _REACH))
        return np.asarray(1 + u * np.interp(np.log(u), np.log(grid), further))

    @staticmethod
    def _agreeing(u: Float64Array) -> Float64Array:
        """The chance that two tokens share a cell."""
        s = np.sqrt(2.0) * u
        within = 2 * special.ndtr(1 / s) - 1
        return np.asarray(within + s * np.sqrt(2 / np.pi) * np.expm1(-0.5 / s**2))
