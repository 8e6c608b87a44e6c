"""The dead cluster: all rows around a centre, up to the void, whether any two are equal or not.

The search (docs/method.md, section 16) starts from the largest black hole and, where that has no
convincing void around it or nothing but its own rows inside, from the densest spots of the matrix
(`deadtokens.spots`). From a start, rows are ordered by distance, cut at the void
(`deadtokens.voids`), and ordered anew around the mean of the rows inside, until these stay the
same. The Euclidean distance decides; lattice steps do only where it shows no convincing void.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from deadtokens.census import NOT_FINITE, Census, census
from deadtokens.kernels.types import BoolArray, Float64Array, Int64Array
from deadtokens.orderings import Ordering, mean_of, on_its_lattice, orderings, sketches
from deadtokens.showing import Shown
from deadtokens.sources import Matrix, MatrixLike, as_matrix
from deadtokens.spots import WIDTH, dense_spots, random_signs
from deadtokens.voids import (
    MIN_ROWS,
    STEPS_TOLD_APART,
    Void,
    find_void,
    find_void_beyond_median,
    most_inside,
)

_ROUNDS = 6  # of cutting and centring; two or three settle all but contrived matrices
_MIDDLE_ROWS = 2048  # evenly spaced, of which the median is taken
_PROMISING = 2.0  # of a gap in the sketch, for a second cluster to be looked for there
_SECOND_SETS = 2
_ROWS_NAMED = 4
_FIRST_ROWS = 1024  # among which to look for any row


@dataclass(frozen=True)
class Second:
    """A cluster beside the largest one.

    Attributes:
        rows: (V,) bool: its rows.
        words: The void that sets it apart, and its first rows.
    """

    rows: BoolArray
    words: str


@dataclass(frozen=True)
class ClusterSearch(Shown):
    """What was found of a dead cluster.

    Attributes:
        rows: (V,) bool: the cluster's rows; all False without a convincing void.
        zero: (V,) bool: rows of zeros only, a group of their own: neither start nor member.
        start: The row that the search started from; None if no row is finite and not zero.
        origin: How that one was chosen, in words.
        void: The widest gap found, whether it convinces or not; None if there is none to speak of.
        distances: (V,) float64: Euclidean, from the centre; NaN for rows that are not finite.
        steps: (V,) int64: lattice steps from the centre, the most in any dimension, -1 for rows
            that are not finite; None if the matrix is quantised.
        reason: Why there is no cluster, in words; empty if there is one.
        undecided: Why it cannot be told whether there is one, in words; empty if it can.
        second: Another cluster, apart from it; None if none was found.
        alone: Whether all rows lie as near each other as rounding makes them: there are no others.
    """

    rows: BoolArray
    zero: BoolArray
    start: int | None
    origin: str
    void: Void | None
    distances: Float64Array
    steps: Int64Array | None
    reason: str
    undecided: str = ""
    second: Second | None = None
    alone: bool = False

    @property
    def clustered(self) -> BoolArray:
        """(V,) bool: the rows of both clusters."""
        return self.rows if self.second is None else self.rows | self.second.rows

    @property
    def far(self) -> npt.NDArray[Any]:
        """(V,) how far each row is from the centre, in the measure that decided."""
        stepped = self.void is not None and self.void.measure == "lattice steps"
        return self.steps if stepped and self.steps is not None else self.distances

    def by_distance(self) -> Int64Array:
        """The finite rows that are not zero, nearest first, in the measure that decided."""
        rows = np.flatnonzero(np.isfinite(self.distances) & ~self.zero)
        return rows[np.lexsort([self.distances[rows], self.far[rows]])]

    @property
    def majority(self) -> bool:
        """Whether the cluster is more than half of the rows that are finite and not zero."""
        return bool(self.rows.any()) and self.void is not None and not self.void.below_median

    def __repr__(self) -> str:
        return f"<ClusterSearch of {self.rows.size:,} rows: {self.evidence()}>"

    def evidence(self) -> str:
        """In a sentence: the void that sets the cluster apart, or why there is no cluster."""
        if self.reason or self.void is None:
            return self.reason
        return f"{self.void.words} (start: {self.origin})"


def find_cluster(
    matrix: MatrixLike,
    found: Census | None = None,
    *,
    second: bool = True,
    workers: int | None = None,
) -> ClusterSearch:
    """Find the dead cluster of a matrix, with the void that sets it apart.

    As in docs/method.md, section 16. A matrix without one is no error: `ClusterSearch.reason` says
    what it lacks.

    Args:
        matrix: V x d, or whatever `open_matrix` takes.
        found: Its census, where it is known already.
        second: Whether to look for a second cluster too, which takes a pass and its memory.
        workers: Threads; all cores by default. The result does not depend on it.

    Raises:
        SourceError: The matrix cannot be opened.
    """
    matrix = as_matrix(matrix, "matrix")
    found = census(matrix) if found is None else found
    finite = found.first != NOT_FINITE
    matrix = on_its_lattice(matrix, workers)
    cuts = _settle(matrix, finite, _black_hole(matrix, found), workers)
    densest = not any(cut.convincing and cut.inside.size > cut.probe.population for cut in cuts)
    if densest:
        others = finite.copy()
        for cut in cuts:
            if cut.convincing:
                others[cut.inside] = False
        cuts += _settle(matrix, finite, _dense(matrix, others, workers), workers)
    cuts = cuts or _settle(matrix, finite, [_somewhere(matrix, finite)], workers)
    best = max(cuts, key=lambda cut: cut.rank)
    if second and best.convincing and not densest:
        rest = finite & ~best.result().rows
        cuts += _settle(matrix, finite, _others(matrix, found, rest, workers), workers)
    return replace(best.result(), second=_second(best, cuts))


def _second(best: _Cut, cuts: Sequence[_Cut]) -> Second | None:
    """The largest other cluster that has no row in common with the largest."""
    if not best.convincing:
        return None
    apart = [
        cut
        for cut in cuts
        if cut.convincing
        and cut.void is not None
        and cut.void.below_median
        and not np.isin(cut.inside, best.inside, assume_unique=True).any()
    ]
    if not apart:
        return None
    cut = max(apart, key=lambda cut: cut.rank)
    found = cut.result()
    first = ", ".join(map(str, cut.inside[:_ROWS_NAMED].tolist()))
    more = ", ..." if cut.inside.size > _ROWS_NAMED else ""
    return Second(found.rows, f"{found.evidence()}; rows {first}{more}")


@dataclass(frozen=True)
class _Probe:
    """A point to order the rows from, and the rows known to be there."""

    start: int | None
    origin: str
    inside: Int64Array
    centre: Float64Array
    population: int = 0  # of a start that is a black hole


@dataclass(frozen=True)
class _Cut:
    """The rows ordered from a probe's centre, and cut at the void."""

    probe: _Probe
    ordering: Ordering
    usable: Int64Array
    void: Void | None

    @property
    def inside(self) -> Int64Array:
        """The rows inside, ascending; none without a void."""
        if self.void is None:
            return self.usable[:0]
        distances: Float64Array | Int64Array = self.ordering.distances
        if self.void.measure == "lattice steps" and self.ordering.steps is not None:
            distances = self.ordering.steps
        return self.usable[distances[self.usable] <= self.void.inside]

    @property
    def convincing(self) -> bool:
        return self.void is not None and self.void.convincing

    @property
    def undecided(self) -> str:
        """Of a gap wider than live rows leave that does not convince: what it lacks."""
        if self.void is None or not self.void.undecided:
            return ""
        return f"{self.void.words}, but {self.void.lacks}"

    @property
    def rank(self) -> tuple[bool, float]:
        """Of several, the highest is taken: the most rows, or without a cluster the widest gap."""
        if self.void is None:
            return False, 0.0
        return self.convincing, self.inside.size if self.convincing else self.void.ratio

    def result(self) -> ClusterSearch:
        rows = np.zeros(self.ordering.zero.size, dtype=np.bool_)
        if self.convincing:
            rows[self.inside] = True
        return ClusterSearch(
            rows=rows,
            zero=self.ordering.zero,
            start=self.probe.start,
            origin=self.probe.origin,
            void=_with_other_measure(self),
            distances=self.ordering.distances,
            steps=self.ordering.steps,
            reason="" if self.convincing else _reason(self),
            undecided=self.undecided,
            alone=_alone(self),
        )


