"""The commands that test the simple story without simulating it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from deadtokens.cli.commands import (
    Json,
    Mask,
    RowsOption,
    Source,
    StoredAs,
    Tensor,
    check_choice,
    selected,
)
from deadtokens.cli.options import Seed

if TYPE_CHECKING:
    from deadtokens.independence import Independence

_MANY_CELLS = 20_000_000


def independence(
    source: Source,
    tensor: Tensor = None,
    stored_as: StoredAs = None,
    mask: Mask = None,
    rows: RowsOption = None,
    permutations: Annotated[
        int | None,
        typer.Option(
            "--permutations",
            metavar="T",
            min=1,
            help="How often to deal the cells anew; by default 9,999, fewer for large clusters.",
        ),
    ] = None,
    seed: Seed = 42,
    json: Json = False,
) -> None:
    """Test whether the dimensions of a cluster are independent.

    Rounded noise moves each dimension on its own. The test is exact and needs neither sigma nor a
    centre: it deals the numbers of each dimension to the rows at random, and compares how many
    rows coincide, and how dimensions correlate.
    """
    from deadtokens import independence as test
    from deadtokens.census import rows_nearby
    from deadtokens.cli import display, tables
    from deadtokens.independence import default_permutations, verdict
    from deadtokens.montecarlo import FAMILY_LEVEL
    from deadtokens.sources import open_matrix

    check_choice(mask, rows)
    matrix = open_matrix(source, tensor, format=stored_as)
    snowball, chosen = selected(matrix, mask, rows)
    left_out = rows_nearby(matrix, snowball) if chosen.name == "duplicates" else 0
    if left_out:
        display.message(
            f"warning: {left_out:,} other rows lie as close and were left out because they do not "
            "coincide; that takes the singletons away, which this test takes for dependence. "
            "Choose the whole cluster with --mask"
        )
    cells = snowball.n_tokens * snowball.varying.size
    if cells > _MANY_CELLS:
        times = permutations or default_permutations(snowball.n_tokens, snowball.varying.size)
        display.message(f"dealing {cells:,} cells {times:,} times, which takes a while")
    result = test(snowball, permutations=permutations, seed=seed)
    if json:
        display.print_json(
            {
                "source": matrix.source,
                "tensor": matrix.tensor,
                "storage": matrix.storage,
                "format": snowball.format.name,
                "rows": chosen.name,
                "left_out": left_out,
                "n_rows": result.n_rows,
                "n_varying": result.n_varying,
                "n_correlated": result.n_correlated,
                "permutations": result.permutations,
                "seed": seed,
                "level": FAMILY_LEVEL,
                "rejected": result.rejected,
                "warnings": list(matrix.warnings),
                "departures": list(result.departures),
                "mild": list(result.mild),
                "reason": result.reason,
                "verdict": verdict(result),
                "features": [
                    asdict(found) | {"p_holm": adjusted}
                    for found, adjusted in zip(result.features, result.p_holm, strict=True)
                ],
            }
        )
        return
    tables.matrix_lines(matrix)
    display.line(
        f"tested: {chosen.words}, {result.n_rows:,}, as {snowball.format.name}; "
        f"{result.n_varying:,} of {snowball.codes.shape[1]:,} dimensions vary"
    )
    show(result)


def show(result: Independence) -> None:
    """The features beside those under independence, and what follows."""
    from deadtokens.cli import display, tables
    from deadtokens.independence import verdict
    from deadtokens.montecarlo import p_words, smallest_p

    if result.reason is None:
        display.line(
            f"simulated: {result.permutations:,} permutations, which can give p = "
            f"{p_words(smallest_p(result.permutations))} at the smallest; correlations over "
            f"{result.n_correlated:,} dimensions"
        )
        tables.features_table(result.features, result.p_holm)
    display.line(verdict(result))
