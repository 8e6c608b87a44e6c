"""Random numbers from a counter: Philox 4x32-10 and the draws made from its words.

Philox (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11, 2011)
is a bijection of 128-bit counters under a 64-bit key. Nothing is carried from one trial to the
next, so any trial, and in the direct draw any row, can be drawn alone.

Notation. A *word* is 64 random bits, two of them to a *block* (one counter value). The counter is

    32 bits block number | 32 bits row | 64 bits trial

and the key is a hash of seed and sigma (`deadtokens.sampling.stream_key`). The row is the token's
number in the direct draw, where the upper half of the block numbers belongs to the rejection
steps, and `NO_ROW` in occupancy sampling.

A *stream* is two uint64 arrays: its state (`STATE_SIZE`: key, row, trial, next block, position) and
an even number of words drawn ahead, which depends on their number: it is part of the stream, and
`AHEAD` everywhere. Philox has only 32-bit products, so that drawing ahead vectorises.

All functions here are also plain Python: with NUMBA_DISABLE_JIT=1 they give the same numbers. They
work in place.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from deadtokens.kernels.compiling import kernel

Words = npt.NDArray[np.uint64]

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ONE = np.uint64(1)

NO_ROW = 0xFFFFFFFF
REJECTION_BLOCKS = 0x80000000

STATE_SIZE = 6
AHEAD = 128
_KEY, _ROW, _TRIAL, _NEXT, _POSITION = range(5)

# Below this mean a binomial is found by summing its probabilities, above it by rejection, which
# is exact only from a mean of 10 on (Hoermann 1993).
BINOMIAL_MEAN = 10.0

# log(k!) = log(sqrt(2 pi)) + (k + 1/2) log(k + 1) - (k + 1) + remainder(k): the remainder for
# k < 16; from there on five terms of its series are exact to float64.
_REMAINDERS = np.array(
    [
        math.lgamma(k + 1.0)
        - 0.5 * math.log(2.0 * math.pi)
        - (k + 0.5) * math.log(k + 1.0)
        + (k + 1.0)
        for k in range(16)
    ]
)


# Inlined before LLVM sees it: as a call it keeps the loop of fill_words from being vectorised.
@njit(inline="always")
def philox_block(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Philox 4x32-10 of one counter: four 32-bit numbers, each held in a uint64, as are all.

    O(1): ten rounds.
    """
    for _ in range(10):
        p0 = _MULTIPLIER_0 * c0
        p1 = _MULTIPLIER_1 * c2
        c0 = (p1 >> _HALF) ^ c1 ^ k0
        c1 = p1 & _LOW
        c2 = (p0 >> _HALF) ^ c3 ^ k1
        c3 = p0 & _LOW
        k0 = (k0 + _WEYL_0) & _LOW
        k1 = (k1 + _WEYL_1) & _LOW
    return c0, c1, c2, c3


@kernel
def fill_words(words: Words, key: int, row: int, trial: int, first_block: int) -> None:
    """Fill ``words`` (uint64, even length 2 b) with blocks first_block .. first_block + b - 1.

    Block i gives the words i and b + i. O(b).
    """
    k0 = np.uint64(key) & _LOW
    k1 = np.uint64(key) >> _HALF
    c1 = np.uint64(row) & _LOW
    c2 = np.uint64(trial) & _LOW
    c3 = np.uint64(trial) >> _HALF
    base = np.uint64(first_block)
    blocks = words.size >> 1
    for i in range(blocks):
        c0 = (base + np.uint64(i)) & _LOW
        w0, w1, w2, w3 = philox_block(c0, c1, c2, c3, k0, k1)
        words[i] = w0 | (w1 << _HALF)
        words[blocks + i] = w2 | (w3 << _HALF)


@kernel
def start_stream(state: Words, ahead: Words, key: int, row: int, trial: int, block: int) -> None:
    """Point a stream at the given place, O(1); its first draw fills the words ahead."""
    state[_KEY] = np.uint64(key)
    state[_ROW] = np.uint64(row)
    state[_TRIAL] = np.uint64(trial)
    state[_NEXT] = np.uint64(block)
    state[_POSITION] = np.uint64(ahead.size)


