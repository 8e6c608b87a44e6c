"""Tables and totals drawn on matplotlib Axes. Nothing is computed here but places on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter
from scipy import special

from deadtokens.kernels.types import Float64Array, Int64Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from deadtokens.summaries import SigmaTotals

# Distinct to colour-blind readers, and in greyscale.
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8c8c8c"
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "deadtokens",
}


@dataclass(frozen=True)
class Elements:
    """A pooled distribution: mass at deviations, or in bins where edges are given."""

    sigma: float
    deviations: Float64Array
    counts: Int64Array
    mean: float
    std: float
    skewness: float
    excess_kurtosis: float

    @classmethod
    def of(cls, totals: SigmaTotals) -> Elements:
        """Those of a sigma's trials."""
        return cls(totals.sigma, totals.deviations, totals.counts, *totals.moments)


@dataclass(frozen=True)
class Curve:
    """A metric against sigma: every trial, and what theory expects.

    Attributes:
        label: The metric, in words.
        trials: A (trials,) array for each sigma.
        expected_sigmas: (k,) sigmas of the closed form.
        expected: (k,) its values.
    """

    label: str
    trials: Sequence[Float64Array]
    expected_sigmas: Float64Array
    expected: Float64Array


@dataclass(frozen=True)
class Ranked:
    """Populations by rank: the median over trials and a band."""

    sigma: float
    ranks: Int64Array
    median: Float64Array
    low: Float64Array
    high: Float64Array


def elements_figure(elements: Sequence[Elements], caption: str) -> Figure:
    """The pooled distribution of value minus centroid, with its Gaussian, beside a Q-Q plot."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 0.5 + 3.1 * len(elements)), layout="constrained")
        axes = figure.subplots(len(elements), 2, squeeze=False)
        for (left, right), of_sigma in zip(axes, elements, strict=True):
            _density(left, of_sigma)
            _quantiles(right, of_sigma)
        figure.suptitle(f"Elements: value minus centroid\n{caption}", fontsize=11)
    return figure


def _density(axes: Axes, elements: Elements) -> None:
    axes.set_title(f"σ = {elements.sigma:.4g}", loc="left")
    axes.set(xlabel="value − centroid", ylabel="density")
    if elements.std == 0:
        axes.text(0.5, 0.5, "nothing varies", transform=axes.transAxes, ha="center")
        return
    edges = elements.mean + elements.std * np.linspace(-5, 5, 101)
    inside, _ = np.histogram(elements.deviations, edges, weights=elements.counts)
    total = elements.counts.sum()
    axes.stairs(inside / total / np.diff(edges), edges, fill=True, color=BLUE, alpha=0.55)
    z = np.linspace(-5, 5, 400)
    gaussian = np.exp(-z * z / 2) / np.sqrt(2 * np.pi) / elements.std
    axes.plot(elements.mean + elements.std * z, gaussian, color=ORANGE, lw=1.6)
    axes.set_yscale("log")
    peak = max(float((inside / total / np.diff(edges)).max()), float(gaussian.max()))
    axes.set_ylim(peak * 1e-6, peak * 100)  # room for the text
    axes.ticklabel_format(axis="x", scilimits=(-2, 3))
    axes.minorticks_off()
    beyond = 1 - inside.sum() / total
    axes.text(
        0.98,
        0.97,
        f"mean {elements.mean:.3g}\nstd {elements.std:.4g}\nskewness {elements.skewness:.3g}\n"
        f"excess kurtosis {elements.excess_kurtosis:.3g}\nbeyond 5 std: {beyond:.2g}",
        transform=axes.transAxes,
        ha="right",
        va="top",
        fontsize=8,
    )
    axes.text(0.02, 0.97, "— Gaussian", color=ORANGE, transform=axes.transAxes, va="top")


def _quantiles(axes: Axes, elements: Elements) -> None:
    axes.set(xlabel="normal quantile", ylabel="quantile of (value − centroid) / std")
    if elements.std == 0:
        axes.text(0.5, 0.5, "nothing varies", transform=axes.transAxes, ha="center")
        return
    order = np.argsort(elements.deviations, kind="stable")
    cumulative = np.cumsum(elements.counts[order])
    z = np.linspace(-4.5, 4.5, 361)
    at = np.searchsorted(cumulative, special.ndtr(z) * cumulative[-1])
    values = elements.deviations[order][np.minimum(at, order.size - 1)]
    axes.axline((0, 0), slope=1, color=ORANGE, lw=1.2)
    axes.plot(z, (values - elements.mean) / elements.std, ".", color=BLUE, ms=3)
    axes.text(0.02, 0.97, "— normal", color=ORANGE, transform=axes.transAxes, va="top")


def curves_figure(sigmas: Sequence[float], curves: Sequence[Curve], caption: str) -> Figure:
    """Metrics against sigma: a dot per trial, the median, and the closed form."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.2 * len(curves), 4.2), layout="constrained")
        axes = figure.subplots(1, len(curves), squeeze=False)[0]
        logarithmic = min(sigmas) > 0 and max(sigmas) > 20 * min(sigmas)
        for place, curve in zip(axes, curves, strict=True):
            x = np.repeat(sigmas, [len(values) for values in curve.trials])
            y = np.concatenate(list(curve.trials))
            place.plot(x, y, ".", ms=3, color=GREY, alpha=0.35, mew=0, rasterized=True)
            place.plot(
                curve.expected_sigmas, curve.expected, color=ORANGE, lw=2.2, label="closed form"
            )
            medians = [float(np.median(values)) for values in curve.trials]
            place.plot(sigmas, medians, "o-", ms=3.5, lw=0.9, color=BLUE, label="median of trials")
            place.plot([], [], ".", color=GREY, label="trials")
            place.set(xlabel="σ", ylabel=curve.label)
            if logarithmic:
                place.set_xscale("log")
            place.set_yscale("symlog", linthresh=1)
            place.set_ylim(-0.2, max(float(y.max()), 1) * 1.6)
        axes[0].legend(frameon=False, fontsize=8, loc="best")
        figure.suptitle(caption, fontsize=11)
    return figure


