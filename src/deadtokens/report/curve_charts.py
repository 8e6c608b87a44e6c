"""Curves over sigma: theory, trials, the real value and the fitted sigma."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from deadtokens.report.chartkit import (
    INK,
    MUTED,
    PAGE,
    REAL,
    REAL_KEY,
    SYNTHETIC,
    Chart,
    Choice,
    Key,
    Row,
    Spec,
    layer,
    layered,
    log_axis,
    quantitative,
    tooltip,
)
from deadtokens.report.findings import Findings, Fit
from deadtokens.report.trial_charts import comparable
from deadtokens.report.words import axis_title, figure, label
from deadtokens.summaries import SigmaTotals
from deadtokens.trial_tables import summary_of

_METRICS = (
    "n_unique", "n_black_holes", "n_singletons", "black_hole_population", "largest_bh",
    "gini_coefficient", "max_l_inf", "n_components", "global_density",
)  # fmt: skip
_DRAWN = 6
_TICKS_AT_MOST = 9
_LINEAR = 50.0  # a largest value up to which the axis is linear


def curves_chart(findings: Findings) -> Chart | None:
    """Metrics against sigma; choose one. None where there is one sigma and no theory."""
    real = comparable(findings)
    totals = [t for t in findings.totals if t.sigma > 0]
    specs: dict[tuple[str, ...], Spec] = {}
    for name in _METRICS:
        theory = _theory_rows(findings.theory, name)
        if totals and (len(totals) > 1 or len(theory) > 1):
            specs[(label(name),)] = _spec(name, totals, theory, real.get(name), findings.fit)
    if not specs:
        return None
    return Chart(
        "curves",
        "Against sigma",
        "Where a curve crosses the real value, noise of that width would make as many. One sigma "
        "has to do for all metrics. Bars: the middle half of the trials, and all of them.",
        specs,
        choices=(Choice("Metric", tuple(key[0] for key in specs)),),
        drawn=tuple(specs)[:_DRAWN],
        key=(
            Key("dot", "synthetic", "trials: median"),
            *([Key("line", "ink", "theory")] if findings.theory else []),
            *([REAL_KEY] if real else []),
            *([Key("band", "muted", "fitted σ, interval")] if findings.fit else []),
        ),
    )


def _theory_rows(theory: Sequence[Mapping[str, float | None]], name: str) -> list[Row]:
    rows: list[Row] = []
    for line in theory:
        sigma, value, error = line["sigma"], line.get(name), line.get(f"{name}_se")
        if sigma and sigma > 0 and value is not None:
            shown = f"{figure(value)} ± {figure(error, 2)}" if error else figure(value)
            rows.append({"sigma": sigma, "value": value, "at": figure(sigma), "shown": shown})
    return rows


def _trial_rows(totals: Sequence[SigmaTotals], name: str) -> list[Row]:
    rows: list[Row] = []
    for t in totals:
        mean, _, low, q25, median, q75, high = summary_of(t.metric(name))
        shown = f"{figure(median)} ({figure(low)} to {figure(high)})"
        rows.append(
            {"sigma": t.sigma, "at": figure(t.sigma), "shown": shown, "mean": figure(mean)}
            | {"low": low, "q25": q25, "median": median, "q75": q75, "high": high}
        )
    return rows


def _spec(
    name: str,
    totals: Sequence[SigmaTotals],
    theory: Sequence[Row],
    real: float | None,
    fit: Fit | None,
) -> Spec:
    trials = _trial_rows(totals, name)
    fitted = [s for s in (fit.low, fit.sigma, fit.high) if s and s > 0] if fit else []
    sigmas = [*_numbers(trials, "sigma"), *_numbers(theory, "sigma"), *fitted]
    x_axis = log_axis(min(sigmas) / 1.15, max(sigmas) * 1.15, grid=False)
    x = quantitative("sigma", "σ, standard deviation of the noise", **x_axis)
    top = max([*_numbers(trials, "high"), *_numbers(theory, "value"), real or 0.0])
    y = quantitative("value", axis_title(name), **_value_axis(top))
    layers = [
        *(_fit_layers(fit, x) if fit is not None and fit.sigma > 0 else []),
        *(_theory_layers(theory, x, y) if theory else []),
        *_trial_layers(trials, x, y),
    ]
    if real is not None:
        medians = _numbers(trials, "median")
        ends = [math.log1p(abs(medians[i] - real)) for i in (0, -1)]
        layers += _real_layers(real, y, left=ends[0] > ends[1])
    return layered(f"{label(name)} against sigma", 300, layers)


def _numbers(rows: Sequence[Row], name: str) -> list[float]:
    return [value for row in rows if isinstance(value := row[name], int | float)]


def _value_axis(top: float) -> Spec:
    if top <= _LINEAR:
        return {"scale": {"nice": True, "zero": True}, "axis": {"format": ",.6~g"}}
    end = top * 1.25
    ticks = [0, *(f * 10**k for k in range(10) for f in (1, 2, 5) if f * 10**k <= end)]
    if len(ticks) > _TICKS_AT_MOST:
        ticks = [0, *(10**k for k in range(10) if 10**k <= end)]
    scale = {"type": "symlog", "constant": 2, "domain": [0, end], "nice": False}
    return {"scale": scale, "axis": {"values": ticks, "format": ",d"}}


def _fit_layers(fit: Fit, x: Spec) -> list[Spec]:
    fitted = [{"sigma": fit.sigma, "shown": figure(fit.sigma)}]
    line = {"type": "rule", "color": MUTED, "strokeWidth": 1.5}
    layers = [layer(fitted, line, x=x, tooltip=tooltip(shown="fitted σ"))]
    if fit.low and fit.high:
        band = {"type": "rect", "color": MUTED, "opacity": 0.22}
        span = [{"sigma": fit.low, "to": fit.high}]
        layers.insert(0, layer(span, band, x=x, x2={"field": "to"}))
    return layers


def _theory_layers(theory: Sequence[Row], x: Spec, y: Spec) -> list[Spec]:
    line = {"type": "line", "color": INK, "strokeWidth": 1.5, "clip": True}
    unseen = {"type": "point", "filled": True, "size": 180, "opacity": 0}  # easy to hover
    hover = tooltip(at="σ", shown="theory")
    return [layer(theory, line, x=x, y=y), layer(theory, unseen, x=x, y=y, tooltip=hover)]


def _trial_layers(trials: Sequence[Row], x: Spec, y: Spec) -> list[Spec]:
    thin = {"type": "rule", "color": SYNTHETIC, "strokeWidth": 1.5}
    thick = {"type": "rule", "color": SYNTHETIC, "strokeWidth": 5}
    dot = {"type": "point", "filled": True, "color": SYNTHETIC, "opacity": 1, "size": 70}
    hover = tooltip(at="σ", shown="trials: median (range)", mean="mean")
    return [
        layer(trials, thin, x=x, y=y | {"field": "low"}, y2={"field": "high"}),
        layer(trials, thick, x=x, y=y | {"field": "q25"}, y2={"field": "q75"}),
        layer(trials, dot, x=x, y=y | {"field": "median"}, tooltip=hover),
    ]


def _real_layers(real: float, y: Spec, *, left: bool) -> list[Spec]:
    """The real value, named at the end where the trials are farther from it."""
    marked = [{"value": real, "shown": figure(real), "text": f"real: {figure(real)}"}]
    line = {"type": "rule", "color": REAL, "strokeWidth": 2.5, "strokeDash": [6, 3]}
    text = {
        "type": "text",
        "align": "left" if left else "right",
        "baseline": "bottom",
        "dx": 5 if left else -5,
        "dy": -5,
        "fontWeight": "bold",
    }
    halo = {"color": PAGE, "stroke": PAGE, "strokeWidth": 4}  # readable where it crosses a curve
    place: Spec = {"x": {"value": 0 if left else "width"}, "y": y, "text": {"field": "text"}}
    return [
        layer(marked, line, y=y, tooltip=tooltip(shown="real value")),
        layer(marked, text | halo, **place),
        layer(marked, text | {"color": "var(--real-ink)"}, **place),
    ]
