"""A sweep's totals turned into what the figures draw, and the files of a run's figures/ folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deadtokens import figures
from deadtokens.cloud import Cloud
from deadtokens.kernels.types import Float64Array, Int64Array
from deadtokens.specification import Sweep
from deadtokens.summaries import SigmaTotals
from deadtokens.theory import Expectation, expectation
from deadtokens.trials import TrialSpec
from deadtokens.writing import make_folder, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 4  # sigmas of a sweep that have panels of their own
_CURVE_POINTS = 61


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
    elements = [figures.Elements.of(of_sigma) for of_sigma in _some(totals)]
    bands = [ranked(of_sigma, sweep.spec) for of_sigma in _some(partly or totals)]
    drawn = {
        "elements": figures.elements_figure(elements, caption),
        "populations": figures.ranks_figure(bands, caption),
    }
    if len(totals) > 1:
        sigmas = [of_sigma.sigma for of_sigma in totals]
        drawn["sigma"] = figures.curves_figure(
            sigmas, _curves(totals, expected or _expected(sweep, sigmas)), caption
        )
    return [path for name, figure in drawn.items() for path in _save(folder / name, figure)]


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


def ranked(totals: SigmaTotals, spec: TrialSpec) -> figures.Ranked:
    """Populations by rank: the median over trials, and the band from their 5 % to 95 % quantile."""
    low, median, high = (_quantile(totals.ranked, spec, q) for q in (0.05, 0.5, 0.95))
    return figures.Ranked(totals.sigma, spec.ranks, median, low, high)


def _quantile(ranked: Int64Array, spec: TrialSpec, q: float) -> Float64Array:
    """The population in whose bin the quantile over trials lies, at each rank."""
    cumulative = np.cumsum(ranked, axis=1)
    reached = cumulative >= np.maximum(np.ceil(q * cumulative[:, -1:]), 1)
    return np.asarray(spec.population_bins[reached.argmax(axis=1)], dtype=np.float64)


def _curves(totals: Sequence[SigmaTotals], expected: Sequence[Expectation]) -> list[figures.Curve]:
    metrics = {
        "n_unique": "distinct vectors",
        "n_singletons": "singletons",
        "n_black_holes": "black holes",
    }
    grid = np.array([at.sigma for at in expected])
    return [
        figures.Curve(
            label,
            [t.metric(name) for t in totals],
            grid,
            np.array([getattr(at, name) for at in expected]),
        )
        for name, label in metrics.items()
    ]


def _expected(sweep: Sweep, sigmas: Sequence[float]) -> list[Expectation]:
    low, high = min(sigmas), max(sigmas)
    space = np.geomspace if low > 0 else np.linspace
    clouds = (
        Cloud(
            sweep.centroid,
            sigma,
            noise=sweep.noise,
            format=sweep.format,
            intermediate=sweep.intermediate,
        )
        for sigma in space(low, high, _CURVE_POINTS).tolist()
    )
    return [expectation(cloud, sweep.spec.n_tokens) for cloud in clouds]


def _save(stem: Path, figure: Figure) -> list[Path]:
    paths = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    for path in paths:
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        with replacing(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=130, metadata=metadata)
        figure.set_layout_engine(None)  # what was laid out once stays, and costs no second time
    return paths
