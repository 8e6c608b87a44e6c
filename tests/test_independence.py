"""The independence test: exact against enumeration, at its level under true nulls, with power."""

from __future__ import annotations

import copy
import itertools
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from centroids import student
from program import Program
from scipy.stats import chisquare, ks_2samp
from snowballs import snowball_from_values

import deadtokens as dt
from deadtokens import independence as package_function
from deadtokens.errors import SelectionError
from deadtokens.formats import BFLOAT16, FLOAT16, FLOAT32
from deadtokens.independence import (
    FEATURES,
    Independence,
    _ColumnTable,
    _simulate,
    default_permutations,
    independence,
    sentence,
    verdict,
)
from deadtokens.kernels import permutations as kernels
from deadtokens.kernels import plain_permutations as plain
from deadtokens.kernels import random
from deadtokens.montecarlo import p_words, spread_words
from deadtokens.snowball import Snowball


def small_snowball(seed: int, fmt: dt.Format = BFLOAT16) -> Snowball:
    """A few rows and columns of a few cells each, every one of them occupied by chance."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 60)), int(rng.integers(2, 9))
    cells = np.minimum(rng.geometric(rng.uniform(0.2, 0.9), (n, d)), 12).astype(np.float32)
    return snowball_from_values(cells, fmt)


def builtin(name: str) -> Snowball:
    matrix = dt.open_matrix(f"builtin:{name}")
    return dt.snowball_of(matrix, np.ones(matrix.n_rows, dtype=np.bool_))


# The kernels and their twins.


def deal_arguments(seed: int) -> list[Any]:
    snowball = small_snowball(seed)
    table = _ColumnTable.of(snowball, seed)
    n, times = table.n_rows, 5
    correlated = int(np.random.default_rng(seed).integers(0, table.first.size))
    words = table.words // np.uint64(2**60 if seed % 5 == 0 else 1)  # small words collide
    room = 1 << n.bit_length()
    return [
        np.uint64(seed), np.uint64(2**40 + seed), table.first, table.counts, words, table.scores,
        np.empty(n + 2, dtype=np.uint64), np.empty(n, dtype=np.int32),
        np.empty(n, dtype=np.uint64), np.empty(room, dtype=np.uint64),
        np.empty(room, dtype=np.int64), np.zeros(random.STATE_SIZE, dtype=np.uint64),
        np.zeros(random.AHEAD, dtype=np.uint64), np.empty((times, correlated, n)),
        np.empty((times, 5), dtype=np.int64),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_dealing_equals_its_plain_twin(seed: int) -> None:
    arguments = deal_arguments(seed)
    results = []
    for deal in (kernels.deal_columns, plain.deal_columns):
        given = copy.deepcopy(arguments)
        deal(*given)
        results.append(given)
    for name, index in {"dealt": -2, "rows": -1, "order": 7, "hashes": 8}.items():
        assert np.array_equal(results[0][index], results[1][index]), name


@pytest.mark.parametrize("seed", range(20))
def test_counting_equals_its_plain_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 300))
    hashes = rng.integers(0, [3, 40, 2**63][seed % 3], n, dtype=np.uint64) << np.uint64(seed % 2)
    room = 1 << n.bit_length()
    rows = np.empty((2, 5), dtype=np.int64)
    for row, count in zip(rows, (kernels.count_equal, plain.count_equal), strict=True):
        count(hashes, np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.int64), row)
    assert rows[0].tolist() == rows[1].tolist()


def settled_numbers(settled: Callable[..., Any], n: int) -> npt.NDArray[np.int64]:
    """Upper halves for a width of which a quarter of all products must be rejected."""
    width = 3 << 29
    state, ahead = (np.zeros(size, dtype=np.uint64) for size in (random.STATE_SIZE, random.AHEAD))
    random.start_stream(state, ahead, np.uint64(1), random.NO_ROW, np.uint64(2), 0)
    numbers = np.random.default_rng(0).integers(0, 2**32, n, dtype=np.uint64)
    products = (settled(p, np.uint64(width), state, ahead) for p in numbers * np.uint64(width))
    return np.array([int(product) >> 32 for product in products])


def plain_settled(product: Any, width: Any, state: random.Words, ahead: random.Words) -> int:
    return plain.settled(int(product), int(width), state, ahead)


def test_numbers_are_exactly_uniform() -> None:
    """Without rejection, one of every three results would have half of the numbers."""
    drawn = settled_numbers(kernels.settled, 12_000)
    assert np.array_equal(drawn, settled_numbers(plain_settled, 12_000))
    assert chisquare(np.bincount(drawn % 3)).pvalue > 0.01
    biased = settled_numbers(lambda product, *_: product, 12_000)
    assert chisquare(np.bincount(biased % 3)).pvalue < 1e-6


@pytest.mark.parametrize("seed", range(10))
def test_dealing_keeps_every_column_s_counts(seed: int) -> None:
    snowball = small_snowball(seed)
    table = _ColumnTable.of(snowball, 1)
    arguments = deal_arguments(seed)
    arguments[-2] = np.empty((5, table.first.size - 1, table.n_rows))
    kernels.deal_columns(*arguments)
    for dealt in arguments[-2]:
        for k, column in enumerate(dealt):
            cells = slice(table.first[k], table.first[k + 1])
            expected = np.repeat(table.scores[cells], table.counts[cells])
            assert np.array_equal(np.sort(column), np.sort(expected))


# Exact against all arrangements.

COLUMNS = [[0, 0, 0, 1, 1], [5, 5, 5, 6, 8], [2, 2, 2, 2, 3]]


def literal_features(cells: npt.NDArray[Any]) -> tuple[float, ...]:
    """The six features of (n, d) rows, by their definitions."""
    populations = Counter(map(tuple, cells.tolist())).values()
    holes = [p for p in populations if p > 1]
    varying = cells[:, cells.std(axis=0) > 0]
    r = np.corrcoef(varying.T)
    return (
        len(populations),
        len(holes),
        len(populations) - len(holes),
        max(holes, default=0),
        sum(p * (p - 1) // 2 for p in populations),
        round(float(len(cells) * (np.triu(r, 1) ** 2).sum()), 9),
    )


def enumerated() -> Counter[tuple[float, ...]]:
    """How many arrangements of `COLUMNS` have which features; the first column may stay."""
    arrangements = [sorted(set(itertools.permutations(column))) for column in COLUMNS[1:]]
    return Counter(
        literal_features(np.array([COLUMNS[0], *columns]).T)
        for columns in itertools.product(*arrangements)
    )


def departure_from_enumeration() -> float:
    """The p-value of 6,000 permutations' joint features against the enumerated ones."""
    snowball = snowball_from_values(np.array(COLUMNS, dtype=np.float32).T, FLOAT16)
    table = _ColumnTable.of(snowball, 3)
    simulated = Counter(
        (*map(int, row[:5]), round(row[5], 9)) for row in _simulate(table, 3, 6000, 1)
    )
    expected = enumerated()
    assert set(simulated) <= set(expected)
    share = np.array(list(expected.values())) / expected.total()
    seen = np.array([simulated[features] for features in expected])
    assert share.min() * 6000 > 5
    return float(chisquare(seen, share * 6000).pvalue)


