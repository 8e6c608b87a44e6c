"""Matrices for the tests of the cluster search: with a planted cluster, and without any."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from deadtokens.formats import FLOAT32, Format
from deadtokens.sources import Matrix

Float64: TypeAlias = npt.NDArray[np.float64]
Int64: TypeAlias = npt.NDArray[np.int64]
Rows: TypeAlias = Callable[[np.random.Generator, int, int], Float64]


def matrix_of(values: npt.NDArray[np.floating], fmt: Format = FLOAT32) -> Matrix:
    return Matrix(fmt.round(values.astype(np.float32)), fmt, "test", "gamma", "the only one there")


def planted(
    seed: int, n_rows: int, d: int, n: int, noise: float, height: float = 0.02
) -> tuple[Float64, Int64]:
    """Gaussian rows of width 0.02, and n others about a point as far out as `height` says."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.02, (n_rows, d))
    rows = np.sort(rng.choice(n_rows, n, replace=False))
    values[rows] = rng.normal(0, height, d) + rng.normal(0, noise, (n, d))
    return values, rows


def _gaussian(rng: np.random.Generator, n: int, d: int) -> Float64:
    return rng.normal(size=(n, d))


def _norms(width: float) -> Rows:
    return lambda rng, n, d: _gaussian(rng, n, d) * np.exp(rng.normal(0, width, (n, 1)))


def _low_rank(rank: int, noise: float) -> Rows:
    return lambda rng, n, d: (
        _gaussian(rng, n, rank) @ _gaussian(rng, rank, d) + noise * _gaussian(rng, n, d)
    )


def _with_copies(share: float, width: float) -> Rows:
    """Rows of which a share have a near-duplicate each."""

    def rows(rng: np.random.Generator, n: int, d: int) -> Float64:
        values = _gaussian(rng, n, d)
        copies = int(share * n / 2)
        values[-copies:] = values[:copies] + width * _gaussian(rng, copies, d)
        return values

    return rows


def _families(rng: np.random.Generator, n: int, d: int) -> Float64:
    """Families of four near-duplicates, like a word in upper case, lower case, with a space."""
    return np.repeat(_gaussian(rng, -(-n // 4), d), 4, axis=0)[:n] + 0.05 * _gaussian(rng, n, d)


def _topics(rng: np.random.Generator, n: int, d: int) -> Float64:
    """Rows about centres that lie about centres, half as wide at every level."""
    values = np.zeros((n, d))
    for width, centres in ((1.0, 5), (0.7, 30), (0.5, 200)):
        values += width * _gaussian(rng, centres, d)[rng.integers(0, centres, n)]
    return values + 0.35 * _gaussian(rng, n, d)


def _some_longer(share: float, times: float) -> Rows:
    """Rows of one width, and a share that are so many times as long."""

    def rows(rng: np.random.Generator, n: int, d: int) -> Float64:
        values = _gaussian(rng, n, d)
        values[: max(1, int(share * n))] *= times
        return values

    return rows


def _rarely_trained(rng: np.random.Generator, n: int, d: int) -> Float64:
    """Rows that left a common point by now, each as far as it was trained, over two decades."""
    lengths = 10 ** rng.uniform(-2, 0, (n, 1))
    return np.asarray(rng.normal(size=d) + lengths * _gaussian(rng, n, d))


def _sparse(rng: np.random.Generator, n: int, d: int) -> Float64:
    """A tenth of the numbers, and in every row at least one."""
    values = _gaussian(rng, n, d) * (rng.uniform(size=(n, d)) < 0.1)
    values[np.arange(n), rng.integers(0, d, n)] = rng.normal(size=n)
    return np.asarray(values)


# Ways that rows may lie where there is no cluster; each makes n x d numbers of about 1.
STRUCTURES: dict[str, Rows] = {
    "Gaussian": _gaussian,
    "log-normal norms": _norms(1.0),
    "norms over decades": _norms(3.0),
    "Student's t": lambda rng, n, d: rng.standard_t(2, (n, d)),
    "low rank": _low_rank(3, 0.05),
    "a plane": _low_rank(2, 0.0),
    "a line and noise": _low_rank(1, 0.001),
    "all in pairs": _with_copies(1.0, 1e-3),
    "some in pairs": _with_copies(0.1, 1e-6),
    "families": _families,
    "topics": _topics,
    "far from the origin": lambda rng, n, d: 30 * rng.normal(size=d) + _gaussian(rng, n, d),
    "a few giants": _some_longer(0.02, 300.0),
    "a tenth is longer": _some_longer(0.1, 20.0),
    "two widths": _some_longer(0.4, 8.0),
    "Cauchy": lambda rng, n, d: rng.standard_t(1, (n, d)),
    "rarely trained": _rarely_trained,
    "sparse": _sparse,
    "one large column": lambda rng, n, d: (
        _gaussian(rng, n, d) * np.where(np.arange(d) == 0, 300, 1)
    ),
}
SHAPES = ((20, 16), (60, 3), (300, 2), (300, 64), (1500, 8), (1500, 200))
