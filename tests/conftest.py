"""Fixtures that several test modules use."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import program
import pytest
from program import Program

from deadtokens.sources import Matrix, open_matrix


@pytest.fixture(scope="session")
def values() -> npt.NDArray[np.float32]:
    """12 x 6 float32: rows 1, 4, 7 and 11 are equal, so are 2 and 9; 0.0 and -0.0 among them."""
    rows = np.random.default_rng(7).normal(0, 0.02, (12, 6)).astype(np.float32)
    rows[1, 3] = 0.0
    rows[[4, 7, 11]] = rows[1]
    rows[7, 3] = -0.0
    rows[9] = rows[2]
    return rows


@pytest.fixture
def model(tmp_path: Path, values: npt.NDArray[np.float32]) -> Path:
    """A file that holds `values`."""
    path = tmp_path / "model.npy"
    np.save(path, values)
    return path


@pytest.fixture
def matrix(model: Path) -> Matrix:
    """`values`, opened."""
    return open_matrix(model)


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder in which this process cannot write: root lays its powers down for as long."""
    folder = Path(tempfile.mkdtemp())  # tmp_path lies in a folder that only its owner may enter
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(user)
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.fixture
def deadtokens() -> Program:
    """Runs the program in this process."""
    return program.deadtokens
