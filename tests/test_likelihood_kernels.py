"""The likelihood's kernels: against their plain twins, closed forms and known numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm

from deadtokens.formats import BFLOAT16, FLOAT16
from deadtokens.kernels import likelihood as kernels
from deadtokens.kernels import plain_likelihood as plain

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Of |log L|: rounding leaves some 1e-15 of it, the first term dropped of a tail beyond 36 standard
# deviations 12 / 36^8 = 4e-12.
RELATIVE = 2e-11
# Of the integral: what 24 nodes on either side leave out of a peak of at most exp(-32) at its ends.
INTEGRAL = 1e-9
# Of the posterior's standard deviation. The mean is summed on an even grid; a quantile is
# interpolated in steps of at most 0.04 of that deviation, where the density changes by at most 2 in
# one: 0.04^2 / 8 * 2 = 4e-4.
MEAN, QUANTILE = 1e-6, 4e-4


def empty(size: int, count: int) -> list[Float64]:
    return [np.empty(size) for _ in range(count)]


def boundaries(rng: np.random.Generator) -> Float64:
    """Of neighbouring cells, most often across a change of binade; the widest is 1."""
    kind = rng.integers(0, 3)
    if kind == 0:
        return np.arange(400.0)
    fmt = BFLOAT16 if kind == 1 else FLOAT16
    binade = (1 << fmt.fraction_bits) * int(rng.integers(5, 20))
    ordinals = (binade - int(rng.integers(0, 100)) + np.arange(400)) * int(rng.choice([-1, 1]))
    edges = np.sort(fmt.boundaries(ordinals, "float32"))
    return np.asarray((edges - edges[0]) / np.diff(edges).max())


def split(seed: int) -> tuple[Int64, Float64, Float64, Int64, float]:
    """Three dimensions of occupied cells, adjacent or some skipped, and a sigma."""
    rng = np.random.default_rng(seed)
    sigma = float(10 ** rng.uniform(-3, 1.5))
    sizes, low, high, count = [], [], [], []
    for _ in range(3):
        edges = boundaries(rng)
        cells = int(rng.choice([2, 2, 3, 5, 12, 60]))
        room = cells if rng.random() < 0.5 else int(1.5 * cells) + 1
        taken = rng.integers(0, 200) + np.sort(rng.choice(room, cells, replace=False))
        n = max(cells, round(2 * 2500 ** rng.random()))
        shares = rng.dirichlet(np.full(cells, rng.choice([0.2, 5])))
        sizes.append(cells)
        low.append(edges[taken])
        high.append(edges[taken + 1])
        count.append(1 + rng.multinomial(n - cells, shares))
    first = np.concatenate([[0], np.cumsum(sizes)])
    return first, np.concatenate(low), np.concatenate(high), np.concatenate(count), sigma


def unsplit(seed: int) -> tuple[Float64, Float64, Int64, float]:
    rng = np.random.default_rng(seed)
    low = rng.uniform(-5, 5, 5)
    widths = 10 ** rng.uniform(-1.5, 1.5, 5)
    return low, low + widths, np.array([2, 3, 40, 300, 5000]), float(10 ** rng.uniform(-1.5, 0.5))


def both(name: str, arguments: tuple[Any, ...], size: int, count: int) -> list[list[Float64]]:
    results = []
    for module in (kernels, plain):
        found = empty(size, count)
        getattr(module, name)(*arguments, *found)
        results.append(found)
    return results


@pytest.mark.parametrize("seed", range(60))
def test_split_dimensions_equal_their_plain_twin(seed: int) -> None:
    (found,), (wanted,) = both("log_likelihoods", split(seed), 3, 1)
    np.testing.assert_allclose(found, wanted, rtol=RELATIVE, atol=INTEGRAL)


def test_another_sigma_would_be_told() -> None:
    """The tolerance is narrower than what one part in ten million of sigma does."""
    caught = 0
    for seed in range(5):
        first, low, high, count, sigma = split(seed)
        for factor, equal in ((1.0, True), (1 + 1e-7, False)):
            (found,), (wanted,) = empty(3, 1), empty(3, 1)
            kernels.log_likelihoods(first, low, high, count, sigma * factor, found)
            plain.log_likelihoods(first, low, high, count, sigma, wanted)
            assert not equal or np.allclose(found, wanted, rtol=RELATIVE, atol=INTEGRAL)
            caught += not np.allclose(found, wanted, rtol=RELATIVE, atol=INTEGRAL)
    assert caught == 5


@pytest.mark.parametrize("distance", [35.9, 36.1, 60.0, 1e3])
@pytest.mark.parametrize("width", [1e-3, 0.03, 0.3, 5.0])
def test_far_tails(distance: float, width: float) -> None:
    """A cell so far away, beside one that holds most tokens; there are no steps at 36."""
    low, high = np.array([-0.5, distance]), np.array([0.5, distance + width])
    arguments = np.array([0, 2]), low, high, np.array([5000, 1]), 1.0
    (found,), (wanted,) = both("log_likelihoods", arguments, 1, 1)
    # In a narrow cell the tail's next term is known only in part: up to 3 / 36^4 of the chance.
    np.testing.assert_allclose(found, wanted, rtol=RELATIVE, atol=2e-6)


@pytest.mark.parametrize("seed", range(30))
def test_unsplit_dimensions_equal_their_plain_twin(seed: int) -> None:
    (found,), (wanted,) = both("log_unsplits", unsplit(seed), 5, 1)
    # Of 5,000 tokens the edge, a fifth of sigma wide, lies between few nodes: 1e-6 of sigma.
    widths = np.array([INTEGRAL] * 4 + [1e-6])
    assert np.all(np.abs(found - wanted) <= RELATIVE * np.abs(wanted) + widths)


@pytest.mark.parametrize("seed", range(30))
def test_centres_equal_their_plain_twin(seed: int) -> None:
    first, low, high, count, sigma = split(seed)
    found, wanted = both("centres", (first, low, high, count, sigma, 0.025), 3, 3)
    # Two quantiles are four standard deviations apart in a normal posterior.
    deviation = (wanted[2] - wanted[1]) / (2 * norm.ppf(0.975))
    assert np.all(np.abs(found[0] - wanted[0]) <= MEAN * deviation)
    for i in (1, 2):
        assert np.all(np.abs(found[i] - wanted[i]) <= QUANTILE * deviation)
    assert np.all((found[1] < found[0]) & (found[0] < found[2]))


@pytest.mark.parametrize("width", [0.1, 1.0, 10.0, 300.0])
def test_the_centre_of_one_cell_is_its_middle(width: float) -> None:
    arguments = np.array([0, 1]), np.zeros(1), np.array([width]), np.array([300]), 1.0, 0.025
    found, wanted = both("centres", arguments, 1, 3)
    # The grid has 512 steps over the cell and, where that is narrow, the posterior's tails.
    step = max(width, wanted[2][0] - wanted[1][0]) / 200
    assert found[0][0] == pytest.approx(width / 2, abs=1e-9 * width)
    assert found[1][0] == pytest.approx(wanted[1][0], abs=step)
    assert found[2][0] == pytest.approx(wanted[2][0], abs=step)
    assert found[1][0] + found[2][0] == pytest.approx(width, abs=1e-6 * width)


@pytest.mark.parametrize("ratio", [1e-3, 1e-12, 1e-18, 1e-25])
def test_cells_that_are_nothing_beside_sigma(ratio: float) -> None:
    """The means lie so far away that both boundaries have the same distance, in float64."""
    low, high, n = np.array([1e-3]), np.array([1e-3 + 2.0**-20]), np.array([300])
    sigma = float(high[0] - low[0]) / ratio
    (found,), (wanted,) = both("log_unsplits", (low, high, n, sigma), 1, 1)
    np.testing.assert_allclose(found, wanted, rtol=RELATIVE)
    # A density's integral to the power n, times the width to that power.
    expected = 300 * math.log(ratio) - 299 * math.log(2 * math.pi) / 2 - math.log(300) / 2
    assert found[0] == pytest.approx(expected + math.log(sigma), abs=300 * ratio**2 + 1e-8)


# Closed forms.


@pytest.mark.parametrize("height", [0.05, 0.7, 3.0, 7.9, 8.1, 20.0, 900.0])
def test_two_tokens_in_one_cell(height: float) -> None:
    """E[(h - R)+], R = |z| sqrt(2): h (2 Phi(h / sqrt 2) - 1) - E[R; R < h]."""
    found = np.empty(1)
    kernels.log_unsplits(np.zeros(1), np.array([2 * height]), np.array([2]), 2.0, found)
    inside = height * (2 * norm.cdf(height / math.sqrt(2)) - 1)
    ranged = 2 / math.sqrt(math.pi) * -math.expm1(-(height**2) / 4)
    assert found[0] == pytest.approx(math.log(2 * (inside - ranged)), abs=1e-9)


# The mean range of n standard normals, as tables for quality control give it (to 5 digits).
MEAN_RANGES = {2: 1.12838, 3: 1.69257, 5: 2.32593, 10: 3.07751, 25: 3.93063, 100: 5.01519}


@pytest.mark.parametrize("n", MEAN_RANGES)
def test_a_wide_cell_gives_the_mean_range(n: int) -> None:
    found = np.empty(1)
    kernels.log_unsplits(np.array([-7.0]), np.array([23.0]), np.array([n]), 1.0, found)
    assert 30 - math.exp(found[0]) == pytest.approx(MEAN_RANGES[n], abs=6e-6)


def test_narrow_cells_give_the_gaussian_likelihood() -> None:
    """Cells far narrower than sigma: the integral of the density over the mean, times widths."""
    rng = np.random.default_rng(0)
    x, width, sigma = np.sort(rng.normal(0, 1, 12)), 1e-5, 0.8
    found = np.empty(1)
    first, ones = np.array([0, 12]), np.ones(12, dtype=np.int64)
    kernels.log_likelihoods(first, x - width / 2, x + width / 2, ones, sigma, found)
    n, squares = x.size, float(((x - x.mean()) ** 2).sum())
    expected = -(n - 1) * math.log(sigma * math.sqrt(2 * math.pi)) - math.log(n) / 2
    expected += n * math.log(width) - squares / (2 * sigma**2)
    assert found[0] == pytest.approx(expected, abs=1e-8)


def test_two_wide_cells_are_proportional_to_sigma() -> None:
    """Of means near one boundary only its distance in sigmas matters."""
    found = empty(1, 2)
    arguments = np.array([0, 2]), np.array([0.0, 1.0]), np.array([1.0, 2.0]), np.array([7, 93])
    for sigma, result in zip((1e-3, 1e-2), found, strict=True):
        kernels.log_likelihoods(*arguments, sigma, result)
    assert found[1][0] - found[0][0] == pytest.approx(math.log(10), abs=1e-9)
