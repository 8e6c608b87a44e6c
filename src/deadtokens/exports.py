"""Results as files: the census, the row of statistics, the cluster as data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deadtokens.census import NOT_FINITE, Census, snowball_of
from deadtokens.compare import COMPARISON_COLUMNS, Comparison
from deadtokens.distances import Distances
from deadtokens.errors import OutputError
from deadtokens.files import load_metadata
from deadtokens.fit import Fit
from deadtokens.independence import Independence
from deadtokens.kernels.pairs import count_differing
from deadtokens.marginals import Marginals
from deadtokens.montecarlo import FAMILY_LEVEL
from deadtokens.occupied import OccupiedCells, occupied_cells
from deadtokens.snowball import Snowball
from deadtokens.sources import Matrix
from deadtokens.statistics import COLUMNS, FURTHER_COLUMNS, Connectivity, Measurement
from deadtokens.theory import Expectation
from deadtokens.verdict import Verdict
from deadtokens.writing import replacing, write_csv, write_safetensors

CENSUS_FILES = ("census.csv", "mask.safetensors", "centroid.safetensors")
FIT_FILES = ("fit.json", "dimensions.csv", "centroid.safetensors")
CLUSTER_FILES = ("snowball.safetensors", "dimensions.csv", "pairs.safetensors", "thresholds.csv")
MATRIX_LIMIT = 4096  # distinct vectors up to which n x n matrices are written
CELLS_LIMIT = 500_000  # occupied cells in varying dimensions up to which they are written


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


def write_comparison(path: Path, comparison: Comparison) -> Written:
    """Write comparison.csv: for each sigma a line per metric, and one for the joint statistic.

    Raises:
        OutputError: The file cannot be written.
    """
    lines = [
        [*astuple(metric), at.sigma, at.trials]
        for at in comparison.sigmas
        for metric in (*at.metrics, at.joint)
    ]
    write_csv(path, COMPARISON_COLUMNS, lines)
    return Written(path, f"{len(lines):,} rows x {len(COMPARISON_COLUMNS)} columns")


def theory_row(expected: Expectation) -> dict[str, float | None]:
    """An expectation by column; no standard error where the value is exact."""
    return {
        name: None if name.endswith("_se") and value == 0 else value
        for name, value in asdict(expected).items()
    }


def write_theory(path: Path, expected: Sequence[Expectation]) -> Written:
    """Write expectations as a CSV, a line per sigma.

    Raises:
        OutputError: The file cannot be written.
    """
    columns = [field.name for field in fields(Expectation)]
    write_csv(path, columns, [list(theory_row(row).values()) for row in expected])
    return Written(path, f"{len(expected):,} rows x {len(columns)} columns")


def write_cluster(folder: Path, snowball: Snowball, measurement: Measurement) -> list[Written]:
    """Write the cluster as data: vectors, varying dimensions, distances, thresholds.

    snowball.safetensors holds ``bits`` (m x d, unsigned integers), ``values`` (the same as
    float32), ``populations`` (m), ``row_ids`` and ``row_vectors`` (n: each row of the matrix and
    the vector it holds). pairs.safetensors holds ``l_inf`` (float32) and ``hamming`` (int32), both
    m x m, where m is at most `MATRIX_LIMIT`. dimensions.csv has a line per cell that is occupied in
    a varying dimension, where they are at most `CELLS_LIMIT`, thresholds.csv one per distance at
    which components merge.

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
    written = [_safetensors(folder / "snowball.safetensors", tensors, metadata)]
    dimensions = folder / "dimensions.csv"
    dimensions.unlink(missing_ok=True)
    cells = occupied_cells(snowball)
    if count_varying(cells) <= CELLS_LIMIT:
        written.append(_dimensions(dimensions, snowball, cells))
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


def write_fit(folder: Path, fit: Fit, matrix: Matrix) -> list[Written]:
    """Write fit.json, dimensions.csv and centroid.safetensors.

    dimensions.csv has a line per dimension; centroid.safetensors holds ``centroid`` (float64) and
    ``centroid_float32``, the posterior mean of the noise's centre.

    Raises:
        OutputError: The folder cannot be written.
    """
    numbers: dict[str, npt.NDArray[Any]] = {
        "dimension": np.arange(fit.n_dimensions),
        "centre": fit.centre,
        "centre_low": fit.centre_low,
        "centre_high": fit.centre_high,
        "occupied": fit.cells.occupied,
        "skipped": fit.cells.skipped,
        "influence": fit.influence,
        "sigma_without": fit.sigma_without,
    }
    metadata = {
        "origin": "fit",
        "meaning": "posterior mean of the centre of the noise at sigma",
        "source": matrix.source,
        "tensor": matrix.tensor,
        "format": fit.format.name,
        "sigma": repr(fit.sigma),
        "n_tokens": str(fit.n_tokens),
    }
    centres: dict[str, npt.NDArray[Any]] = {
        "centroid": fit.centre,
        "centroid_float32": fit.centre.astype(np.float32),
    }
    return [
        write_facts(folder / "fit.json", fit_facts(fit)),
        _csv(folder / "dimensions.csv", numbers),
        _safetensors(folder / "centroid.safetensors", centres, metadata),
    ]


