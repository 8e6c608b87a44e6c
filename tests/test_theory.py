"""Closed forms against trials, and against the enumeration of all vectors of tiny clouds."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import cache
from importlib import import_module

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from centroids import student
from scipy import stats

from deadtokens.cloud import Cloud
from deadtokens.noise import Noise
from deadtokens.sampling import SamplerName
from deadtokens.theory import Expectation, coinciding_pairs, expectation
from deadtokens.trials import STATISTICS, Simulator, TrialSpec

THEORY = import_module("deadtokens.theory")  # `deadtokens.theory` is the function
Numbers = npt.NDArray[np.float64]
COUNTED = ("n_unique", "n_singletons", "n_black_holes", "black_hole_population")
DTYPES: dict[str, npt.DTypeLike] = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def halfway(d: int, sigmas: float) -> Numbers:
    """Numbers that many sigmas of 1e-6 below the boundary halfway to the next of bfloat16."""
    return np.asarray(1 + 2.0**-8 + np.arange(d) * 2.0**-7 - sigmas * 1e-6, dtype=np.float64)


@dataclass(frozen=True)
class Case:
    """A cloud, tokens, trials and the sampler that is faster."""

    cloud: Callable[[], Cloud]
    n: int
    trials: int
    sampler: SamplerName = "occupancy"


# Each takes a second or less.
CASES = {
    "few cells": Case(lambda: Cloud(student(8, 2.5e-3, 1), 2e-6), 100, 5000),
    "several cells": Case(lambda: Cloud(student(3, 2.5e-3, 2), 3e-5), 60, 2000),
    "one dimension": Case(lambda: Cloud([3e-3], 1e-2), 60, 1000),
    "many dimensions": Case(lambda: Cloud(student(1000, 2.5e-3, 3), 1e-8), 500, 2000),
    "float16": Case(lambda: Cloud(student(5, 2.5e-3, 4), 1.5e-6, format="float16"), 70, 3000),
    "laplace": Case(lambda: Cloud(student(8, 2.5e-3, 5), 2e-6, noise="laplace"), 100, 3000),
    "two tokens": Case(lambda: Cloud(student(2, 2.5e-3, 6), 5e-6), 2, 20_000),
    "few vectors carry the mass": Case(lambda: Cloud(halfway(4, 3), 1e-6), 2000, 20_000),
    "hardly any token leaves": Case(lambda: Cloud(halfway(2, 4.7), 1e-6), 2000, 100_000),
    "no table, no pair": Case(lambda: Cloud(student(40, 3e-3, 7), 1e-2), 24, 300, "direct"),
    "no table, some pairs": Case(
        lambda: Cloud([1.0], 3e-3, format="float32"), 300, 400, "direct"
    ),
}  # fmt: skip


def simulated(case: Case) -> dict[str, Numbers]:
    simulator = Simulator(case.cloud(), TrialSpec(case.n, 42, 1e-3, 2e-3), case.sampler)
    rows = simulator.run(0, case.trials).rows
    return {name: rows[:, STATISTICS.index(name)] for name in COUNTED}


def estimates(expected: Expectation) -> dict[str, tuple[float, float]]:
    """Mean and standard error of each count."""
    return {name: (getattr(expected, name), getattr(expected, f"{name}_se")) for name in COUNTED}


def disagreements(expected: Expectation, trials: dict[str, Numbers]) -> dict[str, float]:
    """Counts whose means are 4 or more combined standard errors apart, and how many.

    What differs where neither has an error at all is infinitely many apart.
    """
    apart = {}
    for name, (mean, error) in estimates(expected).items():
        values = trials[name]
        combined = math.hypot(error, values.std(ddof=1) / math.sqrt(values.size))
        difference = abs(mean - float(values.mean()))
        if difference > 1e-9 * max(mean, 1):
            apart[name] = difference / combined if combined else math.inf
    return {name: errors for name, errors in apart.items() if errors >= 4}


@pytest.fixture(params=["enumerated", "drawn"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Vectors are enumerated where they are few enough, or tokens always drawn."""
    if request.param == "drawn":
        monkeypatch.setattr(THEORY, "_ENUMERATED", 0)
    return str(request.param)


