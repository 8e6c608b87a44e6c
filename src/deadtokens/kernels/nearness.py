"""Loops over the rows of a matrix: how far each lies from a point, and random projections of it.

Sums run in a fixed order over a fixed number of lanes, whatever the processor, so that a row's
distance is the same number wherever it stands and whoever asks (docs/method.md, section 16).
"""

from __future__ import annotations

import numpy as np

from deadtokens.formats import Codes
from deadtokens.kernels.compiling import array_kernel
from deadtokens.kernels.types import BoolArray, Float32Array, Float64Array, Int64Array

LANES = 16


@array_kernel
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
    """Squared Euclidean distance and lattice steps from a centre, and which rows are all zeros.

    D^2 and S of equation 16.1, in O(m d) time and O(1) memory. Rows with NaN or infinities give
    numbers without a meaning.

    Args:
        codes: (m, d) bit patterns.
        values: (m, d) what they stand for.
        centre: (d,) the point.
        ordinals: (d,) the ordinals nearest to it.
        sign_bit: The code of -0.0.
        squared: (m,) output: sum of squared differences.
        steps: (m,) output: largest difference of ordinals over the dimensions.
        zero: (m,) output: whether every value is zero, of either sign.
    """
    d = codes.shape[1]
    whole = d - d % LANES
    sums = np.empty(LANES)
    for i in range(codes.shape[0]):
        sums[:] = 0.0
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                difference = values[i, start + lane] - centre[start + lane]
                sums[lane] += difference * difference
        for k in range(whole, d):
            difference = values[i, k] - centre[k]
            sums[k - whole] += difference * difference
        total = 0.0
        for lane in range(LANES):
            total += sums[lane]
        squared[i] = total
        farthest = np.int64(0)
        bits = np.int64(0)
        for k in range(d):
            code = np.int64(codes[i, k])
            bits |= code & (sign_bit - 1)
            ordinal = code if code < sign_bit else sign_bit - code
            apart = ordinal - ordinals[k]
            farthest = max(farthest, max(apart, -apart))
        steps[i] = farthest
        zero[i] = bits == 0


@array_kernel
def project(values: Float32Array, signs: Float32Array, sketch: Float32Array) -> None:
    """Random projections (equation 16.5): the columns, with random signs, dealt round to w sums.

    O(m d) time, O(w) memory.

    Args:
        values: (m, d) numbers.
        signs: (d,) of -1 and 1.
        sketch: (m, w) output: column k of the values goes to column k mod w.
    """
    d = values.shape[1]
    width = sketch.shape[1]
    whole = d - d % width
    sums = np.empty(width)
    for i in range(values.shape[0]):
        sums[:] = 0.0
        for start in range(0, whole, width):
            for column in range(width):
                sums[column] += values[i, start + column] * signs[start + column]
        for k in range(whole, d):
            sums[k - whole] += values[i, k] * signs[k]
        for column in range(width):
            sketch[i, column] = sums[column]
