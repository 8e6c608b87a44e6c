"""The dead cluster: all rows around a centre, up to the void, whether any two are equal or not.

The search (docs/method.md, section 16) starts from the largest black hole and, where that has no
convincing void around it or nothing but its own rows inside, from the densest spots of the matrix
(`deadtokens.spots`). From a start, rows are ordered by distance, cut at the void
(`deadtokens.voids`), and ordered anew around the mean of the rows inside, until these stay the
same. The Euclidean distance decides; lattice steps do only where it shows no convincing void.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from deadtokens.census import NOT_FINITE, Census, census, first_equal_rows
from deadtokens.census import rows_to_measure as rows_by_name
from deadtokens.errors import SelectionError
from deadtokens.formats import Codes, Format
from deadtokens.kernels.types import BoolArray, Float64Array, Int64Array
from deadtokens.orderings import Ordering, mean_of, on_its_lattice, orderings, sketches
from deadtokens.rows import MadeRows, RowChoice
from deadtokens.showing import Shown
from deadtokens.sources import Matrix
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
_FIRST_ROWS = 1024  # among which to look for any row
EVIDENCE = ("", "cluster", "black hole", "zeros", "source")


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
    """

    rows: BoolArray
    zero: BoolArray
    start: int | None
    origin: str
    void: Void | None
    distances: Float64Array
    steps: Int64Array | None
    reason: str

    def __repr__(self) -> str:
        return f"<ClusterSearch of {self.rows.size:,} rows: {self.evidence()}>"

    def evidence(self) -> str:
        """In a sentence: the void that sets the cluster apart, or why there is no cluster."""
        if self.reason or self.void is None:
            return self.reason
        return f"{self.void.words} (start: {self.origin})"


@dataclass(frozen=True)
class DeadRows:
    """The rows that count as dead.

    Attributes:
        rows: (V,) bool.
        how: By what evidence, in words.
        evidence: (V,) int8: for each row its place in `EVIDENCE`; 0 for rows that are not dead.
    """

    rows: BoolArray
    how: str
    evidence: npt.NDArray[np.int8]


@dataclass(frozen=True)
class Selection:
    """Rows chosen by name.

    Attributes:
        rows: (V,) bool.
        evidence: What sets them apart, if they are the cluster; else empty.
    """

    rows: BoolArray
    evidence: str = ""


def find_cluster(matrix: Matrix, found: Census, *, workers: int | None = None) -> ClusterSearch:
    """Find the dead cluster of a matrix, with the void that sets it apart.

    As in docs/method.md, section 16. A matrix without one is no error: `ClusterSearch.reason` says
    what it lacks.

    Args:
        matrix: V x d.
        found: Its census.
        workers: Threads; all cores by default. The result does not depend on it.
    """
    finite = found.first != NOT_FINITE
    matrix = on_its_lattice(matrix, workers)
    cuts = _settle(matrix, finite, _black_hole(matrix, found), workers)
    if not any(cut.convincing and cut.inside.size > cut.probe.population for cut in cuts):
        others = finite.copy()
        for cut in cuts:
            if cut.convincing:
                others[cut.inside] = False
        cuts += _settle(matrix, finite, _dense(matrix, others, workers), workers)
    cuts = cuts or _settle(matrix, finite, [_somewhere(matrix, finite)], workers)
    return max(cuts, key=lambda cut: cut.rank).result()


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
        )


def _black_hole(matrix: Matrix, found: Census) -> list[_Probe]:
    """The largest black hole that is not the zero rows; none without one."""
    for rows, population in zip(found.group_rows[:2], found.group_population, strict=False):
        if matrix.values(rows[:1]).any():
            origin = f"the largest black hole, {population:,} rows"
            centre = mean_of(matrix, rows[:1])
            return [_Probe(int(rows[0]), origin, rows, centre, int(population))]
    return []


def _dense(matrix: Matrix, among: BoolArray, workers: int | None) -> list[_Probe]:
    """The densest spots among some rows."""
    sketch = sketches(matrix, random_signs(matrix.n_dimensions), WIDTH, workers)
    rows = np.flatnonzero(among & sketch.any(axis=1) & np.isfinite(sketch).all(axis=1))
    return [
        _Probe(int(spot.rows[0]), spot.origin, spot.rows, mean_of(matrix, spot.rows))
        for spot in dense_spots(sketch, rows, workers)
    ]


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
        for probe, ordering in zip(
            probes, orderings(matrix, finite, centres, workers), strict=True
        ):
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
    void = find_void(ordering.distances, usable, ordering.resolution, "Euclidean")
    if ordering.steps is not None and not (void and void.convincing):
        in_steps = find_void(
            ordering.steps, usable, STEPS_TOLD_APART, "lattice steps", ordering.close
        )
        void = in_steps if in_steps and in_steps.convincing else void
    return _Cut(probe, ordering, usable, void)