@cache
def trials_of(name: str) -> dict[str, Numbers]:
    return simulated(CASES[name])


@pytest.mark.usefixtures("how")
@pytest.mark.parametrize("name", list(CASES))
def test_expectations_are_the_means_of_trials(name: str) -> None:
    case = CASES[name]
    assert disagreements(expectation(case.cloud(), case.n), trials_of(name)) == {}


def test_another_sigma_disagrees_with_trials() -> None:
    case = CASES["few cells"]
    expected = expectation(Cloud(student(8, 2.5e-3, 1), 2.1e-6), case.n)
    assert set(disagreements(expected, trials_of("few cells"))) == set(COUNTED)


def cell_probabilities(x: float, sigma: float, dtype: npt.DTypeLike) -> Numbers:
    """Of all cells of a format, around x, from the midpoints of all its numbers."""
    codes = np.arange(2**16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):
        numbers = codes.view(dtype).astype(np.float64)
    numbers = np.unique(numbers[np.isfinite(numbers)] + 0.0)
    below, above = np.append(-np.inf, numbers[:-1]), np.append(numbers[1:], np.inf)
    low, high = ((side + numbers) / 2 for side in (below, above))
    upper = low > x  # the tail that keeps precision
    p = np.where(
        upper,
        stats.norm.sf(low, x, sigma) - stats.norm.sf(high, x, sigma),
        stats.norm.cdf(high, x, sigma) - stats.norm.cdf(low, x, sigma),
    )
    return np.asarray(p[p > 0], dtype=np.float64)


def enumerated(
    centroid: tuple[float, ...], sigma: float, n: int, dtype: npt.DTypeLike
) -> dict[str, float]:
    """Expected counts, as sums over every combination of cells.

    A vector of probability p is there with probability 1 - (1 - p)^n, alone with n p (1 - p)^(n-1).
    """
    p = np.ones(1)
    for x in centroid:
        p = np.outer(p, cell_probabilities(x, sigma, dtype)).ravel()
        p = p[p > 1e-25]
    assert math.fsum(p) == pytest.approx(1, abs=1e-9)
    p = np.minimum(p, 1 - 2.0**-53)
    there = math.fsum(-np.expm1(n * np.log1p(-p)))
    alone = math.fsum(n * p * np.exp((n - 1) * np.log1p(-p)))
    pairs = n * (n - 1) / 2 * math.fsum(p * p)
    return {
        "coinciding_pairs": pairs,
        "n_unique": there,
        "n_singletons": alone,
        "n_black_holes": there - alone,
        "black_hole_population": n - alone,
    }


TINY = [
    ((3e-3, -1e-3), 2e-6, 50, "bfloat16"),
    ((3e-3, -1e-3), 2e-6, 1000, "bfloat16"),
    ((2.5e-3, -7e-4, 1.2e-2), 8e-6, 300, "bfloat16"),
    ((2.5e-3, -7e-4, 1.2e-2), 1e-6, 3, "float16"),
    ((0.0, 1e-7), 1e-7, 40, "float16"),
    ((0.0,), 1e-2, 100, "bfloat16"),
    # One vector in all but one token of 10^4, 10^5, 10^6 and 10^7.
    ((1 + 2.0**-8 - 3.7e-6,), 1e-6, 2000, "bfloat16"),
    ((1 + 2.0**-8 - 4.3e-6,), 1e-6, 2000, "bfloat16"),
    ((1 + 2.0**-8 - 4.75e-6,), 1e-6, 2000, "bfloat16"),
    ((1 + 2.0**-8 - 5.2e-6,), 1e-6, 2000, "bfloat16"),
]


@pytest.mark.usefixtures("how")
@pytest.mark.parametrize(("centroid", "sigma", "n", "name"), TINY)
def test_expectations_are_sums_over_all_vectors(
    centroid: tuple[float, ...], sigma: float, n: int, name: str
) -> None:
    cloud = Cloud(centroid, sigma, format=name, intermediate="exact")
    expected = expectation(cloud, n)
    exact = enumerated(centroid, sigma, n, DTYPES[name])
    assert coinciding_pairs(cloud, n) == pytest.approx(exact["coinciding_pairs"], rel=1e-9)
    assert expected.coinciding_pairs == coinciding_pairs(cloud, n)
    for count, (mean, error) in estimates(expected).items():
        assert abs(mean - exact[count]) <= 4 * error + 1e-9 * n, count


