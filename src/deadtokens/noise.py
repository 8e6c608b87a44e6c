"""Kinds of noise, at standard deviation 1: tails, intervals and squared densities."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
from scipy import special

from deadtokens.formats import Float64Array

Noise: TypeAlias = Literal["gaussian", "laplace", "uniform"]

_SQRT2 = math.sqrt(2.0)
_SQRT3 = math.sqrt(3.0)


def upper_tail(noise: Noise, t: Float64Array) -> Float64Array:
    """P(noise of standard deviation 1 > t), to full relative precision for t >= 0."""
    if noise == "gaussian":
        return np.asarray(special.ndtr(-t), dtype=np.float64)
    if noise == "laplace":
        with np.errstate(over="ignore"):
            tail = np.exp(-_SQRT2 * np.abs(t)) / 2
        return np.asarray(np.where(t >= 0, tail, 1 - tail))
    return np.asarray(np.clip((_SQRT3 - t) / (2 * _SQRT3), 0.0, 1.0))


def reach(noise: Noise, tail: float) -> float:
    """The t beyond which noise of standard deviation 1 lies with probability ``tail`` or less."""
    if noise == "gaussian":
        return float(-special.ndtri(tail))
    if noise == "laplace":
        return float(-np.log(2 * tail) / _SQRT2)
    return float(_SQRT3)


def quantile(noise: Noise, u: Float64Array) -> Float64Array:
    """The t below which noise of standard deviation 1 lies with probability u, in 0 .. 1."""
    if noise == "gaussian":
        return np.asarray(special.ndtri(u), dtype=np.float64)
    if noise == "laplace":
        with np.errstate(divide="ignore"):
            tail = np.log(2 * np.minimum(u, 1 - u)) / _SQRT2
        return np.asarray(np.where(u < 0.5, tail, -tail))
    return np.asarray((2 * u - 1) * _SQRT3)


def interval_probabilities(
    noise: Noise, low: Float64Array, high: Float64Array, width: Float64Array
) -> Float64Array:
    """P(low < noise < high) at standard deviation 1, for arrays of intervals.

    The width is given beside both ends because an interval may be far narrower than the spacing of
    floating-point numbers there, or so wide that one end plus the width misses the other.
    """
    if noise == "uniform":
        inside = (low > -_SQRT3) & (high < _SQRT3)
        overlap = np.minimum(high, _SQRT3) - np.maximum(low, -_SQRT3)
        return np.asarray(np.where(inside, width, np.maximum(overlap, 0.0)) / (2 * _SQRT3))
    # Mirrored to the side where the tails are small; an interval across 0 takes 1 minus both.
    near, far = np.where(low >= 0, low, -high), np.where(low >= 0, high, -low)
    across = near < 0
    tail_near = upper_tail(noise, np.abs(near))
    tail_far = upper_tail(noise, far)
    probability = np.where(across, 1 - tail_near - tail_far, tail_near - tail_far)
    if noise == "laplace":
        with np.errstate(over="ignore"):
            exact = -tail_near * np.expm1(-_SQRT2 * width)
        return np.asarray(np.where(across, probability, exact))
    # The difference of two nearly equal tails: density in the middle, with the next term of its
    # Taylor series; the one after that is below 1e-15 of it.
    with np.errstate(over="ignore", invalid="ignore"):
        middle = near + width / 2
        density = np.exp(-middle * middle / 2) / np.sqrt(2 * np.pi)
        narrow = density * width * (1 + (middle * middle - 1) * width * width / 24)
        use = width * (1 + np.abs(middle)) < 1e-3
    return np.where(use, narrow, probability)


def squared_density(noise: Noise, low: float, high: float) -> float:
    """Integral of the squared density of noise of standard deviation 1 from low to high."""
    if noise == "gaussian":
        ends = special.ndtr(_SQRT2 * np.array([low, high]))
        return float(ends[1] - ends[0]) / (2 * math.sqrt(math.pi))
    if noise == "uniform":
        return max(0.0, min(high, _SQRT3) - max(low, -_SQRT3)) / 12
    # The square of exp(-sqrt 2 |t|) / sqrt 2 is a Laplace density of half the scale, over 2 sqrt 2.
    tails = [math.exp(-2 * _SQRT2 * abs(t)) / 2 for t in (low, high)]
    below = [tail if t < 0 else 1 - tail for t, tail in zip((low, high), tails, strict=True)]
    return (below[1] - below[0]) / (2 * _SQRT2)
