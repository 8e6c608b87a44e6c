"""The command that finds the dead tokens of a model: census."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deadtokens.cli.commands import Json, Source, StoredAs, Tensor, Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence


def census(
    source: Source,
    tensor: Tensor = None,
    stored_as: StoredAs = None,
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
    transfer_both: Annotated[
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
    from deadtokens.census_files import inventory_facts, write_inventory, write_keep
    from deadtokens.cli import census_tables, display, tables
    from deadtokens.inventory import named_lines
    from deadtokens.keep import keep_map
    from deadtokens.sources import open_matrix
    from deadtokens.stocktaking import take_both, take_inventory
    from deadtokens.wording import size

    matrix = open_matrix(source, tensor, format=stored_as).with_tokenizer(tokenizer)
    _check_places(output, export_keep, [*matrix.files, *([tokenizer] if tokenizer else [])])
    taken = take_inventory(matrix)
    both = take_both(taken, transfer=transfer_both)
    kept = keep_map(taken, both) if export_keep is not None else None
    if json:
        facts = inventory_facts(taken, both.untied, named_lines(taken, both.untied))
        if kept is not None:
            facts["keep"] = {"kept": kept.kept.size, "bytes_saved": kept.bytes_saved}
            facts["keep"]["caveats"] = list(kept.caveats)
        display.print_json(facts | {"other_unread": both.unread or None})
    else:
        of_both = both.untied.warnings if both.untied else ()
        tables.warning_lines(tuple(dict.fromkeys(taken.warnings + of_both)))
        census_tables.inventory_tables(taken, both)
        if kept is not None:
            census_tables.keep_lines(kept, size(kept.bytes_saved))
    if output is None:
        display.message("nothing written: add -o DIR for masks, tokens.csv and a page to read")
    else:
        display.announce(write_inventory(output, taken, both.untied))
        from deadtokens.report.census_page import write_census_page  # draws, which takes a second

        display.announce([write_census_page(output / "report.html", output)])
    if kept is not None and export_keep is not None:
        display.announce([write_keep(export_keep, kept, matrix)])


def _check_places(output: Path | None, export_keep: Path | None, read: Sequence[Path]) -> None:
    """Refuse places where results cannot go, before any work."""
    from deadtokens.census_files import CENSUS_FILES
    from deadtokens.errors import OutputError
    from deadtokens.writing import check_place, check_spares, make_folder

    places = []
    if output is not None:
        make_folder(output)
        places = [check_place(output / name) for name in (*CENSUS_FILES, "report.html")]
    if export_keep is not None:
        if export_keep.suffix.lower() != ".safetensors":
            raise OutputError(
                "not a .safetensors file",
                where=export_keep,
                remedy="name one with --export-keep FILE.safetensors",
            )
        keep = check_place(export_keep)
        make_folder(export_keep.parent)
        if keep in places:
            raise OutputError(
                "the census writes there too", where=export_keep, remedy="choose another name"
            )
        places.append(keep)
    check_spares(places, read)
