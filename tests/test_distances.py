"""Streamed distances against scipy, for every shape of data that takes another path inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.distance import pdist

import deadtokens.distances
from deadtokens.distances import Distances

Table = npt.NDArray[np.floating[Any]]


def cloud(n: int, d: int, sigma: float) -> Table:
    """Distinct bfloat16 rows of noise around a centroid of rms 3.3e-3, as float32."""
    rng = np.random.default_rng([n, d])
    centroid = rng.standard_t(4.5, d) * 2e-3
    rows = (centroid + rng.normal(0, sigma, (n, d))).astype(ml_dtypes.bfloat16)
    return np.unique(rows.astype(np.float32), axis=0)


def outliers(n: int, d: int) -> Table:
    """A few rows far off take all places in the lists, so that other pairs have to be finished."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, d))
    x[::11] *= 1000
    return x.astype(np.float32)


def two_values(n: int, d: int) -> Table:
    """One threshold's worth of ties: every element is 0 or 1."""
    return np.unique(np.random.default_rng(4).integers(0, 2, (n, d)), axis=0).astype(np.float32)


def ordinals(n: int, d: int) -> Table:
    """Integers as far apart as float32's ordinals are."""
    return np.random.default_rng(5).integers(-(2**31) + 1, 2**31, (n, d)).astype(np.float64)


CASES: dict[str, Callable[[], Table]] = {
    "two vectors": lambda: cloud(2, 5, 1e-3),
    "one dimension": lambda: cloud(300, 1, 1e-3),
    "short vectors": lambda: cloud(200, 30, 1e-4),
    "far below the ulp": lambda: cloud(300, 400, 1e-7),
    "near the ulp": lambda: cloud(150, 700, 1e-5),
    "far above the ulp": lambda: cloud(150, 700, 3e-3),
    "exactly one block": lambda: cloud(64, 100, 3e-3),
    "outliers": lambda: outliers(150, 200),
    "ties": lambda: two_values(150, 200),
    "large integers": lambda: ordinals(100, 90),
}
every_case = pytest.mark.parametrize("case", CASES)


def expected(x: Table) -> Table:
    """Condensed distances; float32 differences rounded to float32, as subtraction gives them."""
    exact = pdist(x.astype(np.float64), "chebyshev")
    return np.asarray(exact.astype(x.dtype))


@pytest.fixture(params=["kept", "streamed"])
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether slabs are kept for later passes or computed again."""
    if request.param == "streamed":
        monkeypatch.setattr(deadtokens.distances, "KEPT_BYTES", 0)
    return str(request.param)


@every_case
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.usefixtures("storage")
def test_summary(case: str, workers: int) -> None:
    x = CASES[case]()
    distances = np.sort(expected(x))
    touching = float(distances[distances.size // 3])
    found = Distances(x, workers).summary(touching)
    assert found.n_pairs == distances.size
    assert (found.smallest, found.largest) == (distances[0], distances[-1])
    assert found.median == distances[(distances.size - 1) // 2]
    assert found.mean == pytest.approx(distances.mean(dtype=np.float64), rel=1e-12)
    degrees = (Distances(x).matrix() <= touching).sum(axis=1) - 1
    assert np.array_equal(found.degrees, degrees)


@every_case
@pytest.mark.usefixtures("storage")
def test_matrix(case: str) -> None:
    x = CASES[case]()
    matrix = Distances(x).matrix()
    assert matrix.dtype == x.dtype
    assert np.array_equal(matrix[np.triu_indices(len(x), 1)], expected(x))
    assert np.array_equal(matrix, matrix.T)
    assert not matrix.diagonal().any()


@every_case
@pytest.mark.usefixtures("storage")
def test_spanning_tree(case: str) -> None:
    x = CASES[case]()
    tree = Distances(x).spanning_tree()
    matrix = Distances(x).matrix()
    literal = nx.minimum_spanning_tree(nx.from_numpy_array(matrix))
    weights = sorted(edge["weight"] for _, _, edge in literal.edges(data=True))
    assert np.array_equal(tree.weights, weights)
    i, j = tree.edges.T
    assert np.array_equal(tree.weights, matrix[i, j])
    assert nx.is_tree(nx.Graph(tree.edges.tolist()))
    for touching in (float(tree.weights[0]), float(np.median(tree.weights)), -1.0):
        graph = nx.from_numpy_array((matrix <= touching) & (matrix > 0))
        labels = tree.components(touching)
        for component in nx.connected_components(graph):
            assert len(set(labels[list(component)])) == 1
        assert len(set(labels)) == nx.number_connected_components(graph)


@every_case
def test_results_do_not_depend_on_workers(case: str) -> None:
    x = CASES[case]()
    one, three = (Distances(x, workers) for workers in (1, 3))
    assert one.summary(0.0).mean == three.summary(0.0).mean
    assert np.array_equal(one.spanning_tree().edges, three.spanning_tree().edges)


def test_lists_stay_short_and_settle_most_pairs() -> None:
    """The point of the method: few dimensions are looked at, and the pairs left are few."""
    x = cloud(500, 2560, 3e-3)
    distances = Distances(x)
    assert distances._lists[1].size / len(x) < 0.05 * x.shape[1]
    assert (expected(x) < distances._exact_from).mean() < 0.05
