"""Arrays in files, read as they lie on disk: safetensors and NumPy, memory-mapped.

Reading safetensors is done here rather than with the safetensors package because the package's
NumPy front end copies, and because a header that lies must end in one clear line.
"""

from __future__ import annotations

import json
import lzma
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from deadtokens.errors import SourceError

AnyArray: TypeAlias = npt.NDArray[Any]

_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors specification's own reader

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
# RuntimeError is what an encrypted archive gives.
_BAD_ARCHIVE = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    RuntimeError,
    zlib.error,
    lzma.LZMAError,
)

_SAFETENSORS_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        name: Its name there; the file's stem where the container has no names.
        path: The file.
        dtype: Its type in the container's own spelling, e.g. ``"BF16"``.
        shape: Its shape.
        nbytes: Bytes it takes in the file (before compression).
        read: Returns the array, memory-mapped and read-only where the container allows it.
    """

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    read: Callable[[], AnyArray]


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors in a .safetensors, .npy or .npz file, by name; reads headers only.

    Raises:
        SourceError: The file is missing, of another kind, truncated, or its header is wrong.
    """
    readers = {".safetensors": _read_safetensors, ".npy": _read_npy, ".npz": _read_npz}
    reader = readers.get(path.suffix.lower())
    if reader is None and not path.exists():
        raise SourceError(
            "no such file or folder", where=path, remedy="check the path; nothing is downloaded"
        )
    if reader is None:
        raise SourceError(
            f"files of kind {path.suffix or '(no suffix)'!r} are not supported",
            where=path,
            remedy=f"use one of {', '.join(readers)}",
        )
    if path.exists() and not path.is_file():
        raise SourceError("not a regular file", where=path, remedy="give a file")
    try:
        return reader(path)
    except OSError as error:
        raise SourceError(
            error.strerror or str(error), where=path, remedy="check the path"
        ) from None


def load_array(spec: str, default_key: str) -> AnyArray:
    """The array that ``FILE`` or ``FILE:key`` names.

    Args:
        spec: A .safetensors, .npy or .npz file, with a colon and a tensor's name where the file
            holds several.
        default_key: The tensor taken when no key is given and the file holds several.

    Raises:
        SourceError: No such file or key.
    """
    path, key = _split_key(spec)
    tensors = read_tensors(path)
    if not key:
        key = next(iter(tensors)) if len(tensors) == 1 else default_key
    if key not in tensors:
        raise SourceError(
            f"no tensor {key!r} there",
            where=path,
            remedy=f"name one as FILE:key, of: {', '.join(list(tensors)[:10])}",
        )
    return tensors[key].read()


def array_file(spec: str) -> Path:
    """The file that ``FILE`` or ``FILE:key`` names."""
    return _split_key(spec)[0]


def load_metadata(spec: str) -> dict[str, str]:
    """The metadata of the safetensors file that ``FILE`` or ``FILE:key`` names; else nothing."""
    path, _ = _split_key(spec)
    if path.suffix.lower() != ".safetensors":
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def _split_key(spec: str) -> tuple[Path, str]:
    if not Path(spec).exists() and ":" in spec:
        head, _, key = spec.rpartition(":")
        return Path(head), key
    return Path(spec), ""


# --- safetensors ---


def _read_safetensors(path: Path) -> dict[str, StoredTensor]:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > size - 8:
            raise SourceError(
                f"not a safetensors file, or truncated: {size:,} bytes"
                + (f", header of {length:,} bytes announced" if len(prefix) == 8 else ""),
                where=path,
                remedy="fetch the file again",
            )
        if length > _MAX_HEADER_BYTES:
            raise SourceError(
                f"header of {length:,} bytes; safetensors allows {_MAX_HEADER_BYTES:,}", where=path
            )
        header = file.read(length)
    data_start = 8 + length
    entries = _parse_header(path, header)
    tensors = {
        name: _safetensors_entry(path, name, entry, data_start) for name, entry in entries.items()
    }
    end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if data_start + end != size:
        state = "truncated" if data_start + end > size else "malformed"
        raise SourceError(
            f"{state}: the header describes {data_start + end:,} bytes, the file has {size:,}",
            where=path,
            remedy="fetch the file again",
        )
    return tensors


def _parse_header(path: Path, header: bytes) -> dict[str, dict[str, Any]]:
    try:
        entries = json.loads(header)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict):
        raise SourceError(
            "not a safetensors file: its header is not a JSON object",
            where=path,
            remedy="fetch the file again",
        )
    entries.pop("__metadata__", None)
    return entries


