"""Loops over the rows of a matrix: equal rows, and the extremes of its columns.

Equal rows are found by hashing every row and confirming candidates by comparing values: O(V d)
time, one pass over the codes (docs/method.md, section 2). The hash is multilinear, sum_k a[k]
code[k] mod 2**64 (equation 2.1; Carter and Wegman, 1979); it decides speed only, never the result.
"""

from __future__ import annotations

import numpy as np

from deadtokens.formats import Codes
from deadtokens.kernels.compiling import array_kernel
from deadtokens.kernels.types import BoolArray, Int64Array, UInt64Array


@array_kernel
def hash_rows(
    codes: Codes,
    coefficients: UInt64Array,
    sign_bit: int,
    max_magnitude: int,
    hashes: UInt64Array,
    finite: BoolArray,
) -> None:
    """Hash each row by value (equation 2.1), and find the rows with NaN or an infinity.

    O(V d) time, in place.

    Args:
        codes: (V, d) bit patterns.
        coefficients: (d,) random odd numbers.
        sign_bit: The code of -0.0, which hashes as +0.0.
        max_magnitude: The largest finite magnitude; any above it is NaN or an infinity.
        hashes: (V,) output.
        finite: (V,) output.
    """
    sign = np.uint64(sign_bit)
    magnitude_mask = np.uint64(sign_bit - 1)
    largest = np.uint64(max_magnitude)
    for i in range(codes.shape[0]):
        total = np.uint64(0)
        excess = np.uint64(0)
        for k in range(codes.shape[1]):
            code = np.uint64(codes[i, k])
            magnitude = code & magnitude_mask
            excess |= np.uint64(magnitude > largest)
            value = code if code != sign else np.uint64(0)
            total += value * coefficients[k]
        hashes[i] = total
        finite[i] = excess == 0


@array_kernel
def first_equal_rows(
    codes: Codes, order: Int64Array, hashes: UInt64Array, sign_bit: int, first: Int64Array
) -> None:
    """For each row in ``order``, the first row with equal values.

    Rows of unequal hash are unequal; rows of equal hash are compared, so that a collision costs
    time and never merges rows. O(d) for each row in ``order`` and each distinct row of its hash, of
    which there is one but for collisions; in place.

    Args:
        codes: (V, d) bit patterns.
        order: Rows to group, sorted by hash and, within a hash, by row.
        hashes: (V,) from `hash_rows`.
        sign_bit: The code of -0.0, equal to +0.0.
        first: (V,) output; rows not in ``order`` are left alone.
    """
    sign = np.uint64(sign_bit)
    zero = np.uint64(0)
    start = 0
    for p in range(order.size):
        row = order[p]
        if p > 0 and hashes[row] != hashes[order[p - 1]]:
            start = p
        first[row] = row
        for q in range(start, p):
            other = order[q]
            if first[other] != other:
                continue
            equal = True
            for k in range(codes.shape[1]):
                a = np.uint64(codes[row, k])
                b = np.uint64(codes[other, k])
                if a != b and not (a in (sign, zero) and b in (sign, zero)):
                    equal = False
                    break
            if equal:
                first[row] = other
                break


@array_kernel
def column_extremes(codes: Codes, sign_bit: int, low: Int64Array, high: Int64Array) -> None:
    """Lowest and highest ordinal (equation 1.1) of each column of finite codes; O(m d), in place.

    Args:
        codes: (m, d) bit patterns.
        sign_bit: The code of -0.0.
        low: (d,) lowered in place.
        high: (d,) raised in place.
    """
    for i in range(codes.shape[0]):
        for k in range(codes.shape[1]):
            code = np.int64(codes[i, k])
            ordinal = code if code < sign_bit else sign_bit - code
            low[k] = min(low[k], ordinal)
            high[k] = max(high[k], ordinal)
