"""Rows that lie next to a point named beforehand: zero, or the mean of all rows.

Few rows are no cluster: eight at least are asked of one, because its centre is chosen by them. Next
to a point that was named before anybody looked, fewer are evidence (docs/method.md, section 16).
Decay draws rows to zero; resizing a model puts new rows at the mean of the old ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deadtokens.kernels.types import BoolArray, Float64Array, Int64Array
from deadtokens.orderings import mean_of_all, orderings
from deadtokens.sources import Matrix
from deadtokens.voids import MIN_BITS, most_inside

ANCHORS = ("near zero", "near the mean")
MIN_RATIO = 10.0
_MOST_ROWS = 4096  # nearest ones, among which the gap is looked for
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
    centres = [np.zeros(matrix.n_dimensions), mean_of_all(matrix, finite, workers)]
    by_anchor = [one.distances for one in orderings(matrix, finite, centres, workers)]
    rows = np.flatnonzero(among)
    found = {name: nearest(name, by_anchor[i], rows) for i, name in enumerate(ANCHORS)}
    # The mean may lie next to zero: rows are next to the point that leaves them the wider gap.
    first = max(ANCHORS, key=lambda name: found[name].ratio)
    left = np.setdiff1d(rows, found[first].rows, assume_unique=True)
    near = tuple(
        found[name] if name == first else nearest(name, by_anchor[i], left)
        for i, name in enumerate(ANCHORS)
    )
    return Surroundings(near, by_anchor[0])


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
