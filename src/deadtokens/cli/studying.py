"""The commands that do it all in one go: study and demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deadtokens.cli.commands import (
    Mask,
    Rows,
    RowsOption,
    Source,
    StoredAs,
    Tensor,
    Tokenizer,
    VaryingOnly,
    check_choice,
    chosen_rows,
)
from deadtokens.cli.options import Seed

if TYPE_CHECKING:
    from deadtokens.study import Study
    from deadtokens.verdict import Verdict


def study(
    source: Source,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="RUN", help="The run folder.", show_default=False),
    ],
    tensor: Tensor = None,
    stored_as: StoredAs = None,
    tokenizer: Tokenizer = None,
    mask: Mask = None,
    rows: RowsOption = None,
    varying_only: VaryingOnly = False,
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials",
            metavar="T",
            min=1,
            help="Trials of each sigma; by default 5,000, fewer where a trial costs much.",
        ),
    ] = None,
    seed: Seed = 42,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="W", min=1, help="Threads; all cores by default."),
    ] = None,
) -> None:
    """Does the simple story fit? Everything about one cluster, and a page to read.

    Census, measure, fit, both tests, a sweep around the fitted sigma (over a wide range if the
    story is rejected), compare and report, in one run folder. The same command resumes.
    """
    check_choice(mask, rows)
    _study(
        source,
        output,
        tensor,
        mask,
        rows,
        varying_only,
        trials,
        seed,
        workers,
        stored_as,
        tokenizer,
    )


def demo(
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", help="Gets a run folder for each built-in."),
    ] = Path("demo"),
) -> None:
    """Study both built-in clusters of dead tokens."""
    from deadtokens.cli import display
    from deadtokens.sources import BUILTINS

    pages = []
    for name in BUILTINS:
        folder = output / name.partition(":")[2]
        display.heading(f"deadtokens study {name} -o {folder}")
        pages.append(_study(name, folder))
    display.line("")
    for found in pages:
        display.line(f"report: {found.report}")


def _study(
    source: str,
    output: Path,
    tensor: str | None = None,
    mask: str | None = None,
    rows: Rows | None = None,
    varying_only: bool = False,
    trials: int | None = None,
    seed: int = 42,
    workers: int | None = None,
    stored_as: str | None = None,
    tokenizer: Path | None = None,
) -> Study:
    from deadtokens.cli import display, tables
    from deadtokens.files import array_file
    from deadtokens.sources import open_matrix
    from deadtokens.study import study as run_study
    from deadtokens.writing import shell_line

    matrix = open_matrix(source, tensor, format=stored_as).with_tokenizer(tokenizer)
    tables.matrix_lines(matrix)
    chosen = chosen_rows(matrix, mask, rows)
    display.line(f"studied: {chosen.words}")
    options: dict[str, object] = {"--tensor": tensor, "--mask": mask, "--rows": rows}
    options["--trials"] = trials
    options |= {"--format": stored_as, "--tokenizer": tokenizer}
    words = [word for name, value in options.items() if value for word in (name, str(value))]
    words += ["--varying-only"] if varying_only else []
    words += ["--seed", str(seed)] if seed != 42 else []
    command = shell_line(["deadtokens", "study", source, *words, "-o", str(output)])
    read = [array_file(mask)] if mask is not None else []
    read += [tokenizer] if tokenizer is not None else []
    with display.resumable(command):
        found = run_study(
            matrix,
            chosen.rows,
            output,
            selection=chosen.name,
            command=command,
            varying_only=varying_only,
            trials=trials,
            seed=seed,
            workers=workers,
            read=read,
        )
    _print(found)
    return found


def verdict_lines(found: Verdict) -> None:
    """The answer, and what it rests on."""
    from deadtokens.cli import display
    from deadtokens.verdict import answer

    display.line(f"Does the simple story fit? {answer(found.fits)}.")
    display.line(found.headline)
    for sentence in found.sentences:
        display.line(f"- {sentence}")


def _print(found: Study) -> None:
    from deadtokens.cli import display
    from deadtokens.wording import size

    display.line("")
    verdict_lines(found.verdict)
    seconds = ", ".join(f"{name} {value:.1f}" for name, value in found.seconds.items())
    display.message(f"seconds: {seconds}")
    display.announce(found.written)
    display.line(f"report: {found.report} ({size(found.report.stat().st_size)})")
    sys.stdout.flush()