def _safetensors_entry(path: Path, name: str, entry: Any, data_start: int) -> StoredTensor:
    def is_size(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63

    well_formed = (
        isinstance(entry, dict)
        and isinstance(entry.get("dtype"), str)
        and isinstance(entry.get("shape"), list)
        and isinstance(entry.get("data_offsets"), list)
        and len(entry["data_offsets"]) == 2
        and all(map(is_size, entry["shape"]))
        and all(map(is_size, entry["data_offsets"]))
        and entry["data_offsets"][0] <= entry["data_offsets"][1]
    )
    if not well_formed:
        raise SourceError(
            f"malformed: the header's entry for {name!r} is not a dtype, a shape and two offsets",
            where=path,
            remedy="fetch the file again",
        )
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    scalar = _SAFETENSORS_DTYPES.get(entry["dtype"])
    if scalar is not None and math.prod(shape) * np.dtype(scalar).itemsize != end - begin:
        raise SourceError(
            f"malformed: {name!r} is {entry['dtype']} of shape {list(shape)}, which is "
            f"{math.prod(shape) * np.dtype(scalar).itemsize:,} bytes, but has {end - begin:,}",
            where=path,
            remedy="fetch the file again",
        )

    def read() -> AnyArray:
        if scalar is None:
            raise SourceError(
                f"tensor {name!r} has dtype {entry['dtype']}, which is not supported",
                where=path,
                remedy=f"store it as one of {', '.join(_SAFETENSORS_DTYPES)}",
            )
        if end == begin:
            return np.empty(shape, dtype=scalar)
        return np.memmap(path, dtype=scalar, mode="r", offset=data_start + begin, shape=shape)

    return StoredTensor(name, path, entry["dtype"], shape, end - begin, read)


# --- NumPy ---


def _short(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 200 else lines[0][:200] + "..."


def _npy_header(file: IO[bytes], path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = reader(file)
    except _BAD_HEADER as error:
        raise SourceError(
            f"{name!r} is not a readable .npy array ({_short(error)})",
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
            f"{state}: {name!r} is {dtype} of shape {list(shape)}, which is {nbytes:,} bytes, "
            f"but has {present:,}",
            where=path,
            remedy="write or fetch the file again",
        )
    return nbytes


def _bfloat16_view(array: AnyArray) -> AnyArray:
    """NumPy writes ml_dtypes' bfloat16 as two-byte voids; no other type it writes is one."""
    return array.view(ml_dtypes.bfloat16) if array.dtype == np.dtype("V2") else array


def _dtype_label(dtype: np.dtype[Any]) -> str:
    names = {np.dtype("V2"): "bfloat16", np.dtype("V1"): "one-byte voids, which float8 becomes"}
    return names.get(dtype, str(dtype))


def _read_npy(path: Path) -> dict[str, StoredTensor]:
    with path.open("rb") as file:
        shape, dtype = _npy_header(file, path, path.stem)
        present = os.fstat(file.fileno()).st_size - file.tell()
    nbytes = _check_npy_size(path, path.stem, shape, dtype, present)

    def read() -> AnyArray:
        if not nbytes:  # an empty region cannot be mapped
            return _bfloat16_view(np.empty(shape, dtype))
        return _bfloat16_view(np.load(path, mmap_mode="r", allow_pickle=False))

    tensor = StoredTensor(path.stem, path, _dtype_label(dtype), shape, nbytes, read)
    return {path.stem: tensor}


def _read_npz(path: Path) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.filename.endswith(".npy"):
                    continue
                name = member.filename[: -len(".npy")]
                with archive.open(member) as file:
                    shape, dtype = _npy_header(file, path, name)
                    present = member.file_size - file.tell()
                nbytes = _check_npy_size(path, name, shape, dtype, present)
                tensors[name] = StoredTensor(
                    name, path, _dtype_label(dtype), shape, nbytes, _npz_reader(path, name)
                )
    except _BAD_ARCHIVE as error:
        raise SourceError(
            f"not a readable .npz archive ({error})", where=path, remedy="write it again"
        ) from None
    return tensors


def _npz_reader(path: Path, name: str) -> Callable[[], AnyArray]:
    def read() -> AnyArray:
        try:
            with np.load(path, allow_pickle=False) as archive:
                return _bfloat16_view(archive[name])
        except (*_BAD_ARCHIVE, ValueError) as error:
            raise SourceError(
                f"{name!r} cannot be unpacked ({error})", where=path, remedy="write it again"
            ) from None

    return read
