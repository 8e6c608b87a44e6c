"""NumPy files: .npy mapped, .npz unpacked."""

from __future__ import annotations

import io
import lzma
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np

from deadtokens.errors import SourceError
from deadtokens.files.stored import AnyArray, StoredTensor, check_axes, check_name, short

# What NumPy's reader of headers, which evaluates a Python literal, raises on nonsense.
_BAD_HEADER = (
    ValueError,
    KeyError,
    EOFError,
    SyntaxError,
    TypeError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)
_MOST_HEADER_BYTES = 10_012  # what NumPy takes of one, and its magic and length
_MOST_LOADED = 1 << 32  # bytes of an array that is unpacked into memory
# RuntimeError is what an encrypted archive gives.
_BAD_ARCHIVE = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    RuntimeError,
    zlib.error,
    lzma.LZMAError,
)


def _npy_header(file: IO[bytes], path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and type that the header says; the file stands at the first number then."""
    head = io.BytesIO(file.read(_MOST_HEADER_BYTES))  # NumPy would believe any length of it
    try:
        version = np.lib.format.read_magic(head)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = reader(head)
        file.seek(head.tell())
    except _BAD_HEADER as error:
        raise SourceError(
            f"{name!r} is not a readable .npy array ({short(error)})",
            where=path,
            remedy="write it again with numpy.save, as float16, float32 or float64 (float8: as "
            ".safetensors)",
        ) from None
    if not all(type(n) is int and n >= 0 for n in shape):
        raise SourceError(
            f"malformed: {name!r} has a shape of {str(shape)[:60]}",
            where=path,
            remedy="write it again with numpy.save",
        )
    check_axes(path, name, len(shape))
    if dtype.hasobject:
        raise SourceError(
            f"{name!r} holds Python objects, which are never loaded",
            where=path,
            remedy="save it as a plain array",
        )
    return shape, dtype


def _check_npy_size(
    path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], present: int
) -> int:
    nbytes = math.prod(shape) * dtype.itemsize
    if present != nbytes:
        state = "truncated" if present < nbytes else "malformed"
        raise SourceError(
            f"{state}: {name!r} is {dtype} of shape {short(list(shape), 80)}, which is "
            f"{short(f'{nbytes:,}', 80)} bytes, but has {present:,}",
            where=path,
            remedy="write or fetch the file again",
        )
    return nbytes


def _as_meant(array: AnyArray) -> AnyArray:
    """bfloat16, which NumPy writes as two-byte voids, as that; big-endian numbers swapped.

    No other type that NumPy writes is a two-byte void. Swapped numbers are a copy.
    """
    if array.dtype == np.dtype("V2"):
        return array.view(ml_dtypes.bfloat16)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _dtype_label(dtype: np.dtype[Any]) -> str:
    names = {np.dtype("V2"): "bfloat16", np.dtype("V1"): "one-byte voids, which float8 becomes"}
    return names.get(dtype, str(dtype.newbyteorder("=")))


def read_npy(path: Path) -> dict[str, StoredTensor]:
    """The array of a .npy file, under the file's stem; reads its header only.

    Raises:
        SourceError: It is truncated, holds Python objects, or its header is wrong.
    """
    with path.open("rb") as file:
        shape, dtype = _npy_header(file, path, path.stem)
        present = os.fstat(file.fileno()).st_size - file.tell()
    nbytes = _check_npy_size(path, path.stem, shape, dtype, present)

    def read() -> AnyArray:
        if not nbytes:  # an empty region cannot be mapped
            return _as_meant(np.empty(shape, dtype))
        return _as_meant(np.load(path, mmap_mode="r", allow_pickle=False))

    tensor = StoredTensor(path.stem, path, _dtype_label(dtype), shape, nbytes, read)
    return {path.stem: tensor}


def read_npz(path: Path) -> dict[str, StoredTensor]:
    """The arrays of a .npz archive, by name; reads headers only.

    Raises:
        SourceError: It is no readable archive, or as for `read_npy`.
    """
    tensors: dict[str, StoredTensor] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.filename.endswith(".npy"):
                    continue
                name = member.filename[: -len(".npy")]
                check_name(path, name)
                with archive.open(member) as file:
                    shape, dtype = _npy_header(file, path, name)
                    present = member.file_size - file.tell()
                nbytes = _check_npy_size(path, name, shape, dtype, present)
                tensors[name] = StoredTensor(
                    name, path, _dtype_label(dtype), shape, nbytes, _npz_reader(path, member)
                )
    except _BAD_ARCHIVE as error:
        raise SourceError(
            f"not a readable .npz archive ({error})", where=path, remedy="write it again"
        ) from None
    return tensors


def _npz_reader(path: Path, member: zipfile.ZipInfo) -> Callable[[], AnyArray]:
    name, nbytes = member.filename[: -len(".npy")], member.file_size

    def read() -> AnyArray:
        if nbytes > _MOST_LOADED:
            raise SourceError(
                f"{name!r} would take {nbytes:,} bytes of memory at once",
                where=path,
                remedy="save it with numpy.save as .npy, which is mapped",
            )
        try:
            with zipfile.ZipFile(path) as archive, archive.open(member) as file:
                return _as_meant(np.lib.format.read_array(file, allow_pickle=False))
        except (*_BAD_ARCHIVE, ValueError) as error:
            raise SourceError(
                f"{name!r} cannot be unpacked ({error})", where=path, remedy="write it again"
            ) from None

    return read
