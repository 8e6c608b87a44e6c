"""A tensor in a file: what its header says, and how to read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from deadtokens.errors import SourceError

AnyArray: TypeAlias = npt.NDArray[Any]

_MOST_AXES = 64  # NumPy's own limit; the product of many sizes takes minutes, and has no end
LONGEST_NAME = 1000


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        name: Its name there; the file's stem where the container has no names.
        path: The file.
        dtype: Its type in the container's own spelling, e.g. ``"BF16"``.
        shape: Its shape, in numbers.
        nbytes: Bytes it takes in the file (before compression).
        read: Returns the array, memory-mapped and read-only where the container allows it. A
            quantised tensor's is V x bytes of a row, uint8.
    """

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    read: Callable[[], AnyArray]


@dataclass(frozen=True)
class Region:
    """The bytes of a file that hold one tensor, as its header says.

    Attributes:
        name: The tensor's name.
        dtype: Its type in the container's own spelling.
        shape: Its shape, in numbers.
        offset: Where its first byte stands in the file.
        nbytes: How many bytes it has.
        scalar: NumPy type of its elements in the file; None where there is none.
        stored_shape: Its shape in those elements; that of the numbers unless it is quantised.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    scalar: np.dtype[Any] | None
    stored_shape: tuple[int, ...]

    def stored(self, path: Path) -> StoredTensor:
        """The tensor in the file that the region is one of."""
        return StoredTensor(
            self.name,
            path,
            self.dtype,
            self.shape,
            self.nbytes,
            lambda: self.map(path, self.offset),
        )

    def map(self, path: Path, offset: int) -> AnyArray:
        """The array, memory-mapped and read-only, from a file that holds its bytes at an offset.

        Raises:
            SourceError: Neither NumPy nor ml_dtypes has its type, or the bytes are not there.
        """
        if self.scalar is None:
            raise SourceError(
                f"tensor {self.name!r} has dtype {self.dtype}, which is not supported",
                where=path,
                remedy="store it as float32, float16 or bfloat16",
            )
        try:
            if not self.nbytes:  # an empty region cannot be mapped
                return np.empty(self.stored_shape, dtype=self.scalar)
            return np.memmap(
                path, dtype=self.scalar, mode="r", offset=offset, shape=self.stored_shape
            )
        except (ValueError, OverflowError) as error:  # a shape beyond NumPy's, or a file cut short
            raise SourceError(
                f"tensor {self.name!r} cannot be mapped ({error})",
                where=path,
                remedy="fetch the file again",
            ) from None


def check_axes(where: object, name: str, n_axes: int) -> None:
    """Refuse a shape of more axes than an array can have.

    Raises:
        SourceError: There are so many.
    """
    if n_axes > _MOST_AXES:
        raise SourceError(
            f"malformed: {name!r} has a shape of {n_axes:,} axes, above {_MOST_AXES}",
            where=where,
            remedy="write or fetch the file again",
        )


def check_name(where: object, name: object) -> None:
    """Refuse a tensor's name that is no text, which could not be written, or has no end.

    Raises:
        SourceError: It is bytes, has halves of characters (lone surrogates) in it, or is too long.
    """
    try:
        is_text = isinstance(name, str) and name.encode() is not None
    except UnicodeEncodeError:
        is_text = False
    if not is_text:
        raise SourceError(
            f"malformed: a tensor is called {ascii(name)[:80]}, which is not text",
            where=where,
            remedy="write the file again with other names",
        )
    if len(str(name)) > LONGEST_NAME:
        raise SourceError(
            f"malformed: a tensor's name has {len(str(name)):,} characters, above {LONGEST_NAME:,}",
            where=where,
            remedy="write the file again with other names",
        )


def short(text: object, most: int = 160) -> str:
    """What an exception says, or a value is, in one line of so many characters."""
    lines = str(text).splitlines() or [type(text).__name__]
    return lines[0] if len(lines[0]) <= most else f"{lines[0][:most]}..."
