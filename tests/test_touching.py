"""The chance to touch: against all pairs of cells, drawn tokens, and the definition itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from centroids import student
from scipy import stats

from deadtokens import touching as touching_module
from deadtokens.cloud import Cloud
from deadtokens.errors import SelectionError
from deadtokens.formats import FORMATS
from deadtokens.noise import Noise, quantile
from deadtokens.specification import plan
from deadtokens.touching import (
    highest_touching,
    lengths,
    log_touching_probability,
    touching_probability,
    vanishes,
)

Numbers = npt.NDArray[np.float64]


@pytest.mark.parametrize("limit", [1e-45, 2.0**-133, 3e-9, 2.0**-8, 0.3, 1.0, 1 - 2.0**-24, 500.0])
@pytest.mark.parametrize("name", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"])
def test_the_highest_number_that_touches_is_the_last_whose_difference_does(
    name: str, limit: float
) -> None:
    # Every number of the format; float32 differences are monotone, so two comparisons are all.
    fmt = FORMATS[name]
    ordinals = np.arange(-fmt.max_ordinal, fmt.max_ordinal + 1)
    highest = highest_touching(fmt, ordinals, np.float32(limit))
    values = fmt.values_of(ordinals)
    assert (fmt.values_of(highest) - values <= np.float32(limit)).all()
    inside = highest < fmt.max_ordinal
    above = fmt.values_of(highest[inside] + 1) - values[inside]
    assert (above > np.float32(limit)).all()


def test_the_highest_number_that_touches_in_float32() -> None:
    # Around numbers whose window ends near zero, where the lattice is far finer than the rounding.
    fmt, limit = FORMATS["float32"], np.float32(1e-3)
    rng = np.random.default_rng(1)
    values = np.concatenate([
        rng.normal(0, 2e-3, 2000),
        -1e-3 * (1 + rng.normal(0, 1e-7, 2000)),
        rng.normal(0, 1e-30, 500),
    ]).astype(np.float32)  # fmt: skip
    ordinals = fmt.ordinals(values.view(np.uint32))
    highest = highest_touching(fmt, ordinals, limit)
    assert (fmt.values_of(highest) - values <= limit).all()
    assert (fmt.values_of(highest + 1) - values > limit).all()


def test_beyond_float32_everything_touches() -> None:
    fmt = FORMATS["bfloat16"]
    highest = highest_touching(fmt, np.array([-fmt.max_ordinal, 0]), np.float32(np.inf))
    assert highest.tolist() == [fmt.max_ordinal] * 2
    assert touching_probability(Cloud([1.0], 0.1), 1e39) == (1.0, 0.0)


def by_pairs_of_cells(cloud: Cloud, touching: float) -> float:
    """The chance to touch, from the difference of every two cells of each dimension."""
    product = 1.0
    for k in range(cloud.d):
        ordinals, p = cloud.cells(k)
        values = cloud.format.values_of(ordinals)
        near = np.abs(values[:, None] - values[None, :]) <= np.float32(touching)
        product *= float(p @ (near @ p))
    return product


@pytest.mark.parametrize("intermediate", ["float32", "exact"])
@pytest.mark.parametrize("noise", ["gaussian", "laplace", "uniform"])
@pytest.mark.parametrize(
    ("centroid", "sigma", "name"),
    [
        (student(8, 2.5e-3, 1), 2e-6, "bfloat16"),
        (student(3, 2.5e-3, 2), 8e-6, "bfloat16"),
        ((0.7, -0.9, 1.1), 0.01, "bfloat16"),
        (student(5, 2.5e-3, 3), 4e-6, "float16"),
        ((0.1, 0.0, -1.0), 0.05, "float8_e4m3fn"),
        ((0.0, 3.0), 0.3, "float8_e5m2"),
    ],
)
def test_chances_are_sums_over_pairs_of_cells(
    centroid: Any, sigma: float, name: str, noise: Noise, intermediate: Any
) -> None:
    cloud = Cloud(centroid, sigma, noise=noise, format=name, intermediate=intermediate)
    step = lengths(cloud.centroid, name)[0]
    below = float(np.nextafter(np.float32(step), np.float32(0)))
    for touching in (step / 64, below, step, 2 * step, 1.7 * sigma, 4 * sigma):
        expected = by_pairs_of_cells(cloud, touching)
        chance, error = touching_probability(cloud, touching)
        assert chance == pytest.approx(expected, rel=1e-11)
        assert error == 0


def without_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every cloud one without a table whose dimensions are too many to enumerate."""
    monkeypatch.setattr("deadtokens.cloud.CELL_LIMIT", 0)
    monkeypatch.setattr(touching_module, "_CELLS", 0)