def fit_facts(fit: Fit) -> dict[str, Any]:
    """A fit as JSON values: sigma, sigma_low and sigma_high first."""
    return {
        "sigma": fit.sigma,
        "sigma_low": fit.sigma_low,
        "sigma_high": fit.sigma_high,
        "format": fit.format.name,
        "n_tokens": fit.n_tokens,
        "n_dimensions": fit.n_dimensions,
        "n_varying": fit.n_varying,
        "expected_varying": fit.expected_varying,
        "n_zero": fit.n_zero,
        "varying_only": fit.varying_only,
        "without_skipping": asdict(fit.without_skipping) if fit.without_skipping else None,
        "without": [asdict(without) for without in fit.without],
    }


def write_tests(
    path: Path, independence: Independence, marginals: Marginals, verdict: Verdict
) -> Written:
    """Write the features of both tests, and the answer, as JSON.

    Raises:
        OutputError: The file cannot be written.
    """
    return write_facts(path, tests_facts(independence, marginals, verdict))


def tests_facts(
    independence: Independence, marginals: Marginals, verdict: Verdict
) -> dict[str, Any]:
    """Both tests and the answer as JSON values."""
    features: dict[str, list[dict[str, Any]]] = {"independence": [], "marginals": []}
    for one in verdict.judged:
        facts = asdict(one.feature) | {"p_holm": one.p_holm, "verdict": one.verdict}
        features[one.test].append(facts)
    return {
        "level": FAMILY_LEVEL,
        "independence": {
            "permutations": independence.permutations,
            "n_correlated": independence.n_correlated,
            "reason": independence.reason,
            "features": features["independence"],
        },
        "marginals": {
            "replicates": marginals.replicates,
            "sigma": marginals.sigma,
            "n_dimensions": marginals.n_dimensions,
            "reason": marginals.reason,
            "features": features["marginals"],
        },
        "verdict": {
            "fits": verdict.fits,
            "headline": verdict.headline,
            "sentences": list(verdict.sentences),
        },
    }


def _dimensions(path: Path, snowball: Snowball, cells: OccupiedCells) -> Written:
    columns = ("dimension", "ordinal", "value", "n_rows", "n_vectors")
    count = write_csv(path, columns, _cell_lines(snowball, cells))
    return Written(path, f"{count:,} rows x 5 columns")


def count_varying(cells: OccupiedCells) -> int:
    """Occupied cells in dimensions that vary."""
    occupied = cells.occupied
    return int(occupied[occupied > 1].sum())


def _cell_lines(
    snowball: Snowball, cells: OccupiedCells
) -> Iterator[tuple[int, int, float, int, int]]:
    for dimension in snowball.varying.tolist():
        of_dimension = slice(cells.first[dimension], cells.first[dimension + 1])
        ordinals = cells.ordinals[of_dimension]
        values = snowball.format.values_of(ordinals)
        numbers = (ordinals, values, cells.rows[of_dimension], cells.vectors[of_dimension])
        for ordinal, value, rows, vectors in zip(*(x.tolist() for x in numbers), strict=True):
            yield dimension, ordinal, value, rows, vectors


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


def write_facts(path: Path, facts: dict[str, Any]) -> Written:
    """Write JSON values.

    Raises:
        OutputError: The file cannot be written.
    """
    with replacing(path) as file:
        file.write((json.dumps(facts, indent=2, allow_nan=False) + "\n").encode())
    return Written(path, f"{len(facts)} fields")


def _csv(path: Path, columns: Mapping[str, npt.NDArray[Any]]) -> Written:
    lines = list(zip(*(column.tolist() for column in columns.values()), strict=True))
    write_csv(path, list(columns), lines)
    return Written(path, f"{len(lines):,} rows x {len(columns)} columns")


def _safetensors(
    path: Path, tensors: dict[str, npt.NDArray[Any]], metadata: dict[str, str]
) -> Written:
    write_safetensors(path, tensors, metadata)
    shapes = (f"{name} {' x '.join(f'{n:,}' for n in t.shape)}" for name, t in tensors.items())
    return Written(path, ", ".join(shapes))