@kernel
def next_word(state: Words, ahead: Words) -> int:
    """The next 64 random bits, as uint64; O(1), the words ahead shared out over their draws."""
    position = state[_POSITION]
    if position == np.uint64(ahead.size):
        fill_words(ahead, state[_KEY], state[_ROW], state[_TRIAL], state[_NEXT])
        state[_NEXT] += np.uint64(ahead.size >> 1)
        position = np.uint64(0)
    state[_POSITION] = position + _ONE
    return ahead[position]  # type: ignore[no-any-return]


@kernel
def unit_interval(word: int) -> float:
    """A word as a number in (0, 1): (its upper 52 bits + 1/2) / 2^52, exactly; O(1)."""
    return (np.float64(word >> np.uint64(12)) + 0.5) * 2.0**-52


@kernel
def uniform(state: Words, ahead: Words) -> float:
    """A uniform number strictly between 0 and 1; O(1)."""
    return unit_interval(next_word(state, ahead))  # type: ignore[no-any-return]


@kernel
def exponential(state: Words, ahead: Words) -> float:
    """An exponential number of mean 1, never 0, by its logarithm; O(1)."""
    return -math.log(uniform(state, ahead))


@kernel
def stirling_remainder(k: float) -> float:
    """What Stirling's formula for log(k!) leaves out, k a whole number; O(1), by its series."""
    if k < 16.0:
        return _REMAINDERS[int(k)]  # type: ignore[no-any-return]
    inverse = 1.0 / (k + 1.0)
    square = inverse * inverse
    return inverse * (
        1.0 / 12.0
        - square
        * (1.0 / 360.0 - square * (1.0 / 1260.0 - square * (1.0 / 1680.0 - square / 1188.0)))
    )


@kernel
def _binomial_by_summing(state: Words, ahead: Words, n: int, p: float) -> int:
    odds = p / (1.0 - p)
    none = math.exp(n * math.log1p(-p))
    while True:
        left = uniform(state, ahead)
        probability = none
        k = 0
        while left > probability and k < n:
            left -= probability
            k += 1
            probability *= odds * (n - k + 1) / k
        # Rounding may leave a crumb beyond the last k; drawing anew removes it.
        if left <= probability:
            return k


@kernel
def _binomial_by_rejection(state: Words, ahead: Words, n: int, p: float) -> int:
    # Transformed rejection with squeeze, algorithm BTRS of W. Hoermann, "The generation of
    # binomial random variates", J. Stat. Comput. Simul. 46 (1993): p <= 1/2 and n p >= 10.
    spread = math.sqrt(n * p * (1.0 - p))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p
    centre = n * p + 0.5
    squeeze = 0.92 - 4.2 / b
    odds = p / (1.0 - p)
    alpha = (2.83 + 5.1 / b) * spread
    mode = math.floor((n + 1) * p)
    while True:
        u = uniform(state, ahead) - 0.5
        v = uniform(state, ahead)
        us = 0.5 - abs(u)
        k = math.floor((2.0 * a / us + b) * u + centre)
        if us >= 0.07 and v <= squeeze:
            return int(k)
        if k < 0 or k > n:
            continue
        bound = (
            (mode + 0.5) * math.log((mode + 1.0) / (odds * (n - mode + 1.0)))
            + (n + 1.0) * math.log((n - mode + 1.0) / (n - k + 1.0))
            + (k + 0.5) * math.log(odds * (n - k + 1.0) / (k + 1.0))
            + stirling_remainder(mode)
            + stirling_remainder(n - mode)
            - stirling_remainder(k)
            - stirling_remainder(n - k)
        )
        if math.log(v * alpha / (a / (us * us) + b)) <= bound:
            return int(k)


@kernel
def binomial(state: Words, ahead: Words, n: int, p: float) -> int:
    """A binomial count of n trials of probability p, 0 <= p <= 1, exact to float64 rounding.

    O(1) on average, whatever n: a sum of some `BINOMIAL_MEAN` terms, or rejection.
    """
    if p <= 0.0 or n <= 0:
        return 0
    if p >= 1.0:
        return n
    rare = min(p, 1.0 - p)
    if n * rare < BINOMIAL_MEAN:
        k = _binomial_by_summing(state, ahead, n, rare)
    else:
        k = _binomial_by_rejection(state, ahead, n, rare)
    return k if p <= 0.5 else n - k  # type: ignore[no-any-return]
