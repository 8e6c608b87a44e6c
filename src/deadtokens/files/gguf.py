"""GGUF files: metadata, a list of tensors, the tensors' bytes.

The layout is that of ggml's docs/gguf.md, versions 2 and 3. Quantised tensors are read as the bytes
of their rows; what those stand for is not looked into here.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias

import ml_dtypes
import numpy as np

from deadtokens.errors import SourceError
from deadtokens.files.stored import Region, StoredTensor

Buffer: TypeAlias = bytes | memoryview | mmap.mmap

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_FETCH = "fetch the file again"
_ALIGNMENT = 32  # unless the metadata says otherwise
# Headers of the largest vocabularies take some 20 MB.
_MAX_HEADER_BYTES = 1 << 27
_MAX_KEY_BYTES = 65_535
_MAX_NAME_BYTES = 128
_MAX_DIMENSIONS = 4
_MAX_DEPTH = 8  # arrays within arrays
_MAX_NESTED = 100_000  # arrays within others, in all: each takes far more memory than bytes
# The least that an entry of the metadata, of the list of tensors, and an array can take.
_ENTRY_BYTES, _TENSOR_BYTES, _ARRAY_BYTES = 8 + 4 + 1, 8 + 4 + 4 + 8, 4 + 8

_NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9

# Types whose blocks are single numbers; all others are quantised.
_SCALARS: dict[str, np.dtype[Any]] = {
    name: np.dtype(scalar)
    for name, scalar in {
        "F64": np.float64,
        "F32": np.float32,
        "F16": np.float16,
        "BF16": ml_dtypes.bfloat16,
        "I8": np.int8,
        "I16": np.int16,
        "I32": np.int32,
        "I64": np.int64,
    }.items()
}


class Incomplete(Exception):  # noqa: N818 - not an error: whoever holds a part may fetch more
    """The bytes given end before the header does, but the file goes on.

    Attributes:
        needed: How many bytes from the file's start are needed at least.
    """

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


@dataclass(frozen=True)
class Header:
    """What stands before the tensors' bytes.

    Attributes:
        metadata: By key: numbers, bools, strings (str; bytes that are no UTF-8 as surrogate
            escapes), arrays of numbers as NumPy arrays, of strings and of arrays as lists.
        regions: Where each tensor lies, by name.
    """

    metadata: Mapping[str, Any]
    regions: Mapping[str, Region]


@dataclass(frozen=True)
class _Entry:
    """A tensor as the header lists it; the offset counts from where the tensors' bytes begin."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


