"""The statistics against an independent literal implementation; edge cases, invariances."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from importlib import resources
from inspect import signature

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from reference import (
    reference_default_epsilon,
    reference_row,
    reference_thresholds,
    reference_ulp_distances,
)
from snowballs import Float32, generated_rows, snowball_from_values

import deadtokens as dt
from deadtokens.errors import SelectionError
from deadtokens.formats import BFLOAT16, FLOAT8_E4M3FN, FLOAT16, FLOAT32, FORMATS, Format
from deadtokens.geometry import Geometry
from deadtokens.snowball import Snowball
from deadtokens.statistics import (
    COLUMNS,
    EXACT_LIMIT,
    FURTHER_COLUMNS,
    TOPOLOGY,
    Measurement,
    measure,
)

SEEDS = range(400)
NUMBERS = (*COLUMNS, "epsilon", "touching", "max_ulp", "mean_ulp", "median_ulp")


def fmt_of(seed: int) -> Format:
    return list(FORMATS.values())[seed % len(FORMATS)]


def assert_row_equals(row: Mapping[str, object], expected: Mapping[str, float | int]) -> None:
    """Counts and single distances exactly; sums to the rounding of their order."""
    for name, value in expected.items():
        if name in ("mean_l_inf", "gini_coefficient", "global_density"):
            assert row[name] == pytest.approx(value, rel=1e-12, abs=1e-14), name
        else:
            assert row[name] == value, name
            assert type(row[name]) is type(value), name


@pytest.mark.parametrize("block", range(8))
def test_every_statistic_equals_the_literal_implementation(block: int) -> None:
    seen_topology = set()
    for seed in SEEDS[block::8]:
        fmt = fmt_of(seed)
        rows = generated_rows(seed, fmt)
        rng = np.random.default_rng(seed)
        epsilon = float(reference_default_epsilon(rows, fmt.float_dtype)) * rng.uniform(0.3, 3)
        touching = None if seed % 2 else epsilon * float(rng.choice([0.5, 3, 30, 300]))
        measured = measure(snowball_from_values(rows, fmt), epsilon, touching)
        expected = reference_row(rows, epsilon, touching)
        assert_row_equals(measured.row, expected)
        seen_topology.add((expected["n_components"] == 1, expected["global_density"] in (0, 1)))
    # Complete, empty and in between: all three ways through the code were among them.
    assert {(True, True), (False, True), (False, False)} <= seen_topology


@pytest.mark.parametrize("block", range(4))
def test_distances_in_steps_and_default_epsilon_equal_the_literal_ones(block: int) -> None:
    for seed in SEEDS[block::16]:
        fmt = fmt_of(seed)
        rows = generated_rows(seed, fmt)
        measured = measure(snowball_from_values(rows, fmt))
        largest, mean, median = reference_ulp_distances(rows, fmt.float_dtype)
        assert (measured.row["max_ulp"], measured.row["median_ulp"]) == (largest, median)
        assert measured.row["mean_ulp"] == pytest.approx(mean, rel=1e-12)
        assert measured.row["epsilon"] == reference_default_epsilon(rows, fmt.float_dtype)
        assert measured.row["touching"] == 2 * reference_default_epsilon(rows, fmt.float_dtype)
        assert measured.row["format"] == fmt.name


def test_components_against_distance_equal_the_literal_ones() -> None:
    tried = 0
    for seed in SEEDS[:120]:
        fmt = fmt_of(seed)
        rows = generated_rows(seed, fmt)
        if len(np.unique(rows + 0, axis=0)) > 40:
            continue
        found = measure(snowball_from_values(rows, fmt)).connectivity
        thresholds = reference_thresholds(rows)
        if found is None:
            assert thresholds == []
            continue
        assert list(zip(found.distances, found.n_components, strict=True)) == thresholds
        assert found.connected_at == thresholds[-1][0]
        assert found.complete_at >= found.connected_at
        tried += 1
    assert tried > 40


# --- edge cases ---


def test_columns_are_the_contract() -> None:
    measured = measure(snowball_from_values(generated_rows(0, BFLOAT16), BFLOAT16))
    assert tuple(measured.row) == COLUMNS + FURTHER_COLUMNS
    assert len(COLUMNS) == 21
    units = [f"{kind}_{unit}_se" for unit in ("l_inf", "ulp") for kind in ("mean", "median")]
    lengths = ("epsilon", "touching", "format", "max_ulp", "mean_ulp", "median_ulp")
    assert (*lengths, *units) == FURTHER_COLUMNS
    assert tuple(reference_row(generated_rows(0, BFLOAT16), 1.0)) == COLUMNS


def test_no_vector_is_all_zero() -> None:
    nothing = Snowball(np.empty((0, 4), np.uint16), np.empty(0, np.int64), BFLOAT16)
    row = measure(nothing, epsilon=1.0).row
    assert {row[name] for name in COLUMNS} == {0}
    with pytest.raises(SelectionError, match="no vectors to take a length from"):
        measure(nothing)


def test_one_vector_is_one_dense_component() -> None:
    one = measure(snowball_from_values(np.full((3, 2), 0.5, np.float32), BFLOAT16))
    assert [one.row[name] for name in TOPOLOGY] == [1, 1, 1, 1.0, 1.0]
    assert one.row["largest_bh"] == 3
    assert one.row["max_l_inf"] == one.row["max_ulp"] == 0
    assert one.connectivity is None
    assert one.row["epsilon"] == 2.0**-8  # nothing varies: the ULP of 0.5


def test_all_zero_rows_have_the_smallest_subnormal_as_epsilon() -> None:
    zeros = measure(snowball_from_values(np.zeros((2, 2), np.float32), FLOAT16))
    assert zeros.row["epsilon"] == 2.0**-24


def test_no_black_hole_has_sizes_and_gini_zero() -> None:
    row = measure(snowball_from_values(np.eye(4, dtype=np.float32), BFLOAT16)).row
    sizes = ("largest_bh", "smallest_bh", "mean_bh_size", "median_bh_size", "top2_population")
    assert {row[name] for name in (*sizes, "gini_coefficient")} == {0}


def test_lower_medians_and_top_two() -> None:
    values = np.repeat(np.array([[0.0], [1], [3], [7]], np.float32), [2, 3, 8, 9], axis=0)
    row = measure(snowball_from_values(values, BFLOAT16), epsilon=1.0).row
    assert row["median_bh_size"] == 3
    assert row["top2_population"] == 17
    assert row["median_l_inf"] == 3  # of 1, 2, 3, 4, 6, 7


def test_densest_of_equally_large_components_counts() -> None:
    """A path of three vectors and a triangle: both of size three, the triangle has density 1."""
    path, triangle = [0.0, 1.0, 2.0], [100.0, 100.5, 101.0]
    values = np.array([path + triangle], np.float32).T
    row = measure(snowball_from_values(values, FLOAT16), epsilon=1.0, touching=1.0).row
    assert row["n_components"] == 2
    assert row["largest_component_size"] == 3
    assert row["largest_component_density"] == 1.0
    assert row["global_density"] == 5 / 15


def test_touching_compares_float32_with_float32() -> None:
    """0.3 is not a float32 number: two vectors float32(0.3) apart touch at touching 0.3."""
    step = np.float32(0.3)
    assert float(step) > 0.3
    values = np.array([[0], [step]], np.float32)
    row = measure(snowball_from_values(values, FLOAT32), epsilon=1.0, touching=0.3).row
    assert row["n_components"] == 1


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("name", ["epsilon", "touching"])
def test_lengths_have_to_be_positive_numbers(name: str, value: float) -> None:
    snowball = snowball_from_values(np.eye(2, dtype=np.float32), BFLOAT16)
    with pytest.raises(SelectionError, match=f"{name} .*positive"):
        measure(snowball, **{name: value})  # type: ignore[arg-type]


def test_snowballs_that_are_none_are_refused() -> None:
    with pytest.raises(SelectionError, match="populations"):
        Snowball(np.zeros((2, 3), np.uint16), np.array([1]), BFLOAT16)
    with pytest.raises(SelectionError, match="no row holds"):
        Snowball(np.zeros((1, 3), np.uint16), np.array([0]), BFLOAT16)


# --- the published reference ---


def test_published_statistics_of_qwen3_4b() -> None:
    file = resources.files("deadtokens") / "data" / "qwen3_4b_black_holes.json"
    published = json.loads(file.read_text())["published"]
    matrix = dt.open_matrix("builtin:qwen3-4b")
    snowball = dt.snowball_of(matrix, np.arange(matrix.n_rows))
    row = dt.measure(snowball, epsilon=published["epsilon"]).row
    assert len(published["statistics"]) == 20
    for name, value in published["statistics"].items():
        digits = 0 if isinstance(value, int) else len(repr(value).partition(".")[2])
        assert round(float(str(row[name])), digits) == value, name


# --- past the exact limit ---


def wide_cloud(n: int) -> Float32:
    rows = np.random.default_rng(7).normal(0, 1, (n, 40)).astype(np.float32)
    return BFLOAT16.values(BFLOAT16.round(rows))


def test_estimates_past_the_limit_lie_within_their_errors() -> None:
    snowball = snowball_from_values(wide_cloud(400), BFLOAT16)
    exact, estimate = measure(snowball), measure(snowball, exact_limit=100)
    assert not exact.estimated
    assert estimate.estimated
    assert estimate.connectivity is None
    for name in COLUMNS[:13]:
        assert estimate.row[name] == exact.row[name]
    for unit in ("l_inf", "ulp"):
        assert estimate.row[f"max_{unit}"] == exact.row[f"max_{unit}"]
        for kind in ("mean", "median"):
            error = float(str(estimate.row[f"{kind}_{unit}_se"]))
            value, true = (float(str(m.row[f"{kind}_{unit}"])) for m in (estimate, exact))
            assert abs(value - true) <= 5 * error  # 0 where a tie on the lattice leaves no doubt


def test_standard_errors_are_the_spread_of_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many samples, estimates scatter as their standard errors say."""
    snowball = snowball_from_values(wide_cloud(300), BFLOAT16)
    monkeypatch.setattr("deadtokens.geometry.SAMPLED_PAIRS", 2000)
    estimates, errors = [], []
    real_generator = np.random.PCG64
    for seed in range(60):
        monkeypatch.setattr(np.random, "PCG64", lambda _, seed=seed: real_generator(seed))
        row = measure(snowball, exact_limit=100).row
        estimates.append([float(str(row[n])) for n in ("mean_l_inf", "median_l_inf")])
        errors.append([float(str(row[n])) for n in ("mean_l_inf_se", "median_l_inf_se")])
    ratio = np.std(estimates, axis=0, ddof=1) / np.mean(errors, axis=0)
    # The standard deviation of 60 has a relative error of 1 / sqrt(118); four of those.
    assert np.all(np.abs(ratio - 1) < 4 / np.sqrt(118) + 0.1)


