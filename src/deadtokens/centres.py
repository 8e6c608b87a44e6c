"""A centre to simulate around, and what came with it: format, lengths, tokens and width.

What `fit` and `census` write says how the cluster was stored and measured, so that trials around it
are like the cluster without anybody saying so again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from deadtokens.arguments import checked_centroid
from deadtokens.errors import SelectionError, SourceError
from deadtokens.files import load_array, load_metadata
from deadtokens.fit import Fit
from deadtokens.geometry import touching_distance
from deadtokens.kernels.types import Float64Array
from deadtokens.observed import Observation
from deadtokens.trials import STATISTICS

DEFAULT_FORMAT = "bfloat16"
_WORDS = {
    "sigma": "sigma {:.4g}",
    "n_tokens": "{:,} tokens",
    "format": "{}",
    "epsilon": "epsilon {:.10g}",
    "touching": "touching {:.10g}",
}
_N_TOKENS = STATISTICS.index("n_tokens")


@dataclass(frozen=True)
class Terms:
    """What a simulation depends on beside its centre; None where nothing is said.

    Attributes:
        format: Storage format's name.
        n_tokens: Tokens of a trial.
        epsilon: The length in which distances are quoted.
        touching: The distance up to which vectors touch.
        sigma: Standard deviation of the noise.
    """

    format: str | None = None
    n_tokens: int | None = None
    epsilon: float | None = None
    touching: float | None = None
    sigma: float | None = None


@dataclass(frozen=True)
class Settled:
    """What to simulate with.

    Attributes:
        format: Storage format's name.
        n_tokens: Tokens of a trial.
        epsilon: The length in which distances are quoted; None for that of the centre's numbers.
        touching: The distance up to which vectors touch; None for twice epsilon.
        sigma: Standard deviation of the noise.
        said: What was taken from where, in words; empty if nothing was.
    """

    format: str
    n_tokens: int
    epsilon: float | None
    touching: float | None
    sigma: float
    said: str


@dataclass(frozen=True)
class Centre:
    """A centre, and what came with it.

    Attributes:
        values: (d,) float64.
        where: What error lines call it.
        terms: What came with it.
        of_rounded_rows: Whether it is a mean of rounded rows rather than the centre of the noise.
    """

    values: Float64Array
    where: str = "centroid"
    terms: Terms = Terms()
    of_rounded_rows: bool = False


Centred: TypeAlias = Centre | Fit | str | Path | npt.ArrayLike


def as_centre(given: Centred) -> Centre:
    """The centre that a fit, a file (``FILE`` or ``FILE:key``) or an array holds.

    Raises:
        SelectionError: It is no vector of finite numbers.
        SourceError: The file cannot be read, or what it says of itself is damaged.
    """
    if isinstance(given, Centre):
        return given
    if isinstance(given, Fit):
        return Centre(given.centre, "the fit", Terms(**fit_terms(given)))
    if isinstance(given, (str, Path)):
        return _read(str(given))
    return Centre(checked_centroid(given, "exact"))


def fit_terms(fit: Fit) -> dict[str, Any]:
    """What goes with a fit's centre: the fields of `Terms`."""
    return {
        "format": fit.format.name,
        "n_tokens": fit.n_tokens,
        "epsilon": fit.epsilon,
        "touching": 2 * fit.epsilon,
        "sigma": fit.sigma,
    }


