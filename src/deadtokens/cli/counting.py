"""The command that finds the dead tokens of a model: census."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deadtokens.cli.commands import Json, Source, Tensor, Tokenizer

if TYPE_CHECKING:
    from deadtokens.inventory import Untied
    from deadtokens.sources import Matrix


def census(
    source: Source,
    tensor: Tensor = None,
    tokenizer: Tokenizer = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Write the groups, masks, dead tokens and labels here, and report.html.",
        ),
    ] = None,
    both: Annotated[
        bool,
        typer.Option(
            "--both",
            help="Of untied matrices on the hub, transfer the other one too and look at both, as "
            "is done for files.",
        ),
    ] = False,
    export_keep: Annotated[
        Path | None,
        typer.Option(
            "--export-keep",
            metavar="FILE.safetensors",
            help="Write the map from old to new ids that drops the dead rows.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Which tokens are dead, and how do we know?

    Looks at every row: groups of equal rows (black holes), the cluster that a void sets apart,
    rows of zeros, and what the tokenizer says of each. Of untied matrices, both.
    """
    from deadtokens.census_files import (
        CENSUS_SPARES,
        inventory_facts,
        write_inventory,
        write_keep,
    )
    from deadtokens.cli import census_tables, display, tables
    from deadtokens.inventory import named_tokens, take_both, take_inventory
    from deadtokens.keep import keep_map
    from deadtokens.sources import open_matrix
    from deadtokens.writing import check_place, check_spares, make_folder

    matrix = open_matrix(source, tensor)
    if tokenizer is not None:
        matrix = replace(matrix, tokenizer=tokenizer)
    places = [output / name for name in CENSUS_SPARES] if output is not None else []
    if output is not None:
        make_folder(output)
    if export_keep is not None:
        check_place(export_keep)
        make_folder(export_keep.parent)
        places.append(export_keep)
    read = [*matrix.files, *([tokenizer] if tokenizer is not None else [])]
    check_spares(places, read)
    taken = take_inventory(matrix)
    untied = take_both(taken, transfer=both)
    _say_if_one(matrix, untied)
    kept = keep_map(taken, untied) if export_keep is not None else None
    if json:
        facts = inventory_facts(taken, untied, named_tokens(taken))
        if kept is not None:
            facts["keep"] = {"kept": kept.kept.size, "bytes_saved": kept.bytes_saved}
            facts["keep"]["caveats"] = list(kept.caveats)
        display.print_json(facts)
    else:
        tables.matrix_lines(matrix)
        census_tables.inventory_tables(taken, untied)
        if kept is not None:
            census_tables.keep_lines(kept, display.size(kept.bytes_saved))
    if output is None:
        display.message("nothing written: add -o DIR for masks, tokens.csv and a page to read")
    else:
        display.announce(write_inventory(output, taken, untied))
        from deadtokens.report.census_page import write_census_page  # draws, which takes a second

        display.announce([write_census_page(output / "report.html", output)])
    if kept is not None and export_keep is not None:
        display.announce([write_keep(export_keep, kept, matrix)])


def _say_if_one(matrix: Matrix, untied: Untied | None) -> None:
    """Say so where the other of two matrices was left out."""
    from deadtokens.cli import display

    if untied is None and matrix.model and matrix.model.remote and matrix.model.both_names():
        display.message("the other matrix of this untied model was not transferred: add --both")