def wrong_dealing(way: str) -> Callable[..., None]:
    """Deals as it should not: the same permutation for all columns, or one column as it was."""

    def deal(*arguments: Any) -> None:
        first, counts, words, scores = arguments[2:6]
        hashes, keys, held = arguments[8:11]
        dealt, rows = arguments[-2:]
        rng = np.random.default_rng(int(arguments[1]))
        n, v = hashes.size, first.size - 1
        columns = [np.repeat(np.arange(a, b), counts[a:b]) for a, b in itertools.pairwise(first)]
        for i in range(len(rows)):
            orders = [rng.permutation(n) for _ in range(v)]
            if way == "shared":
                orders = orders[:1] * v
            if way == "one stays":
                orders[-2:] = [orders[-1]] * 2
            cells = np.array([column[order] for column, order in zip(columns, orders, strict=True)])
            hashes[:] = words[cells].sum(axis=0, dtype=np.uint64)
            dealt[i] = scores[cells[: dealt.shape[1]]]
            plain.count_equal(hashes, keys, held, rows[i])

    return deal


def test_permutations_have_the_distribution_of_all_arrangements() -> None:
    assert enumerated().total() == 20 * 5
    assert len(enumerated()) >= 6
    assert departure_from_enumeration() > 0.01


@pytest.mark.parametrize(
    ("way", "caught"), [("right", False), ("shared", True), ("one stays", True)]
)
def test_a_wrong_permutation_would_be_caught(
    way: str, caught: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "deal_columns", wrong_dealing(way))
    if caught:
        assert departure_from_enumeration() < 1e-6
    else:
        assert departure_from_enumeration() > 0.01


