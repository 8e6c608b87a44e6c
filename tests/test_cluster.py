"""The dead cluster: planted ones are found exactly, with their void; where there is none, none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from planted import SHAPES, STRUCTURES, matrix_of, planted

import deadtokens as dt
from deadtokens import cluster, orderings, voids
from deadtokens.cluster import ClusterSearch, find_cluster
from deadtokens.deadrows import EVIDENCE, dead_rows
from deadtokens.errors import SelectionError
from deadtokens.formats import (
    BFLOAT16,
    FLOAT8_E4M3FN,
    FLOAT8_E5M2,
    FLOAT16,
    FLOAT32,
    FORMATS,
    Format,
)
from deadtokens.merging import merging
from deadtokens.selection import rows_to_measure
from deadtokens.sources import Matrix, Quantised
from deadtokens.spots import WIDTH, dense_spots, random_signs
from deadtokens.voids import find_void


def search(matrix: Matrix, **options: Any) -> ClusterSearch:
    return find_cluster(matrix, dt.census(matrix), **options)


def found_rows(matrix: Matrix) -> list[int]:
    return np.flatnonzero(search(matrix).rows).tolist()


# Format, noise and height of the centre against 0.02 for ordinary rows; whether rows may coincide.
PLANTED = [
    (FLOAT32, 1e-9, 0.02),
    (FLOAT32, 1e-6, 0.002),
    (FLOAT32, 1e-6, 0.2),
    (FLOAT32, 2e-3, 0.02),
    (FLOAT32, 2e-3, 0.2),
    (BFLOAT16, 1e-7, 0.005),
    (BFLOAT16, 1e-5, 0.1),
    (BFLOAT16, 2e-3, 0.02),
    (FLOAT16, 1e-6, 0.01),
    (FLOAT16, 1e-3, 0.1),
    (FLOAT8_E5M2, 1e-4, 0.02),
    (FLOAT8_E4M3FN, 1e-6, 0.05),
]


@pytest.mark.parametrize(("fmt", "noise", "height"), PLANTED, ids=str)
@pytest.mark.parametrize("n", [25, 300])
def test_planted_clusters_are_found(fmt: Format, noise: float, height: float, n: int) -> None:
    values, rows = planted(1, 4000, 256, n, noise, height)
    assert found_rows(matrix_of(values, fmt)) == rows.tolist()


def test_the_void_is_that_of_the_rows_found() -> None:
    """Distances are those from the mean of the rows found; the evidence says what they show."""
    values, rows = planted(2, 3000, 96, 40, 1e-6)
    matrix = matrix_of(values, FLOAT16)
    found = search(matrix)
    assert np.flatnonzero(found.rows).tolist() == rows.tolist()
    stored = matrix.values().astype(np.float64)
    centre = stored[rows].mean(axis=0)
    distances = np.linalg.norm(stored - centre, axis=1)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)
    ordinals = FLOAT16.ordinals(np.asarray(matrix.codes[:]))
    nearest = FLOAT16.ordinals(FLOAT16.round(centre.astype(np.float32)))
    steps = np.abs(ordinals - nearest).max(axis=1)
    assert found.steps is not None
    assert np.array_equal(found.steps, steps)

    void = found.void
    assert void is not None
    assert (void.convincing, void.measure, void.n_inside, void.n_rows) == (
        True, "Euclidean", 40, 3000)  # fmt: skip
    inside, outside = distances[rows], np.delete(distances, rows)
    assert (void.inside, void.outside) == pytest.approx((inside.max(), outside.min()))
    assert (void.row_inside, void.row_outside) == (
        rows[inside.argmax()], np.flatnonzero(~found.rows)[outside.argmin()])  # fmt: skip
    assert (void.other_inside, void.other_outside) == (
        steps[rows].max(), np.delete(steps, rows).min())  # fmt: skip
    resolution = np.linalg.norm(FLOAT16.ulp(FLOAT16.codes(nearest)))
    assert void.ratio == pytest.approx(outside.min() / max(resolution, inside.max()))
    assert found.evidence().startswith("40 rows inside, the last at ")
    assert "black hole" in found.origin or "random projections" in found.origin


def test_same_result_whatever_the_threads_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values, _ = planted(3, 3000, 64, 50, 1e-4)
    values[7], values[8] = np.nan, 0
    matrix = matrix_of(values)
    one = search(matrix, workers=1)
    two = search(matrix, workers=2)
    monkeypatch.setattr(orderings, "_BLOCK_NUMBERS", 700)
    small = search(matrix, workers=3)
    for other in (two, small):
        assert one.void == other.void
        assert (one.start, one.origin, one.reason) == (other.start, other.origin, other.reason)
        for name in ("rows", "zero", "distances", "steps"):
            assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)


def test_black_hole_that_is_not_the_cluster() -> None:
    """Two tied tokens, or twenty, beside a plateau in which no two rows are equal."""
    for tied in (2, 20):
        values, rows = planted(4, 3000, 64, 200, 1e-5, 0.1)
        others = np.setdiff1d(np.arange(3000), rows)[:tied]
        values[others] = values[others[0]]
        assert found_rows(matrix_of(values)) == rows.tolist()


def test_black_hole_alone_is_a_cluster_if_it_is_large() -> None:
    for n, expected in ((20, True), (5, False)):
        values, rows = planted(5, 2000, 64, n, 0.0)
        found = search(matrix_of(values, BFLOAT16))
        assert np.flatnonzero(found.rows).tolist() == (rows.tolist() if expected else [])


def test_black_hole_within_a_plateau() -> None:
    """The gap between equal rows and the others of their cluster is not the void."""
    values, rows = planted(6, 3000, 64, 200, 1e-4)
    values[rows[:12]] = values[rows[0]]
    found = search(matrix_of(values))
    assert np.flatnonzero(found.rows).tolist() == rows.tolist()
    assert found.origin == "the largest black hole, 12 rows"
    assert found.start == rows[0]


def test_zero_rows_are_a_group_of_their_own() -> None:
    """More zeros, of either sign, than anything else; and a cluster close around the origin."""
    values, rows = planted(7, 2000, 32, 60, 1e-5, 0.0)
    zeros = np.setdiff1d(np.arange(2000), rows)[100:500]
    values[zeros] = np.where(np.arange(32) % 2, 0.0, -0.0)
    found = search(matrix_of(values))
    assert np.flatnonzero(found.rows).tolist() == rows.tolist()
    assert np.flatnonzero(found.zero).tolist() == zeros.tolist()
    assert found.void is not None
    assert found.void.n_rows == 1600


def test_rows_that_are_not_finite_are_nowhere() -> None:
    values, rows = planted(8, 2000, 32, 60, 1e-5)
    bad = np.setdiff1d(np.arange(2000), rows)[:90]
    values[bad, 3] = np.where(np.arange(90) % 2, np.nan, np.inf)
    found = search(matrix_of(values))
    assert np.flatnonzero(found.rows).tolist() == rows.tolist()
    assert np.flatnonzero(np.isnan(found.distances)).tolist() == bad.tolist()
    assert found.steps is not None
    assert np.flatnonzero(found.steps == -1).tolist() == bad.tolist()


def test_giants_far_away_hide_nothing() -> None:
    values, rows = planted(9, 2000, 32, 60, 1e-6)
    others = np.setdiff1d(np.arange(2000), rows)
    values[others[:3]], values[others[3]] = 3e38, -1e30
    assert found_rows(matrix_of(values)) == rows.tolist()


@pytest.mark.parametrize("fmt", [BFLOAT16, FLOAT16], ids=lambda fmt: fmt.name)
def test_float32_storage_of_coarser_numbers_is_searched_on_their_lattice(fmt: Format) -> None:
    values, rows = planted(10, 2000, 64, 60, 1e-5)
    coarse = matrix_of(values, fmt)
    stored, own = search(matrix_of(coarse.values())), search(coarse)
    assert np.flatnonzero(own.rows).tolist() == rows.tolist()
    assert stored.void == own.void
    assert stored.steps is not None
    assert own.steps is not None
    assert np.array_equal(stored.steps, own.steps)


def test_lattice_steps_decide_where_distances_cannot() -> None:
    """A column of some 100 in every row, of which rounding makes half a unit."""
    values, rows = planted(11, 2000, 64, 60, 0.0)
    values[:, 5] += 100
    values[rows] *= 1 + np.random.default_rng(0).choice([0, 2e-3], (60, 64))
    found = search(matrix_of(values, BFLOAT16))
    assert np.flatnonzero(found.rows).tolist() == rows.tolist()
    assert found.void is not None
    assert found.void.measure == "lattice steps"
    assert found.void.inside <= 2 < 1000 < found.void.outside
    assert "lattice step" in found.evidence()


def test_quantised_rows_have_no_lattice() -> None:
    values, rows = planted(12, 2000, 64, 60, 1e-5)
    raw = np.zeros((2000, 8), np.uint8)
    matrix = replace(matrix_of(values), quantised=Quantised("Q8_0", raw))
    found = find_cluster(matrix, dt.census(matrix_of(values)))
    assert np.flatnonzero(found.rows).tolist() == rows.tolist()
    assert found.steps is None
    assert found.void is not None
    assert found.void.other_inside is None


def test_no_cluster_says_why() -> None:
    rng = np.random.default_rng(13)
    values = rng.normal(0, 0.02, (500, 32))
    close = values[:1] * (1 + rng.choice([0, 3e-3], (500, 32)))
    for rows, fmt, reason in (
        (values, FLOAT32, r"no convincing void: .*it would have to be 3 times"),
        (close, BFLOAT16, "within .* which rounding alone makes"),
        (np.tile(values[0], (50, 1)), FLOAT32, "all 50 rows .* are equal"),
        (values[:1], FLOAT32, "1 row"),
        (values[:2], FLOAT32, "2 rows"),
        (np.zeros((40, 3)), FLOAT32, "no row is finite and not zero"),
        (np.full((40, 3), np.nan), FLOAT32, "no row is finite and not zero"),
    ):
        matrix = matrix_of(rows, fmt)
        found = search(matrix)
        assert not found.rows.any()
        assert found.evidence() == found.reason
        with pytest.raises(SelectionError, match=f"nothing to measure: .*{reason}.*--mask"):
            rows_to_measure(matrix, "cluster")
    assert search(matrix_of(np.zeros((40, 3)))).start is None
    assert search(matrix_of(np.zeros((40, 3)))).zero.all()


@pytest.mark.parametrize("inside", [49, 50, 51, 70, 90, 92, 95])
def test_a_cluster_may_be_more_than_half_of_all_rows(inside: int) -> None:
    """But for the fewest that have to be left outside: eight, by whose void 40 bits are shown."""
    values, rows = planted(14, 100, 64, inside, 1e-6)
    found = search(matrix_of(values))
    assert np.flatnonzero(found.rows).tolist() == (rows.tolist() if inside <= 92 else [])
    assert found.majority == (50 <= inside <= 92)
    assert bool(found.undecided) == (inside > 92)


@pytest.mark.parametrize(
    ("fmt", "height"),
    [(FLOAT32, 0.0), (FLOAT32, 0.02), (FLOAT32, 0.2), (FLOAT16, 0.0), (FLOAT16, 0.02),
     (BFLOAT16, 0.0), (BFLOAT16, 0.02)],
    ids=str,
)  # fmt: skip
def test_most_tokens_of_a_small_corpus_are_dead(fmt: Format, height: float) -> None:
    """16,938 of 32,000 rows within 5.1e-5 of a point, the next at 8.5e-3, as a decayed table is."""
    rng = np.random.default_rng(20)
    n, d, dead = 6400, 96, 3388
    values = rng.normal(0, 1, (n, d))
    lengths = np.exp(rng.uniform(np.log(8.5e-3), np.log(1.0), (n, 1)))
    values *= lengths / np.linalg.norm(values, axis=1, keepdims=True)
    rows = np.sort(rng.choice(n, dead, replace=False))
    values[rows] = 4.5e-5 / np.sqrt(d) * rng.normal(0, 1, (dead, d))
    values += height * rng.normal(0, 1, d)
    found = search(matrix_of(values, fmt))
    assert found.majority
    assert np.flatnonzero(found.rows).tolist() == rows.tolist()


def test_few_rows_far_outside_do_not_make_the_others_dead() -> None:
    """A body of live rows and giants look like dead rows and live ones: it is not decided."""
    for share, times in ((0.02, 1000.0), (0.1, 20.0)):
        rng = np.random.default_rng(21)
        values = 0.02 * rng.normal(size=(2000, 64))
        values[: int(share * 2000)] *= times
        found = search(matrix_of(values))
        assert not found.rows.any()
        assert "where most are inside" in found.undecided


def structured(name: str, seed: int) -> list[Matrix]:
    """Matrices without a cluster, one of each shape, in formats by turns."""
    made = []
    for i, (n, d) in enumerate(SHAPES):
        fmt = list(FORMATS.values())[(seed + i) % len(FORMATS)]
        rng = np.random.default_rng([seed, n, d])
        values = np.clip(0.02 * STRUCTURES[name](rng, n, d), -300, 300)
        made.append(matrix_of(values, fmt))
    return made


@pytest.mark.parametrize("name", STRUCTURES)
def test_no_cluster_is_invented(name: str) -> None:
    """Where rows have no structure (16.2) bounds what is expected of all of these by 0.02.

    19 structures, 12 seeds and 6 shapes, at most 2.4e-11 for each point that is tried, and no more
    points than rows: 19 * 12 * 6 * 1500 * 2.4e-11 = 5e-5, for rows on a line.
    """
    check_none(name, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_no_cluster_is_invented_more_often(name: str) -> None:
    for seed in range(1, 12):
        check_none(name, seed)


def check_none(name: str, seed: int) -> None:
    for matrix in structured(name, seed):
        found = search(matrix)
        assert not found.rows.any(), f"{matrix!r}: {found.evidence()}"


# The least ratio and bits, where to try them, and at least how many of 48 matrices each must fail.
CONTROLS = {
    "neither": (1.0, 0.0, "Gaussian", 48),
    "no bits": (3.0, 0.0, "families", 4),
    "no ratio": (1.0, 40.0, "topics", 4),
}


@pytest.mark.parametrize("rule", CONTROLS)
def test_rules_with_less_invent_clusters(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative controls: without the least ratio, the least evidence or both, clusters appear."""
    ratio, bits, name, failures = CONTROLS[rule]
    monkeypatch.setattr(voids, "MIN_RATIO", ratio)
    monkeypatch.setattr(voids, "MIN_BITS", bits)
    matrices = [matrix for seed in range(8) for matrix in structured(name, seed)]
    assert len(matrices) == 48
    assert sum(bool(search(matrix).rows.any()) for matrix in matrices) >= failures


