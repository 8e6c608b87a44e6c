"""A page → one HTML file that loads nothing: charts drawn in advance, and live where scripts run.

Whatever comes from files is text to the template (which escapes it) or JSON with no character that
HTML knows. The page's policy allows the scripts by their digests and nothing else.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.metadata import version
from typing import Final

import jinja2
import vl_convert
from markupsafe import Markup

from deadtokens import __version__
from deadtokens.errors import DeadtokensError, plain
from deadtokens.listening import watched
from deadtokens.report.chartkit import CONFIG, Chart, Spec
from deadtokens.report.opening import Opening
from deadtokens.report.tablekit import Table
from deadtokens.sources.cache import cache_folder, store, stored

_VEGA_LITE: Final = "6.4"
_SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v6.json"
_NO_BREAK: Final = "\N{NO-BREAK SPACE}"
_WIDE, _NARROW, _SMALL = 1000, 330, 320  # outer widths of drawn charts, in pixels
_SMALL_HEIGHT = 130
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Drawn:
    """A chart as the template wants it: drawings in advance, and the data of the live one."""

    chart: Chart
    drawings: tuple[tuple[str, str, Markup], ...]
    data: Markup


@dataclass(frozen=True)
class Page:
    """What stands on a page, from top to bottom.

    Attributes:
        opening: Above the fold.
        charts: In their order; none, and the page carries no chart engine.
        tables: Below them.
        facts: What was run: names and values.
        commands: Lines that make it again.
    """

    opening: Opening
    charts: Sequence[Chart]
    tables: Sequence[Table]
    facts: Sequence[tuple[str, str]]
    commands: Sequence[str]


def render_page(page: Page) -> str:
    """The page as HTML."""
    script = _asset("page.js")
    engine = Markup(_engine() if page.charts else "")
    return _template().render(
        opening=page.opening,
        charts=[_drawn(chart) for chart in watched(page.charts, "charts", len(page.charts))],
        tables=page.tables,
        facts=page.facts,
        commands=page.commands,
        version=__version__,
        style=Markup(_asset("style.css")),
        config=embedded(CONFIG | {"$schema": _SCHEMA}),
        engine=engine,
        script=Markup(script),
        script_sources=" ".join(_digest(content) for content in (engine, script)),
    )


def _drawn(chart: Chart) -> Drawn:
    small = len(chart.drawn) > 1
    widths = {"small": _SMALL} if small else {"wide": _WIDE, "narrow": _NARROW}
    drawings = [
        (kind, key[0] if small else "", _svg(chart, i, kind, width))
        for i, key in enumerate(chart.drawn)
        for kind, width in widths.items()
    ]
    options = [{"key": list(key), "spec": spec} for key, spec in chart.specs.items()]
    return Drawn(chart, tuple(drawings), embedded(options))


def _svg(chart: Chart, index: int, kind: str, width: int) -> Markup:
    spec: Spec = dict(chart.specs[chart.drawn[index]])
    if kind == "small":
        spec["height"] = _SMALL_HEIGHT
    spec |= {"$schema": _SCHEMA, "config": CONFIG, "width": width}
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    drawn = vl_convert.vegalite_to_svg(spec, vl_version=_VEGA_LITE)
    return Markup(_own_ids(drawn, f"{chart.name}-{kind}-{index}"))


def _own_ids(svg: str, prefix: str) -> str:
    """The drawing with ids of its own: Vega counts them on from drawing to drawing."""
    held = list(dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg)))
    own = {name: f"{prefix}-{i}" for i, name in enumerate(held)}
    return re.sub(
        r'(\bid="|url\(#)([^")]+)', lambda match: match[1] + own.get(match[2], match[2]), svg
    )


def embedded(content: object) -> Markup:
    """JSON for a script element: no character that could end it, or that JavaScript splits at."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_ESCAPES))


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    file = resources.files("deadtokens.report") / "page" / name
    return file.read_text(encoding="utf-8").strip()


@cache
def _engine() -> str:
    """Vega, Vega-Lite and Vega-Embed, as one script that sets ``vegaEmbed``.

    It takes a second to make and is always the same, so it is kept in the user's cache, under a
    line with its digest; where nothing can be kept, it is made anew.
    """
    place = (
        cache_folder() / "pages" / f"vega-lite-{_VEGA_LITE}-by-{version('vl-convert-python')}.js"
    )
    with contextlib.suppress(DeadtokensError):
        digest, _, kept = (stored(place) or b"").decode(errors="replace").partition("\n")
        if digest == _digest(kept):
            return kept
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", _VEGA_LITE)
    script = bundle.replace("</script", r"<\/script").replace("<!--", r"<\!--").strip()
    with contextlib.suppress(DeadtokensError):
        store(place, f"{_digest(script)}\n{script}".encode())
    return script


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(_asset("page.html"))


def _visible(value: object) -> object:
    """Text without characters that cannot be seen, but for the page's own no-break spaces."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _NO_BREAK.join(map(plain, value.split(_NO_BREAK)))
