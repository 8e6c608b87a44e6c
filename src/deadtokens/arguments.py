"""A centroid and standard deviations as a caller gives them, checked."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from deadtokens.errors import SelectionError
from deadtokens.formats import Float64Array, Intermediate

# What those functions take by name themselves.
_SHARED = ("format", "epsilon", "touching", "workers", "trials", "sigmas", "n_tokens", "run")


def checked_centroid(centroid: npt.ArrayLike, intermediate: Intermediate) -> Float64Array:
    """(d,) float64, of float32 numbers where sums are made in float32.

    Raises:
        SelectionError: It is no vector of finite real numbers.
    """
    values = _real(centroid, "centroid")
    if values.ndim != 1 or values.size == 0:
        raise SelectionError(
            f"shape {values.shape}", where="centroid", remedy="give one number per dimension"
        )
    if intermediate == "float32":
        with np.errstate(over="ignore"):
            values = values.astype(np.float32).astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise SelectionError(
            f"{values[bad[0]]} in dimension {bad[0]} ({bad.size} of {values.size} not finite)",
            where="centroid",
            remedy="give finite numbers within float32",
        )
    return values


def checked_sigma(sigma: npt.ArrayLike, d: int) -> Float64Array:
    """(d,) float64.

    Raises:
        SelectionError: It is neither a number >= 0 nor d of them.
    """
    values = _real(sigma, "sigma")
    if values.ndim > 1 or (values.ndim == 1 and values.size != d):
        raise SelectionError(
            f"shape {values.shape} for {d} dimensions",
            where="sigma",
            remedy="give one number, or one per dimension",
        )
    bad = values[~(np.isfinite(values) & (values >= 0))]
    if bad.size:
        raise SelectionError(
            f"{bad.flat[0]}", where="sigma", remedy="a standard deviation is a number >= 0"
        )
    return np.broadcast_to(values, (d,)).copy()


def _real(values: npt.ArrayLike, name: str) -> Float64Array:
    try:
        array = np.asarray(values)
        if array.dtype.kind in "cOUSMmb":
            raise TypeError(f"dtype {array.dtype}")
        return np.array(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SelectionError(
            f"not real numbers ({error})", where=name, remedy="give floating-point numbers"
        ) from None


def check_names(function: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Refuse keyword arguments that a function hands on to another and that this has not.

    Raises:
        SelectionError: A name that is not known.
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, (*known, *_SHARED), 1)
            raise SelectionError(
                f"{function} has no argument {name!r}",
                remedy=f"did you mean {near[0]}=?" if near else f"it has {', '.join(known)}",
            )