def test_standard_errors_are_the_spread_of_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    # Over 60 seeds: chi-square of the distances from the exact values, 1e-4 for four counts.
    monkeypatch.setattr(THEORY, "_ENUMERATED", 0)
    centroid, sigma, n, name = TINY[2]
    cloud = Cloud(centroid, sigma, format=name, intermediate="exact")
    exact = enumerated(centroid, sigma, n, DTYPES[name])
    seeds = [estimates(expectation(cloud, n, seed=seed)) for seed in range(60)]
    for count in COUNTED:
        z = [(of[count][0] - exact[count]) / of[count][1] for of in seeds]
        tail = stats.chi2.cdf(math.fsum(x * x for x in z), len(z))
        assert 1e-4 / 8 < tail < 1 - 1e-4 / 8, count


def test_estimates_of_a_seed_are_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(THEORY, "_ENUMERATED", 0)
    cloud = CASES["few cells"].cloud()
    assert expectation(cloud, 100, seed=1) == expectation(cloud, 100, seed=1)
    assert expectation(cloud, 100, seed=1) != expectation(cloud, 100, seed=2)


@pytest.mark.parametrize("n", [2, 3, 2100])
def test_without_noise_there_is_one_black_hole(n: int) -> None:
    cloud = Cloud(student(20, 3e-3, 1), 0.0)
    one = (0.0, n * (n - 1) / 2, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, n, 0.0, 1.0, 0.0)
    assert astuple(expectation(cloud, n, touching=1e-9)) == pytest.approx(one, rel=1e-12)


@pytest.mark.parametrize("sigma", [0.0, 1e-9, 1e-5, 1e-2])
def test_one_token_is_a_singleton(sigma: float) -> None:
    alone = Expectation(sigma, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    assert expectation(Cloud(student(20, 3e-3, 1), sigma), 1, touching=1.0) == alone


@pytest.mark.parametrize("noise", ["gaussian", "laplace", "uniform"])
def test_tokens_drawn_without_a_table_are_those_of_the_noise(noise: Noise) -> None:
    """The mean of 1 / p is the number of vectors that can be reached: two cells each way, four."""
    cloud = Cloud([1 + 2.0**-8 - 1e-7, 1 + 2.0**-8], 1e-6, noise=noise)
    log_p = THEORY._drawn_without_table(cloud, np.random.default_rng(5), 20_000)
    inverse = np.exp(-log_p)
    assert np.unique(inverse.round(6)).size == 4
    error = inverse.std() / math.sqrt(inverse.size)
    assert inverse.mean() == pytest.approx(4, abs=5 * error)


def test_counts_add_up() -> None:
    expected = expectation(CASES["few cells"].cloud(), 100)
    total = expected.n_singletons + expected.n_black_holes
    assert expected.n_unique == pytest.approx(total, rel=1e-12)
    assert expected.n_singletons + 2 * expected.n_black_holes <= 100


def test_a_chance_too_small_for_a_number_is_none() -> None:
    cloud = Cloud(student(200, 3e-3, 1), 1e-3, format="float16")
    assert coinciding_pairs(cloud, 2100) == 0.0
    assert 0 <= expectation(cloud, 2100).coinciding_pairs < 1e-9  # a bound
    assert expectation(cloud, 2100).n_unique == 2100


def test_a_lattice_finer_than_memory_holds() -> None:
    # Two billion float32 numbers lie within reach of the noise; any two tokens differ.
    program = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
from deadtokens.cloud import Cloud
from deadtokens.theory import expectation
print(expectation(Cloud([3e-3, 1e-3], 1e-3, format="float32"), 100).n_unique)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr.splitlines()[-1]
    assert float(ran.stdout) == pytest.approx(100, abs=1e-3)
