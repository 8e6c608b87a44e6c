"""The command that turns a run into a page: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="The run folder, or that of a census.", show_default=False
        ),
    ],
    measured: Annotated[
        Path | None,
        typer.Option(
            "--measured",
            metavar="MEASURED.csv",
            help="The real cluster, as measure -o writes it; by default RUN/measured.csv if it "
            "is there.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE.html", help="The page; by default RUN/report.html."
        ),
    ] = None,
) -> None:
    """Write one page about a run: the answer, charts, tables, what was run.

    It shows what the run folder holds and computes no statistics. The page is a single file that
    loads nothing, and can be read without scripts and printed.
    """
    from deadtokens.cli import display
    from deadtokens.errors import OutputError
    from deadtokens.report.census_page import write_census_page
    from deadtokens.report.opening import opening
    from deadtokens.report.rendering import write_report
    from deadtokens.wording import size
    from deadtokens.writing import check_place, make_folder

    path = output or run / "report.html"
    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError("not an .html file", where=path, remedy="name one with -o FILE.html")
    check_place(path)
    if output is not None:
        make_folder(output.parent)
    if (run / "census.json").exists():
        display.announce([write_census_page(path, run)])
        return
    top = opening(write_report(path, run, measured))
    display.line(" ".join(filter(None, [top.question, top.answer and f"{top.answer}."])))
    display.line(top.headline.replace("\N{NO-BREAK SPACE}", " "))
    display.message(f"wrote {path}: {size(path.stat().st_size)}")
