"""Codes of a matrix, row by row: in memory, mapped from a file, or made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from deadtokens.formats import Codes

RowChoice: TypeAlias = slice | npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]


class RowCodes(Protocol):
    """V x d bit patterns of which rows can be taken; every array of codes is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(V, d)."""
        ...

    def __getitem__(self, rows: Any, /) -> Any:
        """The codes of a slice of rows or of row numbers, as an array."""
        ...


@dataclass(frozen=True)
class MadeRows:
    """Codes that are not stored as such: made for the rows asked for, never all at once unasked.

    Attributes:
        shape: (V, d).
        make: Codes of the rows that a slice, an array of row numbers or a mask chooses.
    """

    shape: tuple[int, int]
    make: Callable[[RowChoice], Codes]

    def __getitem__(self, rows: RowChoice, /) -> Codes:
        """The codes of those rows."""
        return self.make(rows)