@pytest.mark.parametrize("n", [2_000, pytest.param(EXACT_LIMIT, marks=pytest.mark.slow)])
def test_exact_up_to_the_limit(n: int) -> None:
    """As many vectors in few dimensions: every pair is looked at, and sorting tells the same."""
    assert EXACT_LIMIT == 20_000
    values = np.random.default_rng(0).permutation(2 * n)[:n].astype(np.float32)
    row = measure(snowball_from_values(values[:, None], FLOAT32), epsilon=1.0, exact_limit=n).row
    ordered = np.sort(values).astype(np.float64)
    weights = 2 * np.arange(n) - (n - 1)
    n_pairs = n * (n - 1) / 2
    assert row["mean_l_inf_se"] is None
    assert row["max_l_inf"] == ordered[-1] - ordered[0]
    assert row["mean_l_inf"] == pytest.approx((weights * ordered).sum() / n_pairs, rel=1e-12)
    gaps = np.diff(ordered)
    assert row["n_components"] == 1 + (gaps > 2).sum()


def test_the_widest_dimensions_decide_that_no_vectors_touch() -> None:
    """One column of a hundred keeps all vectors apart."""
    values = np.zeros((300, 100), np.float32)
    values[:, 80] = np.arange(300)
    values[:, :80] = np.random.default_rng(0).integers(0, 2, (300, 80)) * 0.25
    measured = measure(snowball_from_values(values, FLOAT32), touching=0.5, exact_limit=100)
    assert measured.row["n_components"] == 300
    assert measured.blank_reason is None


