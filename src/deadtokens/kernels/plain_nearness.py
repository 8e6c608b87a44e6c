"""The plain twins of `deadtokens.kernels.nearness`: NumPy alone, whole arrays at once."""

from __future__ import annotations

import numpy as np

from deadtokens.formats import Codes
from deadtokens.kernels.types import BoolArray, Float32Array, Float64Array, Int64Array


def distances(
    codes: Codes,
    values: Float32Array,
    centre: Float64Array,
    ordinals: Int64Array,
    sign_bit: int,
    squared: Float64Array,
    steps: Int64Array,
    zero: BoolArray,
) -> None:
    """Twin of `nearness.distances`."""
    squared[:] = ((values.astype(np.float64) - centre) ** 2).sum(axis=1)
    wide = codes.astype(np.int64)
    own = np.where(wide < sign_bit, wide, sign_bit - wide)
    steps[:] = np.abs(own - ordinals).max(axis=1)
    zero[:] = (values == 0).all(axis=1)


def project(values: Float32Array, signs: Float32Array, sketch: Float32Array) -> None:
    """Twin of `nearness.project`."""
    signed = values.astype(np.float64) * signs
    for column in range(sketch.shape[1]):
        sketch[:, column] = signed[:, column :: sketch.shape[1]].sum(axis=1)
