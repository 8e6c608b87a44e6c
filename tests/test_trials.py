"""Trials measured in compiled code against the same trials measured literally, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from centroids import student
from reference import reference_row

from deadtokens.cloud import Cloud
from deadtokens.elements import ElementTotals
from deadtokens.kernels import separation
from deadtokens.sampling import SamplerName, distinct_rows, sample
from deadtokens.statistics import COLUMNS
from deadtokens.trials import STATISTICS, Simulator, TrialSpec

CLOUDS = {
    "few vectors": (Cloud(student(30, 2.5e-3), 1e-8), 80, None),
    "many vectors": (Cloud(student(40, 2.5e-3), 1e-6), 60, None),
    "near the ulp": (Cloud(student(20, 2.5e-3), 1e-5), 40, None),
    "touching in part": (Cloud(student(20, 2.5e-3), 1e-5), 40, 3e-5),
    "touching nowhere": (Cloud(student(20, 2.5e-3), 1e-3), 40, 1e-6),
    "float16": (Cloud(student(25, 1e-2), 2e-6, format="float16"), 50, None),
    "float8": (Cloud(student(6, 0.3), 0.02, format="float8_e4m3fn"), 40, None),
    "float32": (Cloud(student(6, 0.3), 1e-7, format="float32"), 30, None),
    "around zero": (Cloud(np.zeros(4), 1e-7, format="float16"), 40, None),
    "one token": (Cloud(student(5, 1.0), 1e-2), 1, None),
    "sigma 0": (Cloud(student(5, 1.0), 0.0), 20, None),
}


def samplers(cloud: Cloud) -> list[SamplerName]:
    return ["direct"] if cloud.table is None else ["occupancy", "direct"]


CASES = [(name, sampler) for name in CLOUDS for sampler in samplers(CLOUDS[name][0])]


def simulator(name: str, sampler: SamplerName) -> Simulator:
    cloud, n_tokens, touching = CLOUDS[name]
    largest = np.array([np.abs(cloud.centroid).max()], dtype=np.float32)
    epsilon = float(cloud.format.ulp(cloud.format.round(largest))[0])
    spec = TrialSpec(n_tokens, 7, epsilon, touching or 2 * epsilon)
    return Simulator(cloud, spec, sampler)


@pytest.mark.parametrize(("name", "sampler"), CASES)
def test_rows_are_those_of_the_trial_measured_literally(name: str, sampler: SamplerName) -> None:
    worker = simulator(name, sampler)
    spec = worker.spec
    rows = worker.run(3, 12).rows
    for i, row in enumerate(rows):
        snowball = sample(worker.cloud, spec.n_tokens, trial=3 + i, seed=spec.seed, sampler=sampler)
        values = snowball.values()[snowball.row_order()]
        expected = reference_row(values, spec.epsilon, spec.touching)
        for column, value in zip(STATISTICS, row, strict=True):
            assert value == pytest.approx(expected[column], rel=1e-12, abs=1e-14), column


def test_cases_take_every_way_through_the_code() -> None:
    """Complete, partial and empty graphs; trials told from cells alone and from pairs."""
    density = COLUMNS.index("global_density") - 1
    components = COLUMNS.index("n_components") - 1
    partial = simulator("touching in part", "occupancy").run(0, 12).rows[:, density]
    assert ((partial > 0) & (partial < 1)).any()
    assert (simulator("touching nowhere", "direct").run(0, 3).rows[:, density] == 0).all()
    assert (simulator("few vectors", "occupancy").run(0, 3).rows[:, components] == 1).all()


def test_pairs_left_are_looked_at_or_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of no pairs sends every trial with three cells in a dimension the other way."""
    worker = simulator("near the ulp", "occupancy")
    expected = worker.run(0, 20).rows
    table = worker.cloud.table
    assert table is not None
    drawn = worker._occupancy.draw(0, 1)
    row = np.zeros(20)
    lowest = table.ordinals[table.first[:-1]].astype(np.int64)
    arguments = (drawn.ordinals, lowest, table.first, worker._values, worker.spec.epsilon)
    assert separation.distance_row(*arguments, worker._touching, row)
    monkeypatch.setattr(separation, "PAIRS_AT_MOST", -1)
    assert not separation.distance_row.py_func(*arguments, worker._touching, row)
    by_pairs = np.zeros(20)
    worker._measure_pairs(drawn.ordinals, by_pairs)
    np.testing.assert_allclose(by_pairs[12:], expected[0, 12:], rtol=1e-12)