def read_gguf(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a .gguf file, by name; reads its header only.

    Raises:
        SourceError: It is truncated, of an unsupported version, or its header is wrong.
    """
    return stored_tensors(read_header(path), path)


def read_header(path: Path) -> Header:
    """The header of a .gguf file.

    Raises:
        SourceError: As for `read_gguf`.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:  # which cannot be mapped
            return parse(path, b"", 0)
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
            return parse(path, data, size)


def stored_tensors(header: Header, path: Path) -> dict[str, StoredTensor]:
    """The tensors that a header describes, in the file that it is the header of."""
    return {name: region.stored(path) for name, region in header.regions.items()}


def parse(where: object, data: Buffer, size: int) -> Header:
    """The header of a GGUF file.

    Args:
        where: The file, for error lines.
        data: Its first bytes, or all of them.
        size: How many bytes the file has.

    Raises:
        SourceError: The header is wrong, of an unsupported version, or describes another size.
        Incomplete: It is longer than ``data``, which is not all of the file.
    """
    reader = _Reader(where, data, size)
    n_tensors, n_keys = reader.start()
    metadata = reader.metadata(n_keys)
    entries = reader.tensors(n_tensors)
    alignment = _alignment(where, metadata)
    _check_alignment(where, entries, alignment)
    data_start = -(-reader.at // alignment) * alignment
    regions = _regions(where, entries, data_start, size, big_endian=reader.big_endian)
    return Header(metadata, regions)


def _malformed(where: object, what: str) -> SourceError:
    return SourceError(f"malformed: {what}", where=where, remedy=_FETCH)


class _Reader:
    """Reads on from where it is; no count or length is believed that the file has no room for.

    Attributes:
        at: The position of the next byte.
        big_endian: Whether the file says of itself that it is.
    """

    def __init__(self, where: object, data: Buffer, size: int) -> None:
        self.at = 0
        self.big_endian = False
        self._where = where
        self._data = data
        self._size = size
        self._have = min(len(data), size, _MAX_HEADER_BYTES)
        self._order: Literal["<", ">"] = "<"
        self._nested = 0

    def start(self) -> tuple[int, int]:
        """The counts of tensors and of metadata keys."""
        head = bytes(self._data[: len(_MAGIC)])
        if head != _MAGIC[: len(head)] or self._size < len(_MAGIC):
            raise SourceError("not a GGUF file", where=self._where, remedy=_FETCH)
        self._claim(len(_MAGIC))
        (version,) = self._unpack("I")
        if not version & 0xFFFF:  # the bytes of a small number, the other way round
            self.big_endian, self._order = True, ">"
            version = int.from_bytes(version.to_bytes(4, "little"), "big")
        if version not in _VERSIONS:
            raise SourceError(
                f"GGUF version {version}, which is not supported",
                where=self._where,
                remedy=f"convert the model again, to version {_VERSIONS[-1]}",
            )
        n_tensors, n_keys = self._unpack("QQ")
        self._need(n_tensors * _TENSOR_BYTES + n_keys * _ENTRY_BYTES)
        return n_tensors, n_keys

    def metadata(self, count: int) -> dict[str, Any]:
        """So many keys and their values."""
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self._name("a metadata key", _MAX_KEY_BYTES)
            if key in found:
                raise _malformed(self._where, f"metadata key {key[:64]!r} is there twice")
            (kind,) = self._unpack("I")
            found[key] = self._value(kind)
        return found

    def tensors(self, count: int) -> list[_Entry]:
        """So many entries of the list of tensors."""
        found: dict[str, _Entry] = {}
        for _ in range(count):
            name = self._name("a tensor's name", _MAX_NAME_BYTES)
            if name in found:
                raise _malformed(self._where, f"tensor {name!r} is there twice")
            (n_dimensions,) = self._unpack("I")
            if n_dimensions > _MAX_DIMENSIONS:
                raise _malformed(self._where, f"tensor {name!r} has {n_dimensions:,} dimensions")
            sizes = self._unpack("Q" * n_dimensions)
            found[name] = _Entry(name, sizes[::-1], *self._unpack("IQ"))
        return list(found.values())

    def _need(self, n: int) -> None:
        """Make sure of n bytes from here on."""
        end = self.at + n
        if end <= self._have:
            return
        if end > self._size:
            raise SourceError(
                f"truncated or malformed: the header takes {end:,} bytes at least, the file has "
                f"{self._size:,}",
                where=self._where,
                remedy=_FETCH,
            )
        if end > _MAX_HEADER_BYTES:
            raise _malformed(
                self._where,
                f"a header of {end:,} bytes at least; {_MAX_HEADER_BYTES:,} are the most read",
            )
        raise Incomplete(end)

    def _claim(self, n: int) -> int:
        """Pass n bytes, and say where they begin."""
        self._need(n)
        self.at += n
        return self.at - n

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        fields = struct.Struct(self._order + layout)
        return fields.unpack_from(self._data, self._claim(fields.size))

    def _name(self, what: str, longest: int) -> str:
        (length,) = self._unpack("Q")
        if length > longest:
            raise _malformed(self._where, f"{what} of {length:,} bytes, above {longest:,}")
        start = self._claim(length)
        return str(self._data[start : self.at], "utf-8", "backslashreplace")

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self._strings(1)[0]
        if kind == _ARRAY:
            return self._array(depth + 1)
        if kind not in _NUMBERS:
            raise _malformed(self._where, f"metadata of type {kind}, which GGUF does not have")
        return self._unpack(_NUMBERS[kind])[0]

    def _array(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise _malformed(self._where, f"arrays within arrays, more than {_MAX_DEPTH} deep")
        kind, count = self._unpack("IQ")
        if kind in _NUMBERS:
            return self._numbers(_NUMBERS[kind], count)
        if kind == _STRING:
            return self._strings(count)
        self._need(count * _ARRAY_BYTES)
        self._nested += count
        if self._nested > _MAX_NESTED:
            raise _malformed(self._where, f"more than {_MAX_NESTED:,} arrays within arrays")
        return [self._value(kind, depth) for _ in range(count)]

    def _numbers(self, letter: str, count: int) -> np.ndarray[Any, Any]:
        """A copy, so that it keeps no file open."""
        stored = np.dtype("u1" if letter == "?" else letter).newbyteorder(self._order)
        start = self._claim(count * stored.itemsize)
        held = np.frombuffer(self._data, stored, count, start) if count else np.empty(0, stored)
        return held != 0 if letter == "?" else held.astype(stored.newbyteorder("="))

    def _strings(self, count: int) -> list[str]:
        """As `_unpack` and `_claim` would read them, but for hundreds of thousands."""
        self._need(8 * count)
        data, have, at = self._data, self._have, self.at
        length_at = struct.Struct(self._order + "Q").unpack_from
        strings: list[str] = []
        for _ in range(count):
            start = at + 8
            end = start + length_at(data, at)[0] if start <= have else start
            if end > have:
                self._need(end - self.at)
            strings.append(str(data[start:end], "utf-8", "surrogateescape"))
            at = end
        self.at = at
        return strings


def _alignment(where: object, metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    whole = isinstance(alignment, int) and not isinstance(alignment, bool) and alignment > 0
    if not whole or alignment & (alignment - 1):
        raise _malformed(where, f"alignment {str(alignment)[:40]}, which is no power of two")
    return int(alignment)


def _check_alignment(where: object, entries: list[_Entry], alignment: int) -> None:
    for entry in entries:
        if entry.offset % alignment:
            raise _malformed(
                where,
                f"tensor {entry.name!r} is placed at {entry.offset:,}, no multiple of the "
                f"alignment, {alignment:,}",
            )


def _regions(
    where: object, entries: list[_Entry], data_start: int, size: int, *, big_endian: bool
) -> dict[str, Region]:
    """Where the tensors lie: within the file and apart from each other."""
    begins = sorted({entry.offset for entry in entries})
    follows = dict(pairwise([*begins, size - data_start]))
    regions = {}
    for entry in entries:
        room = max(follows[entry.offset] - entry.offset, 0)
        region = _region(where, entry, data_start, room, big_endian=big_endian)
        if region.offset + region.nbytes > size:
            raise SourceError(
                f"truncated: tensor {entry.name!r} ends at byte {region.offset + region.nbytes:,}, "
                f"the file has {size:,}",
                where=where,
                remedy=_FETCH,
            )
        regions[entry.name] = region
    end = 0
    for region in sorted(regions.values(), key=lambda region: (region.offset, region.nbytes)):
        if region.offset < end:
            raise _malformed(where, f"tensor {region.name!r} begins within another")
        end = region.offset + region.nbytes
    return regions


def _region(
    where: object, entry: _Entry, data_start: int, room: int, *, big_endian: bool
) -> Region:
    """One tensor's place; ``room`` is what one of unknown size is taken to fill."""
    offset = data_start + entry.offset
    known = ggml_types().get(entry.kind)
    if known is None:
        kind = f"GGML type {entry.kind}"
        return Region(entry.name, kind, entry.shape, offset, room, None, entry.shape)
    row = entry.shape[-1] if entry.shape else 1
    if row % known.block_size:
        raise _malformed(
            where,
            f"tensor {entry.name!r} has rows of {row:,} numbers, no multiple of the "
            f"{known.block_size} that a block of {known.name} holds",
        )
    scalar = _SCALARS.get(known.name)
    row_bytes = row // known.block_size * known.block_bytes
    stored = entry.shape if scalar or not entry.shape else (*entry.shape[:-1], row_bytes)
    nbytes = math.prod(entry.shape[:-1]) * row_bytes
    dtype = f"{known.name} (big-endian)" if big_endian else known.name
    scalar = None if big_endian else scalar or np.dtype(np.uint8)
    return Region(entry.name, dtype, entry.shape, offset, nbytes, scalar, stored)


@dataclass(frozen=True)
class GgmlType:
    """A type of tensors: blocks of so many numbers in so many bytes."""

    name: str
    block_size: int
    block_bytes: int


@cache
def ggml_types() -> dict[int, GgmlType]:
    """The types that the gguf package knows the sizes of, by their numbers in files."""
    from gguf.constants import GGML_QUANT_SIZES

    return {int(kind): GgmlType(kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
