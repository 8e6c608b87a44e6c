"""The kernels for distances and projections: against their plain twins and known numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from snowballs import generated_rows

from deadtokens.formats import FORMATS, Format
from deadtokens.kernels import nearness as kernels
from deadtokens.kernels import plain_nearness as plain


def outputs(n: int) -> tuple[Any, ...]:
    return np.empty(n), np.empty(n, dtype=np.int64), np.empty(n, dtype=np.bool_)


def case(seed: int, fmt: Format) -> list[Any]:
    """Generated rows, some of zeros of both signs, and a point that need not be one of them."""
    rng = np.random.default_rng(seed)
    values = generated_rows(seed, fmt)
    zeros = rng.random(len(values)) < 0.2
    values[zeros] = np.where(rng.random((int(zeros.sum()), values.shape[1])) < 0.5, 0.0, -0.0)
    centre = values.mean(axis=0, dtype=np.float64)
    ordinals = fmt.ordinals(fmt.round(centre.astype(np.float32)))
    return [fmt.round(values), values, centre, ordinals, fmt.sign_bit]


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
def test_distances_equal_their_plain_twin(fmt: Format) -> None:
    zeros = 0
    for seed in range(60):
        arguments = case(seed, fmt)
        found, wanted = outputs(len(arguments[0])), outputs(len(arguments[0]))
        kernels.distances(*arguments, *found)
        plain.distances(*arguments, *wanted)
        np.testing.assert_allclose(found[0], wanted[0], rtol=1e-13)
        assert np.array_equal(found[1], wanted[1])
        assert np.array_equal(found[2], wanted[2])
        zeros += int(wanted[2].sum())
    assert zeros > 50


@pytest.mark.parametrize("width", [1, 3, 64])
def test_projections_equal_their_plain_twin(width: int) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n, d = rng.integers(1, 40), int(rng.integers(width, 200 + width))
        values = rng.normal(size=(n, d)).astype(np.float32)
        signs = rng.choice([-1, 1], d).astype(np.float32)
        found, wanted = np.empty((2, n, width), dtype=np.float32)
        kernels.project(values, signs, found)
        plain.project(values, signs, wanted)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_known_distances() -> None:
    """And only the row of two zeros, one negative, is a row of zeros."""
    codes = np.array([[0x3F80, 0x4000], [0x8001, 0x0000], [0x8000, 0x0000]], np.uint16)
    fmt = FORMATS["bfloat16"]
    centre = np.array([1.0, 2.0])
    squared, steps, zero = outputs(3)
    kernels.distances(
        codes, fmt.values(codes), centre, np.array([0x3F80, 0x4000]), 0x8000, squared, steps, zero
    )
    assert squared.tolist() == [0, 5, 5]
    assert steps.tolist() == [0, 0x4000, 0x4000]
    assert zero.tolist() == [False, False, True]
