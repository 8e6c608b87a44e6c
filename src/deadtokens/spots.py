"""Where rows lie densest, without a row to start from: places where a dead cluster may be.

Rows of a cluster differ little in every coordinate, but dropping low bits of the coordinates does
not make them equal: cells of floating-point numbers are tiny near zero, and of thousands of
coordinates some always straddle a boundary. Projections have neither weakness. A row's numbers are
added up, with random signs, into `WIDTH` sums, its *sketch*, in which squared distances are right
on average, with a standard deviation of 18 %. Eight of these sums, as fixed-point numbers whose low
bits are dropped, become equal for rows that lie together: the fullest cells, for several sets of
sums and numbers of bits, are the places to look at. The sketch decides where to look and nothing
else: what is found there is confirmed by exact distances.

How wide a cluster may be: 20,000 Gaussian rows of 1,024 dimensions, of equal norms or of norms
spread by a factor of 1.6, and n about a point of like norm or ten times that, their noise a
fraction of the ordinary width. All of two or three trials succeed from these fractions down; none
ever gave another set of rows.

    n               10      20      50      300     5,000
    equal norms     1/32    1/6     1/4     1/3     1/3
    spread norms    1/32    1/12    1/8     1/4     1/4

The last two columns are where the ratio of the void comes down to 3, the first is where 10 rows no
longer are evidence enough. Dropping bits of the coordinates instead, all 23 of float32's fraction
make 156 of 2,000 such rows equal at a fraction of 1e-4 in 2,560 dimensions, and no two at 1e-3.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from deadtokens.kernels.types import Float32Array, Int64Array, UInt64Array
from deadtokens.voids import MIN_ROWS, most_inside

WIDTH = 64
_COLUMNS = 8  # sums that a cell is made of
_FRACTION = 20  # bits of a fixed-point sum below the spread of the sums
# Bits dropped. Cells of the first sizes, from a sixteenth of the spread to twice it, tell clusters
# from rows that lie anywhere; the finer ones those in the midst of rows that lie close themselves.
_DROPPED = (21, 20, 19, 18, 17, 16)
_FINELY_DROPPED = (14, 12, 10, 8, 6, 4, 2, 0)
_FINE_SETS = 2  # sets of sums that the finer ones are tried with
_CELLS = 3  # cells taken from each set and size
_CELL_ROWS = 4  # at least, in a cell; a small cluster's rows fall into several
_SPOTS = 2  # taken by each rule
_AT_ONCE = 8
_SAMPLE = 8192
_FARTHEST = np.float32(1e15)  # spreads: whatever lies beyond is as good as there
_ROUNDING = 4e-6  # of a squared length: what float32 leaves of a distance between equal vectors


@dataclass(frozen=True)
class Spot:
    """A place where rows lie dense.

    Attributes:
        rows: The rows there, ascending.
        n_equal: Rows whose sums became equal.
        dropped: Bits that were dropped.
        ratio: Of the gap in the sketch that they lie inside.
    """

    rows: Int64Array
    n_equal: int
    dropped: int
    ratio: float

    @property
    def origin(self) -> str:
        """How it was found, in words."""
        return (
            f"{self.n_equal:,} rows whose random projections become equal when the lowest "
            f"{self.dropped} bits are dropped, {_FRACTION} bits being their spread"
        )


def random_signs(n: int) -> Float32Array:
    """(n,) float32: -1 or 1, always the same for the same n."""
    bits = np.random.Generator(np.random.PCG64(0)).integers(0, 2, n)
    return np.asarray(2 * bits - 1, dtype=np.float32)


def dense_spots(
    sketch: Float32Array,
    rows: Int64Array,
    workers: int | None = None,
    *,
    most_sets: int | None = None,
) -> list[Spot]:
    """The most promising places; none where no `MIN_ROWS` rows lie together.

    Args:
        sketch: (V, w) sums of all rows.
        rows: (n,) the rows to look among, ascending.
        workers: Threads; all cores by default. The result does not depend on it.
        most_sets: Sets of sums to try, each a chance to find a place; all by default.
    """
    if most_inside(rows.size) < MIN_ROWS:
        return []
    sample = sketch[rows[np.linspace(0, rows.size - 1, min(rows.size, _SAMPLE)).astype(np.int64)]]
    middle = np.median(sample, axis=0)
    spread = _spread(sample - middle)
    unit = float(spread.max())
    if unit == 0:
        return []
    with np.errstate(over="ignore"):
        sums = np.clip((sketch[rows] - middle) / np.float32(unit), -_FARTHEST, _FARTHEST)
    cells = _full_cells(sums, spread / unit, workers, most_sets)
    chunks = [cells[first : first + _AT_ONCE] for first in range(0, len(cells), _AT_ONCE)]
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        looks = pool.map(lambda chunk: _look(sums, chunk), chunks)
        sights = [sight for found in looks for sight in found]
    return [
        Spot(rows[sight.rows(rows.size)], sight.cell.rows.size, sight.cell.dropped, sight.ratio)
        for sight in _most_promising(sights)
    ]


def _spread(sums: Float32Array) -> Float32Array:
    """The spread of each column about 0, not that of a few rows far away; 0 if nothing varies."""
    spread = np.median(np.abs(sums), axis=0)
    return np.asarray(np.where(spread > 0, spread, np.abs(sums).max(axis=0)))


@dataclass(frozen=True)
class _Cell:
    """Rows whose sums became equal, and the bits that were dropped."""

    rows: Int64Array
    dropped: int


def _full_cells(
    sums: Float32Array, spread: Float32Array, workers: int | None, most_sets: int | None
) -> list[_Cell]:
    """The fullest cells of every set of sums and size, each set of rows once."""
    generator = np.random.Generator(np.random.PCG64(0))
    varying = np.flatnonzero(spread)
    sets = [varying[first : first + _COLUMNS] for first in range(0, varying.size, _COLUMNS)]
    sets = sets[:most_sets]
    multipliers = generator.integers(0, 2**64, _COLUMNS, dtype=np.uint64) | np.uint64(1)
    offsets = generator.integers(0, 1 << (1 + _FRACTION), spread.size)

    def fullest(number: int) -> list[_Cell]:
        columns = sets[number]
        fixed = np.ldexp(sums[:, columns].astype(np.float64) / spread[columns], _FRACTION)
        fixed = np.clip(fixed, -(2.0**62), 2.0**62).astype(np.int64)
        fixed += offsets[columns]
        sizes = _DROPPED + (_FINELY_DROPPED if number < _FINE_SETS else ())
        found = []
        for dropped in sizes:
            # Two cells of one hash would only be a place to look at in vain.
            cells = (fixed >> dropped).view(np.uint64)
            hashes = (cells * multipliers[: columns.size]).sum(axis=1, dtype=np.uint64)
            found += [_Cell(rows, dropped) for rows in _fullest(hashes)]
        return found

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        found = [cell for cells in pool.map(fullest, range(len(sets))) for cell in cells]
    return list({cell.rows.tobytes(): cell for cell in reversed(found)}.values())


def _fullest(hashes: UInt64Array) -> list[Int64Array]:
    """The rows of the hashes that many share, though not most."""
    ordered = np.sort(hashes)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(starts, append=hashes.size)
    counts[counts > most_inside(hashes.size)] = 0
    fullest = np.argsort(-counts, kind="stable")[:_CELLS]
    return [
        np.flatnonzero(hashes == ordered[starts[i]]) for i in fullest if counts[i] >= _CELL_ROWS
    ]


@dataclass(frozen=True)
class _Sight:
    """A gap in the distances, in the sketch, from the middle of a cell's rows."""

    cell: _Cell
    ratio: float
    bits: float
    packed: npt.NDArray[np.uint8]  # whether each row is inside, eight to a byte

    def rows(self, n: int) -> Int64Array:
        """The rows inside."""
        return np.flatnonzero(np.unpackbits(self.packed, count=n))

    def like(self, other: _Sight) -> bool:
        """Whether most of the rows inside either are inside both."""
        both = int(np.bitwise_count(self.packed & other.packed).sum())
        either = int(np.bitwise_count(self.packed | other.packed).sum())
        return 2 * both > either