@pytest.mark.parametrize(("k", "m", "ratio"), [(1, 3, 1.5), (2, 8, 1.1), (5, 2, 1.2)])
def test_gaps_are_as_wide_as_order_statistics_say(k: int, m: int, ratio: float) -> None:
    """(16.2) among 40 rows in a ball of k dimensions, within five standard errors."""
    draws = 20_000
    distances = np.sort(np.random.default_rng(15).random((draws, 40)) ** (1 / k), axis=1)
    wider = np.mean(distances[:, m] / distances[:, m - 1] > ratio)
    expected = ratio ** (-k * m)
    assert abs(wider - expected) < 5 * np.sqrt(expected * (1 - expected) / draws)


def test_voids_of_known_distances() -> None:
    """Nine inside at 1 to 2, eleven outside from 20; rows that do not count are not looked at."""
    distances = np.array([*np.linspace(1, 2, 9), *np.linspace(20, 30, 11), 0.001, np.nan])
    rows = np.arange(20)
    void = find_void(distances, rows, 0.5, "Euclidean")
    assert void is not None
    assert (void.n_inside, void.ratio, void.row_inside, void.row_outside) == (9, 10, 8, 9)
    assert void.bits == pytest.approx(8 * np.log2(10))
    assert not void.convincing  # 26.6 bits
    assert void.lacks == "with 9 rows inside it would have to be 32 times"
    coarse = find_void(distances, rows, 5.0, "Euclidean")
    assert coarse is not None
    assert coarse.ratio == 4
    assert find_void(distances, rows[:16], 0.5, "Euclidean") is None  # most of them inside
    near = find_void(distances, rows, 0.5, "Euclidean", farthest=1.9)
    assert near is not None
    assert near.n_inside == 8