@pytest.mark.parametrize("noise", ["gaussian", "laplace", "uniform"])
def test_quadratures_are_unbiased_and_know_their_error(
    noise: Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Over 60 seeds: chi-square of the distances from the exact value, 1e-4 for each noise. With 6
    # dimensions an error has some 42 degrees of freedom, which widens the chi-square a little.
    centroid, sigma, touching = student(6, 2.5e-3, 4), 3e-5, 4e-5
    exact = touching_probability(Cloud(centroid, sigma, noise=noise), touching)[0]
    without_table(monkeypatch)
    monkeypatch.setattr(touching_module, "_POINTS", 1)  # the fewest points
    cloud = Cloud(centroid, sigma, noise=noise)
    found = [touching_probability(cloud, touching, seed=seed) for seed in range(60)]
    z = [(chance - exact) / error for chance, error in found]
    assert 1e-4 / 2 < stats.chi2.cdf(math.fsum(x * x for x in z), len(z)) < 1 - 1e-4 / 2
    assert abs(math.fsum(z)) / math.sqrt(len(z)) < 4


def test_more_points_make_smaller_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    centroid, sigma, touching = student(6, 2.5e-3, 4), 3e-5, 4e-5
    without_table(monkeypatch)
    cloud = Cloud(centroid, sigma)
    many = touching_probability(cloud, touching)[1]
    monkeypatch.setattr(touching_module, "_POINTS", 1)
    assert 0 < many < touching_probability(cloud, touching)[1] / 5


def literal_share(cloud: Cloud, touching: float, pairs: int, seed: int) -> float:
    """The share of pairs of tokens that touch: noise, sum in float32, rounding, difference."""
    u = np.random.default_rng(seed).random((2, pairs, cloud.d))
    noise = quantile(cloud.noise, u) * cloud.sigma
    numbers = (cloud.centroid + noise).astype(np.float32)
    fmt = cloud.format
    values = fmt.values(fmt.round(numbers))
    return float((np.abs(values[0] - values[1]) <= np.float32(touching)).all(axis=1).mean())


@pytest.mark.parametrize("noise", ["gaussian", "laplace", "uniform"])
@pytest.mark.parametrize(
    ("centroid", "sigma", "touching", "name"),
    [
        (student(8, 2.5e-3, 1), 2e-6, 1e-6, "bfloat16"),
        (student(30, 2.5e-3, 5), 3e-4, 8e-4, "bfloat16"),
        (student(40, 3e-3, 7), 1e-2, 3e-2, "bfloat16"),
        ((1.0, 1e-3), 3e-3, 3e-3, "float32"),
        (student(20, 2.5e-3, 8), 1e-3, 3e-3, "float16"),
    ],
)
def test_tokens_touch_as_often_as_expected(
    centroid: Any, sigma: float, touching: float, name: str, noise: Noise
) -> None:
    # 4 standard errors of the share and of the estimate together.
    cloud = Cloud(centroid, sigma, format=name, noise=noise)
    chance, error = touching_probability(cloud, touching)
    assert error == 0 or cloud.table is None
    assert 0.01 < chance < 0.99
    pairs = 30_000
    share = literal_share(cloud, touching, pairs, seed=11)
    assert abs(share - chance) < 4 * math.hypot(error, math.sqrt(chance * (1 - chance) / pairs))


def test_a_reach_below_touching_is_certain() -> None:
    assert log_touching_probability(Cloud(student(500, 2.5e-3, 9), 1e-7), 1e-3) == (0.0, 0.0)
    assert log_touching_probability(Cloud(student(500, 2.5e-3, 9), 0.0), 1e-30) == (0.0, 0.0)


@pytest.mark.parametrize("sigma", [1e-4, 2e-4, 4e-4, 1e-3])
def test_no_chance_is_taken_as_nothing_before_it_is(
    sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = Cloud(student(1500, 2.5e-3, 10), sigma)
    quick = vanishes(cloud, 4e-4)
    monkeypatch.setattr(touching_module, "vanishes", lambda *_: False)
    log_chance, _ = log_touching_probability(cloud, 4e-4)
    assert not quick or log_chance == -math.inf
    assert touching_probability(Cloud(student(1500, 2.5e-3, 10), 0.1), 4e-4) == (0.0, 0.0)


def test_lengths_are_those_of_a_sweep() -> None:
    centroid = student(20, 2.5e-3, 12)
    for epsilon, touching in ((None, None), (3e-5, None), (None, 7e-5), (3e-5, 7e-5)):
        spec = plan(centroid, [1e-7], 10, epsilon=epsilon, touching=touching).spec
        found = lengths(centroid, "bfloat16", epsilon, touching)
        assert found == (spec.epsilon, spec.touching)
    assert lengths([1.0, -5.0]) == (2.0**-5, 2.0**-4)  # 5 has 2^-7 * 4 for a ULP


@pytest.mark.parametrize("length", [0.0, -1.0, math.nan, math.inf])
def test_lengths_are_positive_numbers(length: float) -> None:
    with pytest.raises(SelectionError, match="touching"):
        lengths([1.0], touching=length)
    with pytest.raises(SelectionError, match="epsilon"):
        lengths([1.0], epsilon=length)


def test_where_a_chance_vanishes_it_is_not_looked_for() -> None:
    cloud = Cloud(student(200, 3e-3, 1), 1.0, format="float16")
    assert vanishes(cloud, 1e-6)
    assert log_touching_probability(cloud, 1e-6) == (-math.inf, 0.0)
