"""Results as files: the census, the row of statistics, the cluster as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deadtokens.census import NOT_FINITE, Census, snowball_of
from deadtokens.distances import Distances
from deadtokens.errors import OutputError
from deadtokens.files import load_metadata
from deadtokens.kernels.pairs import count_differing
from deadtokens.snowball import Snowball
from deadtokens.sources import Matrix
from deadtokens.statistics import COLUMNS, FURTHER_COLUMNS, Connectivity, Measurement
from deadtokens.writing import write_csv, write_safetensors

CENSUS_FILES = ("census.csv", "mask.safetensors", "centroid.safetensors")
CLUSTER_FILES = ("snowball.safetensors", "dimensions.csv", "pairs.safetensors", "thresholds.csv")
MATRIX_LIMIT = 4096  # distinct vectors up to which n x n matrices are written


@dataclass(frozen=True)
class Written:
    """A file that was written, and what is in it."""

    path: Path
    content: str


def check_spares(places: Iterable[Path], files: Iterable[Path]) -> None:
    """Refuse places for results where somebody else's data would be lost.

    Args:
        places: Where results are to go.
        files: The files read.

    Raises:
        OutputError: A place is one of the files read, or a safetensors file not written here.
    """
    read = [file for file in files if file.exists()]
    for place in (place for place in places if place.exists()):
        foreign = place.suffix == ".safetensors" and "written_by" not in load_metadata(str(place))
        if foreign or any(place.samefile(file) for file in read):
            raise OutputError(
                "it would be lost: it is "
                + ("not a result of this program" if foreign else "a file that is read"),
                where=place,
                remedy="choose another place for results",
            )


def write_census(folder: Path, matrix: Matrix, found: Census) -> list[Written]:
    """Write census.csv, mask.safetensors and, if any rows are equal, centroid.safetensors.

    census.csv has a line for each row that is in a black hole: ``row, group, population``, and
    ``token_id`` where rows are not tokens (-1 where it is not known).

    Raises:
        OutputError: The folder cannot be written.
    """
    rows = np.flatnonzero(found.mask)
    groups = found.groups[rows]
    columns = {"row": rows, "group": groups, "population": found.group_population[groups]}
    if matrix.token_ids is not None:
        columns["token_id"] = matrix.token_ids[rows]
    written = [
        _csv(folder / "census.csv", columns),
        _safetensors(
            folder / "mask.safetensors",
            {"mask": found.mask, "finite": found.first != NOT_FINITE},
            {"source": matrix.source},
        ),
    ]
    centroid_file = folder / "centroid.safetensors"
    if not rows.size:
        centroid_file.unlink(missing_ok=True)  # an earlier census's would not belong to this one
        return written
    snowball = snowball_of(matrix, rows)
    metadata = {
        "origin": "census",
        "meaning": "mean of rounded rows; not the centre of the noise unless that exceeds the ULP",
        "source": matrix.source,
        "tensor": matrix.tensor,
        "format": snowball.format.name,
        "n_tokens": str(snowball.n_tokens),
    }
    centroid = {"centroid": snowball.centroid().astype(np.float32)}
    return [*written, _safetensors(centroid_file, centroid, metadata)]


def write_measurement(path: Path, measurement: Measurement) -> Written:
    """Write the row of statistics as a CSV of one line: the 21 columns, then the others.

    Raises:
        OutputError: The file cannot be written.
    """
    columns = (*COLUMNS, *FURTHER_COLUMNS)
    write_csv(path, columns, [[measurement.row[column] for column in columns]])
    return Written(path, f"1 row x {len(columns)} columns")


def write_cluster(folder: Path, snowball: Snowball, measurement: Measurement) -> list[Written]:
    """Write the cluster as data: vectors, varying dimensions, distances, thresholds.

    snowball.safetensors holds ``bits`` (m x d, unsigned integers), ``values`` (the same as
    float32), ``populations`` (m), ``row_ids`` and ``row_vectors`` (n: each row of the matrix and
    the vector it holds). pairs.safetensors holds ``l_inf`` (float32) and ``hamming`` (int32), both
    m x m, where m is at most `MATRIX_LIMIT`. dimensions.csv has a line per cell that is occupied in
    a varying dimension, thresholds.csv one per distance at which components merge.

    Raises:
        OutputError: The folder cannot be written.
    """
    tensors: dict[str, npt.NDArray[Any]] = {
        "bits": snowball.codes,
        "values": snowball.values(),
        "populations": snowball.populations,
    }
    if snowball.row_ids is not None and snowball.row_vectors is not None:
        tensors |= {"row_ids": snowball.row_ids, "row_vectors": snowball.row_vectors}
    metadata = {"format": snowball.format.name}
    written = [
        _safetensors(folder / "snowball.safetensors", tensors, metadata),
        _dimensions(folder / "dimensions.csv", snowball),
    ]
    pairs = folder / "pairs.safetensors"
    pairs.unlink(missing_ok=True)
    if snowball.n_unique <= MATRIX_LIMIT:
        written.append(_safetensors(pairs, _pair_matrices(snowball), metadata))
    thresholds = folder / "thresholds.csv"
    thresholds.unlink(missing_ok=True)
    if measurement.connectivity is not None:
        epsilon = float(measurement.row["epsilon"] or 0)
        written.append(_thresholds(thresholds, snowball, measurement.connectivity, epsilon))
    return written


def _dimensions(path: Path, snowball: Snowball) -> Written:
    columns = ("dimension", "ordinal", "value", "n_rows", "n_vectors")
    count = write_csv(path, columns, _occupied_cells(snowball))
    return Written(path, f"{count:,} rows x 5 columns")


def _occupied_cells(snowball: Snowball) -> Iterator[tuple[int, int, float, int, int]]:
    fmt = snowball.format
    for dimension in snowball.varying.tolist():
        ordinals, cell, vectors = np.unique(
            fmt.ordinals(snowball.codes[:, dimension]), return_inverse=True, return_counts=True
        )
        rows = np.zeros(ordinals.size, dtype=np.int64)
        np.add.at(rows, cell, snowball.populations)
        values = fmt.values_of(ordinals)
        for line in zip(ordinals, values, rows, vectors, strict=True):
            yield (dimension, int(line[0]), float(line[1]), int(line[2]), int(line[3]))


def _pair_matrices(snowball: Snowball) -> dict[str, npt.NDArray[Any]]:
    m = snowball.n_unique
    l_inf = np.zeros((m, m), dtype=np.float32)
    hamming = np.zeros((m, m), dtype=np.int32)
    if m >= 2:
        values = snowball.values(snowball.varying)
        l_inf = Distances(values).matrix().astype(np.float32)
        count_differing(np.ascontiguousarray(values), hamming)
    return {"l_inf": l_inf, "hamming": hamming}


def _thresholds(
    path: Path, snowball: Snowball, connectivity: Connectivity, epsilon: float
) -> Written:
    distances = connectivity.distances.tolist()
    components = connectivity.n_components.tolist()
    lines = [(0.0, 0.0, snowball.n_unique)]
    lines += [(d, d / epsilon, n) for d, n in zip(distances, components, strict=True)]
    write_csv(path, ("distance", "distance_in_epsilon", "n_components"), lines)
    return Written(path, f"{len(lines):,} rows x 3 columns")


def _csv(path: Path, columns: dict[str, npt.NDArray[np.int64]]) -> Written:
    lines = list(zip(*(column.tolist() for column in columns.values()), strict=True))
    write_csv(path, list(columns), lines)
    return Written(path, f"{len(lines):,} rows x {len(columns)} columns")


def _safetensors(
    path: Path, tensors: dict[str, npt.NDArray[Any]], metadata: dict[str, str]
) -> Written:
    write_safetensors(path, tensors, metadata)
    shapes = (f"{name} {' x '.join(f'{n:,}' for n in t.shape)}" for name, t in tensors.items())
    return Written(path, ", ".join(shapes))