def test_dense_spots_are_places_to_look_at() -> None:
    values, rows = planted(16, 3000, 200, 50, 1e-4)
    matrix = matrix_of(values)
    sketch = orderings.sketches(matrix, random_signs(200), WIDTH)
    signed = values * random_signs(200)
    np.testing.assert_allclose(sketch[:, 5], signed[:, 5::WIDTH].sum(axis=1), atol=1e-6)
    found = dense_spots(sketch, np.arange(3000))
    assert any(np.array_equal(spot.rows, rows) for spot in found)
    elsewhere = dense_spots(sketch, np.setdiff1d(np.arange(3000), rows))
    assert not any(np.isin(spot.rows, rows).any() for spot in elsewhere)
    assert dense_spots(sketch, np.arange(16)) == []
    assert dense_spots(np.ones((100, 8), np.float32), np.arange(100)) == []


def test_dead_rows_and_how() -> None:
    values, rows = planted(17, 500, 32, 30, 1e-6)
    others = np.setdiff1d(np.arange(500), rows)
    values[others[:2]], values[others[2:5]] = values[others[0]], 0
    matrix = matrix_of(values)
    dead = dead_rows(matrix, dt.census(matrix), search(matrix))
    assert np.flatnonzero(dead.rows).tolist() == sorted([*rows, *others[:5]])
    assert dead.how == "30 in the cluster, 2 equal to another, 3 of zeros"
    assert EVIDENCE[dead.evidence[rows[0]]] == "cluster"
    assert EVIDENCE[dead.evidence[others[3]]] == "zeros"
    assert EVIDENCE[dead.evidence[others[0]]] == "black hole"
    assert EVIDENCE[dead.evidence[others[9]]] == ""

    values[rows] = np.random.default_rng(1).normal(0, 0.02, (30, 32))
    matrix = matrix_of(values)
    dead = dead_rows(matrix, dt.census(matrix), search(matrix))
    assert np.flatnonzero(dead.rows).tolist() == sorted(others[:5])
    assert dead.how == "2 equal to another, 3 of zeros"
    assert EVIDENCE[dead.evidence[others[0]]] == "black hole"

    whisper = dt.open_matrix("builtin:whisper-tiny.en")
    dead = dead_rows(whisper, dt.census(whisper), search(whisper))
    assert dead.rows.all()
    assert dead.how == "78 equal to another, 222 of a source that holds dead rows only"

    alive = matrix_of(values[rows])
    assert (
        dead_rows(alive, dt.census(alive), search(alive)).how
        == "no cluster, no equal rows, no zeros"
    )


