"""The command that estimates the noise: fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deadtokens.cli.commands import (
    Json,
    Mask,
    RowsOption,
    Source,
    StoredAs,
    Tensor,
    VaryingOnly,
    check_choice,
    selected,
)

if TYPE_CHECKING:
    from deadtokens.fit import Fit

_INFLUENTIAL = 5


def fit(
    source: Source,
    tensor: Tensor = None,
    stored_as: StoredAs = None,
    mask: Mask = None,
    rows: RowsOption = None,
    varying_only: VaryingOnly = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Write fit.json, dimensions.csv, centroid.safetensors and tests.json here.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Estimate the width of the noise and its centre.

    Maximum likelihood with an interval, and the centre to simulate around: `sweep --centroid
    DIR/centroid.safetensors`. Both tests of the story are made beside, because the interval means
    nothing where it is rejected.
    """
    from deadtokens.census import rows_nearby
    from deadtokens.cli import display, tables
    from deadtokens.exports import (
        FIT_FILES,
        fit_facts,
        tests_facts,
        write_fit,
        write_tests,
    )
    from deadtokens.files import array_file
    from deadtokens.fit import fit as estimate
    from deadtokens.independence import independence
    from deadtokens.marginals import marginals
    from deadtokens.sources import open_matrix
    from deadtokens.verdict import answer, judge
    from deadtokens.writing import check_spares, make_folder

    check_choice(mask, rows)
    matrix = open_matrix(source, tensor, format=stored_as)
    if output is not None:
        make_folder(output)
        read = (*matrix.files, *([array_file(mask)] if mask is not None else []))
        check_spares([output / name for name in (*FIT_FILES, "tests.json")], read)
    snowball, chosen = selected(matrix, mask, rows)
    left_out = rows_nearby(matrix, snowball) if chosen.name == "duplicates" else 0
    if chosen.name == "duplicates":
        display.message(duplicates_warning(left_out))
    found = estimate(snowball, varying_only=varying_only or matrix.varying_only)
    joint, single = independence(snowball), marginals(found)
    verdict = judge(found, joint, single, left_out=left_out)
    if json:
        facts: dict[str, Any] = {"source": matrix.source, "tensor": matrix.tensor}
        facts |= {"rows": chosen.name, "warnings": list(matrix.warnings)}
        tests = tests_facts(joint, single, verdict)
        display.print_json(fit_facts(found, verdict.withheld) | facts | {"tests": tests})
    else:
        tables.matrix_lines(matrix)
        display.line(f"fitted: {chosen.words}, as {snowball.format.name}")
        print_fit(found, withheld=verdict.withheld)
        display.line("")
        display.line(f"Does the simple story fit? {answer(verdict.fits)}. {verdict.headline}")
        for sentence in verdict.sentences:
            display.line(f"- {sentence}")
    if output is None:
        display.message("nothing written: add -o DIR for the centre and the dimensions")
        return
    written = write_fit(output, found, matrix, verdict.withheld)
    display.announce([*written, write_tests(output / "tests.json", joint, single, verdict)])


def duplicates_warning(nearby: int) -> str:
    """What rows that were chosen because they coincide do to the estimate."""
    text = (
        "warning: these rows were chosen because they coincide, which leaves noise out: sigma "
        "comes out too small if the cluster has other rows"
    )
    if nearby:
        text += f", and {nearby:,} other rows lie as close. Choose all of them with --mask"
    return text


def print_fit(found: Fit, *, withheld: str | None) -> None:
    """The estimate, its interval, and the dimensions that it hangs on.

    Args:
        found: The fit.
        withheld: Why no interval is given; None where the story was not tested.
    """
    import numpy as np

    from deadtokens.cli import display

    given = "95 %, if the story holds" if withheld is None else "95 %"
    if found.sigma == 0:
        limit = f"and below {found.sigma_high:.4g} ({given} limit)"
        if withheld:
            limit = f"without a limit, because {withheld}"
        display.line(f"sigma            0, {limit}")
        return
    display.line(f"sigma            {found.sigma:.4g}")
    interval = f"{found.sigma_low:.4g} to {found.sigma_high:.4g} ({given})"
    if withheld:
        interval = f"none, because {withheld}"
    display.line(f"interval         {interval}")
    display.line(
        f"dimensions       {found.n_varying:,} of {found.n_dimensions:,} vary"
        + (
            ", and only such are held"
            if found.varying_only
            else f"; {found.expected_varying:,.1f} expected at sigma {found.sigma:.4g}"
        )
        + (f"; {found.n_zero:,} are zero in every row and left out" if found.n_zero else "")
    )
    order = np.argsort(-np.abs(found.influence), kind="stable")[:_INFLUENTIAL].tolist()
    influential = ", ".join(
        f"{dimension} ({np.expm1(found.influence[dimension]):+.1%})" for dimension in order
    )
    display.line(f"most influential {influential}: dimension, and what it does to sigma")
    for without in found.without:
        gone = ", ".join(map(str, without.dimensions))
        display.line(f"  without {gone}: sigma {without.sigma:.4g}")
    if found.without_skipping:
        gone = ", ".join(map(str, found.without_skipping.dimensions))
        sigma = found.without_skipping.sigma
        display.line(f"  without all that skip cells, {gone}: sigma {sigma:.4g}")
    if (
        not found.varying_only
        and found.n_varying == found.n_dimensions > found.expected_varying + 1
    ):
        display.line(
            "every dimension varies, which is more than expected",
            ": if the others were left out of the source, add --varying-only",
        )
