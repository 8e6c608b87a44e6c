"""Samplers: reproducibility, bookkeeping, known answers, compiled code against plain Python.

Distributions are tested in statistical/test_samplers.py.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deadtokens.cloud import Cloud
from deadtokens.elements import ElementTotals, cell_deviations, inactive_deviations
from deadtokens.errors import FormatError, SelectionError
from deadtokens.formats import FORMATS
from deadtokens.kernels import direct, random
from deadtokens.sampling import (
    DirectSampler,
    OccupancySampler,
    choose_sampler,
    complete_counts,
    distinct_rows,
    occupancy_table,
    sample,
    stream_key,
)


def student_centroid(d: int = 2560, rms: float = 3.282e-3) -> np.ndarray[Any, np.dtype[np.float32]]:
    draws = np.random.default_rng(20).standard_t(4.5, d)
    return np.asarray(draws * rms / np.sqrt(np.mean(draws**2)), dtype=np.float32)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        # Known answers published with Random123 (kat_vectors, philox4x32 of 10 rounds).
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter: Any, key: Any, expected: Any) -> None:
    def check(function: Any) -> None:
        words = function(*(np.uint64(number) for number in (*counter, *key)))
        assert tuple(int(word) for word in words) == expected

    check(random.philox_block)
    check(random.philox_block.py_func)
    words = np.zeros(2, dtype=np.uint64)
    trial = np.uint64(counter[2] | counter[3] << 32)
    random.fill_words(words, np.uint64(key[0] | key[1] << 32), counter[1], trial, counter[0])
    low, high = expected[0] | expected[1] << 32, expected[2] | expected[3] << 32
    assert words.tolist() == [low, high]


def test_a_stream_goes_through_its_blocks_in_order() -> None:
    state = np.zeros(random.STATE_SIZE, dtype=np.uint64)
    ahead = np.zeros(random.AHEAD, dtype=np.uint64)
    random.start_stream(state, ahead, np.uint64(9), 5, np.uint64(7), 0)
    drawn = [int(random.next_word(state, ahead)) for _ in range(3 * random.AHEAD)]
    expected = []
    for piece in range(3):
        words = np.zeros(random.AHEAD, dtype=np.uint64)
        random.fill_words(words, np.uint64(9), 5, np.uint64(7), piece * random.AHEAD // 2)
        expected += words.tolist()
    assert drawn == expected
    assert len(set(drawn)) == len(drawn)


def test_unit_interval_is_open() -> None:
    assert random.unit_interval(np.uint64(0)) == 2.0**-53
    assert random.unit_interval(np.uint64(2**64 - 1)) == 1 - 2.0**-53


def test_stream_key_depends_on_seed_and_sigma_alone() -> None:
    one = np.array([1.5e-9])
    assert stream_key(42, one) == stream_key(42, np.full(7, 1.5e-9))
    assert stream_key(42, np.array([0.0])) == stream_key(42, np.array([-0.0]))
    others = [
        stream_key(43, one),
        stream_key(42, np.nextafter(one, 1)),
        stream_key(42, np.array([1.5e-9, 2e-9])),
        stream_key(42, np.array([2e-9, 1.5e-9])),
    ]
    assert len({stream_key(42, one), *others}) == 5
    # Written down, so that recorded trials can be drawn again by later versions.
    assert stream_key(42, one) == 128466504806360266


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, None])
def test_seeds_out_of_range_are_refused(seed: Any) -> None:
    with pytest.raises(SelectionError, match=r"^seed: "):
        stream_key(seed, np.ones(1))


@pytest.mark.parametrize("name", list(FORMATS))
def test_rounding_agrees_with_the_format(name: str) -> None:
    fmt = FORMATS[name]
    rng = np.random.default_rng(3)
    ordinals = np.unique(np.concatenate([
        rng.integers(-fmt.max_ordinal + 1, fmt.max_ordinal, 3000),
        np.arange(-min(300, fmt.max_ordinal - 1), min(300, fmt.max_ordinal)),
    ]))  # fmt: skip
    middles = fmt.boundaries(ordinals, "exact")
    exact = middles.astype(np.float32)
    values = fmt.values(fmt.codes(ordinals))
    x = np.concatenate([
        values, exact, np.nextafter(exact, np.float32(np.inf)), np.nextafter(exact, -exact),
        np.array([0.0, -0.0], dtype=np.float32),
    ])  # fmt: skip
    args = fmt.fraction_bits, fmt.min_exponent
    rounded = np.array([direct.round_to_ordinal(np.float64(v), *args) for v in x])
    np.testing.assert_array_equal(rounded, fmt.ordinals(fmt.round(x)))
    # float64 numbers on and beside a boundary, which float32 would not tell from it.
    inexact = [direct.round_to_ordinal(b, *args) for b in middles]
    np.testing.assert_array_equal(inexact, ordinals + (ordinals % 2 != 0))
    for side, shift in ((-np.inf, 0), (np.inf, 1)):
        beside = [direct.round_to_ordinal(b, *args) for b in np.nextafter(middles, side)]
        np.testing.assert_array_equal(beside, ordinals + shift)
    again = np.array([direct.ordinal_value(o, *args) for o in ordinals])
    np.testing.assert_array_equal(again, values)


TRIALS = [
    ("occupancy", "gaussian", 1e-6, "bfloat16"),
    ("occupancy", "laplace", 3e-8, "float16"),
    ("occupancy", "uniform", 1e-5, "bfloat16"),
    ("direct", "gaussian", 4e-3, "bfloat16"),
    ("direct", "laplace", 1e-5, "float16"),
    ("direct", "uniform", 1e-7, "float32"),
]

TWIN = """
import numpy, sys
sys.path.insert(0, sys.argv[1])
import test_sampling
for i, sampled in enumerate(test_sampling.small_samples()):
    numpy.savez(f"{sys.argv[2]}/{i}.npz", codes=sampled.codes, populations=sampled.populations)
