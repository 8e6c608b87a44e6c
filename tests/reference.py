"""Statistics of token rows by the most literal route: slow, plain, the oracle of the tests.

Nothing here shares code with the package. Every pair is visited, graphs are networkx graphs and
number formats are enumerated. A distance is the largest |a - b| over the dimensions, subtracted
in float32.
"""

from __future__ import annotations

import math
import struct
from functools import cache
from itertools import combinations
from typing import Any, TypeVar

import networkx as nx
import numpy as np
from numpy.typing import DTypeLike, NDArray

Vector = tuple[float, ...]
Pair = tuple[int, int]
Number = TypeVar("Number", int, float)

FLOAT32_LARGEST_BITS = 0x7F7FFFFF


def reference_row(
    values: NDArray[Any], epsilon: float, touching: float | None = None, trial_id: int = 0
) -> dict[str, float | int]:
    """The 21 statistics of n token rows, an (n, d) float32 array, in the order of the contract."""
    rows = _finite_float32(values)
    members = _rows_of_each_vector(rows)
    populations = [len(ids) for ids in members.values()]
    sizes = sorted((p for p in populations if p >= 2), reverse=True)

    distances = _pair_distances(list(members))
    quoted = [float(distance) / float(epsilon) for distance in distances.values()]

    graph = _touching_graph(len(members), distances, 2 * epsilon if touching is None else touching)
    components = [set(component) for component in nx.connected_components(graph)]
    largest = max((len(component) for component in components), default=0)

    return {
        "trial_id": trial_id,
        "n_tokens": len(rows),
        "n_unique": len(members),
        "n_black_holes": len(sizes),
        "n_singletons": sum(1 for p in populations if p == 1),
        "total_population": sum(populations),
        "black_hole_population": sum(sizes),
        "largest_bh": sizes[0] if sizes else 0,
        "smallest_bh": sizes[-1] if sizes else 0,
        "mean_bh_size": sum(sizes) / len(sizes) if sizes else 0.0,
        "median_bh_size": float(_lower_median(sizes)) if sizes else 0.0,
        "top2_population": sum(sizes[:2]),
        "gini_coefficient": _gini(sizes),
        "max_l_inf": max(quoted) if quoted else 0.0,
        "mean_l_inf": math.fsum(quoted) / len(quoted) if quoted else 0.0,
        "median_l_inf": _lower_median(quoted) if quoted else 0.0,
        "n_components": len(components),
        "n_isolated": sum(1 for _, degree in graph.degree() if degree == 0),
        "largest_component_size": largest,
        "largest_component_density": max(
            (_density(graph.subgraph(c)) for c in components if len(c) == largest), default=0.0
        ),
        "global_density": _density(graph),
    }


def reference_ulp_distances(values: NDArray[Any], dtype: DTypeLike) -> tuple[int, float, int]:
    """Max, mean and lower median Chebyshev distance between ordinals of distinct vectors."""
    vectors = list(_rows_of_each_vector(_finite_float32(values)))
    ordinals = [[_ordinal(value, np.dtype(dtype)) for value in vector] for vector in vectors]
    distances = [
        max((abs(p - q) for p, q in zip(a, b, strict=True)), default=0)
        for a, b in combinations(ordinals, 2)
    ]
    if not distances:
        return 0, 0.0, 0
    return max(distances), sum(distances) / len(distances), _lower_median(distances)


def reference_default_epsilon(values: NDArray[Any], dtype: DTypeLike) -> float:
    """The ULP of the largest |value| in the dimension of largest range (the first on ties)."""
    rows = _finite_float32(values)
    if rows.size == 0:
        raise ValueError(f"no value to take an ULP of: shape {rows.shape}")
    columns = [[float(value) for value in column] for column in rows.T]
    ranges = [max(column) - min(column) for column in columns]
    if max(ranges) > 0:
        chosen = columns[ranges.index(max(ranges))]
    else:
        chosen = [value for column in columns for value in column]
    return _ulp(max(abs(value) for value in chosen), np.dtype(dtype))


def reference_thresholds(values: NDArray[Any]) -> list[tuple[float, int]]:
    """Each distance t at which the number of components drops, with the number at t."""
    vectors = list(_rows_of_each_vector(_finite_float32(values)))
    distances = _pair_distances(vectors)
    graph = nx.Graph()
    graph.add_nodes_from(range(len(vectors)))
    drops: list[tuple[float, int]] = []
    before = len(vectors)
    for t in sorted({float(distance) for distance in distances.values()}):
        graph.add_edges_from(pair for pair, distance in distances.items() if float(distance) <= t)
        now = nx.number_connected_components(graph)
        if now < before:
            drops.append((t, now))
        before = now
    return drops


def reference_groups(values: NDArray[Any]) -> list[list[int]]:
    """Row ids of each group of two or more equal finite rows: largest first, then first row."""
    groups = [ids for ids in _rows_of_each_vector(np.asarray(values)).values() if len(ids) >= 2]
    return sorted(groups, key=lambda ids: (-len(ids), ids[0]))


