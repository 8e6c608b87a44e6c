"""The command that takes stock of many models: survey."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deadtokens.cli.commands import Json, Tokenizer
from deadtokens.cli.options import Scheduler

if TYPE_CHECKING:
    from deadtokens.survey_lines import Surveyed


def survey(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="As for census.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Write survey.csv and survey.html here; the same command goes on if stopped.",
        ),
    ] = None,
    tokenizer: Tokenizer = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="W", min=1, help="Models side by side; 2 by default."),
    ] = None,
    scheduler: Scheduler = None,
    json: Json = False,
) -> None:
    """Take stock of many models, a row each.

    A source that cannot be read is named with its error and does not stop the others; exit status 1
    says that there was one.
    """
    from deadtokens.cli import display
    from deadtokens.report.survey_page import write_survey_page
    from deadtokens.scheduler import connected
    from deadtokens.survey import survey as run_survey
    from deadtokens.survey_lines import write_survey
    from deadtokens.writing import make_folder

    if workers is not None and scheduler is not None:
        raise typer.BadParameter("the scheduler's workers read", param_hint="--workers")
    former: list[Surveyed] = []
    if output is not None:
        former = _former(make_folder(output) / "survey.csv", sources)
    try:
        with connected(scheduler) as cluster:
            lines = run_survey(
                sources,
                output,
                tokenizer=tokenizer,
                workers=workers,
                cluster=cluster,
                tell=_progress,
            )
    except KeyboardInterrupt:
        display.message("interrupted; with -o DIR the same command goes on where it stopped")
        raise typer.Exit(130) from None
    if json:
        display.print_json({"models": [_facts(line) for line in lines]})
    else:
        _print(lines)
    if output is None:
        display.message("nothing written: add -o DIR for survey.csv and survey.html")
    else:
        rows = [*lines, *former]
        display.announce(
            [
                write_survey(output / "survey.csv", rows),
                write_survey_page(output / "survey.html", rows, _pages(rows, output)),
            ]
        )
    if any(line.error for line in lines):
        raise typer.Exit(1)


def _progress(line: Surveyed) -> None:
    from deadtokens.cli import display
    from deadtokens.wording import duration

    if sys.stderr.isatty():
        display.message(f"{line.source}: {line.error or duration(line.seconds)}")


def _former(path: Path, sources: list[str]) -> list[Surveyed]:
    """The lines of an earlier list in that folder which this one does not name."""
    from deadtokens.cli import display
    from deadtokens.survey_lines import read_survey

    former = [line for line in read_survey(path) if line.source not in sources]
    if former:
        rows = f"{len(former):,} row{'s' * (len(former) > 1)}"
        display.message(f"{rows} of an earlier list kept; to be rid of them, remove {path} first")
    return former


def _pages(lines: list[Surveyed], output: Path) -> dict[str, Path]:
    """The census page of each source; those that are not there are written."""
    from deadtokens.listening import watched
    from deadtokens.report.census_page import write_census_page
    from deadtokens.survey import census_folders

    folders = census_folders(output)
    held = {line.source: folders[line.source] for line in lines if line.source in folders}
    for folder in watched(held.values(), "pages", len(held)):
        if not (folder / "report.html").exists():
            write_census_page(folder / "report.html", folder)
    return {source: folder / "report.html" for source, folder in held.items()}


def _facts(line: Surveyed) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(line) | {
        "populations": list(line.populations),
        "warnings": list(line.warnings),
    }


def _print(lines: list[Surveyed]) -> None:
    from deadtokens.cli import display
    from deadtokens.survey_lines import COLUMN_TITLES, NARROW, cells, short_names

    for line in lines:
        for warning in line.warnings:
            display.line(f"warning: {line.source}: {warning}")
    names = short_names([line.source for line in lines])
    good = [cells(line, names[line.source]) for line in lines if not line.error]
    if good:
        width = len(COLUMN_TITLES) if display.is_wide() else NARROW
        titles = list(COLUMN_TITLES.values())[:width]
        display.sections_table(titles, {"": [line[:width] for line in good]})
        if width == NARROW:
            display.line("a wider terminal has more columns, survey.csv (-o DIR) all of them")
    for line in lines:
        if line.error:
            named = line.error.startswith(line.source)
            display.line(f"error: {line.error if named else f'{line.source}: {line.error}'}")