@pytest.mark.parametrize("sampler", ["occupancy", "direct"])
def test_trials_do_not_depend_on_the_batch(sampler: SamplerName) -> None:
    worker = simulator("many vectors", sampler)
    together = worker.run(0, 30)
    apart = [simulator("many vectors", sampler).run(first, 10) for first in (20, 0, 10)]
    by_first = sorted(apart, key=lambda batch: batch.first)
    assert np.array_equal(together.rows, np.concatenate([batch.rows for batch in by_first]))
    assert np.array_equal(together.ranked, sum(batch.ranked for batch in apart))
    assert np.array_equal(together.elements, sum(batch.elements for batch in apart))
    powers = tuple(sum(powers) for powers in zip(*(b.power_sums for b in apart), strict=True))
    assert together.power_sums == powers


@pytest.mark.parametrize("sampler", ["occupancy", "direct"])
def test_a_stopped_batch_is_the_beginning_of_a_whole_one(sampler: SamplerName) -> None:
    worker = simulator("many vectors", sampler)
    whole = worker.run(0, 400)
    calls = iter([False, False, True])
    stopped = worker.run(0, 400, stop=lambda: next(calls))
    done = len(stopped.rows)
    assert 0 < done < 400
    assert np.array_equal(stopped.rows, whole.rows[:done])
    assert np.array_equal(stopped.elements, worker.run(0, done).elements)


@pytest.mark.parametrize(("name", "sampler"), CASES)
def test_elements_are_all_elements(name: str, sampler: SamplerName) -> None:
    worker = simulator(name, sampler)
    batch = worker.run(0, 5)
    cloud, n = worker.cloud, worker.spec.n_tokens
    values = np.concatenate(
        [
            snowball.values()[snowball.row_order()].astype(np.float64)
            for trial in range(5)
            for snowball in [sample(cloud, n, trial=trial, seed=7, sampler=sampler)]
        ]
    )
    deviations = (values - cloud.centroid)[:, cloud.active]
    assert batch.elements.sum() == deviations.size
    if sampler == "direct":
        totals = ElementTotals(cloud)
        counts = np.histogram(np.clip(deviations, totals.edges[0], totals.edges[-1]), totals.edges)
        assert np.array_equal(batch.elements, counts[0])
        sums = [float(power * ElementTotals.UNIT) for power in batch.power_sums]
        expected = [(deviations**p).sum() for p in range(1, 5)]
        np.testing.assert_allclose(sums, expected, rtol=1e-9, atol=1e-30)
    elif cloud.table is not None:
        ordinals = cloud.format.ordinals(cloud.format.round(values.astype(np.float32)))
        for k, dimension in enumerate(cloud.active):
            cells = slice(int(cloud.table.first[k]), int(cloud.table.first[k + 1]))
            counted = [(ordinals[:, dimension] == j).sum() for j in cloud.table.ordinals[cells]]
            assert np.array_equal(batch.elements[cells], counted)


def test_populations_by_rank() -> None:
    worker = simulator("few vectors", "occupancy")
    batch = worker.run(0, 50)
    assert np.array_equal(batch.ranked.sum(axis=1), np.full(worker.spec.ranks.size, 50))
    largest = batch.rows[:, STATISTICS.index("largest_bh")].astype(int)
    bins = np.searchsorted(worker.spec.population_bins, largest, side="right") - 1
    assert np.array_equal(batch.ranked[0], np.bincount(bins, minlength=batch.ranked.shape[1]))
    unique = batch.rows[:, STATISTICS.index("n_unique")]
    absent = [(unique < rank).sum() for rank in worker.spec.ranks]
    assert np.array_equal(batch.ranked[:, 0], absent)


@pytest.mark.parametrize("n_tokens", [1, 5, 64, 65, 2100, 10**9])
def test_ranks_and_bins_cover_every_number_of_tokens(n_tokens: int) -> None:
    spec = TrialSpec(n_tokens, 0, 1.0, 2.0)
    assert spec.ranks[0] == 1
    assert spec.ranks[-1] == n_tokens
    assert (np.diff(spec.ranks) > 0).all()
    assert spec.population_bins[:2].tolist() == [0, 1]
    assert (np.diff(spec.population_bins) > 0).all()
    assert spec.population_bins[-1] > n_tokens or n_tokens + 1 in spec.population_bins


def test_distinct_rows_keep_extreme_ordinals_apart() -> None:
    rows = np.array([[0, 0], [-32767, 0], [32767, -1], [-1, 32767]], np.int16)
    vectors, populations, inverse = distinct_rows(rows)
    assert vectors.tolist() == rows.tolist()
    assert populations.tolist() == [1, 1, 1, 1]
    vectors, populations, inverse = distinct_rows(rows[[1, 3, 1, 2]])
    assert vectors.tolist() == rows[[1, 3, 2]].tolist()
    assert populations.tolist() == [2, 1, 1]
    assert inverse.tolist() == [0, 1, 0, 2]