def settle(centre: Centre, given: Terms, like: Observation | None = None) -> Settled:
    """What to simulate with: what is given, then what a measured row says, then the centre.

    A cluster has one format and one number of tokens: two that differ are refused, but for the
    number of rows that census took a mean of. Lengths are
    conventions: other ones may be asked for than came with the centre, but not other ones than
    those of a measured row, whose topology they decide. Any sigma may be tried.

    Args:
        centre: The centre.
        given: What the caller asks for.
        like: The measured row that trials are to be like.

    Raises:
        SelectionError: A contradiction, or nothing says how many tokens, or which sigma.
    """
    sources = [("what is asked for", given)]
    if like is not None:
        sources.append((like.where, _terms_of(like)))
    sources.append((centre.where, centre.terms))
    _agree("format", sources)
    # The rows that a mean was taken of are seldom the whole cluster.
    _agree("n_tokens", sources[:-1] if centre.of_rounded_rows else sources)
    for name in ("epsilon", "touching"):
        _agree(name, sources[:-1])
    terms = Terms(**{field.name: _first(field.name, sources) for field in fields(Terms)})
    if given.epsilon is not None and given.touching is None and like is None:
        # Twice the epsilon that is asked for, not the centre's.
        terms = replace(terms, touching=None)
    if terms.n_tokens is None:
        raise SelectionError(
            "nothing says how many tokens a trial has",
            where=centre.where,
            remedy="give their number, or the centre that fit writes",
        )
    if terms.sigma is None:
        raise SelectionError(
            "no sigma is given, and no fitted one came with the centre",
            where=centre.where,
            remedy="give sigma, or the centre that fit writes",
        )
    said = [
        f"{', '.join(parts)} from {where}"
        for where, held in sources[1:]
        if (parts := _taken(given, held, terms))
    ]
    return Settled(
        terms.format or DEFAULT_FORMAT,
        terms.n_tokens,
        terms.epsilon,
        terms.touching,
        terms.sigma,
        "; ".join(said),
    )


def _read(spec: str) -> Centre:
    array = load_array(spec, "centroid")
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "fV":  # V: ml_dtypes
        raise SelectionError(
            f"a centroid of shape {list(array.shape)} and dtype {array.dtype}",
            where=spec,
            remedy="give one floating-point number per dimension",
        )
    metadata = load_metadata(spec)
    terms = Terms(
        format=metadata.get("format"),
        n_tokens=_number(metadata, "n_tokens", int, spec),
        epsilon=_number(metadata, "epsilon", float, spec),
        touching=_number(metadata, "touching", float, spec),
        sigma=_number(metadata, "sigma", float, spec),
    )
    return Centre(array.astype(np.float64), spec, terms, metadata.get("origin") == "census")


def _number(
    metadata: dict[str, str], name: str, kind: Callable[[str], Any], where: str
) -> Any | None:
    if name not in metadata:
        return None
    try:
        return kind(metadata[name])
    except ValueError:
        raise SourceError(
            f"its {name} is {metadata[name][:40]!r}, not a number",
            where=where,
            remedy="write it again",
        ) from None


def _terms_of(like: Observation) -> Terms:
    tokens = like.values[_N_TOKENS]
    n_tokens = None if np.isnan(tokens) else int(tokens)
    return Terms(like.format, n_tokens, like.epsilon, like.touching)


def _agree(name: str, sources: Sequence[tuple[str, Terms]]) -> None:
    """Refuse two sources that say different things."""
    said = [(where, held) for where, terms in sources if (held := getattr(terms, name)) is not None]
    for where, held in said[1:]:
        first, wanted = said[0]
        # Distances are float32 numbers, and so is what they are compared with.
        same = held == wanted or (
            name == "touching" and touching_distance(held) == touching_distance(wanted)
        )
        if not same:
            raise SelectionError(
                f"{name} is {wanted} by {first}, but {held} by {where}",
                remedy="leave out the one that is wrong; a bare array as the centre says nothing",
            )


def _first(name: str, sources: Sequence[tuple[str, Terms]]) -> Any:
    return next(
        (value for _, terms in sources if (value := getattr(terms, name)) is not None), None
    )


def _taken(given: Terms, held: Terms, settled: Terms) -> list[str]:
    """What was taken from a source, in words."""
    return [
        words.format(value)
        for name, words in _WORDS.items()
        if (value := getattr(settled, name)) is not None
        and getattr(given, name) is None
        and getattr(held, name) == value
    ]
