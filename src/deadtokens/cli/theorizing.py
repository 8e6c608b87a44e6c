"""The command that expects without simulating: theory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deadtokens.cli.options import (
    Centroid,
    Epsilon,
    Format,
    Intermediate,
    IntermediateOption,
    Noise,
    NoiseOption,
    Tokens,
    Touching,
    announce_taken,
    load_centre,
)

if TYPE_CHECKING:
    from deadtokens.solving import Solution


def theory(
    centroid: Centroid,
    tokens: Tokens = None,
    sigma: Annotated[
        str | None,
        typer.Option(
            "--sigma",
            metavar="SPEC",
            help="A number, a comma list, A:B:N (evenly spaced) or A:B:N:log; with --solve, its "
            "smallest and largest number are the range searched.",
            show_default=False,
        ),
    ] = None,
    epsilon: Epsilon = None,
    touching: Touching = None,
    noise: NoiseOption = Noise.GAUSSIAN,
    format: Format = None,  # noqa: A002
    intermediate: IntermediateOption = Intermediate.FLOAT32,
    solve: Annotated[
        str | None,
        typer.Option(
            "--solve",
            metavar="METRIC=VALUE",
            help="Find the sigma at which an expectation, such as n_unique, has that value; "
            "without --sigma, from a thousandth of the centroid's median ULP, divided by its "
            "length, to 10,000 of its largest.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.csv", help="Write the table here."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Expect a sweep's counts without simulating it, for one sigma or many.

    Exact where that is possible; elsewhere an estimate with its standard error.
    """
    from deadtokens.centres import Terms, settle
    from deadtokens.cli import display, tables
    from deadtokens.errors import SelectionError
    from deadtokens.exports import theory_row, write_theory
    from deadtokens.solving import default_range
    from deadtokens.solving import solve as find
    from deadtokens.specification import parse_sigmas
    from deadtokens.theory import theory as expect
    from deadtokens.touching import lengths
    from deadtokens.writing import check_place, make_folder

    wanted = None if solve is None else _metric_and_value(solve)
    sigmas = [] if sigma is None else parse_sigmas(sigma)
    centre = load_centre(centroid)
    if sigma is None and solve is None and centre.terms.sigma is None:
        raise SelectionError("no sigma", remedy="give --sigma, or --solve METRIC=VALUE")
    asked = sigmas[0] if sigmas else None if solve is None else 0.0
    terms = settle(centre, Terms(format, tokens, epsilon, touching, asked))
    announce_taken(terms.said)
    if not sigmas and solve is None:
        sigmas = [terms.sigma]
    values = centre.values
    if output is not None:
        check_place(output)
        make_folder(output.parent)
    model: dict[str, Any] = {
        "noise": noise.value,
        "format": terms.format,
        "intermediate": intermediate.value,
    }
    n_tokens = terms.n_tokens
    facts: dict[str, Any] = {"n_dimensions": values.size, "n_tokens": n_tokens}
    facts["epsilon"], facts["touching"] = lengths(
        values, terms.format, terms.epsilon, terms.touching
    )
    facts |= model
    solutions: list[Solution] = []
    if wanted is not None:
        between = default_range(values, n_tokens, **model)
        if sigmas:
            between = min(sigmas), max(sigmas)
        solutions = find(
            values, *wanted, n_tokens, between=between, touching=facts["touching"], **model
        )
        expected = [solution.expectation for solution in solutions]
        facts["solve"] = dict(zip(("metric", "value"), wanted, strict=True))
        facts["solve"] |= {
            "range": list(between),
            "solutions": [{"sigma": s.sigma, "sigma_se": s.sigma_se or None} for s in solutions],
        }
    else:
        expected = expect(values, sigmas, n_tokens, touching=facts["touching"], **model)
    if as_json:
        display.print_json(facts | {"expectations": [theory_row(e) for e in expected]})
    else:
        if wanted is not None:
            tables.solution_lines(*wanted, solutions, between)
        tables.theory_table(expected, facts["touching"])
    if output is not None:
        display.announce([write_theory(output, expected)])


def _metric_and_value(text: str) -> tuple[str, float]:
    from deadtokens.errors import SelectionError

    metric, _, value = text.partition("=")
    try:
        return metric.strip(), float(value)
    except ValueError:
        raise SelectionError(
            f"--solve {text!r}", remedy="give METRIC=VALUE, such as n_unique=13"
        ) from None
