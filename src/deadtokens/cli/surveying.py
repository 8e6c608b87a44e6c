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
    if output is not None:
        make_folder(output)
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
        page = write_survey_page(output / "survey.html", lines)
        display.announce([write_survey(output / "survey.csv", lines), page])
    if any(line.error for line in lines):
        raise typer.Exit(1)


def _progress(line: Surveyed) -> None:
    from deadtokens.cli import display
    from deadtokens.wording import duration

    if sys.stderr.isatty():
        display.message(f"{line.source}: {line.error or duration(line.seconds)}")


def _facts(line: Surveyed) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(line) | {
        "populations": list(line.populations),
        "warnings": list(line.warnings),
    }


def _print(lines: list[Surveyed]) -> None:
    from deadtokens.cli import display
    from deadtokens.survey_lines import COLUMN_TITLES, cells

    for line in lines:
        for warning in line.warnings:
            display.line(f"warning: {line.source}: {warning}")
    good = [cells(line) for line in lines if not line.error]
    if good:
        display.sections_table(list(COLUMN_TITLES.values()), {"": good})
    for line in lines:
        if line.error:
            named = line.error.startswith(line.source)
            display.line(f"error: {line.error if named else f'{line.source}: {line.error}'}")
