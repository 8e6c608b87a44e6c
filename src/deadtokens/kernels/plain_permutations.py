"""The plain twins of `deadtokens.kernels.permutations`: whole numbers of Python, NumPy, no tricks.

They draw from the same streams, so that they deal the same rows.
"""

from __future__ import annotations

import numpy as np

from deadtokens.kernels.random import (
    NO_ROW,
    REJECTION_BLOCKS,
    Words,
    fill_words,
    next_word,
    start_stream,
)
from deadtokens.kernels.types import Float64Array, Int32Array, Int64Array, UInt64Array


def settled(product: int, width: int, state: Words, ahead: Words) -> int:
    """Twin of `permutations.settled`."""
    # The 2^32 products, in order of their lower half: without the lowest, every upper half has
    # 2^32 // width of them.
    while product % 2**32 < 2**32 % width:
        product = int(next_word(state, ahead)) % 2**32 * width
    return product


def count_equal(hashes: UInt64Array, keys: UInt64Array, held: Int64Array, row: Int64Array) -> None:
    """Twin of `permutations.count_equal`."""
    del keys, held
    populations = np.unique(hashes, return_counts=True)[1]
    holes = populations[populations > 1]
    pairs = (populations * (populations - 1) // 2).sum()
    row[:3] = populations.size, holes.size, populations.size - holes.size
    row[3:] = holes.max(initial=0), pairs


def deal_columns(
    key: int,
    first_permutation: int,
    first: Int64Array,
    counts: Int64Array,
    words: UInt64Array,
    scores: Float64Array,
    bits: Words,
    order: Int32Array,
    hashes: UInt64Array,
    keys: UInt64Array,
    held: Int64Array,
    state: Words,
    ahead: Words,
    dealt: Float64Array,
    rows: Int64Array,
) -> None:
    """Twin of `permutations.deal_columns`."""
    n = hashes.size
    for i in range(len(rows)):
        start_stream(state, ahead, key, NO_ROW, first_permutation + i, REJECTION_BLOCKS)
        block = 0
        order[:] = np.arange(n)
        cells = np.repeat(first[:-1, None], n, axis=1)  # (v, n): all hold the fullest
        for k in range(len(first) - 1):
            others = np.arange(first[k] + 1, first[k + 1])
            dealt_out = np.repeat(others, counts[others])
            blocks = -(-len(dealt_out) // 4)
            fill_words(bits[: 2 * blocks], key, NO_ROW, first_permutation + i, block)
            block += blocks
            halves = [part for pair in bits[: 2 * blocks].tolist() for part in divmod(pair, 2**32)]
            halves[::2], halves[1::2] = halves[1::2], halves[::2]  # the lower half is used first
            for drawn, (cell, number) in enumerate(zip(dealt_out, halves, strict=False)):
                place = drawn + (settled(number * (n - drawn), n - drawn, state, ahead) >> 32)
                order[[drawn, place]] = order[[place, drawn]]
                cells[k, order[drawn]] = cell
        hashes[:] = words[cells].sum(axis=0, dtype=np.uint64)
        dealt[i] = scores[cells[: dealt.shape[1]]]
        count_equal(hashes, keys, held, rows[i])
