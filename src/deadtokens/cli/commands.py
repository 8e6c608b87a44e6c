"""The commands. Each imports what it computes with when it runs, so that ``--help`` is instant."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deadtokens.selection import Selection
    from deadtokens.snowball import Snowball
    from deadtokens.sources import Matrix


class Rows(StrEnum):
    """Which rows to measure."""

    DUPLICATES = "duplicates"
    CLUSTER = "cluster"
    ALL = "all"


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A .safetensors, .gguf, .bin, .pt, .npy, .npz or .h5 file, a folder or index of "
        "shards, hf:owner/name[@revision][:FILE], builtin:qwen3-4b or builtin:whisper-tiny.en.",
        show_default=False,
    ),
]
Tensor = Annotated[
    str | None,
    typer.Option("--tensor", metavar="NAME", help="The tensor to read, by name."),
]
StoredAs = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="F",
        help="Read integers as the bits of this format: bfloat16, float16, or a float8 one.",
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        "--mask",
        metavar="FILE[:key]",
        help="Take the rows that this file names: a mask (bool or 0/1 uint8, an entry per row), "
        "row numbers (another integer array), a CSV file with a column row, or a text of numbers.",
    ),
]
RowsOption = Annotated[
    Rows | None,
    typer.Option(
        "--rows",
        help="Take the dead cluster that a void sets apart (the default where there is one), the "
        "rows that equal another (the default elsewhere), or all (a built-in's default).",
    ),
]
VaryingOnly = Annotated[
    bool,
    typer.Option(
        "--varying-only",
        help="Say that columns in which the rows agree were left out of the source.",
    ),
]
Tokenizer = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer",
        metavar="FILE",
        help="The tokenizer.json of the rows; by default the source's own, if it brings one.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def check_choice(mask: str | None, rows: Rows | None) -> None:
    """Refuse two ways of choosing rows at once."""
    from deadtokens.errors import SelectionError

    if mask is not None and rows is not None:
        raise SelectionError("both --mask and --rows", remedy="give one of them")


def chosen_rows(matrix: Matrix, mask: str | None, rows: Rows | None) -> Selection:
    """The rows that the options choose."""
    from deadtokens.masks import load_mask
    from deadtokens.selection import Selection, rows_to_measure

    if mask is not None:
        return Selection(load_mask(mask, matrix), f"mask {mask}")
    return rows_to_measure(matrix, rows)


def selected(matrix: Matrix, mask: str | None, rows: Rows | None) -> tuple[Snowball, Selection]:
    """The rows that the options choose, and their snowball."""
    from deadtokens.selection import snowball_of

    chosen = chosen_rows(matrix, mask, rows)
    return snowball_of(matrix, chosen.rows), chosen
