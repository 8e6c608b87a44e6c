"""Populations by rank and z-scores: the real cluster against the trials of one sigma."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deadtokens.pictures import ranked
from deadtokens.report.chartkit import (
    INK,
    MUTED,
    PAGE,
    REAL,
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
from deadtokens.report.findings import JOINT, Compared, Findings
from deadtokens.report.words import figure, label, p_value
from deadtokens.summaries import SigmaTotals

_SIGMAS_TO_CHOOSE = 6
_RANKS_DRAWN = 300
_NO_TOKEN = 0.6  # where a population of none is drawn on a logarithmic axis


def ranks_chart(findings: Findings) -> Chart:
    """Populations by rank, the largest first: the real cluster over the band of the trials."""
    real = _real_ranks(findings)
    shown = sigmas_to_choose(findings)
    specs: dict[tuple[str, ...], Spec] = {
        (sigma_label(t.sigma),): _ranks_spec(t, findings, real) for t in shown
    }
    percent = "The band holds the middle 90 % of the trials at each rank, the line is their median."
    seen = (
        " Where the story fits, the real points lie in the band. Below 1: no token at that rank."
        if real
        else " Below 1: no token at that rank."
    )
    keys = [Key("line", "synthetic", "median trial"), Key("band", "synthetic", "90 % of trials")]
    return Chart(
        "populations",
        "Populations by rank",
        percent + seen,
        specs,
        choices=sigma_choice(shown),
        drawn=((sigma_label(shown[0].sigma),),),
        key=(*([Key("dot", "real", "real cluster")] if real else []), *keys),
    )


def _real_ranks(findings: Findings) -> list[Row]:
    if findings.cluster is None:
        return []
    ordered = np.sort(findings.cluster.populations)[::-1]
    return [{"rank": rank, "tokens": int(ordered[rank - 1])} for rank in _ranks(ordered.size)]


def _ranks(n: int) -> list[int]:
    """Every rank, or where there are many as many as can be told apart."""
    if n <= _RANKS_DRAWN:
        return list(range(1, n + 1))
    spaced = np.geomspace(1, n, _RANKS_DRAWN).round().astype(int).tolist()
    return sorted({*range(1, 51), *spaced})


def _ranks_spec(totals: SigmaTotals, findings: Findings, real: Sequence[Row]) -> Spec:
    spec = findings.sweep.spec
    band = ranked(totals, spec)
    present = band.high > 0
    rows = [
        {
            "rank": int(rank),
            "median": max(float(median), _NO_TOKEN),
            "low": max(float(low), _NO_TOKEN),
            "high": float(high),
            "shown": f"{figure(float(median))} ({figure(float(low))} to {figure(float(high))})",
        }
        for rank, median, low, high in zip(
            band.ranks[present], band.median[present], band.low[present], band.high[present],
            strict=True,
        )
    ]  # fmt: skip
    x_end = max([2, *band.ranks[present].tolist(), *(int(str(row["rank"])) for row in real)])
    top = max([2, *band.high.tolist(), *(int(str(row["tokens"])) for row in real)])
    x = quantitative("rank", "rank", **log_axis(0.9, x_end * 1.1))
    y_title = "tokens that hold the vector"
    y_scale = log_axis(_NO_TOKEN, top * 1.4)
    hover = tooltip(rank="rank", shown="trials: median (90 %)")
    layers = [
        layer(
            rows,
            {"type": "area", "color": SYNTHETIC, "opacity": 0.32, "interpolate": "step"},
            x=x,
            y=quantitative("low", y_title, **y_scale),
            y2={"field": "high"},
        ),
        layer(
            rows,
            {"type": "line", "color": SYNTHETIC, "strokeWidth": 2, "interpolate": "step"},
            x=x,
            y=quantitative("median", y_title, **y_scale),
        ),
        layer(  # wide and unseen, so that hovering is easy
            rows,
            {"type": "point", "size": 180, "opacity": 0, "filled": True},
            x=x,
            y=quantitative("median", y_title, **y_scale),
            tooltip=hover,
        ),
    ]
    if real:
        layers.append(
            layer(
                real,
                {"type": "point", "filled": True, "color": REAL, "opacity": 1, "size": 40},
                x=x,
                y=quantitative("tokens", y_title, **y_scale),
                tooltip=tooltip(rank="rank", tokens="real tokens"),
            )
        )
    return layered(f"Populations by rank at sigma {totals.sigma:.4g}", 320, layers)


def sigmas_to_choose(findings: Findings) -> list[SigmaTotals]:
    """At most six of the sigmas, the one that the page opens with first."""
    totals = findings.totals
    evenly = np.linspace(0, len(totals) - 1, min(_SIGMAS_TO_CHOOSE, len(totals)))
    others = [totals[i] for i in np.unique(evenly.round().astype(int)).tolist()]
    return [findings.main, *(t for t in others if t.sigma != findings.main.sigma)]


def sigma_label(sigma: float) -> str:
    """A sigma as an option of a select box."""
    return figure(sigma)


def sigma_choice(shown: Sequence[SigmaTotals]) -> tuple[Choice, ...]:
    """The select box of sigmas, where there are several."""
    if len(shown) == 1:
        return ()
    return (Choice("σ of the trials", tuple(sigma_label(t.sigma) for t in shown)),)


# --- z-scores ---

_BELOW = "never seen, below"
_LOOKS = {
    "consistent": ("circle", SYNTHETIC),
    "mild": ("diamond", INK),
    "rejected": ("square", REAL),
    "exact": ("circle", MUTED),
    "never seen": ("triangle-right", REAL),
    _BELOW: ("triangle-left", REAL),
}
_TYPICAL = 2.0
_LINEAR = 8.0  # a largest z-score up to which the axis is linear
_NOT_SCORED = {JOINT, "n_tokens", "total_population"}  # the last two are given


def z_chart(findings: Findings) -> Chart | None:
    """A line per metric: its z-score, with the p-value beside it."""
    lines = [
        line
        for line in findings.compared_at(findings.main.sigma)
        if line.verdict in _LOOKS and line.metric not in _NOT_SCORED
    ]
    if not lines:
        return None
    return Chart(
        "scores",
        "Every metric at once",
        "How many standard deviations of the trials the real cluster lies from their mean, at "
        f"σ = {figure(findings.main.sigma)}; right, the p-value. Shaded: within 2 of the mean. A "
        "triangle at the edge is a value that no trial had while all trials agreed, so that no "
        "z-score exists.",
        {(): _z_spec(lines)},
        drawn=((),),
        key=(
            Key("dot", "synthetic", "consistent"),
            Key("diamond", "ink", "mild"),
            Key("square", "real", "rejected"),
            Key("triangle", "real", "never seen"),
            Key("ring", "muted", "exact: as in every trial"),
        ),
    )


def _z_spec(lines: Sequence[Compared]) -> Spec:
    largest = max((abs(line.z) for line in lines if line.z is not None), default=0.0)
    edge = max(5.0, largest * 1.25)
    rows = [
        {
            "metric": label(line.metric),
            "z": _place(line, edge),
            "score": figure(line.z, 3),
            "p": p_value(line.p) if line.p is not None else "",
            "holm": p_value(line.p_holm),
            "verdict": line.verdict,
            "look": _look(line),
            "real": figure(line.observed),
            "trials": f"{figure(line.mean)} ± {figure(line.std, 2)}",
            "range": f"{figure(line.low)} to {figure(line.high)}",
        }
        for line in lines
    ]
    x = quantitative("z", "z-score", **_z_axis(edge))
    y: Spec = {
        "field": "metric",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {"domain": False, "ticks": False, "labelLimit": 190, "grid": True},
        "scale": {"paddingOuter": 0.4},
    }
    hover = tooltip(
        metric="metric", real="real", trials="trials", range="range of trials", score="z-score",
        p="p-value", holm="p, Holm", verdict="verdict",
    )  # fmt: skip
    domain, looks = list(_LOOKS), list(_LOOKS.values())
    shape = {"domain": domain, "range": [look[0] for look in looks]}
    colour = {"domain": domain, "range": [look[1] for look in looks]}
    look = {"field": "look", "type": "nominal"}
    return layered(
        "z-scores of the real cluster by metric",
        24 * len(rows) + 12,
        [
            layer(
                [{"low": -_TYPICAL, "high": _TYPICAL}],
                {"type": "rect", "color": SYNTHETIC, "opacity": 0.14},
                x=x | {"field": "low"},
                x2={"field": "high"},
            ),
            layer(
                rows,
                {"type": "rule", "color": MUTED, "strokeWidth": 1.5},
                x=x,
                x2={"datum": 0},
                y=y,
            ),
            layer(
                rows,
                {"type": "point", "size": 95, "opacity": 1, "strokeWidth": 2},
                x=x,
                y=y,
                shape=look | {"scale": shape},
                stroke=look | {"scale": colour},
                fill=look | {"scale": colour | {"range": [*colour["range"][:3], PAGE, REAL, REAL]}},
                tooltip=hover,
            ),
            layer(
                [{"text": "p"}],
                {"type": "text", "align": "left", "fontStyle": "italic"},
                x={"value": {"expr": "width + 10"}},
                y={"value": -6},
                text={"field": "text"},
            ),
            layer(
                rows,
                {"type": "text", "align": "left", "baseline": "middle", "fontSize": 12},
                x={"value": {"expr": "width + 10"}},
                y=y,
                text={"field": "p", "type": "nominal"},
            ),
        ],
        padding={"left": 16, "right": 16, "top": 5, "bottom": 5},
    )


def _look(line: Compared) -> str:
    below = line.verdict == "never seen" and (line.observed or 0.0) < (line.mean or 0.0)
    return _BELOW if below else line.verdict


def _z_axis(edge: float) -> Spec:
    if edge <= _LINEAR:
        scale: Spec = {"domain": [-edge, edge], "nice": False}
        return {"scale": scale, "axis": {"format": ",d", "tickMinStep": 1}}
    positive = [t for t in (3, 10, 30, 100, 1000, 10_000) if t <= edge]
    return {
        "scale": {"type": "symlog", "constant": 2, "domain": [-edge, edge], "nice": False},
        "axis": {"values": [*(-t for t in positive), 0, *positive], "format": ",d"},
    }


def _place(line: Compared, edge: float) -> float:
    if line.z is not None:
        return line.z
    if line.verdict != "never seen" or line.observed is None or line.mean is None:
        return 0.0
    return math.copysign(edge, line.observed - line.mean)
