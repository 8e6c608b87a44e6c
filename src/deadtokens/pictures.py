"""The figures of a sweep, which are files in its run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter
from scipy import special

from deadtokens.curves import expected_along
from deadtokens.figures import BLUE, GREY, ORANGE, STYLE, Elements, draw_elements
from deadtokens.kernels.types import Float64Array, Int64Array
from deadtokens.listening import watched
from deadtokens.specification import Sweep
from deadtokens.summaries import SigmaTotals
from deadtokens.theory import Expectation
from deadtokens.trials import TrialSpec
from deadtokens.writing import make_folder, replacing

_SHOWN = 4  # sigmas of a sweep that have panels of their own


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


def write_figures(
    folder: Path,
    sweep: Sweep,
    totals: Sequence[SigmaTotals],
    expected: Sequence[Expectation] | None = None,
) -> list[Path]:
    """Draw a sweep's figures as PNG and SVG: elements, populations by rank, curves over sigma.

    Args:
        folder: Where they are written.
        sweep: The sweep.
        totals: What its trials add up to, for each sigma.
        expected: What is expected along the curves, if that is known already.

    Returns:
        The files.

    Raises:
        OutputError: The folder cannot be written.
    """
    make_folder(folder)
    caption = _caption(sweep, totals)
    # Where everything coincides, or nothing does, populations by rank say nothing.
    partly = [t for t in totals if 1 < np.median(t.metric("n_unique")) < sweep.spec.n_tokens]
    elements = [Elements.of(of_sigma) for of_sigma in _some(totals)]
    bands = [ranked(of_sigma, sweep.spec) for of_sigma in _some(partly or totals)]
    drawn = {
        "elements": elements_figure(elements, caption),
        "populations": ranks_figure(bands, caption),
    }
    if len(totals) > 1:
        sigmas = [of_sigma.sigma for of_sigma in totals]
        drawn["sigma"] = curves_figure(
            sigmas, _curves(totals, expected or expected_along(sweep)), caption
        )
    saved = (_save(folder / name, figure) for name, figure in drawn.items())
    return [path for paths in watched(saved, "figures", len(drawn)) for path in paths]


def _some(totals: Sequence[SigmaTotals]) -> list[SigmaTotals]:
    """At most `_SHOWN` of them, evenly spaced."""
    chosen = np.unique(np.linspace(0, len(totals) - 1, _SHOWN).round().astype(int))
    return [totals[i] for i in chosen]


def _caption(sweep: Sweep, totals: Sequence[SigmaTotals]) -> str:
    trials = {len(of_sigma.rows) for of_sigma in totals}
    each = " per σ" if len(totals) > 1 else ""
    return (
        f"n = {sweep.spec.n_tokens:,} tokens, d = {sweep.centroid.size:,}, {sweep.format}, "
        f"{sweep.noise} noise, {' to '.join(f'{t:,}' for t in sorted(trials)[:2])} trials{each}"
    )


def ranked(totals: SigmaTotals, spec: TrialSpec) -> Ranked:
    """Populations by rank: the median over trials, and the band from their 5 % to 95 % quantile."""
    low, median, high = (_quantile(totals.ranked, spec, q) for q in (0.05, 0.5, 0.95))
    return Ranked(totals.sigma, spec.ranks, median, low, high)


def _quantile(ranked: Int64Array, spec: TrialSpec, q: float) -> Float64Array:
    """The population in whose bin the quantile over trials lies, at each rank."""
    cumulative = np.cumsum(ranked, axis=1)
    reached = cumulative >= np.maximum(np.ceil(q * cumulative[:, -1:]), 1)
    return np.asarray(spec.population_bins[reached.argmax(axis=1)], dtype=np.float64)


def _curves(totals: Sequence[SigmaTotals], expected: Sequence[Expectation]) -> list[Curve]:
    metrics = {
        "n_unique": "distinct vectors",
        "n_singletons": "singletons",
        "n_black_holes": "black holes",
    }
    grid = np.array([at.sigma for at in expected])
    return [
        Curve(
            label,
            [t.metric(name) for t in totals],
            grid,
            np.array([getattr(at, name) for at in expected]),
        )
        for name, label in metrics.items()
    ]


def _save(stem: Path, figure: Figure) -> list[Path]:
    paths = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    for path in paths:
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        with replacing(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=130, metadata=metadata)
        figure.set_layout_engine(None)  # what was laid out once stays, and costs no second time
    return paths


def elements_figure(elements: Sequence[Elements], caption: str) -> Figure:
    """The pooled distribution of value minus centroid, with its Gaussian, beside a Q-Q plot."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.5 + 3.1 * len(elements)), layout="constrained")
        axes = figure.subplots(len(elements), 2, squeeze=False)
        for (left, right), of_sigma in zip(axes, elements, strict=True):
            draw_elements(left, of_sigma)
            _quantiles(right, of_sigma)
        figure.suptitle(f"Elements: value minus centroid\n{caption}", fontsize=11)
    return figure


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
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2 * len(curves), 4.2), layout="constrained")
        axes = figure.subplots(1, len(curves), squeeze=False)[0]
        logarithmic = min(sigmas) > 0 and max(sigmas) > 20 * min(sigmas)
        for place, curve in zip(axes, curves, strict=True):
            x = np.repeat(sigmas, [len(values) for values in curve.trials])
            y = np.concatenate(list(curve.trials))
            place.plot(x, y, ".", ms=3, color=GREY, alpha=0.35, mew=0, rasterized=True)
            place.plot(
                curve.expected_sigmas,
                curve.expected,
                color=ORANGE,
                lw=2.2,
                label="closed form",
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
    with mpl.rc_context(STYLE):
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
