"""Distances and touching graph of 2,100 vectors x 2,560 dimensions, beside the literal method.

The literal method is torch.cdist(p=inf) for the spatial statistics and again for the topology,
then NetworkX. Ours is `Distances`: summary with degrees, spanning tree, and the topology from them.
Both are timed in one run, on the same vectors, kernels compiled; the table gives the ratio. With
--save it is written to docs/performance/distances.csv too.
"""

from __future__ import annotations

import os
import sys
import time

import networkx as nx
import numpy as np
import torch
from measuring import holds, save

from deadtokens.distances import Distances
from deadtokens.formats import BFLOAT16, Float32Array
from deadtokens.geometry import touching_distance
from deadtokens.statistics import Cell, graph_topology

N, D = 2_100, 2_560
EPSILON = 5.9604645e-05
SPREADS = (3.28e-3, 1e-7)


def cluster(spread: float) -> Float32Array:
    """Distinct bfloat16 vectors: Gaussian noise around a Student-t centroid of rms 3.3e-3."""
    rng = np.random.default_rng(0)
    centroid = rng.standard_t(4.5, D)
    centroid *= 3.3e-3 / np.sqrt((centroid**2).mean())
    rows = (centroid + rng.normal(0, spread, (N, D))).astype(np.float32)
    return np.unique(BFLOAT16.values(BFLOAT16.round(rows)), axis=0)


def literal(x: Float32Array, touching: float) -> tuple[dict[str, Cell], torch.Tensor]:
    """Extent and topology as notebooks compute them."""
    vectors = torch.from_numpy(x)
    distances = torch.cdist(vectors, vectors, p=float("inf"))
    pairs = distances[tuple(torch.triu_indices(len(x), len(x), 1))]
    extent = (pairs.max().item(), pairs.mean(dtype=torch.float64).item(), pairs.median().item())
    adjacency = torch.cdist(vectors, vectors, p=float("inf")) <= touching
    adjacency.fill_diagonal_(False)
    graph = nx.from_numpy_array(adjacency.numpy())
    components = list(nx.connected_components(graph))
    largest = max(components, key=len)
    topology = {
        "n_components": len(components),
        "n_isolated": nx.number_of_isolates(graph),
        "largest_component_size": len(largest),
        "largest_component_density": nx.density(graph.subgraph(largest))
        if len(largest) > 1
        else 1.0,
        "global_density": nx.density(graph),
    }
    return dict(zip(("max", "mean", "median"), extent, strict=True)) | topology, distances


def ours(x: Float32Array, touching: float) -> dict[str, Cell]:
    """The same from streamed distances."""
    varying = np.flatnonzero((x != x[0]).any(axis=0))
    distances = Distances(x[:, varying])
    summary = distances.summary(touching)
    tree = distances.spanning_tree()  # measure builds it always, for the table of thresholds
    topology = graph_topology(len(x), touching, summary, lambda: tree)
    extent = {"max": summary.largest, "mean": summary.mean, "median": summary.median}
    return extent | topology


def main() -> None:
    print(f"{N:,} x {D:,} bfloat16, {os.cpu_count()} cores, torch {torch.__version__}\n")
    print(
        f"{'spread':>9}{'touching':>12}{'literal s':>11}{'ours s':>9}{'ratio':>8}"
        f"{'bit-equal':>11}{'mean off by':>13}"
    )
    rows, alike = [], True
    for spread in SPREADS:
        x = cluster(spread)
        # 2 epsilon, where these graphs are empty or complete, and a distance where it is neither.
        median = Distances(x).summary(0.0).median
        for touching in (touching_distance(2 * EPSILON), median):
            ours(x, touching)
            start = time.perf_counter()
            expected, matrix = literal(x, touching)
            literal_s = time.perf_counter() - start
            times = []
            for _ in range(5):
                start = time.perf_counter()
                found = ours(x, touching)
                times.append(time.perf_counter() - start)
            ours_s = float(np.median(times))
            varying = np.flatnonzero((x != x[0]).any(axis=0))
            equal = np.array_equal(Distances(x[:, varying]).matrix(), matrix.numpy())
            off = abs(float(str(found["mean"])) / float(str(expected["mean"])) - 1)
            agree = all(found[k] == v for k, v in expected.items() if isinstance(v, int))
            print(
                f"{spread:9.3g}{touching:12.4g}{literal_s:11.2f}{ours_s:9.3f}"
                f"{literal_s / ours_s:8.0f}{'yes' if equal and agree else 'NO':>11}{off:13.1e}"
            )
            rows.append((spread, touching, literal_s, ours_s, literal_s / ours_s))
            alike = alike and equal and agree
    holds("bit-equal throughout", alike)
    holds("20 times as fast throughout", min(row[-1] for row in rows) >= 20)
    if "--save" in sys.argv:
        save("distances", ("spread", "touching", "literal_s", "ours_s", "ratio"), rows)


if __name__ == "__main__":
    main()
