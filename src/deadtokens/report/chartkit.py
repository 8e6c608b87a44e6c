"""What all charts share: colours by role, axes, and Vega-Lite specifications as plain dicts.

Colours are CSS variables, so that a chart follows the page's theme, drawn in advance or live.
A specification has no width; whoever draws it sets one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from deadtokens.report.words import scaled_power

Spec: TypeAlias = dict[str, Any]
Row: TypeAlias = Mapping[str, object]

REAL: Final = "var(--real)"
SYNTHETIC: Final = "var(--synthetic)"
MUTED: Final = "var(--muted)"
PAGE: Final = "var(--page)"
INK: Final = "currentColor"

CONFIG: Final[Spec] = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "domainColor": "var(--rule)",
        "tickColor": "var(--rule)",
        "gridColor": "var(--grid)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelOverlap": "greedy",
        "labelSeparation": 10,  # the reader's font may be wider than the one drawn with
    },
    "text": {"color": "currentColor", "fontSize": 12},
    "legend": {"disable": True},
    "aria": True,
}


@dataclass(frozen=True)
class Choice:
    """Something that the reader of a chart chooses: a select box."""

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Key:
    """An entry of a chart's legend; ``kind`` and ``role`` are the page's classes for its sign."""

    kind: str
    role: str
    text: str


@dataclass(frozen=True)
class Chart:
    """A figure of the page.

    Attributes:
        name: Its id.
        title: Its heading.
        caption: What to see.
        specs: Specifications by the options chosen, the first shown first.
        choices: What can be chosen; none where there is one specification.
        drawn: The keys of ``specs`` that are drawn in advance, for readers without scripts.
        drawn_note: What these are, where their titles do not say so.
        key: The legend.
    """

    name: str
    title: str
    caption: str
    specs: Mapping[tuple[str, ...], Spec]
    choices: tuple[Choice, ...] = ()
    drawn: tuple[tuple[str, ...], ...] = ()
    drawn_note: str = ""
    key: tuple[Key, ...] = field(default=())


REAL_KEY: Final = Key("dash", "real", "real cluster")


def layered(description: str, height: int | Spec, layers: Sequence[Spec], **more: Any) -> Spec:
    """A specification of layers over one another."""
    return {"description": description, "height": height, "layer": [*layers], **more}


def layer(rows: Iterable[Row], mark: Spec, **encoding: Any) -> Spec:
    """A layer with rows of its own."""
    return {"data": {"values": [dict(row) for row in rows]}, "mark": mark, "encoding": encoding}


def tooltip(**fields: str) -> list[Spec]:
    """What hovering shows: titles by field."""
    return [{"field": name, "title": title} for name, title in fields.items()]


def quantitative(field_name: str, title: str | None = None, **more: Any) -> Spec:
    """An encoding by a number."""
    encoding: Spec = {"field": field_name, "type": "quantitative"}
    if title is not None:
        encoding["title"] = title
    return encoding | more


def log_axis(low: float, high: float, **axis: Any) -> Spec:
    """Scale and axis of a logarithmic encoding: labelled at powers of ten, or 1, 2, 5 if few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = [k for k in range(first, last + 1) if low <= 10.0**k <= high]
    if len(decades) >= 3:
        shown = decades[:: math.ceil(len(decades) / 9)]
        marks = [(1, k) for k in shown]
    else:
        marks = [(f, k) for k in range(first, last + 1) for f in (1, 2, 5)]
        marks = [(f, k) for f, k in marks if low <= f * 10.0**k <= high]
    # Labels are looked up by what the axis calls a number: 2e-8, 1e+3.
    labels = {f"{f}e{k:+d}": scaled_power(f, k) for f, k in marks}
    literal = json.dumps(labels, ensure_ascii=False)
    return {
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {
            "values": [float(f"{f}e{k}") for f, k in marks],
            "labelExpr": f"({literal})[format(datum.value, '.0e')]",
            **axis,
        },
    }