def _black_hole(matrix: Matrix, found: Census) -> list[_Probe]:
    """The largest black hole that is not the zero rows; none without one."""
    for rows, population in zip(found.group_rows[:2], found.group_population, strict=False):
        if matrix.values(rows[:1]).any():
            origin = f"the largest black hole, {population:,} rows"
            centre = mean_of(matrix, rows[:1])
            return [_Probe(int(rows[0]), origin, rows, centre, int(population))]
    return []


def _others(matrix: Matrix, found: Census, rest: BoolArray, workers: int | None) -> list[_Probe]:
    """Where a second cluster may be: the largest black hole elsewhere, and spots that promise."""
    holes = [rows for rows in found.group_rows if rest[rows].all() and rows.size >= MIN_ROWS]
    probes = [
        _Probe(int(rows[0]), f"a black hole, {rows.size:,} rows", rows, mean_of(matrix, rows[:1]))
        for rows in holes[:1]
        if matrix.values(rows[:1]).any()
    ]
    return probes + _dense(matrix, rest, workers, second=True)


def _dense(
    matrix: Matrix, among: BoolArray, workers: int | None, *, second: bool = False
) -> list[_Probe]:
    """The densest spots among some rows, and the middle of all.

    For a second cluster fewer are looked for, and only those are taken that promise one.
    """
    sketch = sketches(matrix, random_signs(matrix.n_dimensions), WIDTH, workers)
    rows = np.flatnonzero(among & sketch.any(axis=1) & np.isfinite(sketch).all(axis=1))
    probes = [
        _Probe(int(spot.rows[0]), spot.origin, spot.rows, mean_of(matrix, spot.rows))
        for spot in dense_spots(sketch, rows, workers, most_sets=_SECOND_SETS if second else None)
        if not second or spot.ratio >= _PROMISING
    ]
    return probes + ([] if second else _middle(matrix, rows))