def _look(sums: Float32Array, cells: list[_Cell]) -> list[_Sight]:
    """From each cell: the gap of the largest ratio, and the one that is most unlikely."""
    centres = np.array([sums[cell.rows].mean(axis=0, dtype=np.float64) for cell in cells])
    squared = _squared_distances(sums, centres.astype(np.float32))
    sizes = np.arange(MIN_ROWS, most_inside(len(sums)) + 1)
    sights = []
    for cell, column in zip(cells, squared, strict=True):
        near = np.sort(column)[MIN_ROWS - 1 : sizes[-1] + 1]
        ratios = np.sqrt(near[1:].astype(np.float64) / near[:-1])
        bits = (sizes - 1) * np.log2(ratios)
        for at in {int(ratios.argmax()), int(bits.argmax())}:
            inside = np.packbits(column <= near[at])
            sights.append(_Sight(cell, float(ratios[at]), float(bits[at]), inside))
    return sights


def _squared_distances(sums: Float32Array, centres: Float32Array) -> Float32Array:
    """(c, n) float32, from a product of matrices; never less than its rounding."""
    lengths = np.einsum("ij,ij->i", sums, sums)
    far = np.einsum("ij,ij->i", centres, centres)[:, None]
    squared: Float32Array = far + lengths - 2 * (centres @ sums.T)
    least = _ROUNDING * far + np.finfo(np.float32).tiny
    return np.asarray(np.maximum(squared, least))


def _most_promising(sights: list[_Sight]) -> list[_Sight]:
    """The sights of the most unlikely gaps, and those of the widest, no two of one place.

    Of the cells that led to a place the fullest is named.
    """
    chosen: list[_Sight] = []
    for rule in ("bits", "ratio"):
        wanted = len(chosen) + _SPOTS
        for sight in sorted(sights, key=lambda sight: -float(getattr(sight, rule))):
            if len(chosen) == wanted:
                break
            if not any(sight.like(other) for other in chosen):
                cells = [other.cell for other in sights if other.like(sight)]
                fullest = max(cells, key=lambda cell: cell.rows.size)
                chosen.append(replace(sight, cell=fullest))
    return chosen
