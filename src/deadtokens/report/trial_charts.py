"""Histograms: what the trials gave, with the real value marked."""

from __future__ import annotations

import math

import numpy as np

from deadtokens.kernels.types import Float64Array
from deadtokens.report.chartkit import (
    REAL,
    REAL_KEY,
    SYNTHETIC,
    Chart,
    Choice,
    Key,
    Spec,
    layer,
    layered,
    quantitative,
    tooltip,
)
from deadtokens.report.findings import Findings
from deadtokens.report.sweep_charts import sigma_choice, sigma_label, sigmas_to_choose
from deadtokens.report.words import axis_title, figure, label
from deadtokens.statistics import TOPOLOGY
from deadtokens.summaries import SigmaTotals
from deadtokens.trial_tables import INTEGER_COLUMNS
from deadtokens.trials import STATISTICS

_BARS = 40
_SKIPPED = {"n_tokens", "total_population"}  # the same in every trial


def histogram_chart(findings: Findings) -> Chart:
    """Of each metric the histogram over trials, with the real value marked; choose one."""
    shown = sigmas_to_choose(findings)
    metrics = [name for name in STATISTICS if name not in _SKIPPED]
    real = comparable(findings)
    specs: dict[tuple[str, ...], Spec] = {
        (label(name), sigma_label(t.sigma)): _histogram_spec(name, t, real.get(name))
        for name in metrics
        for t in shown
    }
    if len(shown) == 1:
        specs = {key[:1]: spec for key, spec in specs.items()}
    main = shown[0]
    first = [name for name in metrics if np.ptp(main.metric(name)) > 0] or metrics[:1]
    drawn = [(label(name), sigma_label(main.sigma))[: 1 + (len(shown) > 1)] for name in first]
    note = (
        ""
        if len(real) == len(findings.measured or {})
        else " Distances and topology are left unmarked: the real cluster was measured with "
        "another epsilon or touching distance."
    )
    return Chart(
        "histograms",
        "What the trials gave",
        "Trials by value of a metric"
        + (", and where the real cluster lies." if real else ".")
        + note,
        specs,
        choices=(Choice("Metric", tuple(label(name) for name in metrics)), *sigma_choice(shown)),
        drawn=tuple(drawn),
        drawn_note=f"Trials of σ = {figure(main.sigma)}.",
        key=(Key("band", "synthetic", "trials"), *([REAL_KEY] if real else [])),
    )


def comparable(findings: Findings) -> dict[str, float]:
    """The real cluster's metrics that were measured in the units of the trials."""
    real, spec = findings.measured or {}, findings.sweep.spec
    other: list[str] = []
    if not math.isclose(real.get("epsilon", spec.epsilon), spec.epsilon, rel_tol=1e-6):
        other += [name for name in STATISTICS if name.endswith("_l_inf")]
    if not math.isclose(real.get("touching", spec.touching), spec.touching, rel_tol=1e-6):
        other += TOPOLOGY
    return {name: value for name, value in real.items() if name not in other}


def _histogram_spec(name: str, totals: SigmaTotals, real: float | None) -> Spec:
    values = totals.metric(name)
    edges, counts = _bars(values, whole=name in INTEGER_COLUMNS)
    rows = [
        {"low": low, "high": high, "trials": n, "range": _range(low, high, name)}
        for low, high, n in zip(edges, edges[1:], counts, strict=False)
        if n
    ]
    ends = [edges[0], edges[-1], *([real] if real is not None else [])]
    margin = (max(ends) - min(ends)) * 0.04 or 0.5
    scale = {"domain": [min(ends) - margin, max(ends) + margin], "nice": False, "zero": False}
    x = quantitative(
        "low",
        axis_title(name),
        scale=scale,
        axis={"format": ",.6~g", "grid": False, "tickCount": 10},
    )
    layers = [
        layer(
            rows,
            {"type": "rect", "color": SYNTHETIC, "opacity": 0.75, "minBandSize": 1},
            x=x,
            x2={"field": "high"},
            y=quantitative(
                "zero", "trials", axis={"format": ",d", "tickMinStep": 1, "tickCount": 6}
            ),
            y2={"field": "trials"},
            tooltip=tooltip(range=label(name), trials="trials"),
        )
    ]
    layers[0]["transform"] = [{"calculate": "0", "as": "zero"}]
    if real is not None:
        right = real > (max(ends) + min(ends)) / 2
        marked = [{"low": real, "shown": figure(real), "text": f"real: {figure(real)}"}]
        text = {
            "type": "text", "align": "right" if right else "left", "dx": -6 if right else 6,
            "baseline": "bottom", "fontWeight": "bold", "color": "var(--real-ink)", "dy": -4,
        }  # fmt: skip
        rule = {"type": "rule", "color": REAL, "strokeWidth": 2.5, "strokeDash": [6, 3]}
        layers.append(layer(marked, rule, x=x, tooltip=tooltip(shown=f"real {label(name)}")))
        layers.append(layer(marked, text, x=x, y={"value": 0}, text={"field": "text"}))
    return layered(f"Trials by {label(name)} at sigma {totals.sigma:.4g}", 240, layers)


def _bars(values: Float64Array, *, whole: bool) -> tuple[list[float], list[int]]:
    """Edges and heights of a histogram's bars; whole numbers are not cut between."""
    low, high = float(values.min()), float(values.max())
    if whole:
        width = max(1.0, math.ceil((high - low + 1) / _BARS))
        edges = np.arange(low - 0.5, high + 0.5 + width, width)
    elif low == high:
        half = max(abs(low) * 0.01, 1e-9)
        edges = np.array([low - half, low + half])
    else:
        edges = np.linspace(low, high, _BARS + 1)
    counts, _ = np.histogram(values, edges)
    return edges.tolist(), counts.tolist()


def _range(low: float, high: float, name: str) -> str:
    if name in INTEGER_COLUMNS:
        first, last = math.ceil(low), math.floor(high)
        return figure(first) if first == last else f"{figure(first)} to {figure(last)}"
    return f"{figure(low)} to {figure(high)}"
