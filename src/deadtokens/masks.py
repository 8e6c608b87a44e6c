"""Rows that a file names: a mask, or row numbers as an array, a CSV or a text."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deadtokens.errors import SelectionError, SourceError
from deadtokens.files import array_file, load_array
from deadtokens.kernels.types import BoolArray
from deadtokens.sources import Matrix

_COLUMN = "row"
_TEXTS = (".csv", ".tsv", ".txt")
_MOST_BYTES = 1 << 28
_REMEDY = (
    "give a mask (bool, or uint8 of 0 and 1, an entry per row), or row numbers: an integer array, "
    "a CSV file with a column row, or a text"
)


def load_mask(spec: str, matrix: Matrix) -> BoolArray:
    """The rows that a file, ``FILE`` or ``FILE:key``, names.

    An array is a mask, bool or uint8 of 0 and 1 with an entry per row, or it holds row numbers, in
    any other integer type. A text is a CSV file with a column ``row``, as census writes them, or
    has a row number in each line.

    Returns:
        (V,) bool.

    Raises:
        SourceError: No such file or tensor, or it cannot be read.
        SelectionError: It fits no matrix of so many rows, or names no row.
    """
    is_text = array_file(spec).suffix.lower() in _TEXTS
    held = _numbers_in_text(array_file(spec)) if is_text else load_array(spec, "mask")
    mask = _mask(held, matrix.n_rows, spec)
    if not mask.any():
        raise SelectionError(
            "nothing to measure: the mask selects no row",
            where=spec,
            remedy="give another --mask, or --rows duplicates or all",
        )
    return mask


def _mask(held: npt.NDArray[np.generic], n_rows: int, spec: str) -> BoolArray:
    kind = held.dtype.kind
    if held.ndim != 1 or (held.dtype == np.bool_ and held.shape != (n_rows,)):
        raise SelectionError(
            f"a mask of shape {list(held.shape)} for a matrix of {n_rows:,} rows",
            where=spec,
            remedy="give one entry per row",
        )
    if held.dtype == np.bool_ or (held.dtype == np.uint8 and held.shape == (n_rows,)):
        if kind == "u" and bool((held > 1).any()):  # type: ignore[operator]
            raise SelectionError(
                "a mask of uint8 with entries other than 0 and 1",
                where=spec,
                remedy="store it as bool, or as uint8 of 0 and 1",
            )
        return held.astype(np.bool_)
    if kind not in "iu":
        raise SelectionError(
            f"a mask of {held.dtype}, which is neither true and false nor row numbers",
            where=spec,
            remedy=_REMEDY,
        )
    return _of_numbers(held, n_rows, spec)


def _of_numbers(numbers: npt.NDArray[np.generic], n_rows: int, spec: str) -> BoolArray:
    wide = numbers.astype(np.int64)
    if wide.size == n_rows > 2 and bool(np.isin(wide, (0, 1)).all()):
        raise SelectionError(
            f"a mask of {numbers.dtype}, or the row numbers 0 and 1 again and again",
            where=spec,
            remedy="store a mask as bool, or as uint8 of 0 and 1",
        )
    outside = wide[(wide < 0) | (wide >= n_rows)]
    if outside.size:
        raise SelectionError(
            f"row {outside[0]} for a matrix of {n_rows:,} rows ({outside.size:,} of {wide.size:,} "
            "numbers are out of range)",
            where=spec,
            remedy="count rows from 0",
        )
    mask = np.zeros(n_rows, dtype=np.bool_)
    mask[wide] = True
    return mask


def _numbers_in_text(path: Path) -> npt.NDArray[np.int64]:
    """The row numbers in a CSV file or a text."""
    lines = [line for line in _lines(path) if any(cell.strip() for cell in line)]
    column = 0
    if lines and not _is_number(lines[0][0]):
        names = [cell.strip().lower() for cell in lines.pop(0)]
        if _COLUMN not in names:
            raise SelectionError(
                f"no column {_COLUMN!r}; its columns are {', '.join(names)[:80]}",
                where=path,
                remedy="name the column of row numbers so",
            )
        column = names.index(_COLUMN)
    numbers = []
    for number, line in enumerate(lines, 1):
        cell = line[column].strip() if column < len(line) else ""
        if not _is_number(cell):
            raise SelectionError(
                f"{cell[:40]!r} in line {number} of its rows is no row number",
                where=path,
                remedy="give whole numbers from 0",
            )
        numbers.append(int(cell))
    return np.array(numbers, dtype=np.int64)


def _is_number(cell: str) -> bool:
    cell = cell.strip()
    return cell.isascii() and cell.removeprefix("-").isdigit() and len(cell) < 19


def _lines(path: Path) -> list[list[str]]:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise SourceError(f"more than {_MOST_BYTES:,} bytes", where=path, remedy=_REMEDY)
        text = content.decode("utf-8-sig")
        delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except OSError as error:
        raise SourceError(
            error.strerror or str(error), where=path, remedy="check the path"
        ) from None
    except (UnicodeDecodeError, csv.Error):
        raise SourceError("not a CSV file or text", where=path, remedy=_REMEDY) from None