def _middle(matrix: Matrix, rows: Int64Array) -> list[_Probe]:
    """The middle of all rows, which lies among those that are most of them, if these lie together.

    In every coordinate the median is one of theirs, or between two of theirs.
    """
    if most_inside(rows.size) < MIN_ROWS:
        return []
    sample = rows[np.linspace(0, rows.size - 1, min(rows.size, _MIDDLE_ROWS)).astype(np.int64)]
    values = matrix.values(sample)
    centre = np.median(values, axis=0, overwrite_input=True).astype(np.float64)
    return [_Probe(int(sample[0]), "the median of every coordinate", sample[:0], centre)]


def _somewhere(matrix: Matrix, finite: BoolArray) -> _Probe:
    """A row to order the others from, so that something can be said, where nothing suggests one."""
    rows = np.flatnonzero(finite)[:_FIRST_ROWS]
    rows = rows[matrix.values(rows).any(axis=1)][:1]
    if rows.size == 0:
        return _Probe(None, "", rows, np.zeros(matrix.n_dimensions))
    return _Probe(int(rows[0]), f"row {int(rows[0])}", rows, mean_of(matrix, rows))


def _settle(
    matrix: Matrix, finite: BoolArray, probes: Sequence[_Probe], workers: int | None
) -> list[_Cut]:
    """Cut around each probe and move it to the mean of the rows inside, until these stay."""
    settled: list[_Cut] = []
    for left in reversed(range(_ROUNDS)):
        if not probes:
            break
        centres = [probe.centre for probe in probes]
        moved = []
        found = orderings(matrix, finite, centres, workers)
        for probe, ordering in zip(probes, found, strict=True):
            cut = _cut(probe, ordering, finite)
            if cut.inside.size == 0 or left == 0 or np.array_equal(cut.inside, probe.inside):
                settled.append(cut)
            else:
                centre = mean_of(matrix, cut.inside)
                moved.append(replace(probe, inside=cut.inside, centre=centre))
        probes = moved
    return settled


def _cut(probe: _Probe, ordering: Ordering, finite: BoolArray) -> _Cut:
    """Cut at the Euclidean void; at that in lattice steps only if it alone convinces."""
    usable = np.flatnonzero(finite & ~ordering.zero)
    distances, steps, told_apart = ordering.distances, ordering.steps, ordering.resolution
    void = find_void(distances, usable, told_apart, "Euclidean")
    if steps is not None and not (void and void.convincing):
        in_steps = find_void(steps, usable, STEPS_TOLD_APART, "lattice steps", ordering.close)
        void = in_steps if in_steps and in_steps.convincing else void
    if not (void and void.convincing):
        beyond = find_void_beyond_median(distances, usable, told_apart, "Euclidean")
        if beyond is not None and (beyond.convincing or void is None or beyond.ratio > void.ratio):
            void = beyond
    return _Cut(probe, ordering, usable, void)


def _with_other_measure(cut: _Cut) -> Void | None:
    """The void, with the distances on either side in the measure that did not decide.

    Lattice steps are left out where they are many inside: coordinates next to zero make them.
    """
    steps = cut.ordering.steps
    if cut.void is None or steps is None:
        return cut.void
    inside = np.isin(cut.usable, cut.inside, assume_unique=True)
    in_steps = cut.void.measure == "lattice steps"
    if not in_steps and steps[cut.inside].max() > cut.ordering.close:
        return cut.void
    other: Float64Array | Int64Array = cut.ordering.distances if in_steps else steps
    return replace(
        cut.void,
        other_inside=float(other[cut.usable[inside]].max()),
        other_outside=float(other[cut.usable[~inside]].min()),
    )


def _alone(cut: _Cut) -> bool:
    """Whether rounding alone makes the distances between all rows."""
    distances = cut.ordering.distances[cut.usable]
    return distances.size > 0 and bool(distances.max() <= cut.ordering.resolution)


def _reason(cut: _Cut) -> str:
    """Why there is no cluster."""
    n, distances = cut.usable.size, cut.ordering.distances[cut.usable]
    if n == 0:
        return "no cluster: no row is finite and not zero"
    if most_inside(n) < MIN_ROWS:
        rows = f"{n} rows are" if n > 1 else "1 row is"
        return f"no cluster: only {rows} finite and not zero, too few for a void"
    if not distances.any():
        return f"no cluster: all {n:,} rows that are finite and not zero are equal"
    if _alone(cut):
        return (
            f"no cluster: all {n:,} rows that are finite and not zero lie within "
            f"{cut.ordering.resolution:.3g}, which rounding alone makes: no other rows are there"
        )
    if cut.void is None:
        return f"no cluster: no gap below the median distance has {MIN_ROWS} rows inside"
    return f"no convincing void: {cut.void.words}, where {cut.void.lacks}"