@pytest.mark.parametrize("seed", range(12))
def test_observed_features_are_those_of_the_rows(seed: int) -> None:
    snowball = small_snowball(seed, FLOAT32)
    result = independence(snowball, permutations=9)
    rows = snowball.values()[snowball.row_order()]
    observed = [found.observed for found in result.features]
    np.testing.assert_allclose(observed, literal_features(rows), rtol=1e-9, atol=1e-9)
    assert [found.name for found in result.features] == list(FEATURES)


def test_ties_in_correlations_count_on_both_sides() -> None:
    """Two columns of two cells: few correlations are possible, and rounding must not part them."""
    cells = np.ones((43, 2), dtype=np.float32)
    cells[:3, 0] = cells[3:6, 1] = 1.5
    result = independence(snowball_from_values(cells, FLOAT32), permutations=999)
    found = result.feature("squared_correlations")
    overlap = 1 - 40 * 39 * 38 / (43 * 42 * 41)
    assert found.p_lo == pytest.approx(1 - overlap, abs=0.05)
    assert found.p_hi == 1


# Level and power.

NULLS = {
    "float16": (dt.Cloud(student(180, 2.5e-3, [180, 0]), 1.3e-8, format="float16"), 300),
    "bfloat16": (dt.Cloud(student(200, 2.5e-3, [200, 0]), 8e-8), 400),
}
SLOW = pytest.mark.slow