def _with_other_measure(cut: _Cut) -> Void | None:
    """The void, with the distances on either side in the measure that did not decide.

    Lattice steps are left out where they are many inside: coordinates next to zero make them.
    """
    steps = cut.ordering.steps
    if cut.void is None or steps is None:
        return cut.void
    inside = np.isin(cut.usable, cut.inside, assume_unique=True)
    other: Float64Array | Int64Array = steps
    if cut.void.measure == "lattice steps":
        other = cut.ordering.distances
    elif steps[cut.inside].max() > cut.ordering.close:
        return cut.void
    return replace(
        cut.void,
        other_inside=float(other[cut.usable[inside]].max()),
        other_outside=float(other[cut.usable[~inside]].min()),
    )


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
    if distances.max() <= cut.ordering.resolution:
        return (
            f"no cluster: all {n:,} rows that are finite and not zero lie within "
            f"{cut.ordering.resolution:.3g}, which rounding alone makes: no other rows are there"
        )
    beyond = find_void_beyond_median(
        cut.ordering.distances, cut.usable, cut.ordering.resolution, "Euclidean"
    )
    if beyond is not None:
        return f"no cluster: the widest gap lies beyond the median distance ({beyond.words})"
    if cut.void is None:
        return f"no cluster: no gap below the median distance has {MIN_ROWS} rows inside"
    return f"no convincing void: {cut.void.words}, where {cut.void.lacks}"


def dead_rows(matrix: Matrix, found: Census, search: ClusterSearch) -> DeadRows:
    """The rows that count as dead: those of the cluster, those in black holes, rows of zeros.

    A row that equals another one counts wherever it lies: rows that are trained apart do not stay
    equal. Of a source that holds dead rows only, as the built-ins do, all count.

    Args:
        matrix: The matrix.
        found: Its census.
        search: What `find_cluster` found.
    """
    evidence = np.zeros(found.n_rows, dtype=np.int8)
    if matrix.default_rows == "all":
        evidence[:] = EVIDENCE.index("source")
    evidence[found.mask] = EVIDENCE.index("black hole")
    evidence[search.rows] = EVIDENCE.index("cluster")
    evidence[search.zero] = EVIDENCE.index("zeros")
    words = {
        "cluster": "in the cluster",
        "black hole": "equal to another",
        "zeros": "of zeros",
        "source": "of a source that holds dead rows only",
    }
    counts = {name: int((evidence == EVIDENCE.index(name)).sum()) for name in words}
    parts = [f"{count:,} {words[name]}" for name, count in counts.items() if count]
    how = ", ".join(parts) or "no cluster, no equal rows, no zeros"
    return DeadRows(evidence > 0, how, evidence)


def merging(matrix: Matrix, target: Format, *, workers: int | None = None) -> int:
    """How many rows would equal another one if the matrix were rounded to a format.

    Rows that are equal already count. Rows that hold NaN or an infinity, or would after rounding
    (numbers beyond the format's largest), equal nothing and do not.

    Args:
        matrix: The matrix; rounded block by block, never as a whole.
        target: The format.
        workers: Threads; all cores by default.
    """
    codes = MadeRows(matrix.shape, _rounder(matrix, target))
    first = first_equal_rows(codes, target.sign_bit, target.max_ordinal, workers=workers)
    first = first[first != NOT_FINITE]
    populations = np.bincount(first)
    return int(populations[populations >= 2].sum())


def _rounder(matrix: Matrix, target: Format) -> Callable[[RowChoice], Codes]:
    """What makes rows of the matrix in another format: by a table where there are few codes."""
    storage, codes = matrix.format, matrix.codes
    if storage.bits > 16:
        return lambda rows: target.round(storage.values(codes[rows]))
    every = np.arange(1 << storage.bits).astype(storage.code_dtype)
    with np.errstate(invalid="ignore"):  # of NaN
        table = target.round(storage.values(every))
    return lambda rows: np.asarray(table[codes[rows]])


def rows_to_measure(
    matrix: Matrix, which: str | None = None, *, workers: int | None = None
) -> Selection:
    """The rows that ``--rows`` names.

    Args:
        matrix: The matrix.
        which: ``"cluster"``, or a name that `deadtokens.census.rows_to_measure` takes.
        workers: Threads; all cores by default.

    Raises:
        SelectionError: Another name, no cluster, or no two rows are equal.
    """
    if which != "cluster":
        return Selection(rows_by_name(matrix, which))
    search = find_cluster(matrix, census(matrix), workers=workers)
    if search.reason:
        raise SelectionError(
            f"nothing to measure: {search.reason}",
            where=matrix.source,
            remedy="use --rows duplicates or all, or choose rows with --mask",
        )
    return Selection(search.rows, search.evidence())
