"""Findings → one HTML file that loads nothing: charts drawn in advance, and live where scripts run.

Whatever comes from files is text to the template (which escapes it) or JSON with no character that
HTML knows. The page's policy allows the scripts by their digests and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

import jinja2
import vl_convert
from markupsafe import Markup

from deadtokens import __version__
from deadtokens.report.chartkit import CONFIG, Chart, Spec
from deadtokens.report.cluster_charts import components_chart, graph_chart, lattice_chart
from deadtokens.report.curve_charts import curves_chart
from deadtokens.report.findings import Findings, gather
from deadtokens.report.opening import opening
from deadtokens.report.sweep_charts import ranks_chart, z_chart
from deadtokens.report.tables import commands, facts, tables
from deadtokens.report.trial_charts import histogram_chart
from deadtokens.writing import replacing

_VEGA_LITE: Final = "6.4"
_SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v6.json"
_WIDE, _NARROW, _SMALL = 1000, 330, 320  # outer widths of drawn charts, in pixels
_SMALL_HEIGHT = 130
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Drawn:
    """A chart as the template wants it: drawings in advance, and the data of the live one."""

    chart: Chart
    drawings: tuple[tuple[str, str, Markup], ...]
    data: Markup


def write_report(path: Path, run: Path, measured: Path | None = None) -> Findings:
    """Write the page about a run folder; returns what it shows.

    Args:
        path: The HTML file.
        run: The run folder.
        measured: The real cluster's row of statistics; the folder's measured.csv by default.

    Raises:
        SourceError: It is no run folder, or a file there is damaged.
        SelectionError: It holds no trials yet.
        OutputError: The file cannot be written.
    """
    findings = gather(run, measured)
    with replacing(path) as file:
        file.write(render(findings).encode())
    return findings


def render(findings: Findings) -> str:
    """The page as HTML."""
    shown = charts(findings)
    script = _script()
    engine = Markup(_engine())
    return _template().render(
        opening=opening(findings),
        charts=[_drawn(chart) for chart in shown],
        tables=tables(findings),
        facts=list(facts(findings)),
        commands=commands(findings),
        version=__version__,
        style=Markup(_asset("style.css")),
        config=embedded(CONFIG | {"$schema": _SCHEMA}),
        engine=engine,
        script=Markup(script),
        script_sources=" ".join(_digest(content) for content in (engine, script)),
    )


def charts(findings: Findings) -> list[Chart]:
    """The charts that there is something to draw in, in the page's order."""
    cluster = findings.cluster
    found = [
        ranks_chart(findings),
        z_chart(findings),
        histogram_chart(findings),
        curves_chart(findings),
        lattice_chart(cluster) if cluster else None,
        components_chart(findings, cluster) if cluster else None,
        graph_chart(findings, cluster) if cluster else None,
    ]
    return [chart for chart in found if chart is not None]


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


def _script() -> str:
    return _asset("page.js")


@cache
def _engine() -> str:
    """Vega, Vega-Lite and Vega-Embed, as one script that sets ``vegaEmbed``."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", _VEGA_LITE)
    return bundle.replace("</script", r"<\/script").replace("<!--", r"<\!--").strip()


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset("page.html"))
