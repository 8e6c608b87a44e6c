"""Rows that files name, in each of the ways that they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from program import Program

import deadtokens as dt
from deadtokens.errors import SelectionError, SourceError
from deadtokens.masks import load_mask
from deadtokens.sources import Matrix
from deadtokens.writing import write_safetensors

WANTED = [1, 4, 7, 11]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64])
def test_row_numbers_in_an_array(matrix: Matrix, tmp_path: Path, dtype: Any) -> None:
    np.save(tmp_path / "ids.npy", np.array([7, 1, 11, 4, 4], dtype=dtype))
    mask = load_mask(str(tmp_path / "ids.npy"), matrix)
    assert np.flatnonzero(mask).tolist() == WANTED


def test_row_numbers_in_a_tensor(matrix: Matrix, tmp_path: Path) -> None:
    arrays = {"kept": np.array(WANTED), "old_to_new": np.arange(12)}
    write_safetensors(tmp_path / "keep.safetensors", arrays, {})
    mask = load_mask(f"{tmp_path / 'keep.safetensors'}:kept", matrix)
    assert np.flatnonzero(mask).tolist() == WANTED


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ids.txt", "1\n4\n7\n11\n"),
        ("ids.txt", "\n 11 \n7\r\n4\n1"),
        ("ids.csv", "row\n1\n4\n7\n11\n"),
        ("tokens.csv", 'row,token_id,token\n1,1,a\n4,4,"b,\nc"\n7,7,\n11,11,row\n'),
        ("other.csv", "token;x,Row\na,1\nb,4\nc,7\nd,11\n"),
        ("bom.csv", "\ufeffrow,x\n1,2\n4,2\n7,2\n11,2\n"),
        ("ids.tsv", "token\trow\na\t1\nb\t4\nc\t7\nd\t11\n"),
    ],
)
def test_row_numbers_in_a_text(matrix: Matrix, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert np.flatnonzero(load_mask(str(tmp_path / name), matrix)).tolist() == WANTED


def test_what_census_writes(deadtokens: Program, model: Path, tmp_path: Path) -> None:
    assert deadtokens("census", model, "-o", tmp_path / "out").status == 0
    for name in ("tokens.csv", "census.csv"):
        mask = load_mask(str(tmp_path / "out" / name), dt.open_matrix(model))
        assert np.flatnonzero(mask).tolist() == [1, 2, 4, 7, 9, 11]


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("a.csv", "token,id\na,1\n", SelectionError, "no column 'row'"),
        ("a.csv", "row\n1\n2.5\n", SelectionError, "'2.5' in line 2 of its rows"),
        ("a.csv", "x,row\na,1\nb\n", SelectionError, "'' in line 2"),
        ("a.txt", "1\n12\n", SelectionError, "row 12 for a matrix of 12 rows"),
        ("a.txt", "-1\n", SelectionError, "row -1 for a matrix of 12 rows"),
        ("a.txt", "", SelectionError, "nothing to measure"),
        ("a.txt", b"\xff\xfe\x00", SourceError, "not a CSV file or text"),
        ("none.txt", None, SourceError, "check the path"),
        ("a.npy", np.arange(13), SelectionError, "row 12 for"),
        ("a.npy", np.zeros(0, np.int64), SelectionError, "nothing to measure"),
        (
            "a.npy",
            np.tile([0, 1], 6),
            SelectionError,
            "a mask of int64, or the row",
        ),
        ("a.npy", np.ones(12), SelectionError, "a mask of float64"),
    ],
    ids=str,
)
def test_what_names_no_rows(
    matrix: Matrix,
    tmp_path: Path,
    name: str,
    content: Any,
    kind: Any,
    message: str,
) -> None:
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(kind, match=message.replace("(", r"\(")):
        load_mask(str(path), matrix)
