"""Results drawn on matplotlib Axes. Nothing is computed here but places on the page.

`plot` draws whatever there is a picture of: it is what ``.plot()`` of a result calls. The functions
below it say what can be chosen. `deadtokens.pictures` makes a sweep's own figures, which are files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from types import UnionType
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from deadtokens.arguments import check_names
from deadtokens.cluster import ClusterSearch
from deadtokens.compare import Comparison
from deadtokens.errors import SelectionError
from deadtokens.inventory import Inventory
from deadtokens.kernels.types import Float64Array, Int64Array
from deadtokens.statistics import Measurement
from deadtokens.summaries import SigmaTotals, Totals
from deadtokens.trial_tables import Trials
from deadtokens.trials import STATISTICS

# Distinct to colour-blind readers, and in greyscale.
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8c8c8c"
_SERIES = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MEASURES = {"Euclidean": "Euclidean distance", "lattice steps": "lattice steps"}
_FARTHEST = 20.0  # standard deviations that have a place of their own
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "deadtokens",
}


def _axes(axes: Axes | None) -> Axes:
    if axes is not None:
        return axes
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(6.4, 4), layout="constrained")[1]


def plot(result: object, axes: Axes | None = None, **choice: Any) -> Axes:
    """Draw a result by its kind.

    Args:
        result: An inventory or a search for the cluster (`void`), a measurement (`components`), the
            totals of one sigma (`elements`) or of several (`statistic`), trials (`histogram`), or a
            comparison (`deviations`).
        axes: Where to draw; on new axes if there are none.
        choice: What the function of that kind lets choose.

    Raises:
        SelectionError: There is no picture of it, nothing in it to draw, or no such choice.
    """
    for kind, draw in _DRAWN.items():
        if isinstance(result, kind):
            check_names("plot", choice, [*signature(draw).parameters][2:])
            return draw(result, axes, **choice)
    raise SelectionError(
        f"there is no picture of a value of type {type(result).__name__}",
        where="plot",
        remedy="give an inventory, a measurement, totals or trials of a sweep, or a comparison",
    )


def void(found: Inventory | ClusterSearch, axes: Axes | None = None) -> Axes:
    """Rows in order of distance from the centre, and the gap, in the measure that decided.

    Raises:
        SelectionError: No centre was found.
    """
    search = found.search if isinstance(found, Inventory) else found
    gap = search.void
    if gap is None:
        raise SelectionError(
            "no distances: no centre was found", where="void", remedy=search.reason or None
        )
    order = search.by_distance()
    far, place = search.far[order], np.arange(1, order.size + 1)
    with mpl.rc_context(STYLE):
        axes = _axes(axes)
        for side, colour, label in ((False, GREY, "other rows"), (True, BLUE, "the cluster")):
            of_side = search.rows[order] == side
            if of_side.any():
                axes.plot(place[of_side], far[of_side], ".", ms=4, color=colour, label=label)
        if gap.convincing:
            axes.axhspan(gap.inside, gap.outside, color=ORANGE, alpha=0.15, lw=0, label="gap")
        axes.set(xscale="log", xlabel="rows, nearest first", ylabel=_MEASURES[gap.measure])
        positive = far[far > 0]
        if positive.size < order.size:  # rows that are the centre itself
            axes.set_yscale("symlog", linthresh=float(positive.min()) if positive.size else 1.0)
            axes.set_ylim(0, None)
        else:
            axes.set_yscale("log")
        axes.legend(frameon=False, fontsize=8)
    return axes


def components(measurement: Measurement, axes: Axes | None = None) -> Axes:
    """The number of components against the touching distance, in units of epsilon.

    Raises:
        SelectionError: Fewer than two distinct vectors, or too many for exact distances.
    """
    held = measurement.connectivity
    if held is None:
        raise SelectionError(
            "no distances between vectors",
            where="components",
            remedy=measurement.blank_reason or "measure at least two distinct vectors",
        )
    epsilon = float(measurement.row["epsilon"] or 0)
    touching = float(measurement.row["touching"] or 0) / epsilon
    with mpl.rc_context(STYLE):
        axes = _axes(axes)
        x = held.distances / epsilon
        start = np.concatenate([[0.0], x, [held.complete_at / epsilon * 1.1]])
        number = np.concatenate(
            [[measurement.row["n_unique"]], held.n_components, held.n_components[-1:]]
        )
        axes.step(start, number, where="post", color=BLUE, lw=1.6)
        axes.axvline(touching, color=ORANGE, lw=1.2, ls="--", label="touching distance")
        axes.axvline(held.connected_at / epsilon, color=GREY, lw=1, ls=":", label="connected from")
        axes.set(xlabel="distance / ε", ylabel="components")
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(0, float(number.max()) * 1.6)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.legend(frameon=False, fontsize=8)
    return axes


def elements(totals: SigmaTotals, axes: Axes | None = None) -> Axes:
    """The pooled distribution of value minus centroid, with its Gaussian."""
    with mpl.rc_context(STYLE):
        axes = _axes(axes)
        draw_elements(axes, Elements.of(totals))
    return axes


def statistic(totals: Totals, axes: Axes | None = None, *, metric: str = "n_unique") -> Axes:
    """A statistic against sigma: a dot per trial, and the median.

    Raises:
        SelectionError: No such statistic.
    """
    _check_metric(metric)
    sigmas = [of_sigma.sigma for of_sigma in totals]
    values = [of_sigma.metric(metric) for of_sigma in totals]
    with mpl.rc_context(STYLE):
        axes = _axes(axes)
        x = np.repeat(sigmas, [len(of_sigma) for of_sigma in values])
        axes.plot(x, np.concatenate(values), ".", ms=3, color=GREY, alpha=0.35, label="trials")
        medians = [float(np.median(of_sigma)) for of_sigma in values]
        axes.plot(sigmas, medians, "o-", ms=3.5, lw=0.9, color=BLUE, label="median of trials")
        axes.set(xlabel="σ", ylabel=metric)
        if min(sigmas) > 0 and max(sigmas) > 10 * min(sigmas):
            axes.set_xscale("log")
        axes.legend(frameon=False, fontsize=8)
    return axes


def histogram(trials: Trials, axes: Axes | None = None, *, metric: str = "n_unique") -> Axes:
    """A statistic over the trials of each sigma.

    Raises:
        SelectionError: No such statistic.
    """
    _check_metric(metric)
    column = STATISTICS.index(metric)
    with mpl.rc_context(STYLE):
        axes = _axes(axes)
        values = [of_sigma.rows[:, column] for of_sigma in trials.of_sigmas]
        edges = np.histogram_bin_edges(np.concatenate(values), 60)
        for i, (of_sigma, of_trials) in enumerate(zip(trials.of_sigmas, values, strict=True)):
            axes.stairs(
                np.histogram(of_trials, edges)[0],
                edges,
                color=_SERIES[i % len(_SERIES)],
                lw=1.4,
                ls=("-", "--", ":")[i // len(_SERIES) % 3],
                label=f"σ = {of_sigma.sigma:.4g}",
            )
        axes.set(xlabel=metric, ylabel="trials")
        axes.legend(frameon=False, fontsize=8)
    return axes


def deviations(
    comparison: Comparison, axes: Axes | None = None, *, sigma: float | None = None
) -> Axes:
    """Each statistic's distance from the trials' mean, in standard deviations, at one sigma.

    The sigma is the best one unless another one of the run's is named. What deviates more than
    twenty stands at the edge, with its number.

    Raises:
        SelectionError: The run has no such sigma.
    """
    at = comparison.best
    if sigma is not None:
        held = {one.sigma: one for one in comparison.sigmas}
        if sigma not in held:
            raise SelectionError(
                f"no trials at {sigma:g}",
                where="sigma",
                remedy=f"give one of {', '.join(f'{one:.6g}' for one in held)}",
            )
        at = held[sigma]
    shown = [metric for metric in at.metrics if metric.z_score is not None][::-1]
    farthest = max((abs(metric.z_score or 0.0) for metric in shown), default=0.0)
    reach = min(max(4.0, 1.2 * farthest), 1.3 * _FARTHEST)
    with mpl.rc_context(STYLE):
        axes = _axes(axes)
        for place, metric in enumerate(shown):
            z = metric.z_score or 0.0
            x = min(max(z, -_FARTHEST), _FARTHEST)
            colour = BLUE if metric.verdict == "consistent" else ORANGE
            axes.plot([0, x], [place, place], "-", color=colour, lw=1)
            axes.plot([x], [place], "o", ms=5, color=colour)
            if x != z:
                side = "left" if x > 0 else "right"
                axes.annotate(f" {z:.3g} ", (x, place), va="center", ha=side, fontsize=7)
        axes.axvspan(-2, 2, color=GREY, alpha=0.15, lw=0)
        axes.axvline(0, color=GREY, lw=0.8)
        axes.set_yticks(range(len(shown)), [metric.metric for metric in shown], fontsize=7)
        axes.set(xlabel="standard deviations from the trials' mean", xlim=(-reach, reach))
        axes.set_title(f"σ = {at.sigma:.4g}", loc="left")
    return axes


def _check_metric(metric: str) -> None:
    if metric not in STATISTICS:
        raise SelectionError(
            f"unknown statistic {metric!r}", where="metric", remedy=f"use {', '.join(STATISTICS)}"
        )


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


def draw_elements(axes: Axes, elements: Elements) -> None:
    """The pooled distribution on a logarithmic scale, with its Gaussian and its moments."""
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


_DRAWN: dict[type | UnionType, Callable[..., Axes]] = {
    Inventory | ClusterSearch: void,
    Measurement: components,
    SigmaTotals: elements,
    Totals: statistic,
    Trials: histogram,
    Comparison: deviations,
}
