"""Compiled kernels against their plain twins, on the same arguments."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from snowballs import generated_rows

from deadtokens.formats import BFLOAT16, FLOAT8_E5M2, FLOAT16, FLOAT32, FORMATS, Format
from deadtokens.kernels import pairs, plain, rows, separation

KERNELS = {
    name: function
    for module in (rows, pairs, separation)
    for name, function in vars(module).items()
    if hasattr(function, "py_func") and not name.startswith("_")
}
# Their sums are taken in another order.
SUMMING = {"distance_row", "chunk_rows"}
FORMATS_TRIED = [BFLOAT16, FLOAT16, FLOAT32, FLOAT8_E5M2]


def row_arguments(seed: int, fmt: Format) -> dict[str, list[Any]]:
    """Arguments for the kernels over rows; hashes are made to collide in half of the cases."""
    rng = np.random.default_rng(seed)
    codes = fmt.round(generated_rows(seed, fmt))
    codes[rng.random(codes.shape) < 0.01] = fmt.sign_bit
    finite_codes = codes.copy()
    codes[rng.random(codes.shape) < 0.002] = fmt.sign_bit - 1  # NaN in every format
    n, d = codes.shape
    multipliers = np.asarray(rng.integers(0, 2**64, d, dtype=np.uint64))
    hashes = np.zeros(n, dtype=np.uint64)
    if seed % 2:
        plain.hash_rows(
            finite_codes,
            multipliers,
            fmt.sign_bit,
            fmt.max_ordinal,
            hashes,
            np.empty(n, dtype=np.bool_),
        )
    order = np.lexsort((np.arange(n), hashes))
    blank = np.full(n, -1)
    low, high = np.full(d, 5), np.full(d, 5)
    return {
        "hash_rows": [
            codes,
            multipliers,
            fmt.sign_bit,
            fmt.max_ordinal,
            np.empty(n, dtype=np.uint64),
            np.empty(n, dtype=np.bool_),
        ],
        "first_equal_rows": [finite_codes, order, hashes, fmt.sign_bit, blank],
        "column_extremes": [finite_codes, fmt.sign_bit, low, high],
    }


def pair_arguments(seed: int, dtype: type[np.floating[Any]]) -> dict[str, list[Any]]:
    """Arguments for the kernels over pairs, of vectors that fill one block and part of another."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 150)), int(rng.integers(1, 60))
    x = np.round(rng.standard_t(2, (n, d)) * 4).astype(dtype)
    centre, h = np.zeros(d, dtype=dtype), float(rng.choice([0.5, 3, 9]))
    n_blocks = -(-n // pairs.BLOCK)
    blocks = np.empty((n_blocks, d, pairs.BLOCK), dtype=dtype)
    plain.fill_blocks(x, blocks)
    counts = np.empty(n_blocks, dtype=np.int64)
    plain.count_listed(blocks, n, centre, h, counts)
    starts = np.concatenate([[0], np.cumsum(counts)])
    dimensions, members = np.empty((2, starts[-1]), dtype=np.int32)
    lists = starts, dimensions, members, dimensions.astype(dtype)
    plain.fill_lists(blocks, n, centre, h, *lists)
    empty_lists = starts, *(np.zeros_like(array) for array in lists[1:])
    a = int(rng.integers(0, n_blocks))
    columns = n - a * pairs.BLOCK
    slab = np.empty((pairs.BLOCK, (n_blocks - a) * pairs.BLOCK), dtype=dtype)
    plain.distance_slab(x, blocks, *lists, 2 * h, n, a, slab)
    keys = slab.view(np.uint32) if dtype is np.float32 else slab.astype(np.uint32)
    labels = rng.integers(0, 4, n).astype(np.int32)
    return {
        "fill_blocks": [x, np.empty_like(blocks)],
        "count_listed": [blocks, n, centre, h, np.empty_like(counts)],
        "fill_lists": [blocks, n, centre, h, *empty_lists],
        "pair_distance": [x[0], x[-1]],
        "distance_slab": [x, blocks, *lists, 2 * h, n, a, np.empty_like(slab)],
        "summarise_slab": [
            slab,
            keys,
            columns,
            float(rng.integers(0, 40)),
            np.zeros(1 << 16, dtype=np.int64),
            np.zeros(columns, dtype=np.int64),
        ],
        "refine_histogram": [keys, columns, int(keys[0, -1] >> 16), np.zeros(1 << 16, np.int64)],
        "nearest_outside": [
            slab,
            a * pairs.BLOCK,
            columns,
            labels,
            np.full(4, np.inf, dtype=dtype),
            np.full((4, 2), n, dtype=np.int64),
        ],
        "any_pair_within": [
            x[np.argsort(x[:, 0])],
            float(rng.integers(0, 6)),
            int(rng.choice([0, 10, 10**6])),
        ],
        "count_differing": [x, np.empty((n, n), dtype=np.int32)],
    }


def trial_arguments(seed: int) -> dict[str, list[Any]]:
    """Arguments for the kernels over trials: cells of some dimensions, two or more of them taken.

    Touching is as far as all distances or nearer than any, so that graphs are complete or empty.
    """
    rng = np.random.default_rng(seed)
    a = int(rng.integers(1, 12))
    sizes = rng.integers(2, 6, a)
    first = np.concatenate([[0], np.cumsum(sizes)])
    lowest = rng.integers(-40, 40, a)
    steps = rng.uniform(1, 2, first[-1]) * np.repeat(2.0 ** rng.integers(-8, 3, a), sizes)
    values = np.cumsum(steps).astype(np.float32)
    trials = []
    for _ in range(4):
        tokens = np.minimum(rng.geometric(0.6, (50, a)) - 1, sizes - 1) + lowest
        trials.append(np.unique(tokens, axis=0, return_counts=True))
    ordinals = np.concatenate([vectors for vectors, _ in trials]).astype(np.int16)
    populations = np.concatenate([counts for _, counts in trials])
    offsets = np.concatenate([[0], np.cumsum([len(counts) for _, counts in trials])])
    own, n = ordinals[: offsets[1]], populations[: offsets[1]]
    where = [lowest, first, values, 0.37, float(rng.choice([1e3, 1e-9]))]
    ranks, bins = np.array([1, 2, 3, 10, 50]), np.array([0, 1, 2, 3, 5, 9, 20, 52])
    counts = np.zeros((ranks.size, bins.size), dtype=np.int64)
    rows_of, done = np.full((4, 20), np.nan), np.zeros(4, dtype=np.bool_)
    lattice = rng.normal(size=201).astype(np.float32)
    return {
        "population_row": [n, ranks, bins, np.zeros(20), counts],
        "distance_row": [own, *where, np.zeros(20)],
        "chunk_rows": [offsets, populations, ordinals, *where, ranks, bins, rows_of, done, counts],
        "look_up": [ordinals, lattice, np.empty(ordinals.shape, np.float32)],
    }


def cases() -> Iterator[tuple[str, list[Any]]]:
    for seed in range(40):
        yield from row_arguments(seed, FORMATS_TRIED[seed % 4]).items()
        yield from pair_arguments(seed, np.float32 if seed % 2 else np.float64).items()
        yield from trial_arguments(seed).items()


def only_existing_columns(name: str, arguments: list[Any]) -> list[Any]:
    """The compiled slab leaves what lies past the last vector to chance, so it is not compared."""
    if name == "distance_slab":
        n, a, slab = arguments[-3:]
        existing = n - a * pairs.BLOCK
        return [np.triu(slab[:existing, :existing], 1)]
    return arguments


@pytest.mark.parametrize("name", KERNELS)
def test_compiled_kernel_equals_its_plain_twin(name: str) -> None:
    tried = 0
    for case, arguments in cases():
        if case != name:
            continue
        compiled, reference = copy.deepcopy(arguments), copy.deepcopy(arguments)
        got = KERNELS[name](*compiled)
        expected = getattr(plain, name)(*reference)
        assert got == expected
        for left, right in zip(
            only_existing_columns(name, compiled),
            only_existing_columns(name, reference),
            strict=True,
        ):
            if name in SUMMING:
                np.testing.assert_allclose(left, right, rtol=1e-13, atol=1e-15)
            else:
                assert np.array_equal(left, right)
        tried += 1
    assert tried == 40


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_run_uncompiled(dtype: type[np.floating[Any]]) -> None:
    """The Python bodies are real code, not only input to the compiler."""
    x = np.random.default_rng(0).normal(size=(2, 9)).astype(dtype)
    body = KERNELS["pair_distance"].py_func
    assert body(x[0], x[1]) == np.abs(x[0] - x[1]).max()


def test_formats_tried_differ_in_width() -> None:
    assert {fmt.bits for fmt in FORMATS_TRIED} == {fmt.bits for fmt in FORMATS.values()}
