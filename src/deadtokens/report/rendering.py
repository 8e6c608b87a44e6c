"""Findings → the page about a run: its charts and tables in order."""

from __future__ import annotations

from pathlib import Path

from deadtokens.report.census_parts import census_charts, census_tables
from deadtokens.report.chartkit import Chart
from deadtokens.report.cluster_charts import components_chart, graph_chart, lattice_chart
from deadtokens.report.curve_charts import curves_chart
from deadtokens.report.drawing import Page, render_page
from deadtokens.report.findings import Findings
from deadtokens.report.gathering import gather
from deadtokens.report.opening import opening
from deadtokens.report.sweep_charts import ranks_chart, z_chart
from deadtokens.report.tables import commands, facts, tables
from deadtokens.report.trial_charts import histogram_chart
from deadtokens.writing import replacing


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
        file.write(render(findings).encode("utf-8", "backslashreplace"))
    return findings


def render(findings: Findings) -> str:
    """The page as HTML."""
    of_census = census_tables(findings.census) if findings.census else []
    if any(table.name == "groups" for table in of_census):
        shown = [table for table in tables(findings) if table.name != "holes"]  # there with tokens
    else:
        shown = tables(findings)
    return render_page(
        Page(
            opening=opening(findings),
            charts=charts(findings),
            tables=[*shown, *of_census],
            facts=list(facts(findings)),
            commands=commands(findings),
        )
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
    found += census_charts(findings.census) if findings.census else []
    return [chart for chart in found if chart is not None]