"""


def small_samples() -> list[Any]:
    return [
        sample(
            Cloud(student_centroid(12), sigma, noise=noise, format=fmt),  # type: ignore[arg-type]
            150, trial=3, sampler=sampler,  # type: ignore[arg-type]
        )
        for sampler, noise, sigma, fmt in TRIALS
    ]  # fmt: skip


def test_plain_python_draws_the_same_trials(tmp_path: Path) -> None:
    here = Path(__file__).parent
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", TWIN, here, tmp_path], env=environment, check=True)
    for i, sampled in enumerate(small_samples()):
        plain = np.load(tmp_path / f"{i}.npz")
        np.testing.assert_array_equal(plain["codes"], sampled.codes)
        np.testing.assert_array_equal(plain["populations"], sampled.populations)


@pytest.mark.parametrize("sampler", ["occupancy", "direct"])
@pytest.mark.parametrize("sigma", [0.0, 1.5e-9, 1e-7])
def test_a_sample_is_distinct_vectors_with_populations(sigma: float, sampler: Any) -> None:
    centroid = student_centroid(300)
    cloud = Cloud(centroid, sigma)
    drawn = sample(cloud, 500, trial=2, sampler=sampler)
    assert drawn.codes.dtype == np.uint16
    assert drawn.codes.shape == (drawn.populations.size, 300)
    assert drawn.populations.sum() == 500
    assert drawn.populations.min() >= 1
    ordinals = cloud.format.ordinals(drawn.codes)
    assert np.unique(ordinals, axis=0).shape == ordinals.shape
    values = cloud.format.values(drawn.codes)
    far = 11 * sigma + np.abs(centroid) * 2.0**-8
    assert (np.abs(values - centroid) <= far).all()
    again = sample(cloud, 500, trial=2, sampler=sampler)
    np.testing.assert_array_equal(again.codes, drawn.codes)
    if sigma == 0:
        assert drawn.populations.tolist() == [500]
        np.testing.assert_array_equal(drawn.codes[0], cloud.format.round(centroid))
    elif sigma == 1e-7:
        other = sample(cloud, 500, trial=3, sampler=sampler)
        assert set(map(bytes, other.codes)) != set(map(bytes, drawn.codes))


def test_trials_do_not_depend_on_the_chunk_they_are_drawn_in() -> None:
    cloud = Cloud(student_centroid(), 1.5e-9)
    whole = OccupancySampler(cloud, 300, rows=10_000)
    chunk = whole.draw(0, 40)
    assert chunk.offsets.size == 41
    pieces = OccupancySampler(cloud, 300, rows=300)
    done = 0
    while done < 40:
        piece = pieces.draw(done, 40 - done)
        assert piece.offsets.size >= 2
        for i in range(piece.offsets.size - 1):
            mine = slice(*piece.offsets[i : i + 2])
            theirs = slice(*chunk.offsets[done + i : done + i + 2])
            np.testing.assert_array_equal(piece.populations[mine], chunk.populations[theirs])
            np.testing.assert_array_equal(piece.ordinals[mine], chunk.ordinals[theirs])
        done += piece.offsets.size - 1
    np.testing.assert_array_equal(pieces.cell_counts(), whole.cell_counts())


def test_cell_counts_are_those_of_the_tokens() -> None:
    cloud = Cloud(student_centroid(40), 1e-6)
    sampler = OccupancySampler(cloud, 200, rows=4000)
    chunk = sampler.draw(5, 10)
    table = cloud.table
    assert table is not None
    assert chunk.offsets.size == 11
    expected = np.zeros(table.ordinals.size, dtype=np.int64)
    for k in range(cloud.active.size):
        cells = slice(*table.first[k : k + 2])
        place = chunk.ordinals[:, k] - int(table.ordinals[cells][0])
        expected[cells] = np.bincount(
            place, weights=chunk.populations, minlength=cells.stop - cells.start
        )
    np.testing.assert_array_equal(sampler.cell_counts(), expected)
    assert sampler.trials == 10
    np.testing.assert_array_equal(complete_counts(cloud, expected, 2000), expected)


def test_direct_rows_can_be_drawn_piece_by_piece() -> None:
    cloud = Cloud(student_centroid(101), 3e-3)
    sampler = DirectSampler(cloud, 50)
    whole = sampler.draw(7)
    piece = np.empty((20, 101), dtype=np.int16)
    np.testing.assert_array_equal(sampler.draw(7, piece, 13), whole[13:33])
    assert (sampler.draw(8) != whole).mean() > 0.9


def test_trials_of_other_seeds_and_sigmas_differ() -> None:
    centroid = student_centroid(50)
    one = DirectSampler(Cloud(centroid, 1e-3), 10).draw(0)
    assert (DirectSampler(Cloud(centroid, 1e-3), 10, seed=43).draw(0) != one).mean() > 0.9
    near = Cloud(centroid, np.nextafter(1e-3, 1))
    assert (DirectSampler(near, 10).draw(0) != one).mean() > 0.9


@pytest.mark.parametrize(
    ("sigma", "n", "expected"),
    [
        (0.0, 2100, "occupancy"),
        (1.5e-9, 2100, "occupancy"),
        (5e-9, 2100, "occupancy"),
        (1e-6, 2100, "direct"),
        (3.281911e-3, 2100, "direct"),
        (3.281911e-3, 1, "direct"),
    ],
)
def test_the_choice_is_fixed(sigma: float, n: int, expected: str) -> None:
    cloud = Cloud(student_centroid(), sigma)
    assert choose_sampler(cloud, n) == expected
    same, drawn = sample(cloud, n, sampler=expected), sample(cloud, n)
    assert np.array_equal(same.codes, drawn.codes)


def test_many_tokens_on_few_cells_are_split_by_groups() -> None:
    cloud = Cloud([1.0, 2.0], 2.0**-8)
    assert choose_sampler(cloud, 50) == "direct"
    assert choose_sampler(cloud, 10**9) == "occupancy"
    drawn = sample(cloud, 10**9)
    assert drawn.populations.sum() == 10**9
    # Room for what there can be, not for as many vectors as tokens.
    assert OccupancySampler(cloud, 10**9).draw(0, 3).offsets.size == 4


def test_what_cannot_be_drawn_is_refused() -> None:
    cloud = Cloud(student_centroid(), 3.28e-3)
    with pytest.raises(SelectionError, match="direct"):
        sample(cloud, 10, sampler="occupancy")
    with pytest.raises(SelectionError, match="sampler"):
        sample(cloud, 10, sampler="other")  # type: ignore[arg-type]
    small = Cloud(student_centroid(9), 1e-7)
    for number in (0, -(10**9), 1.5, None):
        for model in (cloud, small):
            with pytest.raises(SelectionError, match="tokens"):
                sample(model, number)  # type: ignore[arg-type]
    for sampler in (OccupancySampler, DirectSampler):
        with pytest.raises(SelectionError, match="tokens"):
            sampler(small, 0)
    with pytest.raises(SelectionError, match=r"^trial: "):
        OccupancySampler(small, 10).draw(-1, 1)
    with pytest.raises(SelectionError, match=r"^trial: "):
        DirectSampler(small, 10).draw(-1)
    limit = float(cloud.format.boundaries(np.array([cloud.format.max_ordinal]))[0])
    rare = Cloud([0.0], limit / 7.5)
    with pytest.raises(FormatError, match="overflow"):
        sample(rare, 10**6)


def test_element_totals_are_those_of_the_elements() -> None:
    cloud = Cloud(student_centroid(64), 3e-3)
    sampler = DirectSampler(cloud, 100)
    totals = ElementTotals(cloud)
    values = []
    for trial in range(3):
        ordinals = sampler.draw(trial)
        totals.add(ordinals)
        codes = cloud.format.codes(ordinals.astype(np.int64))
        values.append(cloud.format.values(codes).astype(np.float64) - cloud.centroid)
    deviations = np.concatenate(values).ravel()
    expected, _ = np.histogram(deviations, totals.edges)
    np.testing.assert_array_equal(totals.histogram, expected)
    sums = [float(np.sum(deviations**power)) for power in range(1, 5)]
    np.testing.assert_allclose(totals.totals(), sums, rtol=1e-9)
    assert 0.9 * 3e-3 < np.sqrt(totals.totals()[1] / deviations.size) < 1.1 * 3e-3


def test_element_totals_count_populations_and_outliers() -> None:
    cloud = Cloud([1.0, 0.5], 1e-3)
    totals = ElementTotals(cloud)
    rows = np.array([[cloud.modal[0], cloud.modal[1]], [30000, -30000]], dtype=np.int16)
    totals.add(rows, np.array([3, 1]))
    assert totals.histogram.sum() == 8
    assert totals.histogram[0] == totals.histogram[-1] == 1


def test_merging_element_totals_does_not_depend_on_order() -> None:
    cloud = Cloud(student_centroid(64), 3e-3)
    sampler = DirectSampler(cloud, 30)
    whole, parts = ElementTotals(cloud), [ElementTotals(cloud) for _ in range(3)]
    for trial in range(12):
        ordinals = sampler.draw(trial)
        whole.add(ordinals)
        parts[(trial * 7) % 3].add(ordinals)
    merged = ElementTotals(cloud)
    for part in reversed(parts):
        merged.merge(part)
    np.testing.assert_array_equal(merged.histogram, whole.histogram)
    assert merged.totals() == whole.totals()


def test_cell_counts_and_element_totals_agree() -> None:
    cloud = Cloud(student_centroid(30), 1e-6)
    sampler = OccupancySampler(cloud, 100)
    chunk = sampler.draw(0, 1)
    totals = ElementTotals(cloud)
    totals.add(chunk.ordinals, chunk.populations)
    counts, deviations = sampler.cell_counts(), cell_deviations(cloud)
    for power, total in enumerate(totals.totals(), start=1):
        assert total == pytest.approx(float(np.sum(counts * deviations**power)), rel=1e-10)
    still = inactive_deviations(cloud)
    assert still.size == 30 - cloud.active.size


def test_importing_the_package_does_not_load_numba() -> None:
    code = "import sys, deadtokens, deadtokens.cloud; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the choice of sampler, and the occupancy sampler's table ---


def expected_choice(cloud: Cloud, n: int) -> str:
    """The costs of docs/method.md, section 7, dimension by dimension."""
    table = cloud.table
    if table is None:
        return "direct"
    groups, work = 1.0, 0.0
    for k in np.argsort(table.leave, kind="stable"):
        probabilities = table.probabilities[table.first[k] : table.first[k + 1]].tolist()
        occupied = sum(-math.expm1(n * math.log1p(-p)) if p < 1 else 1.0 for p in probabilities)
        groups = min(groups * max(occupied, 1.0), float(n))
        leave = float(table.leave[k])
        work += min(8 * n * leave, 10 * groups) + 0.2 * min(groups, n * leave * groups)
    return "occupancy" if work <= n * table.leave.size else "direct"


@pytest.mark.parametrize("n", [1, 2, 7, 50, 2100, 10**9])
@pytest.mark.parametrize("d", [1, 12, 40])
def test_the_choice_changes_where_the_costs_say(n: int, d: int) -> None:
    """Compared on both sides of the sigma at which it changes, close enough to tell small costs."""
    centroid = student_centroid(d)
    low, high = 1e-8, 1e-4
    expected = [expected_choice(Cloud(centroid, sigma), n) for sigma in (low, high)]
    for _ in range(16):
        middle = math.sqrt(low * high)
        if expected_choice(Cloud(centroid, middle), n) == expected[0]:
            low = middle
        else:
            high = middle
    for sigma in (1e-8, low / 1.05, low, high, high * 1.05, 1e-4):
        cloud = Cloud(centroid, sigma)
        assert choose_sampler(cloud, n) == expected_choice(cloud, n)


def test_many_dimensions_have_more_groups_than_a_number_holds() -> None:
    cloud = Cloud(student_centroid(), 1e-6)
    assert choose_sampler(cloud, 10**6) == expected_choice(cloud, 10**6)


@pytest.mark.parametrize("d", [1, 30, 80])
def test_the_occupancy_table_orders_dimensions_and_cells(d: int) -> None:
    cloud = Cloud(student_centroid(d), 1e-6)
    cells, table = cloud.table, occupancy_table(cloud)
    assert cells is not None
    assert cells.leave.size > 0
    np.testing.assert_array_equal(table.column, np.argsort(cells.leave, kind="stable"))
    np.testing.assert_array_equal(table.leave, np.sort(cells.leave))
    np.testing.assert_allclose(table.hazard, -np.log1p(-table.leave), rtol=1e-15)
    np.testing.assert_array_equal(table.modal, cells.ordinals[cells.modal])
    seen = []
    for step, k in enumerate(table.column.tolist()):
        mine = slice(*table.first[step : step + 2])
        probability = cells.probabilities[table.cell[mine]]
        assert (np.diff(probability) <= 0).all()
        np.testing.assert_array_equal(table.ordinal[mine], cells.ordinals[table.cell[mine]])
        np.testing.assert_allclose(
            table.cumulative[mine], np.cumsum(probability) / probability.sum(), rtol=1e-12
        )
        rest = [probability[i:].sum() for i in range(probability.size)]
        np.testing.assert_allclose(table.share[mine], probability / rest, rtol=1e-12)
        assert table.cumulative[mine][-1] == table.share[mine][-1] == 1
        others = set(range(*cells.first[k : k + 2])) - {int(cells.modal[k])}
        assert set(table.cell[mine].tolist()) == others
        seen += table.cell[mine].tolist()
    assert len(seen) == cells.ordinals.size - cells.leave.size


def test_equal_dimensions_stay_in_order() -> None:
    table = occupancy_table(Cloud(np.where(np.arange(2000) % 3 == 0, 1.0, 1.5), 2.0**-9))
    single = [Cloud([value], 2.0**-9).table for value in (1.0, 1.5)]
    chances = [float(cells.leave[0]) for cells in single if cells is not None]
    assert chances[0] > chances[1]  # the cell below 1 is half as wide
    thirds = np.arange(2000) % 3 == 0
    expected = np.concatenate([np.flatnonzero(~thirds), np.flatnonzero(thirds)])
    np.testing.assert_array_equal(table.column, expected)


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_distinct_rows_are_those_of_the_literal_way(dtype: Any) -> None:
    extreme = np.iinfo(dtype).max
    values = [-extreme, -2, -1, 0, extreme, *(1 << np.arange(8 * np.dtype(dtype).itemsize - 1))]
    rows = np.random.default_rng(5).choice(values, (900, 2)).astype(dtype)
    vectors, populations, inverse = distinct_rows(rows)
    np.testing.assert_array_equal(vectors[inverse], rows)
    places = {row: i for i, row in reversed(list(enumerate(map(tuple, rows.tolist()))))}
    assert [tuple(row) for row in vectors.tolist()] == sorted(places, key=places.__getitem__)
    np.testing.assert_array_equal(populations, np.bincount(inverse))
    assert 1 < len(vectors) < 900


def test_of_distinct_rows_nothing_is_copied() -> None:
    rows = np.arange(12, dtype=np.int16).reshape(4, 3)
    assert distinct_rows(rows)[0] is rows


@pytest.mark.parametrize("sigma", [1e-7, 3e-3])
def test_the_first_trial_and_seed_42_are_drawn_by_default(sigma: float) -> None:
    cloud = Cloud(student_centroid(60), sigma)
    expected = sample(cloud, 20, trial=0, seed=42)
    np.testing.assert_array_equal(sample(cloud, 20).codes, expected.codes)
    direct_rows = DirectSampler(cloud, 20).draw(0)
    np.testing.assert_array_equal(DirectSampler(cloud, 20, seed=42).draw(0), direct_rows)
    if cloud.table is not None:
        chunks = (
            OccupancySampler(cloud, 20).draw(0, 1),
            OccupancySampler(cloud, 20, seed=42).draw(0, 1),
        )
        np.testing.assert_array_equal(chunks[0].ordinals, chunks[1].ordinals)
        with pytest.raises(FrozenInstanceError):
            chunks[0].first_trial = 1  # type: ignore[misc]
        assert chunks[0].first_trial == 0
    for other in ({"trial": 1}, {"seed": 7}):
        drawn = sample(cloud, 20, **other)  # type: ignore[arg-type]
        assert set(map(bytes, drawn.codes)) != set(map(bytes, expected.codes))


def test_direct_samples_know_the_vector_of_each_token() -> None:
    cloud = Cloud(student_centroid(5), 1e-6)
    drawn = sample(cloud, 40, sampler="direct")
    assert drawn.row_ids is not None
    assert drawn.row_vectors is not None
    np.testing.assert_array_equal(drawn.row_ids, np.arange(40))
    tokens = cloud.format.codes(DirectSampler(cloud, 40).draw(0))
    np.testing.assert_array_equal(drawn.codes[drawn.row_vectors][:, cloud.active], tokens)
    unordered = sample(cloud, 40, sampler="occupancy")
    assert unordered.row_ids is None
    assert unordered.row_vectors is None


def test_counting_can_start_anew() -> None:
    cloud = Cloud(student_centroid(40), 1e-6)
    sampler = OccupancySampler(cloud, 200)
    sampler.draw(0, 3)
    sampler.forget()
    assert sampler.trials == 0
    assert not sampler.cell_counts().any()
    sampler.draw(5, 1)
    other = OccupancySampler(cloud, 200, table=occupancy_table(cloud))
    other.draw(5, 1)
    np.testing.assert_array_equal(sampler.cell_counts(), other.cell_counts())
    assert sampler.cell_counts().sum() == 200 * cloud.active.size


def test_the_last_seed_and_trial_are_drawn() -> None:
    cloud = Cloud(student_centroid(20), 1e-6)
    last = sample(cloud, 20, trial=2**64 - 1, seed=2**64 - 1)
    assert last.populations.sum() == 20
    for too_large in ({"trial": 2**64}, {"seed": 2**64}):
        with pytest.raises(SelectionError, match=next(iter(too_large))):
            sample(cloud, 20, **too_large)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("noise", "kurtosis", "error"),
    [("gaussian", 3, 0.1), ("laplace", 6, 0.6), ("uniform", 1.8, 0.03)],
)
def test_direct_draws_have_the_noise_asked_for(noise: Any, kurtosis: float, error: float) -> None:
    """Errors are some five times those of 100,000 draws."""
    cloud = Cloud([0.0] * 50, 1.0, noise=noise, format="float32")
    drawn = FORMATS["float32"].values_of(DirectSampler(cloud, 2000).draw(0)).astype(np.float64)
    assert np.mean(drawn**2) == pytest.approx(1, abs=0.04)
    assert np.mean(drawn**4) / np.mean(drawn**2) ** 2 == pytest.approx(kurtosis, abs=error)


@pytest.mark.parametrize(("d", "n_words"), [(3, 4), (4, 4)])
def test_direct_draws_take_the_words_of_their_place(d: int, n_words: int) -> None:
    cloud = Cloud([0.0] * d, 1.0, noise="uniform", format="float32")
    words = np.zeros(n_words, dtype=np.uint64)
    drawn = FORMATS["float32"].values_of(DirectSampler(cloud, 5).draw(7))
    for token in range(5):
        random.fill_words(words, np.uint64(stream_key(42, cloud.sigma)), token, np.uint64(7), 0)
        unit = np.array([random.unit_interval(word) for word in words[:d]])
        np.testing.assert_allclose(drawn[token], (2 * unit - 1) * math.sqrt(3), rtol=1e-6)


@pytest.mark.parametrize(("intermediate", "chance"), [("float32", 0.883), ("exact", 0.5)])
def test_direct_draws_round_once_or_twice(intermediate: Any, chance: float) -> None:
    """On a boundary, sums within half a float32 gap, 6e-8, go to the even neighbour, or do not.

    Phi(2^-24 / 5e-8) = 0.883; the error of 4000 tokens is 0.008.
    """
    cloud = Cloud([1 + 2.0**-8], 5e-8, intermediate=intermediate)
    drawn = DirectSampler(cloud, 4000).draw(0)
    assert np.mean(drawn % 2 == 0) == pytest.approx(chance, abs=0.03)


def test_without_noise_there_is_no_cell_to_count() -> None:
    sampler = OccupancySampler(Cloud([1.0, 2.0], 0.0), 9)
    sampler.draw(0, 2)
    assert sampler.cell_counts().size == 0
