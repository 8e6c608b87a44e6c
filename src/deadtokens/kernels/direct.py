"""The direct draw: every coordinate of every token, drawn and rounded.

The noise z is a float64 number made of 52 random bits and more where it is rare (gaussian: by a
ziggurat of 256 layers; laplace: by a logarithm; uniform: as it is). It is scaled and added to the
centroid in float64, and the sum is rounded to float32 (if training code would have done so) and to
the format, both to nearest, ties to even. It differs from the real-valued noise of the model by
about 2^-52 of sigma, so that a coordinate's distribution is within some 2^-44 of the stated one.

Every token draws from its own place in the stream, hence any rows can be drawn alone.

Notation (docs/method.md, section 7): a dimensions are active, *quantum* is the spacing of the
format in a binade. Kernels work in place, O(1) memory besides the arrays they are given.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from deadtokens.kernels.compiling import kernel
from deadtokens.kernels.random import (
    REJECTION_BLOCKS,
    Words,
    exponential,
    fill_words,
    next_word,
    start_stream,
    uniform,
    unit_interval,
)
from deadtokens.kernels.types import Float64Array, Int64Array, OrdinalArray

GAUSSIAN, LAPLACE, UNIFORM = range(3)

_SQRT_HALF = math.sqrt(0.5)
_SQRT3 = math.sqrt(3.0)


def _ziggurat() -> tuple[Float64Array, npt.NDArray[np.uint64], Float64Array]:
    # Marsaglia and Tsang, "The ziggurat method for generating random variables", J. Stat. Softw.
    # 5 (2000): 256 layers of area v under exp(-x^2 / 2), the lowest including the tail beyond r.
    # Layer 0 is the lowest. Returns width of layer / 2^52, the bits below which a point of the
    # layer is surely under the curve, and the curve at the layers' edges.
    r, v = 3.6541528853610088, 0.00492867323399
    # v as r implies it, which it is known to fewer digits than r.
    v = r * math.exp(-r * r / 2) + math.sqrt(math.pi / 2) * math.erfc(r / math.sqrt(2))
    edges = np.zeros(257)
    edges[0] = v / math.exp(-r * r / 2)
    edges[1] = r
    for i in range(2, 256):
        height = v / edges[i - 1] + math.exp(-(edges[i - 1] ** 2) / 2)
        edges[i] = math.sqrt(-2 * math.log(min(height, 1.0)))
    edges[256] = 0.0
    surely = (edges[1:] / edges[:-1] * 2.0**52).astype(np.uint64)
    return edges[:-1] * 2.0**-52, surely, np.exp(-edges * edges / 2)


_WIDTH, _SURELY, _CURVE = _ziggurat()
_R = 3.6541528853610088

# Adding and subtracting it rounds a number below 2^51 to the nearest whole one, ties to even.
_ROUNDER = np.float64(1.5 * 2.0**52)
_ROUNDER_BITS = np.int64(_ROUNDER.view(np.int64))
_MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)
_EXPONENT_BIAS = np.int64(1023)
_FRACTION_BITS = np.int64(52)


@kernel
def round_to_ordinal(x: float, fraction_bits: int, min_exponent: int) -> Any:
    """Ordinal (equation 1.1) of a float64 number rounded to nearest, ties to even; O(1).

    No overflow is looked for.
    """
    bits = np.float64(x).view(np.int64)
    exponent = ((bits & _MAGNITUDE) >> _FRACTION_BITS) - _EXPONENT_BIAS
    if exponent < min_exponent:
        exponent = np.int64(min_exponent)
    # 1 / quantum, made from its bits.
    scale = np.int64((_EXPONENT_BIAS + fraction_bits - exponent) << _FRACTION_BITS).view(np.float64)
    quanta = np.float64(abs(x) * scale + _ROUNDER).view(np.int64) - _ROUNDER_BITS
    # The first binade continues the subnormal numbers; each later one begins 2^fraction_bits on.
    ordinal = quanta + ((exponent - min_exponent) << fraction_bits)
    return -ordinal if bits < 0 else ordinal


@kernel
def ordinal_value(ordinal: int, fraction_bits: int, min_exponent: int) -> float:
    """Value of an ordinal, as float64: the inverse of equation 1.1; O(1)."""
    magnitude = np.int64(abs(ordinal))
    binade = max((magnitude >> fraction_bits) - np.int64(1), np.int64(0))
    quanta = np.float64(magnitude - (binade << fraction_bits))
    shift = _EXPONENT_BIAS + binade + min_exponent - fraction_bits
    value = quanta * np.int64(shift << _FRACTION_BITS).view(np.float64)
    return -value if ordinal < 0 else value


@kernel
def _normal_rejected(word: int, state: Words, ahead: Words) -> float:
    # Goes on where the ziggurat's quick test fails for this word: outside the layer's sure part.
    # O(1) words on average.
    while True:
        layer = word & np.uint64(0xFF)
        bits = word >> np.uint64(12)
        x = np.float64(bits) * _WIDTH[layer]
        negative = (word & np.uint64(0x100)) != np.uint64(0)
        if bits < _SURELY[layer]:
            break
        if layer == np.uint64(0):
            # The tail beyond r, by Marsaglia's method.
            while True:
                x = exponential(state, ahead) / _R
                if 2.0 * exponential(state, ahead) > x * x:
                    break
            x += _R
            break
        low, high = _CURVE[layer], _CURVE[layer + np.uint64(1)]
        if low + uniform(state, ahead) * (high - low) < math.exp(-0.5 * x * x):
            break
        word = next_word(state, ahead)
    return -x if negative else x  # type: ignore[no-any-return]


@kernel
def _fill_normals(
    z: Float64Array, words: Words, doubtful: npt.NDArray[np.uint8], state: Words, ahead: Words
) -> None:
    # A pass that vectorises and flags what needs more than one word, then those one by one: O(a).
    for k in range(z.size):
        word = words[k]
        layer = word & np.uint64(0xFF)
        bits = word >> np.uint64(12)
        x = np.float64(bits) * _WIDTH[layer]
        z[k] = -x if (word & np.uint64(0x100)) != np.uint64(0) else x
        doubtful[k] = bits >= _SURELY[layer]
    for k in range(z.size):
        if doubtful[k]:
            z[k] = _normal_rejected(words[k], state, ahead)


@kernel
def fill_noise(
    z: Float64Array,
    noise: int,
    key: int,
    token: int,
    trial: int,
    words: Words,
    doubtful: npt.NDArray[np.uint8],
    state: Words,
    ahead: Words,
) -> None:
    """Noise of standard deviation 1 for one token, as (a,) float64; O(a) time.

    Args:
        z: Receives it.
        noise: GAUSSIAN, LAPLACE or UNIFORM.
        key: The stream key, uint64.
        token: Number of the token in its trial.
        trial: Number of the trial, uint64.
        words: (a or a + 1, even) uint64, overwritten.
        doubtful: (a,) uint8, overwritten.
        state: (STATE_SIZE,) uint64, overwritten.
        ahead: (AHEAD,) uint64, overwritten.
    """
    fill_words(words, key, token, trial, 0)
    if noise == GAUSSIAN:
        start_stream(state, ahead, key, token, trial, REJECTION_BLOCKS)
        _fill_normals(z, words, doubtful, state, ahead)
    elif noise == LAPLACE:
        for k in range(z.size):
            x = -math.log(unit_interval(words[k])) * _SQRT_HALF
            z[k] = -x if (words[k] & np.uint64(1)) != np.uint64(0) else x
    else:
        for k in range(z.size):
            z[k] = (2.0 * unit_interval(words[k]) - 1.0) * _SQRT3


@kernel
def direct_rows(
    codes: OrdinalArray,
    centroid: Float64Array,
    sigma: Float64Array,
    noise: int,
    through_float32: bool,
    fraction_bits: int,
    min_exponent: int,
    key: int,
    first_token: int,
    trial: int,
    z: Float64Array,
    words: Words,
    doubtful: npt.NDArray[np.uint8],
    state: Words,
    ahead: Words,
) -> None:
    """Draw tokens first_token .. first_token + rows - 1 of a trial, in the active dimensions.

    O(rows a) time.

    Args:
        codes: (rows, a) int16 or int32, receives the ordinals.
        centroid: (a,) float64.
        sigma: (a,) float64.
        noise: GAUSSIAN, LAPLACE or UNIFORM.
        through_float32: Whether the sum is rounded to float32 first.
        fraction_bits: The format's.
        min_exponent: The format's.
        key: The stream key, uint64.
        first_token: Number of the first of these tokens.
        trial: Number of the trial, uint64.
        z: (a,) float64, overwritten, as are the arrays that follow.
        words: See `fill_noise`.
        doubtful: See `fill_noise`.
        state: See `fill_noise`.
        ahead: See `fill_noise`.
    """
    for i in range(codes.shape[0]):
        fill_noise(z, noise, key, first_token + i, trial, words, doubtful, state, ahead)
        row = codes[i]
        if through_float32:
            for k in range(z.size):
                x = np.float64(np.float32(centroid[k] + sigma[k] * z[k]))
                row[k] = round_to_ordinal(x, fraction_bits, min_exponent)
        else:
            for k in range(z.size):
                x = centroid[k] + sigma[k] * z[k]
                row[k] = round_to_ordinal(x, fraction_bits, min_exponent)


@kernel
def add_elements(
    codes: OrdinalArray,
    populations: Int64Array,
    centroid: Float64Array,
    fraction_bits: int,
    min_exponent: int,
    scale: float,
    histogram: Int64Array,
    first: Float64Array,
    second: Float64Array,
    third: Float64Array,
    fourth: Float64Array,
    bins: Int64Array,
) -> None:
    """Add a trial's deviations value - centroid to a histogram and to power sums.

    Bin i of the b bins holds floor(deviation * scale) = i - b / 2, the outermost ones whatever lies
    beyond them too. With ``scale`` a power of two the bins are exact. O(m a) time
    (docs/method.md, section 9).

    Args:
        codes: (m, a) ordinals.
        populations: (m,) int64, how often each row counts.
        centroid: (a,) float64.
        fraction_bits: The format's.
        min_exponent: The format's.
        scale: Bins per unit.
        histogram: (b,) int64, added to.
        first: (a,) float64, sum of each dimension's deviations, added to row by row.
        second: (a,) float64, of their squares.
        third: (a,) float64, of their third powers.
        fourth: (a,) float64, of their fourth powers.
        bins: (a,) int64, overwritten.
    """
    half = np.float64(histogram.size >> 1)
    for i in range(codes.shape[0]):
        row = codes[i]
        count = populations[i]
        weight = np.float64(count)
        # One loop each for what vectorises and what does not.
        for k in range(row.size):
            deviation = ordinal_value(row[k], fraction_bits, min_exponent) - centroid[k]
            place = min(max(np.floor(deviation * scale), -half), half - 1.0)
            bins[k] = np.int64(place + half)
            square = deviation * deviation
            first[k] += weight * deviation
            second[k] += weight * square
            third[k] += weight * square * deviation
            fourth[k] += weight * square * square
        for k in range(row.size):
            histogram[bins[k]] += count