def literal_merging(values: Any, target: Format) -> int:
    """Rows that equal another one by value, after NumPy's or ml_dtypes' own rounding."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = values.astype(target.float_dtype).astype(np.float32)
    rounded = rounded[np.isfinite(rounded).all(axis=1)] + 0
    counts = np.unique(rounded, axis=0, return_counts=True)[1] if rounded.size else np.zeros(0)
    return int(counts[counts > 1].sum())


@pytest.mark.parametrize("storage", FORMATS.values(), ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("target", [BFLOAT16, FLOAT16, FLOAT8_E4M3FN], ids=lambda fmt: fmt.name)
def test_merging(storage: Format, target: Format) -> None:
    """Rows that merge only by rounding, overflow (70,000 in float16) or hold NaN among them."""
    merged = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        centres = rng.normal(0, 1, (30, 5))
        values = centres[rng.integers(0, 30, 200)] * (1 + rng.normal(0, 1e-3, (200, 5)))
        values[:4, 0], values[4:6, 1] = 70_000, np.nan
        values[6:8] = np.array([[0.0], [-0.0]])
        matrix = matrix_of(values, storage)
        with np.errstate(invalid="ignore"):
            stored = matrix.values()
        expected = literal_merging(stored, target)
        assert merging(matrix, target) == merging(matrix, target, workers=1) == expected
        merged += expected
    assert merged >= 2 * 10


def test_rows_by_name() -> None:
    values, rows = planted(18, 500, 32, 30, 0.0)
    matrix = matrix_of(values, BFLOAT16)
    for name in (None, "duplicates", "cluster"):
        chosen = rows_to_measure(matrix, name)
        assert np.flatnonzero(chosen.rows).tolist() == rows.tolist()
        assert chosen.name == (name or "cluster")
        assert ("times as far" in chosen.reason) == (name != "duplicates")
    assert rows_to_measure(matrix, "all").rows.all()
    with pytest.raises(SelectionError, match="rows 'some'"):
        rows_to_measure(matrix, "some")


def test_rows_that_differ_in_a_cluster_are_taken_with_the_others() -> None:
    """By default, so that sigma is not that of the rows which happen to coincide."""
    values, rows = planted(19, 600, 32, 60, 1e-5)
    values[rows[1]] = values[rows[0]]
    chosen = rows_to_measure(matrix_of(values, FLOAT32))
    assert np.flatnonzero(chosen.rows).tolist() == rows.tolist()
    pair = rows_to_measure(matrix_of(values, FLOAT32), "duplicates")
    assert np.flatnonzero(pair.rows).tolist() == sorted(rows[:2].tolist())


def test_without_a_cluster_equal_rows_are_taken_and_it_is_said_why() -> None:
    values = np.random.default_rng(0).normal(0, 0.02, (400, 32))
    with pytest.raises(SelectionError, match=r"no convincing void.*no two of the 400 rows"):
        rows_to_measure(matrix_of(values, FLOAT32))
    values[7] = values[8]
    chosen = rows_to_measure(matrix_of(values, FLOAT32))
    assert (chosen.name, np.flatnonzero(chosen.rows).tolist()) == ("duplicates", [7, 8])
    assert chosen.reason.startswith("no convincing void")


def test_search_is_no_longer_than_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a black hole in a cluster: ordered twice, and projected once for a second cluster."""
    passes = []
    real = orderings.orderings

    def counted(*arguments: Any) -> Any:
        passes.append(len(arguments[2]))
        return real(*arguments)

    monkeypatch.setattr(cluster, "orderings", counted)
    projected = []

    def sketched(*arguments: Any) -> Any:
        projected.append(arguments)
        return orderings.sketches(*arguments)

    monkeypatch.setattr(cluster, "sketches", sketched)
    values, rows = planted(19, 2000, 64, 60, 1e-4)
    values[rows[:3]] = values[rows[0]]
    assert found_rows(matrix_of(values, BFLOAT16)) == rows.tolist()
    assert passes == [1, 1]
    assert len(projected) == 1


def test_the_mean_of_many_rows_is_that_of_evenly_spaced_ones() -> None:
    rows = np.arange(5000, dtype=np.float32)[:, None] * np.ones(2, np.float32)
    found = orderings.mean_of(dt.open_matrix(rows), np.arange(5000))
    taken = np.linspace(0, 4999, 4096).astype(np.int64)
    assert found == pytest.approx(np.repeat(taken.mean(), 2), rel=1e-12)
    assert orderings.mean_of(dt.open_matrix(rows), np.arange(4096)) == pytest.approx(2047.5)


def test_one_row_that_lies_on_no_coarser_lattice_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4 blocks the first does, and the sample of rows sees none of the others."""
    monkeypatch.setattr(orderings, "_BLOCK_NUMBERS", 2)
    monkeypatch.setattr(orderings, "_SAMPLE_ROWS", 1)
    rows = np.array([[1.0, 2.0], [1.0001, 2.0], [1.0, 2.0], [1.0, 2.0]], np.float32)
    matrix = dt.open_matrix(rows)
    assert orderings.on_its_lattice(matrix, workers=1) is matrix
    assert orderings.on_its_lattice(dt.open_matrix(rows[[0, 2, 3]])).format is not FLOAT32
