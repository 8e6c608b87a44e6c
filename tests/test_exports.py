"""Results as files, against values recomputed here with NumPy."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from containers import AnyArray
from program import Program
from safetensors import safe_open

from deadtokens import exports
from deadtokens.census import census
from deadtokens.census_files import write_inventory
from deadtokens.exports import write_cluster, write_measurement
from deadtokens.formats import BFLOAT16
from deadtokens.selection import snowball_of
from deadtokens.snowball import Snowball
from deadtokens.sources import Matrix, open_matrix
from deadtokens.statistics import Measurement, measure
from deadtokens.stocktaking import take_inventory
from deadtokens.writing import Written

CONTRACT = [
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
    "epsilon",
    "touching",
    "format",
]
GROUPS = [[1, 4, 7, 11], [2, 9]]  # of the `values` fixture
GROUPED = [1, 2, 4, 7, 9, 11]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_safetensors(path: Path) -> tuple[dict[str, AnyArray], dict[str, str]]:
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


# --- census ---


def write_census(folder: Path, matrix: Matrix) -> list[Written]:
    return write_inventory(folder, take_inventory(matrix), None)


def test_census_files(tmp_path: Path, matrix: Matrix, values: npt.NDArray[np.float32]) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    written = write_census(folder, matrix)
    assert [file.path.name for file in written] == [
        *("census.csv", "mask.safetensors", "centroid.safetensors"),
        *("tokens.csv", "void.csv", "census.json"),
    ]
    expected = sorted((row, g, len(rows)) for g, rows in enumerate(GROUPS) for row in rows)
    lines = (folder / "census.csv").read_text().splitlines()
    assert lines == ["row,group,population"] + [",".join(map(str, line)) for line in expected]

    tensors, _ = read_safetensors(folder / "mask.safetensors")
    assert tensors.keys() == {"mask", "finite", "cluster", "zero", "dead"}
    assert tensors["finite"].all()
    assert tensors["mask"].dtype == np.bool_
    assert np.flatnonzero(tensors["mask"]).tolist() == GROUPED

    tensors, metadata = read_safetensors(folder / "centroid.safetensors")
    assert tensors.keys() == {"centroid"}
    mean = values[GROUPED].astype(np.float64).mean(axis=0)
    assert tensors["centroid"].dtype == np.float32
    np.testing.assert_allclose(tensors["centroid"], mean, rtol=2.0**-23, atol=0)
    # Whoever sweeps around this centroid has to be able to tell where it comes from.
    assert metadata["origin"] == "census"
    assert "not the centre of the noise" in metadata["meaning"]
    assert (metadata["source"], metadata["tensor"]) == (matrix.source, matrix.tensor)
    assert (metadata["format"], metadata["n_tokens"]) == ("float32", "6")


def test_what_is_said_of_the_files_is_in_them(tmp_path: Path, matrix: Matrix) -> None:
    said = {file.path.name: file.content for file in write_census(tmp_path, matrix)}
    assert said["census.csv"] == "6 rows x 3 columns"
    assert said["mask.safetensors"] == "mask 12, finite 12, cluster 12, zero 12, dead 12"
    assert said["centroid.safetensors"] == "centroid 6"


def test_census_names_tokens_where_rows_are_not_tokens(tmp_path: Path, matrix: Matrix) -> None:
    tokens = np.arange(100, 112)
    tokens[9] = -1
    tokened = replace(matrix, token_ids=tokens)
    write_census(tmp_path, tokened)
    lines = read_csv(tmp_path / "census.csv")
    assert list(lines[0]) == ["row", "group", "population", "token_id"]
    assert {int(line["row"]): int(line["token_id"]) for line in lines} == {
        1: 101, 2: 102, 4: 104, 7: 107, 9: -1, 11: 111
    }  # fmt: skip


def test_census_without_equal_rows(tmp_path: Path, matrix: Matrix) -> None:
    """An earlier census's centroid must not be left to pass for this one's."""
    write_census(tmp_path, matrix)
    distinct = replace(matrix, codes=matrix.codes[[0, 1, 2]])
    written = write_census(tmp_path, distinct)
    assert {file.path.name for file in written} == {path.name for path in tmp_path.iterdir()} - {
        "model.npy"
    }
    assert not (tmp_path / "centroid.safetensors").exists()
    assert (tmp_path / "census.csv").read_text() == "row,group,population\n"
    mask = read_safetensors(tmp_path / "mask.safetensors")[0]["mask"]
    assert mask.tolist() == [False, False, False]


# --- measure ---


def test_measure_csv(tmp_path: Path, matrix: Matrix) -> None:
    measurement = measure(snowball_of(matrix, census(matrix).mask), 0.001, 0.01)
    written = write_measurement(tmp_path / "m.csv", measurement)
    lines = read_csv(tmp_path / "m.csv")
    assert len(lines) == 1
    assert list(lines[0])[: len(CONTRACT)] == CONTRACT
    assert written.content == f"1 row x {len(lines[0])} columns"
    row = measurement.row
    assert list(lines[0]) == list(row)
    for column, cell in lines[0].items():
        value = row[column]
        if value is None:
            assert cell == ""
        else:
            # Every digit is written: numbers come back as they were.
            assert type(value)(cell) == value
    facts = ("n_tokens", "n_unique", "largest_bh", "epsilon", "touching", "format")
    assert [lines[0][fact] for fact in facts] == ["6", "2", "4", "0.001", "0.01", "float32"]


# --- the cluster ---


@pytest.fixture
def cluster(matrix: Matrix) -> Snowball:
    return snowball_of(matrix, np.array([1, 2, 3, 4, 5, 9]))


@pytest.fixture
def measured(cluster: Snowball) -> Measurement:
    return measure(cluster)


@pytest.fixture
def distinct(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values[[1, 2, 3, 5]]


def test_cluster_vectors(
    tmp_path: Path, cluster: Snowball, measured: Measurement, distinct: npt.NDArray[np.float32]
) -> None:
    write_cluster(tmp_path, cluster, measured)
    tensors, metadata = read_safetensors(tmp_path / "snowball.safetensors")
    assert metadata == {"format": "float32", "written_by": "deadtokens"}
    assert np.array_equal(tensors["values"], distinct)
    assert np.array_equal(tensors["bits"].view(np.float32), distinct)
    assert tensors["populations"].tolist() == [2, 2, 1, 1]
    assert tensors["row_ids"].tolist() == [1, 2, 3, 4, 5, 9]
    assert tensors["row_vectors"].tolist() == [0, 1, 2, 0, 3, 1]


def test_cluster_vectors_keep_their_bits(tmp_path: Path) -> None:
    """bfloat16 is written as unsigned integers, which everything reads, and as float32."""
    matrix = open_matrix("builtin:qwen3-4b")
    snowball = snowball_of(matrix, np.arange(matrix.n_rows))
    write_cluster(tmp_path, snowball, measure(snowball))
    tensors, metadata = read_safetensors(tmp_path / "snowball.safetensors")
    assert metadata == {"format": "bfloat16", "written_by": "deadtokens"}
    assert np.array_equal(tensors["bits"][tensors["row_vectors"]], matrix.codes[:])
    assert np.array_equal(tensors["values"], BFLOAT16.values(tensors["bits"]))
    assert np.array_equal(np.bincount(tensors["row_vectors"]), tensors["populations"])


def test_cluster_pairs(
    tmp_path: Path, cluster: Snowball, measured: Measurement, distinct: npt.NDArray[np.float32]
) -> None:
    write_cluster(tmp_path, cluster, measured)
    tensors, _ = read_safetensors(tmp_path / "pairs.safetensors")
    difference = distinct[:, None] - distinct[None]
    assert tensors["l_inf"].dtype == np.float32
    assert np.array_equal(tensors["l_inf"], np.abs(difference).max(axis=2))
    assert tensors["hamming"].dtype == np.int32
    assert np.array_equal(tensors["hamming"], (difference != 0).sum(axis=2))


def test_cluster_dimensions(tmp_path: Path) -> None:
    """-0.0 and 0.0 are one cell; a dimension in which nothing varies has no line."""
    rows = np.array([[1, 0.0, 2], [1, -0.0, 3], [1, 0.5, 2], [1, 0.0, 2]], np.float32)
    np.save(tmp_path / "m.npy", rows)
    snowball = snowball_of(open_matrix(tmp_path / "m.npy"), np.arange(4))
    write_cluster(tmp_path, snowball, measure(snowball))
    lines = [tuple(map(float, line.values())) for line in read_csv(tmp_path / "dimensions.csv")]
    ordinal = {
        value: int(BFLOAT16.round(np.array([value], np.float32))[0]) for value in (0.0, 0.5, 2, 3)
    }
    assert lines == [
        (1, ordinal[0.0], 0.0, 3, 2),
        (1, ordinal[0.5], 0.5, 1, 1),
        (2, ordinal[2], 2, 3, 2),
        (2, ordinal[3], 3, 1, 1),
    ]
    header = (tmp_path / "dimensions.csv").read_text().partition("\n")[0]
    assert header == "dimension,ordinal,value,n_rows,n_vectors"


def test_cluster_thresholds(
    tmp_path: Path, cluster: Snowball, measured: Measurement, distinct: npt.NDArray[np.float32]
) -> None:
    write_cluster(tmp_path, cluster, measured)
    lines = read_csv(tmp_path / "thresholds.csv")
    epsilon = float(measured.row["epsilon"] or 0)
    distances = np.abs(distinct[:, None] - distinct[None]).max(axis=2)

    def n_components(threshold: float) -> int:
        reach = (distances <= threshold).astype(int)
        return int(np.unique(np.linalg.matrix_power(reach, len(reach)) > 0, axis=0).shape[0])

    # The number of components changes at the distances listed, and nowhere else.
    every = np.unique(distances)
    counts = [n_components(float(distance)) for distance in every]
    changes = [i for i in range(len(every)) if i == 0 or counts[i] != counts[i - 1]]
    assert [float(line["distance"]) for line in lines] == [float(every[i]) for i in changes]
    assert [int(line["n_components"]) for line in lines] == [counts[i] for i in changes]
    for line in lines:
        assert float(line["distance_in_epsilon"]) == float(line["distance"]) / epsilon


def test_rows_that_are_not_known_are_not_written(
    tmp_path: Path, cluster: Snowball, measured: Measurement
) -> None:
    write_cluster(tmp_path, replace(cluster, row_ids=None, row_vectors=None), measured)
    with safe_open(tmp_path / "snowball.safetensors", framework="np") as file:
        assert sorted(file.keys()) == ["bits", "populations", "values"]


def test_one_vector_has_no_thresholds(
    tmp_path: Path, matrix: Matrix, cluster: Snowball, measured: Measurement
) -> None:
    write_cluster(tmp_path, cluster, measured)
    one = snowball_of(matrix, np.array([1, 4]))
    written = {file.path.name for file in write_cluster(tmp_path, one, measure(one))}
    assert written == {"snowball.safetensors", "dimensions.csv", "pairs.safetensors"}
    assert not (tmp_path / "thresholds.csv").exists()  # an earlier cluster's
    assert read_csv(tmp_path / "dimensions.csv") == []
    pairs, _ = read_safetensors(tmp_path / "pairs.safetensors")
    assert pairs["l_inf"].tolist() == pairs["hamming"].tolist() == [[0]]


def test_the_command_says_what_is_too_much_to_write(
    deadtokens: Program, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "MATRIX_LIMIT", 7)
    monkeypatch.setattr(exports, "CELLS_LIMIT", 10)
    result = deadtokens("measure", model, "--rows", "all", "--save", tmp_path / "out")
    assert "no pairs.safetensors: 8 distinct vectors are more than the 7 whose" in result.err
    assert "no dimensions.csv: 48 occupied cells are more than the 10 that are" in result.err
    assert not {"pairs.safetensors", "dimensions.csv"} & {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_too_many_vectors_for_matrices(
    tmp_path: Path, cluster: Snowball, measured: Measurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cluster(tmp_path, cluster, measured)
    monkeypatch.setattr(exports, "MATRIX_LIMIT", cluster.n_unique - 1)
    written = {file.path.name for file in write_cluster(tmp_path, cluster, measured)}
    assert "pairs.safetensors" not in written
    assert not (tmp_path / "pairs.safetensors").exists()
