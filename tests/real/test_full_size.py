"""The published statistics again, from Qwen3-4B's dead rows inside a matrix of its full size."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from full_matrix import D, V, write_full_matrix
from peak_memory import run_measured

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("full")


@pytest.fixture(scope="module")
def dead_rows(folder: Path) -> npt.NDArray[np.int64]:
    return write_full_matrix(folder / "full.safetensors", folder / "mask.safetensors")


def run(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "deadtokens", *map(str, arguments), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


@pytest.mark.parametrize("selection", ["duplicates", "mask"])
def test_published_statistics(
    folder: Path, dead_rows: npt.NDArray[np.int64], selection: str
) -> None:
    file = resources.files("deadtokens") / "data" / "qwen3_4b_black_holes.json"
    published = json.loads(file.read_text())["published"]
    chosen = ["--rows", "duplicates"] if selection == "duplicates" else []
    chosen = chosen or ["--mask", f"{folder / 'mask.safetensors'}:mask"]
    row = run("measure", folder / "full.safetensors", *chosen, "--epsilon", published["epsilon"])
    assert row["n_tokens"] == dead_rows.size
    for name, value in published["statistics"].items():
        digits = 0 if isinstance(value, int) else len(repr(value).partition(".")[2])
        assert round(row[name], digits) == value, name


def test_census(folder: Path, dead_rows: npt.NDArray[np.int64]) -> None:
    found = run("census", folder / "full.safetensors", "-o", folder / "census")
    assert (found["n_rows"], found["n_dimensions"]) == (V, D)
    assert found["black_hole_population"] == dead_rows.size == 2100
    assert found["n_unique"] == V - 2100 + 13
    table = np.loadtxt(folder / "census" / "census.csv", delimiter=",", skiprows=1, dtype=int)
    assert np.array_equal(table[:, 0], dead_rows)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("command", ["census", "measure"])
def test_memory_stays_near_the_file(
    folder: Path, dead_rows: npt.NDArray[np.int64], command: str
) -> None:
    """The file is mapped, not copied: the peak, mapped pages counted, is 1.2 GB at most."""
    assert dead_rows.size
    _, peak = run_measured(command, folder / "full.safetensors", "--json")
    assert (folder / "full.safetensors").stat().st_size < peak < 1.2e9
