"""Trials of one cloud, drawn and measured: the work of one worker.

Most trials are measured in compiled code straight from the cells that their vectors occupy
(`kernels.separation`); those whose distances cannot be told from cells alone go the way that real
snowballs go (`Distances`). Which way a trial takes is a function of the trial.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deadtokens.cloud import Cloud, OrdinalArray
from deadtokens.distances import KEPT_BYTES, Distances, DistanceSummary, SpanningTree
from deadtokens.elements import ElementTotals
from deadtokens.formats import Float32Array
from deadtokens.geometry import touching_distance
from deadtokens.kernels.occupancy import OccupancyTable
from deadtokens.kernels.separation import chunk_rows, look_up, population_row
from deadtokens.kernels.types import Float64Array, Int64Array
from deadtokens.sampling import (
    DirectSampler,
    OccupancySampler,
    SamplerName,
    cell_table,
    distinct_rows,
)
from deadtokens.statistics import COLUMNS, TOPOLOGY, graph_topology

STATISTICS = COLUMNS[1:]
_EXACT_POPULATIONS = 64  # counted one by one; larger ones in bins a few percent wide
_BIN_RATIO = 1.03
_RANKS = 96


@dataclass(frozen=True)
class TrialSpec:
    """What a trial of a cloud is, besides the cloud and its number.

    Attributes:
        n_tokens: Tokens drawn.
        seed: Of all random streams.
        epsilon: The length in which distances are quoted.
        touching: The distance up to which vectors touch.
    """

    n_tokens: int
    seed: int
    epsilon: float
    touching: float

    @cached_property
    def ranks(self) -> Int64Array:
        """(r,) ranks, from 1, at which populations are kept: every early one, then fewer."""
        spaced = np.geomspace(1, self.n_tokens, _RANKS).round().astype(np.int64)
        return np.unique(np.concatenate([np.arange(1, min(self.n_tokens, 20) + 1), spaced]))

    @cached_property
    def population_bins(self) -> Int64Array:
        """(b,) lower edges of the bins in which populations are counted; the first holds 0."""
        edges = [*range(min(self.n_tokens + 1, _EXACT_POPULATIONS) + 1)]
        while edges[-1] <= self.n_tokens:
            edges.append(max(edges[-1] + 1, round(edges[-1] * _BIN_RATIO)))
        return np.array(edges, dtype=np.int64)


@dataclass
class Batch:
    """Consecutive trials, measured.

    Attributes:
        first: Number of the first.
        rows: (trials, 20) float64, the statistics of `STATISTICS`.
        ranked: (ranks, bins) int64, trials by population at each rank (`TrialSpec`).
        elements: int64 counts: tokens in every cell of the cloud's table (occupancy sampling), or
            elements in every bin of `ElementTotals` (direct draw).
        power_sums: Sums of powers 1 to 4 of the deviations from the centroid in active dimensions,
            as multiples of `ElementTotals.UNIT`; zero in occupancy sampling, whose counts hold them
            exactly.
    """

    first: int
    rows: Float64Array
    ranked: Int64Array
    elements: Int64Array
    power_sums: tuple[int, ...]


class Simulator:
    """Draws and measures trials of one cloud, with the work space of one worker.

    Args:
        cloud: The null model.
        spec: What a trial is.
        sampler: How it is drawn.
        table: The cloud's `occupancy_table`, if it was made elsewhere.

    Attributes:
        batch: Trials that are drawn at once.
        on_device: Whether a GPU draws them.
    """

    batch = 1
    on_device = False

    def __init__(
        self,
        cloud: Cloud,
        spec: TrialSpec,
        sampler: SamplerName,
        table: OccupancyTable | None = None,
    ) -> None:
        self.cloud = cloud
        self.spec = spec
        self.sampler = sampler
        self._touching = touching_distance(spec.touching)
        self._values = _value_table(cloud)
        self._lattice = _lattice(cloud)
        if sampler == "occupancy":
            self._occupancy = OccupancySampler(cloud, spec.n_tokens, seed=spec.seed, table=table)
        else:
            self._direct = DirectSampler(cloud, spec.n_tokens, seed=spec.seed)

    def run(self, first: int, n_trials: int, stop: Callable[[], bool] = lambda: False) -> Batch:
        """Trials first .. first + n_trials - 1, or fewer of them if told to stop on the way."""
        rows = np.zeros((n_trials, len(STATISTICS)))
        ranked = np.zeros((self.spec.ranks.size, self.spec.population_bins.size), dtype=np.int64)
        draw = self._run_occupancy if self.sampler == "occupancy" else self._run_direct
        done, elements, power_sums = draw(first, rows, ranked, stop)
        return Batch(first, rows[:done], ranked, elements, power_sums)

    def peak_bytes(self) -> int:
        """Rough memory of one worker: its tables, a trial's numbers, their blocks and distances."""
        n, a = self.spec.n_tokens, self.cloud.active.size
        cells = 0 if self.cloud.table is None else self.cloud.table.ordinals.size
        pairs = min(n * n * 2, KEPT_BYTES)
        if self.sampler == "occupancy":
            return (n + 4096) * (8 + 2 * a) + 100 * cells + 12 * n * a + pairs
        return n * a * (2 + 8 + 4 + 4) + pairs

    def _run_occupancy(
        self, first: int, rows: Float64Array, ranked: Int64Array, stop: Callable[[], bool]
    ) -> tuple[int, Int64Array, tuple[int, ...]]:
        table = cell_table(self.cloud)
        lowest = table.ordinals[table.first[:-1]].astype(np.int64)
        self._occupancy.forget()
        start = 0
        while start < len(rows) and not stop():
            chunk = self._occupancy.draw(first + start, len(rows) - start)
            part = rows[start : start + len(chunk.offsets) - 1]
            done = np.empty(len(part), dtype=np.bool_)
            chunk_rows(
                chunk.offsets,
                chunk.populations,
                chunk.ordinals,
                lowest,
                table.first,
                self._values,
                self.spec.epsilon,
                self._touching,
                self.spec.ranks,
                self.spec.population_bins,
                part,
                done,
                ranked,
            )
            for i in np.flatnonzero(~done):
                vectors = chunk.ordinals[chunk.offsets[i] : chunk.offsets[i + 1]]
                self._measure_pairs(vectors, part[i])
            start += len(part)
        return start, self._occupancy.cell_counts(), (0, 0, 0, 0)

    def _run_direct(
        self, first: int, rows: Float64Array, ranked: Int64Array, stop: Callable[[], bool]
    ) -> tuple[int, Int64Array, tuple[int, ...]]:
        totals = ElementTotals(self.cloud)
        done = 0
        while done < len(rows) and not stop():
            tokens = self._direct.draw(first + done)
            totals.add(tokens)
            vectors, populations, _ = distinct_rows(tokens)
            population_row(
                populations, self.spec.ranks, self.spec.population_bins, rows[done], ranked
            )
            self._measure_pairs(vectors, rows[done])
            done += 1
        return done, totals.histogram, tuple(totals.power_sums)

    def _measure_pairs(self, vectors: OrdinalArray, row: Float64Array) -> None:
        """Extent and topology from all pairs, into the last 8 places of a row."""
        m = len(vectors)
        row[12:] = 1.0 if m == 1 else 0.0
        row[12:15] = 0.0
        varying = np.flatnonzero((vectors != vectors[:1]).any(axis=0))
        if m < 2:
            return
        distances = Distances(self._vector_values(vectors, varying), workers=1)
        self._fill_row(m, distances.summary(self._touching), distances.spanning_tree, row)

    def _fill_row(
        self, m: int, summary: DistanceSummary, tree: Callable[[], SpanningTree], row: Float64Array
    ) -> None:
        extent = np.array([summary.largest, summary.mean, summary.median])
        row[12:15] = extent / self.spec.epsilon
        topology = graph_topology(m, self.spec.touching, summary, tree)
        row[15:] = [float(topology[name] or 0) for name in TOPOLOGY]

    def _vector_values(self, vectors: OrdinalArray, dimensions: Int64Array) -> Float32Array:
        if vectors.shape[1] != dimensions.size:
            vectors = np.ascontiguousarray(vectors[:, dimensions])
        if self._lattice is None:
            return self.cloud.format.values_of(vectors)
        values = np.empty(vectors.shape, dtype=np.float32)
        look_up(vectors, self._lattice, values)
        return values


def _lattice(cloud: Cloud) -> Float32Array | None:
    """Values of ordinals -max to max; None for float32, which has too many."""
    fmt = cloud.format
    if fmt.bits > 16:
        return None
    return fmt.values_of(np.arange(-fmt.max_ordinal, fmt.max_ordinal + 1))


def _value_table(cloud: Cloud) -> Float32Array:
    if cloud.table is None:
        return np.zeros(0, dtype=np.float32)
    return cloud.format.values_of(cloud.table.ordinals)