def test_a_snowball_given_wrongly_is_refused() -> None:
    equal = Snowball(np.ones((2, 3), np.uint16), np.array([1, 1]), BFLOAT16)
    nan = Snowball(np.full((2, 3), 0x7FC0, np.uint16), np.array([1, 1]), BFLOAT16)
    infinite = Snowball(np.full((1, 3), 0x7F80, np.uint16), np.array([1]), BFLOAT16)
    with pytest.raises(SelectionError, match="equal"):
        measure(equal, epsilon=1.0)
    for snowball in (nan, infinite):
        with pytest.raises(SelectionError, match="NaN or an infinity"):
            measure(snowball, epsilon=1.0)


@pytest.mark.parametrize(
    ("touching", "expected"), [(100.0, "complete"), (1e-3, "empty"), (4.0, "blank")]
)
def test_topology_past_the_limit_is_exact_or_blank(touching: float, expected: str) -> None:
    snowball = snowball_from_values(wide_cloud(300), BFLOAT16)
    exact = measure(snowball, touching=touching)
    measured = measure(snowball, touching=touching, exact_limit=100)
    if expected == "blank":
        assert {measured.row[name] for name in TOPOLOGY} == {None}
        assert measured.blank_reason is not None
        assert "300 distinct vectors are past the exact limit of 100" in measured.blank_reason
    else:
        assert measured.blank_reason is None
        assert [measured.row[n] for n in TOPOLOGY] == [exact.row[n] for n in TOPOLOGY]
        assert measured.row["global_density"] == (1 if expected == "complete" else 0)