def ranks_figure(ranked: Sequence[Ranked], caption: str) -> Figure:
    """Populations by rank, the largest first: median and band over trials."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(max(7.5, 1.2 + 3.6 * len(ranked)), 4), layout="constrained")
        axes = figure.subplots(1, len(ranked), squeeze=False, sharey=True)[0]
        for place, of_sigma in zip(axes, ranked, strict=True):
            present = of_sigma.high > 0
            x = of_sigma.ranks[present]
            low, median, high = (
                np.maximum(values[present], 0.5)
                for values in (of_sigma.low, of_sigma.median, of_sigma.high)
            )
            place.fill_between(x, low, high, color=BLUE, alpha=0.25, lw=0, step="mid")
            place.step(x, median, where="mid", color=BLUE, lw=1.6)
            place.axhline(1, color=GREY, lw=0.8, ls=":")
            place.set(xscale="log", yscale="log", xlabel="rank")
            place.set_xlim(0.8, max(2.0, float(x.max()) * 1.3))
            place.set_title(f"σ = {of_sigma.sigma:.4g}", loc="left")
            ticks = [1, 2, 5, 10, 20, 50, 100, 200, 500, *(10.0**k for k in range(3, 10))]
            place.xaxis.set_major_locator(FixedLocator([t for t in ticks if t <= x.max()]))
            place.xaxis.set_major_formatter("{x:g}")
            place.xaxis.set_minor_formatter(NullFormatter())
            place.yaxis.set_major_formatter("{x:g}")
        axes[0].set_ylim(0.5, None)
        axes[0].set_ylabel("tokens that hold the vector")
        figure.suptitle(f"Populations by rank: median and 90 % band\n{caption}", fontsize=11)
    return figure