def _finite_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """The rows as float32, refused if that would change a value or one is not finite."""
    rows = np.asarray(values)
    if rows.ndim != 2:
        raise ValueError(f"expected (n, d) rows, got shape {rows.shape}")
    single = rows.astype(np.float32)
    if not np.array_equal(single.astype(np.float64), rows.astype(np.float64)):
        raise ValueError("values are NaN or not representable in float32")
    if not np.isfinite(single).all():
        raise ValueError("values are not finite")
    return single


def _rows_of_each_vector(rows: NDArray[Any]) -> dict[Vector, list[int]]:
    """Row ids by vector, in order of first appearance, without rows holding NaN or inf.

    Python compares and hashes -0.0 and 0.0 alike; adding 0.0 makes the keys +0.0 as well.
    """
    members: dict[Vector, list[int]] = {}
    for row_id, row in enumerate(rows):
        vector = tuple(float(value) + 0.0 for value in row)
        if all(math.isfinite(value) for value in vector):
            members.setdefault(vector, []).append(row_id)
    return members


def _pair_distances(vectors: list[Vector]) -> dict[Pair, np.float32]:
    """The float32 L-infinity distance of each unordered pair of vectors."""
    arrays = [np.array(vector, dtype=np.float32) for vector in vectors]
    distances: dict[Pair, np.float32] = {}
    with np.errstate(over="ignore"):  # opposite values near the largest float32 are inf apart
        for i, j in combinations(range(len(arrays)), 2):
            distances[i, j] = np.float32(np.max(np.abs(arrays[i] - arrays[j])))
    return distances


def _touching_graph(n: int, distances: dict[Pair, np.float32], touching: float) -> Any:
    """Vectors 0 to n - 1 with an edge where the distance is at most float32(touching)."""
    with np.errstate(over="ignore"):
        limit = np.float32(touching)
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(pair for pair, distance in distances.items() if distance <= limit)
    return graph


def _density(graph: Any) -> float:
    """Edges over possible edges: 1 for a single vector, 0 for none."""
    n = graph.number_of_nodes()
    if n < 2:
        return float(n)
    return float(graph.number_of_edges() / (n * (n - 1) / 2))


def _gini(sizes: list[int]) -> float:
    """2 sum(i x_i) / (m sum(x_i)) - (m + 1) / m over ascending x, i = 1..m; 0 for m <= 1."""
    m = len(sizes)
    if m <= 1:
        return 0.0
    weighted = sum(i * x for i, x in enumerate(sorted(sizes), start=1))
    return 2 * weighted / (m * sum(sizes)) - (m + 1) / m


def _lower_median(items: list[Number]) -> Number:
    """The middle value, the smaller of the two when their number is even."""
    return sorted(items)[(len(items) - 1) // 2]


@cache
def _finite_values(dtype: np.dtype[Any]) -> list[float]:
    """All finite values of a format of at most 16 bits, ascending, with the zeros as one."""
    bits = 8 * dtype.itemsize
    if bits > 16:
        raise ValueError(f"cannot enumerate {dtype}")
    codes = np.arange(2**bits, dtype=f"uint{bits}").view(dtype)
    with np.errstate(invalid="ignore"):
        decoded = codes.astype(np.float64)
    return sorted({float(value) + 0.0 for value in decoded if math.isfinite(value)})


@cache
def _ordinals(dtype: np.dtype[Any]) -> dict[float, int]:
    """The ordinal of each finite value of a format of at most 16 bits."""
    finite = _finite_values(dtype)
    zero = finite.index(0.0)
    return {value: position - zero for position, value in enumerate(finite)}


def _float32_bits(magnitude: float) -> int:
    """The bit pattern of a non-negative float32."""
    (bits,) = struct.unpack("<I", struct.pack("<f", magnitude))
    return int(bits)


def _float32_of_bits(bits: int) -> float:
    (value,) = struct.unpack("<f", struct.pack("<I", bits))
    return float(value)


def _ordinal(value: float, dtype: np.dtype[Any]) -> int:
    """Position of a value among the finite ones of its format, counted from 0 at zero."""
    if dtype == np.dtype(np.float32):
        magnitude = _float32_bits(abs(value))
        return -magnitude if value < 0 else magnitude
    ordinals = _ordinals(dtype)
    if value not in ordinals:
        raise ValueError(f"{value!r} is not representable in {dtype}")
    return ordinals[value]


def _ulp(magnitude: float, dtype: np.dtype[Any]) -> float:
    """The gap to the next larger representable number; at the largest finite, the gap below it.

    The largest finite value and the one below it lie in one binade in all formats used here.
    """
    if dtype == np.dtype(np.float32):
        lower = min(_float32_bits(magnitude), FLOAT32_LARGEST_BITS - 1)
        return _float32_of_bits(lower + 1) - _float32_of_bits(lower)
    finite = _finite_values(dtype)
    if magnitude not in finite:
        raise ValueError(f"{magnitude!r} is not representable in {dtype}")
    position = min(finite.index(magnitude), len(finite) - 2)
    return finite[position + 1] - finite[position]
