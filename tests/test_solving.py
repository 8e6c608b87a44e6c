"""The sigma that gives a value: round trips through the expectation, limits and errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import deadtokens as dt
from deadtokens.errors import FormatError, SelectionError
from deadtokens.solving import METRICS, default_range, solve

CENTROID = np.random.default_rng(1).standard_t(4.5, 200) * 3e-3
N = 300
LIKE: dict[str, Any] = {"epsilon": 3e-5}
VALUES = [
    ("coinciding_pairs", 20.0),
    ("coinciding_pairs", 3e-20),
    ("n_unique", 13),
    ("n_unique", 200),
    ("n_unique", 290),
    ("n_singletons", 5),
    ("n_singletons", 250),
    ("n_singletons", 285),
    ("black_hole_population", 30),
    ("black_hole_population", 299),
    ("touching_probability", 0.5),
    ("touching_probability", 1e-30),
]


def assert_value(metric: str, value: float, solution: dt.Solution) -> None:
    """Theory at that sigma gives the value: to 1e-6, or to 4 standard errors of an estimate."""
    (expected,) = dt.theory(CENTROID, solution.sigma, N, **LIKE)
    error = getattr(expected, f"{metric}_se", 0.0)
    assert abs(getattr(expected, metric) - value) < max(1e-6 * value, 4 * error)
    assert expected == solution.expectation
    assert (solution.sigma_se > 0) == (error > 0)


@pytest.mark.parametrize(("metric", "value"), VALUES)
def test_theory_at_the_solution_gives_the_value(metric: str, value: float) -> None:
    (solution,) = solve(CENTROID, metric, value, N, **LIKE)
    assert_value(metric, value, solution)


@pytest.mark.parametrize("value", [2.0, 20.0])
def test_black_holes_come_and_go(value: float) -> None:
    solutions = solve(CENTROID, "n_black_holes", value, N, **LIKE)
    assert len(solutions) == 2
    assert solutions[0].sigma < solutions[1].sigma
    for solution in solutions:
        assert_value("n_black_holes", value, solution)


def test_one_black_hole_is_left_behind_only_where_they_vanish() -> None:
    # There is one at every small sigma, too, which is no solution.
    (solution,) = solve(CENTROID, "n_black_holes", 1, N, **LIKE)
    assert_value("n_black_holes", 1, solution)


def test_ends_that_do_not_enclose_the_value() -> None:
    # Around zero the lattice grows with sigma: past the spacing of subnormals, the chance that two
    # tokens agree goes up and down with the binades.
    peak, trough = 2.0**-20, 2.0**-20.5
    at = [dt.theory([0.0], sigma, 50)[0].coinciding_pairs for sigma in (peak, trough, 2 * peak)]
    assert at[0] == pytest.approx(at[2], rel=1e-9)
    assert abs(at[1] - at[0]) > 1e-6
    middle = (at[0] + at[1]) / 2
    solutions = solve([0.0], "coinciding_pairs", middle, 50, between=(peak, 2 * peak))
    assert len(solutions) == 2
    for solution in solutions:
        assert solution.expectation.coinciding_pairs == pytest.approx(middle, rel=1e-6)


def test_uncertainties_are_those_of_the_estimate() -> None:
    # The delta method: a step of one standard error in sigma is one in the metric.
    (solution,) = solve(CENTROID, "n_unique", 290, N, **LIKE)
    (beyond,) = dt.theory(CENTROID, solution.sigma + solution.sigma_se, N, **LIKE)
    assert 0 < solution.sigma_se < 0.01 * solution.sigma
    step = beyond.n_unique - solution.expectation.n_unique
    assert step == pytest.approx(solution.expectation.n_unique_se, rel=0.3)


def test_the_ends_of_a_range_are_in_it() -> None:
    (expected,) = dt.theory(CENTROID, 3e-9, N)
    for between in ((3e-9, 1e-8), (1e-9, 3e-9)):
        (solution,) = solve(CENTROID, "n_unique", expected.n_unique, N, between=between)
        assert solution.sigma == pytest.approx(3e-9, rel=1e-9)


def test_a_value_that_the_range_misses_is_refused_with_both_ends() -> None:
    low, high = dt.theory(CENTROID, [1e-10, 1e-9], N)
    with pytest.raises(SelectionError) as refused:
        solve(CENTROID, "n_unique", 200, N, between=(1e-10, 1e-9))
    for text in ("n_unique = 200", f"{low.n_unique:.6g} at", f"{high.n_unique:.6g} at", "--sigma"):
        assert text in str(refused.value)
    with pytest.raises(SelectionError, match="at most about"):
        solve(CENTROID, "n_black_holes", 140, N)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("n_unique", 1),
        ("n_unique", N),
        ("n_singletons", 0),
        ("black_hole_population", N),
        ("coinciding_pairs", N * (N - 1) / 2),
        ("coinciding_pairs", -1),
        ("touching_probability", 1),
        ("touching_probability", math.nan),
        ("n_black_holes", N / 2),
    ],
)
def test_values_that_no_sigma_gives_are_refused(metric: str, value: float) -> None:
    with pytest.raises(SelectionError, match="the value of no sigma"):
        solve(CENTROID, metric, value, N)


def test_other_errors() -> None:
    with pytest.raises(SelectionError, match="unknown metric 'sigma'"):
        solve(CENTROID, "sigma", 1e-9, N)
    for between in ((0.0, 1e-3), (1e-3, 1e-4), (1e-9, math.inf)):
        with pytest.raises(SelectionError, match="range"):
            solve(CENTROID, "n_unique", 13, N, between=between)
    with pytest.raises(SelectionError, match="0 tokens"):
        solve(CENTROID, "n_unique", 13, 0)
    with pytest.raises(FormatError, match="overflow"):
        solve([1.0], "n_unique", 13, N, format="float8_e4m3fn", between=(1e-3, 1e3))


def test_the_default_range_spans_all_that_can_happen() -> None:
    low, high = dt.theory(CENTROID, default_range(CENTROID, N), N)
    assert low.n_unique < 1.01
    assert high.n_unique == N
    assert low.touching_probability == 1
    assert high.touching_probability == 0
    # Of float8 as far as it does not overflow; of zeros the ULP at zero.
    assert default_range([100.0, 1.0], N, format="float8_e4m3fn")[1] < 100
    assert default_range([0.0, 0.0], N)[0] == 2.0**-133 / 2000


def test_every_metric_is_solved_for() -> None:
    assert {metric for metric, _ in VALUES} | {"n_black_holes"} == set(METRICS)
