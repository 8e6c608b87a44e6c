"""Charts of the real cluster by itself: its lattice, its components, its touching graph."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deadtokens.report.chartkit import (
    MUTED,
    PAGE,
    REAL,
    Chart,
    Key,
    Row,
    Spec,
    layer,
    layered,
    log_axis,
    quantitative,
    tooltip,
)
from deadtokens.report.findings import Cluster, Findings
from deadtokens.report.layout import nearest_links, positions, touching_pairs
from deadtokens.report.words import count, figure

_DIMENSIONS_DRAWN = 240
_SKIPPED_DRAWN = 24  # cells between two occupied ones, up to which those skipped are marked
_VECTORS_DRAWN = 300
_EDGES_DRAWN = 2500
_WIDTH, _HEIGHT = 1000.0, 460.0
_HEIGHT_AT_MOST = 12  # lattice steps, up to which each has a tick


# --- the lattice ---


def lattice_chart(cluster: Cluster) -> Chart | None:
    """Cells that the vectors occupy in each dimension that varies, as steps from the fullest."""
    columns: dict[int, list[tuple[int, float, int]]] = {}
    for dimension, ordinal, value, rows in cluster.cells:
        columns.setdefault(dimension, []).append((ordinal, value, rows))
    if not columns:
        return None
    by_range = sorted(columns, key=lambda k: (_span(columns[k]), k))
    shown = by_range[-_DIMENSIONS_DRAWN:]
    dots, lines, gaps = [], [], []
    for x, dimension in enumerate(shown):
        cells = columns[dimension]
        fullest = max(cells, key=lambda cell: (cell[2], -cell[0]))[0]
        steps = [ordinal - fullest for ordinal, _, _ in cells]
        sign = -1 if abs(min(steps)) > max(steps) else 1
        lines.append({"x": x, "low": min(sign * s for s in steps)}
                     | {"high": max(sign * s for s in steps)})  # fmt: skip
        for step, (_, value, rows) in zip(steps, cells, strict=True):
            dots.append(
                {"x": x, "step": sign * step, "rows": rows, "dimension": dimension}
                | {"value": figure(value), "steps": figure(step)}
            )
        if _span(cells) <= _SKIPPED_DRAWN:
            empty = set(range(min(steps), max(steps) + 1)) - set(steps)
            gaps += [{"x": x, "step": sign * s, "dimension": dimension} for s in sorted(empty)]
    caption = (
        f"A column per dimension that varies{_of_all(len(shown), len(by_range))}, by range; a dot "
        "per number that rows hold there, its area by how many. Noise of one width fills "
        "neighbouring cells"
        + ("; a ring is a cell that nobody holds between two that are." if gaps else ".")
    )
    spec = _lattice_spec(dots, lines, gaps, cluster)
    keys = [Key("dot", "real", "rows that hold the number")]
    keys += [Key("ring", "ink", "skipped cell")] if gaps else []
    return Chart("lattice", "On the lattice", caption, {(): spec}, drawn=((),), key=tuple(keys))


def _span(cells: Sequence[tuple[int, float, int]]) -> int:
    return max(cell[0] for cell in cells) - min(cell[0] for cell in cells)


def _of_all(shown: int, there: int) -> str:
    return "" if shown == there else f" (the {shown:,} widest of {there:,})"


def _lattice_spec(
    dots: Sequence[Row],
    lines: list[dict[str, int]],
    gaps: Sequence[dict[str, int]],
    cluster: Cluster,
) -> Spec:
    n = len(lines)
    low, high = min(line["low"] for line in lines), max(line["high"] for line in lines)
    far = max(-low, high)
    x = quantitative(
        "x",
        f"{count(n, 'dimension')}, by range",
        scale={"domain": [-0.7, n - 0.3], "nice": False},
        axis={"labels": False, "ticks": False, "grid": False},
    )
    if far <= _HEIGHT_AT_MOST:
        margin = 0.6
        step = max(1, math.ceil((high - low) / 7))
        ticks = list(range(math.ceil(low / step) * step, high + 1, step))
        scale: Spec = {"domain": [low - margin, high + margin], "nice": False}
    else:
        powers = [10**k for k in range(6) if 10**k <= far]
        ticks = [*(-p for p in powers if -low >= p), 0, *(p for p in powers if high >= p)]
        domain = [low * 1.5 - 0.6, high * 1.5 + 0.6]
        scale = {"type": "symlog", "constant": 1, "domain": domain, "nice": False}

    def y(field: str) -> Spec:
        axis = {"values": ticks, "format": ",d"}
        return quantitative(field, "lattice steps from the fullest cell", scale=scale, axis=axis)

    # Dots of neighbouring dimensions do not meet, however narrow the page.
    largest = f"min(640, 0.66 * pow(width / {n + 1}, 2))"
    size = {
        "field": "rows",
        "type": "quantitative",
        "scale": {
            "type": "sqrt",
            "domain": [0, int(cluster.populations.sum())],
            "range": [{"expr": f"min(16, {largest} / 2)"}, {"expr": largest}],
        },
    }
    thread = {"type": "rule", "color": MUTED, "opacity": 0.55}
    dot = {"type": "point", "filled": True, "color": REAL, "opacity": 1}
    ring = {"type": "point", "size": 34, "stroke": "currentColor", "fill": PAGE, "opacity": 1}
    hover = tooltip(dimension="dimension", value="number", rows="rows", steps="steps")
    layers = [
        layer(lines, thread, x=x, y=y("low"), y2={"field": "high"}),
        layer(dots, dot, x=x, y=y("step"), size=size, tooltip=hover),
    ]
    if gaps:
        skipped = [gap | {"shown": "held by no row"} for gap in gaps]
        hover = tooltip(dimension="dimension", shown="cell")
        layers.append(layer(skipped, ring, x=x, y=y("step"), tooltip=hover))
    height = min(320, 110 + 60 * (high - low))
    return layered("Occupied cells by dimension", height, layers)


# --- components against distance ---


def components_chart(findings: Findings, cluster: Cluster) -> Chart | None:
    """Components of the graph in which vectors up to a distance touch."""
    steps = [(distance, n) for distance, n in cluster.thresholds if distance > 0]
    if not steps:
        return None
    start = max([n for distance, n in cluster.thresholds if distance == 0], default=steps[0][1])
    touching = (findings.measured or {}).get("touching", findings.sweep.spec.touching)
    first, last = steps[0][0] / 3, max(steps[-1][0], touching) * 2
    path = [(first, start), *steps, (last, steps[-1][1])]
    rows = [{"distance": d, "components": n, "at": figure(d), "shown": figure(n)} for d, n in path]
    x = quantitative(
        "distance", "L∞ distance up to which vectors touch", **log_axis(first, last, grid=False)
    )
    y_axis: Spec = {"format": ",d", "tickMinStep": 1}
    y = quantitative("components", "components", scale={"zero": True}, axis=y_axis)
    line = {"type": "line", "interpolate": "step-after", "color": REAL, "strokeWidth": 2}
    dot = {"type": "point", "filled": True, "size": 45, "color": REAL, "opacity": 1}
    rule = {"type": "rule", "color": "currentColor", "strokeDash": [5, 4], "strokeWidth": 1.5}
    right = touching * touching > first * last  # beyond the middle of the axis
    text = {"type": "text", "align": "right" if right else "left", "baseline": "bottom"}
    threshold = [{"distance": touching, "shown": figure(touching), "text": "touching distance"}]
    hover = tooltip(at="distance", shown="components")
    spec = layered(
        "Components against distance",
        260,
        [
            layer(rows, line, x=x, y=y),
            layer(rows[1:-1], dot, x=x, y=y, tooltip=hover),
            layer(threshold, rule, x=x, tooltip=tooltip(shown="touching distance")),
            layer(threshold, text, x=x, y={"value": -5}, text={"field": "text"}),
        ],
    )
    caption = (
        "How the cluster falls apart as the distance that counts as touching shrinks. A long flat "
        "stretch is a gap between scales; the dashed line is the distance that was used."
    )
    return Chart("components", "Holding together", caption, {(): spec}, drawn=((),))


# --- the touching graph ---


def graph_chart(findings: Findings, cluster: Cluster) -> Chart | None:
    """The touching graph: a dot per vector, a line per pair that touches."""
    if cluster.l_inf is None or not cluster.populations.size:
        return None
    touching = (findings.measured or {}).get("touching", findings.sweep.spec.touching)
    largest = np.argsort(-cluster.populations, kind="stable")[:_VECTORS_DRAWN]
    l_inf = cluster.l_inf[np.ix_(largest, largest)]
    populations = cluster.populations[largest]
    area = 30 + 1500 * populations / max(60, int(populations.max()))
    places = positions(l_inf, np.sqrt(area / math.pi), _WIDTH, _HEIGHT)
    touch = touching_pairs(l_inf, touching)
    drawn = touch if len(touch) <= _EDGES_DRAWN else nearest_links(l_inf, touching)
    degrees = np.bincount(touch.ravel(), minlength=len(largest))
    nodes = [
        {
            "x": float(places[i, 0]),
            "y": float(places[i, 1]),
            "area": float(area[i].round(1)),
            "rows": int(populations[i]),
            "rank": i + 1,
            "touches": int(degrees[i]),
            "kind": "black hole" if populations[i] > 1 else "singleton",
        }
        | ({} if cluster.first_rows is None else {"row": int(cluster.first_rows[largest[i]])})
        for i in range(len(largest))
    ]
    edges = [
        {"x": nodes[a]["x"], "y": nodes[a]["y"], "x2": nodes[b]["x"], "y2": nodes[b]["y"]}
        for a, b in drawn.tolist()
    ]
    return Chart(
        "graph",
        "Which vectors touch",
        _graph_caption(cluster, len(largest), len(touch), len(drawn)),
        {(): _graph_spec(nodes, edges)},
        drawn=((),),
        key=(
            Key("dot", "real", "black hole, area by rows"),
            Key("ring", "ink", "singleton"),
            Key("line", "muted", "touching"),
        ),
    )


def _graph_caption(cluster: Cluster, shown: int, touch: int, drawn: int) -> str:
    there = cluster.populations.size
    which = f"All {there:,} vectors" if shown == there else (
        f"The {shown:,} fullest of {there:,} vectors"
    )  # fmt: skip
    possible = shown * (shown - 1) // 2
    if touch == possible:
        edges = f"All {count(touch, 'pair')} touch"
    else:
        edges = f"{touch:,} of their {count(possible, 'pair')} touch"
    if drawn < touch:
        edges += f"; drawn are the {drawn:,} shortest links that hold them together"
    return (
        f"{which}; near ones are drawn near, as well as two dimensions can show distances on a "
        f"logarithmic scale: the axes have no unit. {edges}."
    )


def _graph_spec(nodes: Sequence[Row], edges: Sequence[Row]) -> Spec:
    x = quantitative("x", scale={"domain": [0, _WIDTH], "nice": False}, axis=None)
    y = quantitative("y", scale={"domain": [0, _HEIGHT], "nice": False}, axis=None)
    hover = {"rank": "rank", "rows": "rows", "touches": "vectors touched", "kind": "kind"}
    if nodes and "row" in nodes[0]:
        hover["row"] = "first row"
    opacity = min(0.8, 0.25 + 60 / (1 + len(edges)))
    is_hole = {"field": "kind", "type": "nominal"}
    kinds = ["black hole", "singleton"]
    link = {"type": "rule", "color": MUTED, "opacity": opacity}
    dot = {"type": "point", "opacity": 1, "strokeWidth": 1.5, "shape": "circle"}
    widest = max(float(str(node["area"])) for node in nodes)
    shrunk = {"expr": f"{widest} * min(1, width / {_WIDTH * 0.7})"}
    size = {
        "field": "area",
        "type": "quantitative",
        "scale": {"type": "linear", "domain": [0, widest], "range": [0, shrunk], "zero": True},
    }
    fill = is_hole | {"scale": {"domain": kinds, "range": [REAL, PAGE]}}
    stroke = is_hole | {"scale": {"domain": kinds, "range": [PAGE, "currentColor"]}}
    return layered(
        "The touching graph",
        int(_HEIGHT),
        [
            layer(edges, link, x=x, y=y, x2={"field": "x2"}, y2={"field": "y2"}),
            layer(
                nodes, dot, x=x, y=y, size=size, fill=fill, stroke=stroke, tooltip=tooltip(**hover)
            ),
        ],
    )
