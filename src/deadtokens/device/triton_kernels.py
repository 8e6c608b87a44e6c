"""Two loops that torch's single operations would take through memory again and again, in Triton.

The quick part of the draw, as `DeviceDraw.quick`, and distances over all pairs and dimensions, as
`distance_matrix`: the same bits. `deadtokens.device.fused` checks that before either is used.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.language.random import philox_impl

from deadtokens.device.words import DeviceDraw, Quick, trial_halves, words_at

_PAIRS_BLOCK = 64
_WORDS_BLOCK = 256


@triton.jit
def _distance_tile(by_dimension, result, m, a, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    """A tile of `distance_matrix` and its mirror image, dimension by dimension: O(BLOCK^2 a)."""
    first, second = tl.program_id(0), tl.program_id(1)
    if second < first:
        return
    i = first * BLOCK + tl.arange(0, BLOCK)
    j = second * BLOCK + tl.arange(0, BLOCK)
    lefts, rights = by_dimension + i, by_dimension + j
    largest = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    for _ in range(a):
        left = tl.load(lefts, mask=i < m, other=0.0)
        right = tl.load(rights, mask=j < m, other=0.0)
        largest = tl.maximum(largest, tl.abs(left[:, None] - right[None, :]))
        lefts += m
        rights += m
    inside = (i < m)[:, None] & (j < m)[None, :]
    wide = i.to(tl.int64)
    tl.store(result + wide[:, None] * m + j[None, :], largest, mask=inside)
    wide = j.to(tl.int64)
    tl.store(result + wide[None, :] * m + i[:, None], largest, mask=inside)


def distance_matrix(x: torch.Tensor, tile_bytes: int) -> torch.Tensor:
    """(m, m) float32 distances between the rows of (m, a) float32 vectors, in one pass.

    O(m^2 a) work, O(m^2) memory.
    """
    del tile_bytes
    m, a = x.shape
    result = torch.empty((m, m), dtype=x.dtype, device=x.device)
    tiles = triton.cdiv(m, _PAIRS_BLOCK)
    _distance_tile[(tiles, tiles)](
        x.T.contiguous(), result, m, a, BLOCK=_PAIRS_BLOCK, enable_fp_fusion=False
    )
    return result


@triton.jit
def _round_and_store(  # type: ignore[no-untyped-def]
    word, row, dimension, ordinals, doubtful, centroid, sigma, widths, surely, width,
    FRACTION_BITS: tl.constexpr, MIN_EXPONENT: tl.constexpr, THROUGH_FLOAT32: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """A cell from a random word, and whether it is too close to a boundary to be sure: O(BLOCK)."""
    inside = dimension < width
    layer = (word & 0xFF).to(tl.int32)
    bits = (word >> 12).to(tl.int64)
    z = bits.to(tl.float64) * tl.load(widths + layer)
    z = tl.where((word & 0x100) != 0, -z, z)
    x = tl.load(sigma + dimension, mask=inside, other=0.0) * z
    x = x + tl.load(centroid + dimension, mask=inside, other=0.0)
    if THROUGH_FLOAT32:
        x = x.to(tl.float32).to(tl.float64)
    # As `kernels.direct.round_to_ordinal`.
    pattern = x.to(tl.int64, bitcast=True)
    exponent = ((pattern & 0x7FFFFFFFFFFFFFFF) >> 52) - 1023
    exponent = tl.maximum(exponent, MIN_EXPONENT)
    scale = ((1023 + FRACTION_BITS - exponent) << 52).to(tl.float64, bitcast=True)
    rounder = 6755399441055744.0  # 1.5 * 2^52
    quanta = (tl.abs(x) * scale + rounder).to(tl.int64, bitcast=True) - 0x4338000000000000
    ordinal = quanta + ((exponent - MIN_EXPONENT) << FRACTION_BITS)
    ordinal = tl.where(pattern < 0, -ordinal, ordinal)
    place = row.to(tl.int64) * width + dimension
    tl.store(ordinals + place, ordinal.to(ordinals.dtype.element_ty), mask=inside)
    tl.store(doubtful + place, (bits >= tl.load(surely + layer)).to(tl.int8), mask=inside)


@triton.jit(do_not_specialize=["key_low", "key_high"])
def _quick_row(  # type: ignore[no-untyped-def]
    ordinals, doubtful, low, high, centroid, sigma, widths, surely, key_low, key_high, n_tokens,
    width, blocks, FRACTION_BITS: tl.constexpr, MIN_EXPONENT: tl.constexpr,  # noqa: N803
    THROUGH_FLOAT32: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """A block of a token's coordinates, from one Philox call each four words: O(BLOCK)."""
    row = tl.program_id(0)
    block = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    nothing = tl.zeros((BLOCK,), dtype=tl.uint32)
    trial = row // n_tokens
    c0, c1, c2, c3 = philox_impl(
        block.to(tl.uint32),
        nothing + (row % n_tokens).to(tl.uint32),
        nothing + tl.load(low + trial).to(tl.uint32),
        nothing + tl.load(high + trial).to(tl.uint32),
        nothing + key_low.to(tl.uint32),
        nothing + key_high.to(tl.uint32),
        10,
    )
    # The second word of the last block has no dimension if their number is odd.
    far = tl.where(block < blocks, blocks + block, width)
    near = tl.where(block < blocks, block, width)
    _round_and_store(
        c0.to(tl.uint64) | (c1.to(tl.uint64) << 32), row, near, ordinals, doubtful, centroid, sigma,
        widths, surely, width, FRACTION_BITS, MIN_EXPONENT, THROUGH_FLOAT32,
    )  # fmt: skip
    _round_and_store(
        c2.to(tl.uint64) | (c3.to(tl.uint64) << 32), row, far, ordinals, doubtful, centroid, sigma,
        widths, surely, width, FRACTION_BITS, MIN_EXPONENT, THROUGH_FLOAT32,
    )  # fmt: skip


def quick(draw: DeviceDraw, trials: range) -> Quick:
    """Gaussian trials but for the words in doubt, as `DeviceDraw.quick` gives them."""
    n, width, fmt = draw.n_tokens, draw.width, draw.cloud.format
    ordinals = torch.empty((len(trials), n, width), dtype=draw.dtype, device=draw.device)
    doubtful = torch.empty(ordinals.shape, dtype=torch.int8, device=draw.device)
    low, high = trial_halves(trials, draw.device)
    blocks = (width + 1) // 2
    grid = len(trials) * n, triton.cdiv(blocks, _WORDS_BLOCK)
    _quick_row[grid](
        ordinals, doubtful, low, high, draw.centroid, draw.sigma, draw.widths, draw.surely,
        draw.key & 0xFFFFFFFF, draw.key >> 32, n, width, blocks,
        FRACTION_BITS=fmt.fraction_bits, MIN_EXPONENT=fmt.min_exponent,
        THROUGH_FLOAT32=draw.cloud.intermediate == "float32", BLOCK=_WORDS_BLOCK,
        enable_fp_fusion=False,
    )  # fmt: skip
    positions = doubtful.view(-1).nonzero().view(-1)
    return Quick(ordinals, positions, words_at(draw.key, trials, n, width, positions))
