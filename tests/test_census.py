"""Groups of equal rows against a literal dictionary of rows, with hash collisions on purpose."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from reference import reference_groups
from snowballs import generated_rows

import deadtokens as dt
from deadtokens.census import first_equal_rows
from deadtokens.errors import SelectionError
from deadtokens.formats import BFLOAT16, FLOAT32, FORMATS, Codes, Format
from deadtokens.selection import rows_to_measure
from deadtokens.sources import Matrix


def matrix_of(codes: Codes, fmt: Format) -> Matrix:
    return Matrix(codes, fmt, "test", "gamma", "the only matrix there")


def damaged_rows(seed: int, fmt: Format) -> Codes:
    """Generated rows with some zeros of the other sign, NaN and infinities."""
    rng = np.random.default_rng(seed)
    codes = fmt.round(generated_rows(seed, fmt))
    codes[(codes == 0) & (rng.random(codes.shape) < 0.5)] = fmt.sign_bit
    codes[rng.random(codes.shape) < 0.003] = fmt.sign_bit - 1
    codes[rng.random(codes.shape) < 0.003] = fmt.round(np.array([-np.inf], np.float32))[0]
    return codes


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
def test_groups_are_the_literal_ones(fmt: Format) -> None:
    found_groups = not_finite = 0
    for seed in range(60):
        codes = damaged_rows(seed, fmt)
        with np.errstate(invalid="ignore"):
            values = fmt.values(codes)
        found = dt.census(matrix_of(codes, fmt))
        expected = reference_groups(values)
        assert [rows.tolist() for rows in found.group_rows] == expected
        assert found.group_first.tolist() == [rows[0] for rows in expected]
        assert found.group_population.tolist() == [len(rows) for rows in expected]
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        assert np.array_equal(found.not_finite, bad)
        assert np.array_equal(np.flatnonzero(found.mask), sorted(itertools.chain(*expected)))
        good = np.isfinite(values).all(axis=1)
        assert found.n_unique == len(np.unique(values[good] + 0, axis=0))
        found_groups += len(expected)
        not_finite += bad.size
    assert found_groups > 50
    assert not_finite > 10


@pytest.mark.parametrize("multiplier", [0, 1 << 63])
def test_colliding_hashes_do_not_merge_rows(multiplier: int) -> None:
    """Multipliers that send all rows, or all even ones, to one hash give the same groups."""
    merged_nothing = 0
    for seed in range(20):
        codes = damaged_rows(seed, BFLOAT16)
        bad = np.full(codes.shape[1], multiplier, dtype=np.uint64)
        layout = BFLOAT16.sign_bit, BFLOAT16.max_ordinal
        first = first_equal_rows(codes, *layout)
        collided = first_equal_rows(codes, *layout, coefficients=bad, workers=1)
        assert np.array_equal(collided, first)
        merged_nothing += len(np.unique(first)) > 10
    assert merged_nothing > 3


def test_zeros_of_either_sign_are_equal() -> None:
    codes = np.array([[0x0000, 0x3F80], [0x8000, 0x3F80], [0x8000, 0xBF80]], np.uint16)
    found = dt.census(matrix_of(codes, BFLOAT16))
    assert found.first.tolist() == [0, 0, 2]
    snowball = dt.snowball_of(matrix_of(codes, BFLOAT16), np.arange(3))
    assert snowball.populations.tolist() == [2, 1]
    assert snowball.varying.tolist() == [1]


def test_rows_are_read_from_any_memory_layout() -> None:
    codes = damaged_rows(5, BFLOAT16)
    expected = dt.census(matrix_of(codes, BFLOAT16)).first
    buffer = np.zeros(codes.nbytes + 1, np.uint8)
    unaligned = buffer[1:].view(np.uint16).reshape(codes.shape)
    unaligned[:] = codes
    padded = np.zeros((codes.shape[0], codes.shape[1] + 3), np.uint16)[:, :-3]
    padded[:] = codes
    for other in (np.asfortranarray(codes), unaligned, padded):
        assert np.array_equal(dt.census(matrix_of(other, BFLOAT16)).first, expected)


def test_many_rows_are_grouped_across_blocks() -> None:
    """More rows than one block and one thread take; each vector returns 7,000 rows later."""
    vectors = np.random.default_rng(0).integers(0, 0x7F00, (7000, 3)).astype(np.uint16)
    found = dt.census(matrix_of(np.concatenate([vectors, vectors]), BFLOAT16))
    assert np.array_equal(found.first[7000:], found.first[:7000])
    assert found.group_population.sum() == 14_000


def test_snowball_of_rows() -> None:
    codes = np.array([[5, 5], [7, 7], [5, 5], [9, 9], [7, 7], [5, 5]], np.uint16)
    matrix = matrix_of(codes, BFLOAT16)
    snowball = dt.snowball_of(matrix, np.array([5, 1, 2, 4]))
    assert snowball.row_ids is not None
    assert snowball.row_vectors is not None
    assert snowball.row_ids.tolist() == [1, 2, 4, 5]
    assert snowball.row_vectors.tolist() == [0, 1, 0, 1]
    assert snowball.codes.tolist() == [[7, 7], [5, 5]]
    assert snowball.populations.tolist() == [2, 2]
    mask = np.array([False, True, True, False, True, True])
    assert np.array_equal(dt.snowball_of(matrix, mask).codes, snowball.codes)


def test_float32_storage_of_bfloat16_numbers_becomes_bfloat16() -> None:
    """The rows measured decide, not the whole matrix."""
    values = np.array([[1.0, 2.0], [1.0, 2.0], [1.1, 2.0]], np.float32)
    matrix = matrix_of(values.view(np.uint32), FLOAT32)
    assert dt.snowball_of(matrix, np.array([0, 1])).format is BFLOAT16
    assert dt.snowball_of(matrix, np.arange(3)).format is FLOAT32


def test_centroid_is_the_mean_over_rows() -> None:
    rng = np.random.default_rng(0)
    values = BFLOAT16.values(BFLOAT16.round(rng.normal(size=(40, 7)).astype(np.float32)))
    rows = values[rng.integers(0, 40, 5000)]
    matrix = matrix_of(BFLOAT16.round(rows), BFLOAT16)
    centroid = dt.snowball_of(matrix, np.arange(5000)).centroid()
    assert centroid.dtype == np.float64
    np.testing.assert_allclose(centroid, rows.astype(np.float64).mean(axis=0), rtol=1e-12)


def test_rows_that_cannot_be_measured() -> None:
    codes = np.array([[1, 1], [2, 2], [0x7FC0, 0]], np.uint16)
    matrix = matrix_of(codes, BFLOAT16)
    with pytest.raises(SelectionError, match=r"1 of the 3 rows .* NaN .* row 2"):
        dt.snowball_of(matrix, np.arange(3))
    with pytest.raises(SelectionError, match=r"no two of the 3 rows are equal.*rows all"):
        rows_to_measure(matrix)
    with pytest.raises(SelectionError, match="rows 'some'"):
        rows_to_measure(matrix, "some")
    with pytest.raises(SelectionError, match="each row once"):
        dt.snowball_of(matrix, np.array([0, 0]))
    with pytest.raises(SelectionError, match="dtype float64"):
        dt.snowball_of(matrix, np.array([0.5, 1.7]))
    with pytest.raises(SelectionError, match="0/1 mask"):
        dt.snowball_of(matrix, np.array([0, 1, 1]))
    with pytest.raises(SelectionError, match="from 0"):
        dt.snowball_of(matrix, np.array([3]))
    with pytest.raises(SelectionError, match="one entry per row"):
        dt.snowball_of(matrix, np.array([True, False]))
    with pytest.raises(SelectionError, match="no rows, so no mean"):
        dt.snowball_of(matrix, np.zeros(3, dtype=bool)).centroid()


def test_builtin_clusters() -> None:
    whisper = dt.open_matrix("builtin:whisper-tiny.en")
    found = dt.census(whisper)
    snowball = dt.snowball_of(whisper, rows_to_measure(whisper).rows)
    assert (whisper.n_rows, snowball.n_unique, snowball.varying.size) == (300, 253, 28)
    assert found.group_population.tolist() == [6] * 2 + [3] * 8 + [2] * 21
    assert dt.measure(snowball).row["n_singletons"] == 222
    assert whisper.token_ids is not None
    token_of_row = whisper.token_ids.tolist()
    assert (snowball.codes[0] == whisper.codes[0]).all()
    assert found.first[token_of_row.index(43453)] == found.first[token_of_row.index(40242)]