@pytest.fixture(
    scope="module",
    params=[("float16", 80), *(pytest.param((name, 400), marks=SLOW) for name in NULLS)],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def null_results(request: pytest.FixtureRequest) -> list[Independence]:
    name, repeats = request.param
    cloud, n = NULLS[name]
    return [
        independence(dt.sample(cloud, n, trial=trial), permutations=199, workers=1)
        for trial in range(repeats)
    ]


def test_level_under_true_nulls(null_results: list[Independence]) -> None:
    """No p-value is too small too often: beyond 3 Monte Carlo standard errors."""
    assert all(result.n_varying > 5 for result in null_results)
    assert np.mean([result.features[0].std > 1 for result in null_results]) > 0.9
    for level in (0.01, 0.05, 0.1):
        allowed = level + 3 * np.sqrt(level * (1 - level) / len(null_results))
        for i, name in enumerate(FEATURES):
            p = np.array([result.features[i].p_value for result in null_results])
            assert np.mean(p <= level) <= allowed, name
        family = np.array([min(result.p_holm) for result in null_results])
        assert np.mean(family <= level) <= allowed


def test_correlations_have_a_uniform_p(null_results: list[Independence]) -> None:
    """They are all but continuous, so that their p-value is not merely conservative."""
    p = [result.feature("squared_correlations").p_hi for result in null_results]
    assert ks_2samp(p, np.arange(1, 201) / 200).pvalue > 0.01


REPEATED = pytest.mark.parametrize("repeats", [6, pytest.param(50, marks=SLOW)])


def rejections(clusters: list[Snowball]) -> float:
    return float(np.mean([independence(c, permutations=1199).rejected for c in clusters]))


def rows_of(cloud: dt.Cloud, n: int, trial: int) -> npt.NDArray[np.float32]:
    drawn = dt.sample(cloud, n, trial=trial)
    return drawn.values()[drawn.row_order()]


@REPEATED
def test_power_against_dependent_blocks(repeats: int) -> None:
    cloud, n = NULLS["float16"]
    clusters = []
    for trial in range(repeats):
        half = rows_of(cloud, n, trial)
        clusters.append(snowball_from_values(np.hstack([half, half]), FLOAT16))
    assert rejections(clusters) > 0.9


@REPEATED
def test_power_against_a_mixture_of_two_centres(repeats: int) -> None:
    centre, sigma, n = student(180, 2.5e-3, [180, 0]), 1.3e-8, 300
    clusters = []
    for trial in range(repeats):
        shift = 3 * sigma * np.random.default_rng(trial).choice([-1, 1], centre.size)
        halves = [
            rows_of(dt.Cloud(c, sigma, format="float16"), n // 2, 2 * trial + i)
            for i, c in enumerate((centre, centre + shift))
        ]
        clusters.append(snowball_from_values(np.vstack(halves), FLOAT16))
    assert rejections(clusters) > 0.9


# The built-ins, and what a caller meets.


def test_qwen_is_rejected() -> None:
    result = independence(builtin("qwen3-4b"), permutations=1999)
    found = result.feature("n_unique")
    assert found.observed == 13
    assert found.mean == pytest.approx(430, abs=1)
    assert found.std == pytest.approx(6.4, abs=0.5)
    assert result.departures == FEATURES
    assert result.mild == ()
    text = verdict(result)
    assert text.startswith("Rejected at the 1 % family-wise level: 13 distinct vectors where ")
    assert "430 +- 6; also by n_black_holes" in text


def test_whisper_is_not_rejected_and_mildly_correlated() -> None:
    result = independence(builtin("whisper-tiny.en"))
    assert (result.permutations, result.n_rows, result.n_varying) == (9_999, 300, 28)
    expected = {"n_unique": 0.26, "n_black_holes": 0.35, "largest_bh": 0.88}
    for name, p in expected.items():
        assert result.feature(name).p_value == pytest.approx(p, abs=0.03), name
    correlations = result.feature("squared_correlations")
    assert correlations.observed == pytest.approx(505.4, abs=0.1)
    assert correlations.mean == pytest.approx(379, abs=2)
    assert correlations.std == pytest.approx(41, abs=1.5)
    assert correlations.p_hi == pytest.approx(0.007, abs=0.003)
    assert not result.rejected
    assert result.mild == ("squared_correlations",)
    assert verdict(result).startswith(
        "Not rejected at the 1 % family-wise level. Mild: squared correlations of 505 where "
        "independent dimensions give 379 +- 4"
    )


def test_result_depends_on_the_seed_and_not_on_workers() -> None:
    snowball = builtin("whisper-tiny.en")
    one = independence(snowball, permutations=700, workers=1)
    assert one == independence(snowball, permutations=700, workers=2)
    assert one != independence(snowball, permutations=700, seed=43)
    assert package_function is independence


def test_a_permutation_depends_on_its_number_alone() -> None:
    table = _ColumnTable.of(builtin("whisper-tiny.en"), 1)
    longer, shorter = (_simulate(table, 1, times, 2) for times in (300, 90))
    assert np.array_equal(longer[:90], shorter)


def test_order_of_rows_does_not_matter() -> None:
    matrix = dt.open_matrix("builtin:whisper-tiny.en")
    codes = np.ascontiguousarray(matrix.codes[::-1])
    distinct, populations = np.unique(codes, axis=0, return_counts=True)
    result = independence(Snowball(distinct, populations, matrix.format), permutations=199)
    other = independence(builtin("whisper-tiny.en"), permutations=199)
    assert [f.p_value for f in result.features] == [f.p_value for f in other.features]


@pytest.mark.parametrize("shape", [(1, 5), (4, 1), (4, 0)])
def test_nothing_to_test(shape: tuple[int, int]) -> None:
    n, varying = shape
    values = np.ones((n, 5), dtype=np.float32)
    values[:, :varying] += np.arange(n)[:, None]
    result = independence(snowball_from_values(values, FLOAT16))
    assert (result.features, result.permutations, result.rejected) == ((), 0, False)
    assert result.reason is not None
    assert verdict(result).startswith("Nothing to test: of ")


def test_no_rows_at_all() -> None:
    empty = Snowball(np.zeros((0, 3), dtype=np.uint16), np.zeros(0, dtype=np.int64), BFLOAT16)
    assert independence(empty).reason is not None


def test_two_rows_and_two_dimensions_are_tested() -> None:
    values = np.array([[1, 1], [2, 2]], dtype=np.float32)
    result = independence(snowball_from_values(values, FLOAT16), permutations=99)
    assert [found.p_value for found in result.features] == [1.0] * 6


def test_correlations_are_of_the_dimensions_of_greatest_entropy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules["deadtokens.independence"], "_CORRELATED", 3)
    rng = np.random.default_rng(5)
    values = np.ones((50, 6), dtype=np.float32)
    for k, others in enumerate([1, 20, 2, 20, 15, 0]):
        values[rng.permutation(50)[:others], k] = 2
    snowball = snowball_from_values(values, FLOAT16)
    table = _ColumnTable.of(snowball, 1)
    assert table.dimensions.tolist() == [1, 3, 4, 2, 0]
    result = independence(snowball, permutations=99)
    assert (result.n_varying, result.n_correlated) == (5, 3)
    expected = literal_features(values[:, [1, 3, 4]])[-1]
    assert result.feature("squared_correlations").observed == pytest.approx(expected, rel=1e-9)


def test_default_number_of_permutations() -> None:
    assert default_permutations(300, 28) == default_permutations(2100, 95) == 9_999
    assert default_permutations(2100, 150) == 4_999
    assert default_permutations(2100, 2560) == default_permutations(10**6, 10**4) == 1_999


def test_few_permutations_are_said_to_be_too_few() -> None:
    result = independence(builtin("qwen3-4b"), permutations=50)
    assert not result.rejected
    assert "which 50 permutations cannot do. Mild: 13 distinct vectors" in verdict(result)


def test_bad_arguments() -> None:
    snowball = small_snowball(1)
    with pytest.raises(SelectionError, match="give at least one"):
        independence(snowball, permutations=0)
    with pytest.raises(SelectionError, match="seed"):
        independence(snowball, seed=-1)


def test_words() -> None:
    assert [p_words(p) for p in (0.014, 0.0002, 0.28, 1.0, 0.996, 0.0999)] == [
        ".014", ".00020", ".28", "1", "1", ".10",
    ]  # fmt: skip
    assert [spread_words(*pair) for pair in ((429.9, 6.4), (5.5, 1.22), (12, 0), (0.5, 0.034))] == [
        "430 +- 6", "5.5 +- 1.2", "12", "0.500 +- 0.034",
    ]  # fmt: skip
    found = independence(small_snowball(3), permutations=19).features[3]
    assert "rows in the largest black hole where independent dimensions give " in sentence(found)


# The command.


def test_command_prints_the_test(deadtokens: Program) -> None:
    status, out, _ = deadtokens("independence", "builtin:qwen3-4b", "--permutations", 1999)
    assert status == 0
    assert "tested: all rows, 2,100, as bfloat16; 20 of 20 dimensions vary" in out
    assert "1,999 permutations, which can give p = .0010 at the smallest" in out
    assert sum("rejects" in line for line in out.splitlines()) == 6
    assert out.splitlines()[-1].startswith("Rejected at the 1 % family-wise level: 13 distinct")


def test_command_as_json(deadtokens: Program, model: Path) -> None:
    arguments = (model, "--rows", "all", "--permutations", 99, "--seed", 7, "--json")
    facts = json.loads(deadtokens("independence", *arguments).out)
    assert (facts["n_rows"], facts["n_varying"], facts["permutations"]) == (12, 6, 99)
    expected = independence(
        dt.snowball_of(dt.open_matrix(model), np.ones(12, dtype=np.bool_)), permutations=99, seed=7
    )
    assert [f["p_value"] for f in facts["features"]] == [f.p_value for f in expected.features]
    assert [f["p_holm"] for f in facts["features"]] == list(expected.p_holm)


def test_command_chooses_rows_as_measure_does(
    deadtokens: Program, model: Path, tmp_path: Path
) -> None:
    mask = np.zeros(12, dtype=np.bool_)
    mask[[3]] = True
    np.save(tmp_path / "mask.npy", mask)
    out = deadtokens("independence", model, "--mask", tmp_path / "mask.npy").out
    assert out.splitlines()[-1].startswith("Nothing to test: of 1 row, 0 dimensions vary")
    out = deadtokens("independence", model).out
    assert "tested: the rows that equal another (no cluster: only 12 rows are" in out
    both = deadtokens("independence", model, "--mask", tmp_path / "mask.npy", "--rows", "all")
    assert "both --mask and --rows" in both.err


def test_what_stops_a_thread_stops_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kernels, "deal_columns", interrupted)
    before = threading.active_count()
    matrix = dt.open_matrix("builtin:whisper-tiny.en")
    with pytest.raises(KeyboardInterrupt):
        independence(dt.snowball_of(matrix, np.arange(matrix.n_rows)), permutations=200)
    assert threading.active_count() == before
