"""Where the vectors of the touching graph are put on the page: near ones near one another."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import minimum_spanning_tree

from deadtokens.kernels.types import Float64Array, Int64Array

_NEAREST = 0.12  # how far apart the nearest pair is drawn, the farthest being 1
_STRESS_PASSES = 100
_PUSHES = 100
_GAP = 2.0
_DIGITS = 1  # of a position, in pixels
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def positions(
    l_inf: npt.NDArray[np.float32], radii: Float64Array, width: float, height: float
) -> Float64Array:
    """(m, 2) places in a picture: multidimensional scaling, then dots that overlap moved apart.

    Distances span many powers of ten, so that their logarithms are scaled. Classical scaling gives
    the start, majorisation of the stress (SMACOF) the places.

    Args:
        l_inf: (m, m) distances, positive off the diagonal.
        radii: (m,) of the dots.
        width: Of the picture, in the unit of the radii.
        height: Likewise.
    """
    m = len(l_inf)
    size = np.array([width, height])
    if m == 1:
        return np.asarray(size[None, :] / 2)
    wanted = _wanted(l_inf)
    places = _least_stress(_classical(wanted), wanted)
    margin = float(radii.max()) + _GAP
    places = _moved_apart(_filling(places, size, margin), radii)
    return np.asarray(_filling(places, size, margin).round(_DIGITS))


def _wanted(l_inf: npt.NDArray[np.float32]) -> Float64Array:
    """(m, m) distances on the page: logarithms, from `_NEAREST` to 1."""
    off = ~np.eye(len(l_inf), dtype=np.bool_)
    logs = np.zeros(l_inf.shape)
    logs[off] = np.log(np.maximum(l_inf[off].astype(np.float64), 1e-45))
    low, high = logs[off].min(), logs[off].max()
    wanted = np.zeros(l_inf.shape)
    wanted[off] = (
        1.0 if low == high else _NEAREST + (1 - _NEAREST) * (logs[off] - low) / (high - low)
    )
    return wanted


def _classical(wanted: Float64Array) -> Float64Array:
    """(m, 2) by classical scaling, signed so that each axis has a positive largest entry."""
    m = len(wanted)
    centring = np.eye(m) - 1 / m
    values, vectors = np.linalg.eigh(-0.5 * centring @ (wanted * wanted) @ centring)
    places = np.zeros((m, 2))
    for axis in range(min(2, m)):
        vector = vectors[:, -1 - axis] * math.sqrt(max(float(values[-1 - axis]), 0.0))
        sign = np.sign(vector[np.abs(vector).round(9).argmax()])
        places[:, axis] = vector * (sign or 1.0)
    angles = np.arange(m) * _GOLDEN_ANGLE  # equal places could never part
    return places + 0.01 * np.column_stack([np.cos(angles), np.sin(angles)])


def _least_stress(places: Float64Array, wanted: Float64Array) -> Float64Array:
    """Guttman transforms: each lowers the sum of squared differences from the wanted distances."""
    for _ in range(_STRESS_PASSES):
        length = _lengths(places)
        np.fill_diagonal(length, 1.0)
        ratio = wanted / np.maximum(length, 1e-12)
        places = (ratio.sum(axis=1)[:, None] * places - ratio @ places) / len(places)
    return places


def _lengths(places: Float64Array) -> Float64Array:
    plane = places[:, 0] + 1j * places[:, 1]
    return np.asarray(np.abs(plane[:, None] - plane[None, :]))


def _filling(places: Float64Array, size: Float64Array, margin: float) -> Float64Array:
    """The same, stretched to fill the picture."""
    low, high = places.min(axis=0), places.max(axis=0)
    spread = np.where(high - low > 1e-9, high - low, 1.0)
    return np.asarray(size / 2 + (places - (low + high) / 2) / spread * (size - 2 * margin))


def _moved_apart(places: Float64Array, radii: Float64Array) -> Float64Array:
    """Dots that overlap push each other away until none do, or for so many passes."""
    least = radii[:, None] + radii[None, :] + _GAP
    np.fill_diagonal(least, 0.0)
    for _ in range(_PUSHES):
        length = np.maximum(_lengths(places), 1e-6)
        overlap = np.maximum(least - length, 0.0)
        if not overlap.any():
            break
        push = 0.3 * overlap / length
        places = places + push.sum(axis=1)[:, None] * places - push @ places
    return places


def touching_pairs(l_inf: npt.NDArray[np.float32], touching: float) -> Int64Array:
    """(e, 2) pairs of vectors at most the touching distance apart."""
    upper = np.triu(l_inf <= np.float32(touching), 1)
    return np.argwhere(upper).astype(np.int64)


def nearest_links(l_inf: npt.NDArray[np.float32], touching: float) -> Int64Array:
    """(e, 2) of those pairs, the edges of a minimum spanning forest: enough to hold it together."""
    tree = minimum_spanning_tree(np.where(l_inf <= np.float32(touching), l_inf, 0)).tocoo()
    pairs = np.column_stack([tree.row, tree.col]).astype(np.int64)
    pairs.sort(axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
