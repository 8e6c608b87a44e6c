"""The row of statistics of a snowball (definitions: docs/method.md, section 3).

Up to `EXACT_LIMIT` distinct vectors everything is exact. Past it, mean and median distance are
estimates from sampled pairs, given with their standard errors, and the touching graph is described
only where it can be shown to be complete or empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from deadtokens.distances import Distances, DistanceSummary, SpanningTree
from deadtokens.errors import SelectionError
from deadtokens.extent import NO_EXTENT, Extent
from deadtokens.geometry import Geometry, touching_distance
from deadtokens.selection import as_snowball
from deadtokens.snowball import Snowball, no_lattice
from deadtokens.sources import MatrixLike
from deadtokens.tabular import Tabular

EXACT_LIMIT = 20_000

COLUMNS = (
    "trial_id",
    "n_tokens",
    "n_unique",
    "n_black_holes",
    "n_singletons",
    "total_population",
    "black_hole_population",
    "largest_bh",
    "smallest_bh",
    "mean_bh_size",
    "median_bh_size",
    "top2_population",
    "gini_coefficient",
    "max_l_inf",
    "mean_l_inf",
    "median_l_inf",
    "n_components",
    "n_isolated",
    "largest_component_size",
    "largest_component_density",
    "global_density",
)
TOPOLOGY = COLUMNS[16:]
FURTHER_COLUMNS = (
    "epsilon",
    "touching",
    "format",
    "max_ulp",
    "mean_ulp",
    "median_ulp",
    "mean_l_inf_se",
    "median_l_inf_se",
    "mean_ulp_se",
    "median_ulp_se",
)

_EQUAL_VECTORS = SelectionError("vectors that are equal", remedy="give each distinct one once")

Cell: TypeAlias = int | float | str | None


@dataclass(frozen=True)
class Connectivity:
    """How the number of components depends on the touching distance (equation 5.1).

    Attributes:
        distances: Ascending distances at which components merge, from a minimum spanning tree.
        n_components: Components of the graph of distances up to each of them.
        connected_at: The distance from which on the graph is connected.
        complete_at: The distance from which on it is complete: the largest of all.
    """

    distances: npt.NDArray[np.float64]
    n_components: npt.NDArray[np.int64]
    connected_at: float
    complete_at: float


@dataclass(frozen=True)
class Measurement(Tabular):
    """A snowball's statistics.

    Attributes:
        row: The 21 columns of `COLUMNS`, then those of `FURTHER_COLUMNS`. Distances ``*_l_inf`` are
            in units of epsilon, ``*_ulp`` in lattice steps. None is a blank; standard errors are
            blank where the value is exact.
        epsilon_origin: Where epsilon comes from, in words.
        blank_reason: Why the topology columns are blank, None if they are not.
        connectivity: Topology against distance; None with fewer than two vectors or past the exact
            limit.
        lacking: What quantised numbers cannot tell, and why; "" where they are none.
    """

    row: dict[str, Cell]
    epsilon_origin: str
    blank_reason: str | None
    connectivity: Connectivity | None
    lacking: str = ""

    def __repr__(self) -> str:
        row = self.row
        return (
            f"<Measurement of {row['n_tokens']:,} rows: {row['n_unique']:,} distinct vectors, "
            f"{row['n_black_holes']:,} black holes; {float(row['max_l_inf'] or 0):.4g} epsilon>"
        )

    def columns(self) -> Mapping[str, Any]:
        """The columns of `row`, one line."""
        return {name: [value] for name, value in self.row.items()}

    @property
    def estimated(self) -> bool:
        """Whether mean and median distances are estimates."""
        return self.row["mean_l_inf_se"] is not None


def measure(
    snowball: Snowball | MatrixLike,
    epsilon: float | None = None,
    touching: float | None = None,
    *,
    exact_limit: int = EXACT_LIMIT,
    workers: int | None = None,
) -> Measurement:
    """Measure a snowball: the 21 statistics, distances in ULPs, topology against distance.

    Quantised numbers have no ULP: distances in ULPs are blank.

    Args:
        snowball: At least one vector, unless ``epsilon`` is given; or whatever `open_matrix` takes,
            for the rows that are measured by default.
        epsilon: The length in which distances are quoted; by default the ULP of the largest value
            in the dimension of largest range. Of quantised numbers, the smallest difference of two
            values in that dimension.
        touching: The distance up to which two vectors touch; 2 epsilon by default.
        exact_limit: Distinct vectors up to which all pairs are looked at.
        workers: Threads; all cores by default. The result does not depend on it.

    Raises:
        SelectionError: No vectors and no epsilon, or a length that is not a positive number.
    """
    snowball = as_snowball(snowball, "snowball")
    geometry = Geometry(snowball)
    origin = "given"
    if epsilon is None:
        epsilon, origin = geometry.default_epsilon()
    epsilon = _positive("epsilon", epsilon)
    touching = 2 * epsilon if touching is None else _positive("touching", touching)
    row: dict[str, Cell] = {"trial_id": 0, **population_statistics(snowball.populations)}
    further: dict[str, Cell] = dict.fromkeys(FURTHER_COLUMNS)
    further |= {"epsilon": epsilon, "touching": touching, "format": snowball.storage}
    extent: Extent = NO_EXTENT
    steps: Extent | None = None if snowball.quantised else NO_EXTENT
    topology: dict[str, Cell] = trivial_topology(snowball.n_unique)
    reason, connectivity = None, None
    if snowball.n_unique > exact_limit:
        sampled = geometry.sampled_pairs()
        extent = Extent.estimated(geometry.largest_distance, sampled[0])
        steps = steps and Extent.estimated(geometry.largest_steps, sampled[1])
        topology, reason = _decidable_topology(geometry, touching, exact_limit)
    elif snowball.n_unique >= 2:
        if snowball.varying.size == 0:
            raise _EQUAL_VECTORS
        distances = Distances(geometry.values, workers)
        summary = distances.summary(touching_distance(touching))
        if summary.smallest == 0:
            raise _EQUAL_VECTORS
        tree = distances.spanning_tree()
        connectivity = _connectivity(tree, summary)
        del distances  # the steps need the room
        topology = graph_topology(snowball.n_unique, touching, summary, lambda: tree)
        extent = Extent.exact(summary)
        steps = steps and Extent.exact(Distances(geometry.steps, workers).summary(0.0))
    row |= {name: value / epsilon for name, value in extent.columns("l_inf").items()}
    row |= topology
    further |= {name: value / epsilon for name, value in extent.standard_errors("l_inf").items()}
    if steps:
        further |= steps.columns("ulp") | steps.standard_errors("ulp")
    lacking = _lacking(snowball.quantised) if snowball.quantised else ""
    return Measurement(row | further, origin, reason, connectivity, lacking)


def _lacking(kind: str) -> str:
    return (
        f"max_ulp, mean_ulp and median_ulp are blank, and sigma cannot be fitted nor tested: "
        f"{no_lattice(kind)}"
    )


def population_statistics(populations: npt.NDArray[np.int64]) -> dict[str, Cell]:
    """The counts and black-hole statistics of (m,) populations: 12 columns, in their order."""
    holes = np.sort(populations[populations >= 2])
    return {
        "n_tokens": int(populations.sum()),
        "n_unique": int(populations.size),
        "n_black_holes": int(holes.size),
        "n_singletons": int(populations.size - holes.size),
        "total_population": int(populations.sum()),
        "black_hole_population": int(holes.sum()),
        "largest_bh": int(holes[-1]) if holes.size else 0,
        "smallest_bh": int(holes[0]) if holes.size else 0,
        "mean_bh_size": float(holes.mean()) if holes.size else 0.0,
        "median_bh_size": float(holes[(holes.size - 1) // 2]) if holes.size else 0.0,
        "top2_population": int(holes[-2:].sum()),
        "gini_coefficient": gini(holes),
    }


def gini(sizes: npt.NDArray[np.int64]) -> float:
    """The Gini coefficient of sizes sorted ascending (equation 3.1); 0 for one or none."""
    m = sizes.size
    if m == 0:
        return 0.0
    ranked = int((np.arange(1, m + 1) * sizes).sum())
    return 2 * ranked / (m * int(sizes.sum())) - (m + 1) / m


def trivial_topology(n: int) -> dict[str, Cell]:
    """Topology of a graph of no vertex or one."""
    return dict(zip(TOPOLOGY, (1, 1, 1, 1.0, 1.0) if n else (0, 0, 0, 0.0, 0.0), strict=True))


def graph_topology(
    n: int, touching: float, summary: DistanceSummary, tree: Callable[[], SpanningTree]
) -> dict[str, Cell]:
    """Components, isolated vectors and densities of the touching graph on n >= 2 vectors.

    Complete and empty graphs are known from the extreme distances; only others ask for the tree.
    """
    threshold = touching_distance(touching)
    if summary.largest <= threshold:
        return _complete_topology(n)
    if summary.smallest > threshold:
        return _empty_topology(n)
    labels = tree().components(threshold)
    sizes = np.bincount(labels)
    edges = np.bincount(labels, weights=summary.degrees) / 2
    largest = int(sizes.max())
    possible = largest * (largest - 1) / 2
    density = float(edges[sizes == largest].max() / possible)  # an edge exists, so largest >= 2
    return {
        "n_components": int(sizes.size),
        "n_isolated": int((summary.degrees == 0).sum()),
        "largest_component_size": largest,
        "largest_component_density": density,
        "global_density": float(edges.sum() / summary.n_pairs),
    }


def _complete_topology(n: int) -> dict[str, Cell]:
    return dict(zip(TOPOLOGY, (1, 0, n, 1.0, 1.0), strict=True))


def _empty_topology(n: int) -> dict[str, Cell]:
    return dict(zip(TOPOLOGY, (n, n, 1, 1.0, 0.0), strict=True))


def _connectivity(tree: SpanningTree, summary: DistanceSummary) -> Connectivity:
    lengths = tree.weights.astype(np.float64)
    distances, counts = np.unique(lengths, return_counts=True)
    return Connectivity(
        distances=distances,
        n_components=tree.n_vectors - np.cumsum(counts),
        connected_at=float(lengths[-1]),
        complete_at=summary.largest,
    )


def _decidable_topology(
    geometry: Geometry, touching: float, exact_limit: int
) -> tuple[dict[str, Cell], str | None]:
    n = geometry.snowball.n_unique
    threshold = touching_distance(touching)
    if geometry.largest_distance <= threshold:
        return _complete_topology(n), None
    if geometry.no_pair_within(threshold):
        return _empty_topology(n), None
    reason = (
        f"{n:,} distinct vectors are past the exact limit of {exact_limit:,}, and the touching "
        "graph could not be shown to be complete or empty"
    )
    return dict.fromkeys(TOPOLOGY), reason


def _positive(name: str, value: float) -> float:
    if not (np.isfinite(value) and value > 0):
        raise SelectionError(f"{name} {value!r}", remedy="give a positive number")
    return float(value)