# --- invariances ---

tables = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.integers(-40, 40).map(lambda k: float(np.float32(k * 2.0**-6))),
)
some_settings = settings(max_examples=60, deadline=None, derandomize=True)


def row_of(values: Float32, epsilon: float = 0.125) -> dict[str, object]:
    row = measure(snowball_from_values(values, BFLOAT16), epsilon).row
    return {name: value for name, value in row.items() if name in NUMBERS}


def assert_same(left: dict[str, object], right: dict[str, object]) -> None:
    assert left == pytest.approx(right, rel=1e-12, abs=0)


@some_settings
@given(tables, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(values: Float32, random: object) -> None:
    order: npt.NDArray[np.intp] = np.arange(len(values))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert_same(row_of(values), row_of(values[order]))


@some_settings
@given(tables, st.randoms(use_true_random=False))
def test_order_of_dimensions_does_not_matter(values: Float32, random: object) -> None:
    order: npt.NDArray[np.intp] = np.arange(values.shape[1])
    random.shuffle(order)  # type: ignore[attr-defined]
    assert_same(row_of(values), row_of(np.ascontiguousarray(values[:, order])))


@some_settings
@given(tables)
def test_sign_does_not_matter(values: Float32) -> None:
    assert_same(row_of(values), row_of(-values))


@some_settings
@given(tables, st.integers(-20, 20))
def test_powers_of_two_scale_distances(values: Float32, power: int) -> None:
    scaled = row_of(values * np.float32(2.0**power), epsilon=0.125 * 2.0**power)
    expected = row_of(values) | {"epsilon": scaled["epsilon"], "touching": scaled["touching"]}
    for name in ("max_ulp", "mean_ulp", "median_ulp"):  # steps near zero do not scale
        del scaled[name], expected[name]
    assert_same(scaled, expected)
    unscaled_epsilon = row_of(values * np.float32(2.0**power))
    for name in ("max_l_inf", "mean_l_inf", "median_l_inf"):
        assert unscaled_epsilon[name] == pytest.approx(float(str(expected[name])) * 2.0**power)


def test_overflowing_distances_are_infinite_not_wrong() -> None:
    """Float32 numbers of opposite sign near the largest are further apart than float32 reaches."""
    values = np.array([[-3e38], [3e38], [0]], np.float32)
    row = measure(snowball_from_values(values, FLOAT32), epsilon=1.0).row
    assert row["max_l_inf"] == np.inf
    assert row["median_l_inf"] == float(np.float32(3e38))


def test_float8_distances() -> None:
    values = np.array([[448, 0.5], [-448, 0.5]], np.float32)
    row = measure(snowball_from_values(values, FLOAT8_E4M3FN), epsilon=2.0).row
    assert (row["max_l_inf"], row["max_ulp"]) == (448, 252)


# --- what a measurement says of itself ---


def blocks_of(values: list[list[float]], quantised: str = "Q8_0") -> Snowball:
    """A snowball of numbers that were quantised, one row to each of the vectors."""
    codes = np.array(values, np.float32).view(np.uint32)
    return Snowball(codes, np.ones(len(codes), np.int64), FLOAT32, quantised=quantised)


def test_the_origin_of_epsilon_is_said_in_words() -> None:
    varying = snowball_from_values(
        np.array([[1.0, 3.0, -0.5], [1.0, 2.0, 0.0]], np.float32), FLOAT16
    )
    still = snowball_from_values(np.array([[1.0, -3.0]], np.float32), FLOAT16)
    assert measure(varying, epsilon=1.0).epsilon_origin == "given"
    assert measure(varying).epsilon_origin == (
        "float16 ULP of 3, the largest |value| in dimension 1 (of largest range)"
    )
    assert measure(still).epsilon_origin == (
        "float16 ULP of 3, the largest |value| in dimension 1 "
        "(where it is largest, as nothing varies)"
    )


def test_quantised_numbers_have_no_ulp() -> None:
    """The smallest step of the dimension of largest range is 0.25; the first one's is smaller."""
    measured = measure(blocks_of([[0.0, 1.0], [0.1, 1.25], [0.0, 3.0]]))
    assert measured.row["epsilon"] == 0.25
    assert measured.epsilon_origin == (
        "smallest difference of two values in dimension 1 (of largest range), as Q8_0 numbers "
        "have no ULP"
    )
    assert measured.row["max_l_inf"] == 8
    assert measured.row["format"] == "Q8_0"
    assert {measured.row[f"{kind}_ulp"] for kind in ("max", "mean", "median")} == {None}
    assert measured.lacking.startswith("max_ulp, mean_ulp and median_ulp are blank, and sigma")
    assert "Q8_0 numbers lie on no fixed lattice" in measured.lacking
    assert measure(snowball_from_values(np.eye(2, dtype=np.float32), BFLOAT16)).lacking == ""


def test_quantised_numbers_past_the_limit_have_no_ulp_either() -> None:
    measured = measure(blocks_of([[0.0], [1.0], [3.0]]), exact_limit=2)
    assert measured.estimated
    assert {value for name, value in measured.row.items() if "_ulp" in name} == {None}


@pytest.mark.parametrize(
    ("values", "epsilon", "origin"),
    [
        ([0.5, -2.5], 2.5, "largest |value|, in dimension 1 (nothing varies)"),
        ([0.0, 0.0], 1.0, "1, as all values are 0 (nothing varies)"),
    ],
)
def test_one_quantised_vector_has_its_largest_value_as_epsilon(
    values: list[float], epsilon: float, origin: str
) -> None:
    measured = measure(blocks_of([values]))
    assert (measured.row["epsilon"], measured.epsilon_origin) == (epsilon, origin)


def test_a_measurement_is_shown_in_one_line() -> None:
    values = np.repeat(np.array([[0.0], [1.0]], np.float32), [1500, 1], axis=0)
    assert repr(measure(snowball_from_values(values, BFLOAT16), epsilon=0.25)) == (
        "<Measurement of 1,501 rows: 2 distinct vectors, 1 black holes; 4 epsilon>"
    )


def test_results_cannot_be_changed() -> None:
    measured = measure(snowball_from_values(np.eye(3, dtype=np.float32), BFLOAT16))
    with pytest.raises(FrozenInstanceError):
        measured.row = {}  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        measured.connectivity.complete_at = 0.0  # type: ignore[misc, union-attr]
    assert Measurement({}, "", None, None).lacking == ""


# --- limits ---


def test_the_limit_itself_is_exact() -> None:
    snowball = snowball_from_values(np.arange(5, dtype=np.float32)[:, None], BFLOAT16)
    assert not measure(snowball, exact_limit=5).estimated
    assert measure(snowball, exact_limit=4).estimated
    assert signature(measure).parameters["exact_limit"].default == 20_000


def test_past_the_limit_the_touching_distance_itself_touches() -> None:
    snowball = snowball_from_values(np.arange(5, dtype=np.float32)[:, None], BFLOAT16)
    complete = measure(snowball, epsilon=1.0, touching=4.0, exact_limit=3)
    assert (complete.row["n_components"], complete.row["global_density"]) == (1, 1)
    apart = measure(snowball, epsilon=1.0, touching=1.0, exact_limit=3)
    assert apart.row["n_components"] is None
    empty = measure(snowball, epsilon=1.0, touching=0.999, exact_limit=3)
    assert empty.row["n_components"] == 5


def test_past_the_limit_a_pair_is_found_whatever_lies_between_in_order() -> None:
    values = np.array([[0, 0], [10, 0.1], [0.4, 0.2]], np.float32)
    snowball = Snowball(values.view(np.uint32), np.ones(3, np.int64), FLOAT32)
    row = measure(snowball, epsilon=1.0, touching=0.5, exact_limit=2).row
    assert row["n_components"] is None


def test_equal_vectors_among_others_are_refused() -> None:
    codes = np.array([[1, 2], [3, 4], [1, 2]], np.uint16)
    with pytest.raises(SelectionError, match="equal"):
        measure(Snowball(codes, np.ones(3, np.int64), BFLOAT16), epsilon=1.0)


def test_a_touching_distance_beyond_float32_touches_all() -> None:
    snowball = snowball_from_values(np.array([[-3e38], [3e38]], np.float32), FLOAT32)
    assert measure(snowball, epsilon=1.0, touching=1e300).row["global_density"] == 1


def test_sampled_pairs_are_literal_distances() -> None:
    """Pairs of distinct vectors, each pair as likely; their distances one by one."""
    values = wide_cloud(70)
    snowball = snowball_from_values(values, BFLOAT16)
    distances, steps = Geometry(snowball).sampled_pairs()
    values = BFLOAT16.values(snowball.codes)
    ordinals = BFLOAT16.ordinals(snowball.codes)
    random = np.random.Generator(np.random.PCG64(0))
    left, right = random.integers(0, 70, 100_000), random.integers(0, 69, 100_000)
    right += right >= left
    assert np.array_equal(distances, np.abs(values[left] - values[right]).max(axis=1))
    assert np.array_equal(steps, np.abs(ordinals[left] - ordinals[right]).max(axis=1))
    assert steps.min() > 0


def test_overflowing_distances_past_the_limit_are_infinite() -> None:
    values = np.array([[-3e38], [3e38], [0]], np.float32)
    row = measure(snowball_from_values(values, FLOAT32), epsilon=1.0, exact_limit=2).row
    assert row["max_l_inf"] == row["mean_l_inf"] == np.inf


@pytest.mark.parametrize(("rank", "components"), [(63, 8), (64, 8), (65, None)])
def test_sixty_four_dimensions_decide(rank: int, components: int | None) -> None:
    """All but one dimension tell the first vector from the others and no more."""
    values = np.zeros((8, 80), np.float32)
    values[0] = np.where(np.arange(80) < rank - 1, 100, 1)
    values[:, 79] = np.arange(8)
    snowball = Snowball(values.view(np.uint32), np.ones(8, np.int64), FLOAT32)
    row = measure(snowball, epsilon=1.0, touching=0.5, exact_limit=4).row
    assert row["n_components"] == components


def test_of_equally_wide_dimensions_the_first_decide() -> None:
    """Every other dimension is of the largest range, and the 64th of those tells all apart."""
    values = np.zeros((8, 2000), np.float32)
    values[7] = np.where(np.arange(2000) % 2, 3, 7)
    values[:, 126] = np.arange(8)
    snowball = Snowball(values.view(np.uint32), np.ones(8, np.int64), FLOAT32)
    assert measure(snowball, epsilon=1.0, touching=0.5, exact_limit=4).row["n_components"] == 8
