"""Cells dealt to rows at random, column by column: the null of the independence test.

Given how many rows hold each cell of each column, every assignment of cells to rows is equally
likely, and columns are independent (docs/method.md, section 13). A column is dealt by giving its
cells, all but the fullest, to rows drawn without replacement (Fisher-Yates); the rows left over
hold the fullest cell, and cost nothing. A number below w is the upper half of w times 32 random
bits, exactly uniform by rejection (D. Lemire, "Fast random integer generation in an interval", ACM
Trans. Model. Comput. Simul. 29, 2019).

Two rows count as equal if their hashes are: the sum of a random 64-bit word for each cell held,
0 for a column's fullest. The hashes of unequal rows are equal with a chance of 2^-64.

Notation: n rows; the cells of all columns are numbered through, those of column k being first[k]
to first[k + 1] - 1, the fullest first.
"""

from __future__ import annotations

import numpy as np

from deadtokens.kernels.compiling import kernel
from deadtokens.kernels.random import (
    NO_ROW,
    REJECTION_BLOCKS,
    Words,
    fill_words,
    next_word,
    start_stream,
)
from deadtokens.kernels.types import Float64Array, Int32Array, Int64Array, UInt64Array

# What `count_equal` counts, in this order.
COUNTS = ("n_unique", "n_black_holes", "n_singletons", "largest_bh", "coinciding_pairs")

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_RANGE = np.uint64(1 << 32)


@kernel
def settled(product: int, width: int, state: Words, ahead: Words) -> int:
    """A product of ``width`` and 32 random bits whose upper half is exactly uniform.

    The given one, unless it is among the few that some upper halves have too many of; O(1) on
    average.
    """
    surplus = _RANGE % width
    while product & _LOW < surplus:
        product = (next_word(state, ahead) & _LOW) * width
    return product


@kernel
def count_equal(hashes: UInt64Array, keys: UInt64Array, held: Int64Array, row: Int64Array) -> None:
    """Populations of equal hashes, summed up as `COUNTS`, by a hash table: O(n) on average.

    Args:
        hashes: (n,) of rows.
        keys: Work space, a power of two above n.
        held: Work space of the same size.
        row: (5,) output.
    """
    last = np.uint64(keys.size - 1)
    held[:] = 0
    row[:] = 0
    for i in range(hashes.size):
        hash_ = hashes[i]
        place = hash_ & last
        while held[place] > 0 and keys[place] != hash_:
            place = (place + np.uint64(1)) & last
        keys[place] = hash_
        # Before this row its group had p rows: it pairs with each of them.
        p = held[place]
        held[place] = p + 1
        row[4] += p
        if p == 0:
            row[0] += 1
        elif p == 1:
            row[1] += 1
        if p > 0 and p + 1 > row[3]:
            row[3] = p + 1
    row[2] = row[0] - row[1]


@kernel
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
    """Deal all columns, for b permutations, each from a stream of its own.

    In a permutation O(n c) time for the scores, and O(1) for each row that a column gives another
    cell than its fullest: O(n v) at most. In place.

    Args:
        key: Of the streams. Draws use one block for every four of a column, and the upper half of
            the block numbers where they are rejected.
        first_permutation: Number of the first of them; with the key it names a stream.
        first: (v + 1,) the cells of each of v columns.
        counts: (cells,) rows that hold each cell, n in every column.
        words: (cells,) random words, 0 for a column's fullest cell.
        scores: (cells,) a number for each cell.
        bits: (n + 2,) work space or more.
        order: (n,) work space.
        hashes: (n,) work space.
        keys: As for `count_equal`.
        held: As for `count_equal`.
        state: Work space of a stream.
        ahead: Work space of a stream.
        dealt: (b, c, n) output: the scores of the cells dealt to the rows in the first c columns.
        rows: (b, 5) output of `count_equal`.
    """
    n = hashes.size
    for i in range(rows.shape[0]):
        permutation = np.uint64(first_permutation) + np.uint64(i)
        start_stream(state, ahead, key, NO_ROW, permutation, REJECTION_BLOCKS)
        block = 0
        for r in range(n):
            order[r] = r
            hashes[r] = 0
        for k in range(first.size - 1):
            kept = k < dealt.shape[1]
            if kept:
                dealt[i, k, :] = scores[first[k]]
            blocks = (n - counts[first[k]] + 3) >> 2  # of four draws
            fill_words(bits[: 2 * blocks], key, NO_ROW, permutation, block)
            block += blocks
            drawn = 0
            for cell in range(first[k] + 1, first[k + 1]):
                word = words[cell]
                for _ in range(counts[cell]):
                    pair = bits[drawn >> 1]
                    width = np.uint64(n - drawn)
                    product = (pair >> _HALF if drawn & 1 else pair & _LOW) * width
                    if product & _LOW < width:
                        product = settled(product, width, state, ahead)
                    place = drawn + np.int64(product >> _HALF)
                    r = order[place]
                    order[place] = order[drawn]
                    order[drawn] = r
                    drawn += 1
                    hashes[r] += word
                    if kept:
                        dealt[i, k, r] = scores[cell]
        count_equal(hashes, keys, held, rows[i])
