"""Rows that lie next to a point named beforehand: zero, or the mean of all rows.

Few rows are no cluster: eight at least are asked of one, because its centre is chosen by them. Next
to a point that was named before anybody looked, fewer are evidence (docs/method.md, section 16).
Decay draws rows to zero; resizing a model puts new rows at the mean of the old ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deadtokens.kernels.types import BoolArray, Float64Array, Int64Array
from deadtokens.orderings import mean_and_norms, orderings
from deadtokens.sources import Matrix
from deadtokens.voids import MIN_BITS, most_inside

ANCHORS = ("near zero", "near the mean")
MIN_RATIO = 10.0
_MOST_ROWS = 4096  # nearest ones, among which the gap is looked for
_BLOCK_ROWS = 1024
_NEIGHBOURS = 256  # beyond the gap, which tell how the number of rows grows with distance
_FEWEST_NEIGHBOURS = 24
_SAME = 1e-4  # of the median distance
_MOST_DIMENSIONS = 16.0


@dataclass(frozen=True)
class Near:
    """Rows next to a point.

    Attributes:
        anchor: Of `ANCHORS`.
        rows: (m,) int64, nearest first; none without a gap that convinces.
        inside: The distance of the last of them.
        outside: That of the next row.
    """

    anchor: str
    rows: Int64Array
    inside: float = 0.0
    outside: float = 0.0

    @property
    def ratio(self) -> float:
        """Of the next row's distance to theirs; 0 without rows."""
        if not self.rows.size:
            return 0.0
        return self.outside / self.inside if self.inside else np.inf

    @property
    def words(self) -> str:
        """How far they lie, and the next row."""
        much = f"{self.ratio:,.0f} times as far" if np.isfinite(self.ratio) else "and these at it"
        n = self.rows.size
        count = f"{n:,} rows are" if n != 1 else "1 row is"
        return (
            f"{count} {self.anchor}: the last at {self.inside:.3g}, the next row at "
            f"{self.outside:.3g}, {much}"
        )


@dataclass(frozen=True)
class Surroundings:
    """What lies next to the points named beforehand, and how long all rows are.

    Attributes:
        near: One for each of `ANCHORS`.
        norms: (V,) float64; NaN for rows that are not finite.
    """

    near: tuple[Near, ...]
    norms: Float64Array


def look_around(
    matrix: Matrix, among: BoolArray, finite: BoolArray, *, workers: int | None = None
) -> Surroundings:
    """Look for few rows next to zero, and next to the mean of all rows.

    Args:
        matrix: V x d.
        among: (V,) the rows that count: finite, not zero, in no cluster.
        finite: (V,) the rows without NaN and infinities.
        workers: Threads; all cores by default. The result does not depend on it.
    """
    mean, norms = mean_and_norms(matrix, finite, workers)
    rows = np.flatnonzero(among)
    candidates = _candidates(norms, rows, float(np.linalg.norm(mean)))
    distances = np.full(norms.size, np.nan)
    distances[candidates.rows] = _distances(matrix, candidates.rows, mean)
    if candidates.hide(distances):
        candidates = _Candidates(rows, np.inf)
        distances = orderings(matrix, finite, [mean], workers)[0].distances
    by_anchor = {ANCHORS[0]: (norms, rows), ANCHORS[1]: (distances, candidates.rows)}
    found = {name: nearest(name, *held) for name, held in by_anchor.items()}
    # The mean may lie next to zero: rows are next to the point that leaves them the wider gap.
    first = max(ANCHORS, key=lambda name: found[name].ratio)
    for name, (lengths, all_rows) in by_anchor.items():
        if name != first and found[first].rows.size:
            left = np.setdiff1d(all_rows, found[first].rows, assume_unique=True)
            found[name] = nearest(name, lengths, left)
    return Surroundings(tuple(found.values()), norms)


@dataclass(frozen=True)
class _Candidates:
    """Rows that may lie next to the mean, by their norms alone.

    Attributes:
        rows: The rows, ascending.
        others: No other row is nearer than this.
    """

    rows: Int64Array
    others: float

    def hide(self, distances: Float64Array) -> bool:
        """Whether a gap among these rows may be none, other rows being in it."""
        ordered = np.sort(distances[self.rows])
        wide = ordered[1:] >= MIN_RATIO * ordered[:-1]
        return bool((wide & (ordered[1:] > self.others)).any())


def _candidates(norms: Float64Array, rows: Int64Array, length: float) -> _Candidates:
    """The rows whose norms are nearest to the mean's: the difference is a bound of the distance."""
    least = np.abs(norms[rows] - length)
    if rows.size <= 2 * _MOST_ROWS:
        return _Candidates(rows, np.inf)
    nearest_first = np.argpartition(least, 2 * _MOST_ROWS)[: 2 * _MOST_ROWS + 1]
    return _Candidates(np.sort(rows[nearest_first[:-1]]), float(least[nearest_first].max()))


def _distances(matrix: Matrix, rows: Int64Array, centre: Float64Array) -> Float64Array:
    """Euclidean distances of some rows from a point."""
    distances = np.empty(rows.size)
    for start in range(0, rows.size, _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        values = matrix.values(rows[block]).astype(np.float64) - centre
        distances[block] = np.sqrt(np.einsum("ij,ij->i", values, values))
    return distances


def nearest(anchor: str, distances: Float64Array, rows: Int64Array) -> Near:
    """The rows before the widest gap in the distances that convinces.

    Distances that are next to nothing against the median count as the same.

    The number of rows within a distance D grows like D**k; k is told by the rows just beyond the
    gap (Hill, 1975), and taken lower than told by two standard errors. A gap after m rows then has
    the chance ratio**(-k m) (equation 16.6).
    """
    none = Near(anchor, rows[:0])
    ordered = rows[np.argsort(distances[rows], kind="stable")]
    found = distances[ordered]
    most = min(most_inside(ordered.size), ordered.size - _FEWEST_NEIGHBOURS, _MOST_ROWS)
    if most < 1:
        return none
    floored = np.maximum(found, _SAME * found[found.size // 2])
    ratios = np.ones(most)
    np.divide(floored[1 : most + 1], floored[:most], out=ratios, where=floored[:most] > 0)
    best = 0
    for gap in np.flatnonzero(ratios >= MIN_RATIO).tolist():
        bits = _dimensions(found[gap + 1 :]) * (gap + 1) * float(np.log2(ratios[gap]))
        if bits >= MIN_BITS and (not best or ratios[gap] > ratios[best - 1]):
            best = gap + 1
    if not best:
        return none
    return Near(anchor, ordered[:best], float(found[best - 1]), float(found[best]))


def _dimensions(beyond: Float64Array) -> float:
    """How fast the number of rows grows with the distance, at the least."""
    count = min(_NEIGHBOURS, beyond.size // 2)
    if count < _FEWEST_NEIGHBOURS // 2:
        return 0.0
    logs = float(np.log(beyond[count - 1] / beyond[: count - 1]).mean())
    told = 1 / logs if logs > 0 else np.inf
    return float(min(told * max(0.0, 1 - 2 / np.sqrt(count)), _MOST_DIMENSIONS))
