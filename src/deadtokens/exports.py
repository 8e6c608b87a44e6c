"""Results as files: the row of statistics, the cluster as data, fits and tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deadtokens.centres import fit_terms
from deadtokens.compare import Comparison
from deadtokens.distances import Distances
from deadtokens.fit import Fit
from deadtokens.independence import Independence
from deadtokens.kernels.pairs import count_differing
from deadtokens.marginals import Marginals
from deadtokens.montecarlo import FAMILY_LEVEL
from deadtokens.occupied import OccupiedCells, occupied_cells
from deadtokens.snowball import Snowball
from deadtokens.sources import Matrix
from deadtokens.statistics import COLUMNS, FURTHER_COLUMNS, Cell, Connectivity, Measurement
from deadtokens.theory import Expectation
from deadtokens.verdict import Verdict
from deadtokens.writing import Written, write_arrays, write_columns, write_csv, write_facts

FIT_FILES = ("fit.json", "dimensions.csv", "centroid.safetensors")
CLUSTER_FILES = ("snowball.safetensors", "dimensions.csv", "pairs.safetensors", "thresholds.csv")
MATRIX_LIMIT = 4096  # distinct vectors up to which n x n matrices are written
CELLS_LIMIT = 500_000  # occupied cells in varying dimensions up to which they are written


def write_measurement(path: Path, measurement: Measurement) -> Written:
    """Write the row of statistics as a CSV of one line: the 21 columns, then the others.

    Raises:
        OutputError: The file cannot be written.
    """
    return write_rows(path, [measurement.row])


def write_rows(path: Path, rows: Sequence[Mapping[str, Cell]]) -> Written:
    """Write rows of statistics as a CSV: the 21 columns, then the others.

    Raises:
        OutputError: The file cannot be written.
    """
    columns = (*COLUMNS, *FURTHER_COLUMNS)
    write_csv(path, columns, ([row[column] for column in columns] for row in rows))
    return Written(path, f"{len(rows):,} row{'s' * (len(rows) != 1)} x {len(columns)} columns")


def write_comparison(path: Path, comparison: Comparison) -> Written:
    """Write comparison.csv: for each sigma a line per metric, and one for the joint statistic.

    Raises:
        OutputError: The file cannot be written.
    """
    table = comparison.table()
    write_csv(path, table.column_names, (line.values() for line in table.to_pylist()))
    return Written(path, f"{table.num_rows:,} rows x {table.num_columns} columns")


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
    written = [write_arrays(folder / "snowball.safetensors", tensors, metadata)]
    dimensions = folder / "dimensions.csv"
    dimensions.unlink(missing_ok=True)
    cells = occupied_cells(snowball)
    if count_varying(cells) <= CELLS_LIMIT:
        written.append(_dimensions(dimensions, snowball, cells))
    pairs = folder / "pairs.safetensors"
    pairs.unlink(missing_ok=True)
    if snowball.n_unique <= MATRIX_LIMIT:
        written.append(write_arrays(pairs, _pair_matrices(snowball), metadata))
    thresholds = folder / "thresholds.csv"
    thresholds.unlink(missing_ok=True)
    if measurement.connectivity is not None:
        epsilon = float(measurement.row["epsilon"] or 0)
        written.append(_thresholds(thresholds, snowball, measurement.connectivity, epsilon))
    return written


def write_fit(folder: Path, fit: Fit, matrix: Matrix, withheld: str = "") -> list[Written]:
    """Write fit.json, dimensions.csv and centroid.safetensors.

    dimensions.csv has a line per dimension; centroid.safetensors holds ``centroid`` (float64) and
    ``centroid_float32``, the posterior mean of the noise's centre.

    Args:
        folder: Where.
        fit: The fit.
        matrix: Where its rows are from.
        withheld: Why there is no interval, as for `fit_facts`.

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
        **{name: str(value) for name, value in fit_terms(fit).items()},
    }
    centres: dict[str, npt.NDArray[Any]] = {
        "centroid": fit.centre,
        "centroid_float32": fit.centre.astype(np.float32),
    }
    return [
        write_facts(folder / "fit.json", fit_facts(fit, withheld)),
        write_columns(folder / "dimensions.csv", numbers),
        write_arrays(folder / "centroid.safetensors", centres, metadata),
    ]


def fit_facts(fit: Fit, withheld: str = "") -> dict[str, Any]:
    """A fit as JSON values: sigma, sigma_low and sigma_high first.

    Args:
        fit: The fit.
        withheld: Why no interval is given, which then is null (`Verdict.withheld`).
    """
    return {
        "sigma": fit.sigma,
        "sigma_low": None if withheld else fit.sigma_low,
        "sigma_high": None if withheld else fit.sigma_high,
        "interval_withheld": withheld or None,
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
