"""Options that the commands about synthetic snowballs share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deadtokens.centres import Centre


class Noise(StrEnum):
    """Kinds of noise."""

    GAUSSIAN = "gaussian"
    LAPLACE = "laplace"
    UNIFORM = "uniform"


class Intermediate(StrEnum):
    """What centroid + noise is rounded to first."""

    FLOAT32 = "float32"
    EXACT = "exact"


Centroid = Annotated[
    str,
    typer.Option(
        "--centroid",
        metavar="FILE[:key]",
        help="The centre: a 1-D tensor in a .safetensors, .npy or .npz file, as census writes it.",
        show_default=False,
    ),
]
Tokens = Annotated[
    int | None,
    typer.Option(
        "--tokens", metavar="N", help="Tokens of a trial; by default those of the fitted cluster."
    ),
]
Like = Annotated[
    Path | None,
    typer.Option(
        "--like",
        metavar="MEASURED.csv",
        help="Take tokens, format and lengths from this measured row.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Of all random streams.")]
Epsilon = Annotated[
    float | None,
    typer.Option(
        "--epsilon",
        metavar="E",
        help="The length in which distances are quoted; by default the one that came with the "
        "centroid, or the ULP of its largest value.",
    ),
]
Touching = Annotated[
    float | None,
    typer.Option(
        "--touching",
        metavar="X",
        help="The distance up to which two vectors touch; by default 2 epsilon.",
    ),
]
NoiseOption = Annotated[
    Noise, typer.Option("--noise", help="Kind of noise; sigma is its standard deviation.")
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="F",
        help="Storage format; by default the one that came with the centroid, or bfloat16.",
    ),
]
IntermediateOption = Annotated[
    Intermediate,
    typer.Option("--intermediate", help="What centroid + noise is rounded to before the format."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        help="Have the workers of this Dask scheduler do it.",
    ),
]


def load_centre(spec: str) -> Centre:
    """A centre from a file, with a note of what it is and what that means."""
    import numpy as np

    from deadtokens.centres import as_centre
    from deadtokens.cli import display

    centre = as_centre(spec)
    norm = float(np.linalg.norm(centre.values))
    display.message(f"centroid {spec}: {centre.values.size:,} dimensions, norm {norm:.6g}")
    if centre.of_rounded_rows:
        display.message(
            "note: this centroid is a mean of rounded rows. Trials around it are more alike than "
            "those around the centre of the noise, unless sigma is well above the ULP: dimensions "
            "that did not split sit in the middle of their cell"
        )
    return centre


def announce_taken(said: str) -> None:
    """Say what came with the centre, or with the measured row, and was not asked for."""
    from deadtokens.cli import display

    if said:
        display.message(f"taken: {said}")
