"""Options that the commands about synthetic snowballs share."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deadtokens.kernels.types import Float64Array


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
Tokens = Annotated[int, typer.Option("--tokens", metavar="N", help="Tokens of a trial.")]
Seed = Annotated[int, typer.Option("--seed", help="Of all random streams.")]
Epsilon = Annotated[
    float | None,
    typer.Option(
        "--epsilon",
        metavar="E",
        help="The length in which distances are quoted; by default the ULP of the centroid's "
        "largest value.",
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
Format = Annotated[str, typer.Option("--format", metavar="F", help="Storage format.")]
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


def load_centroid(spec: str) -> Float64Array:
    """A centroid from a file, with a note of what it is and what that means."""
    import numpy as np

    from deadtokens.cli import display
    from deadtokens.errors import SelectionError
    from deadtokens.files import load_array, load_metadata

    array = load_array(spec, "centroid")
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "fV":  # V: ml_dtypes
        raise SelectionError(
            f"a centroid of shape {list(array.shape)} and dtype {array.dtype}",
            where=spec,
            remedy="give one floating-point number per dimension",
        )
    values = array.astype(np.float64)
    display.message(
        f"centroid {spec}: {values.size:,} dimensions, norm {float(np.linalg.norm(values)):.6g}"
    )
    if load_metadata(spec).get("origin") == "census":
        display.message(
            "note: this centroid is a mean of rounded rows. Trials around it are more alike than "
            "those around the centre of the noise, unless sigma is well above the ULP: dimensions "
            "that did not split sit in the middle of their cell"
        )
    return values
