"""Arrays in files: read as they lie on disk, memory-mapped; written whole or not at all.

Reading safetensors is done here rather than with the safetensors package because the package's
NumPy front end copies, and because a header that lies must end in one clear line.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from deadtokens.errors import OutputError, SourceError

AnyArray: TypeAlias = npt.NDArray[Any]

_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors specification's own reader

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
        raise SourceError("no such file or folder", where=path, remedy="check the path")
    if reader is None:
        raise SourceError(
            f"files of kind {path.suffix or '(no suffix)'!r} are not supported",
            where=path,
            remedy=f"use one of {', '.join(readers)}",
        )
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
    path, key = Path(spec), ""
    if not path.exists() and ":" in spec:
        head, _, key = spec.rpartition(":")
        path = Path(head)
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


def _npy_header(file: IO[bytes], path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = reader(file)
    except (ValueError, KeyError, EOFError) as error:
        raise SourceError(
            f"{name!r} is not a readable .npy array ({str(error).splitlines()[0]})",
            where=path,
            remedy="write it again with numpy.save, as float16, float32 or float64",
        ) from None
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
    return "bfloat16" if dtype == np.dtype("V2") else str(dtype)


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
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise SourceError(
            f"not a readable .npz archive ({error})", where=path, remedy="write it again"
        ) from None
    return tensors


def _npz_reader(path: Path, name: str) -> Callable[[], AnyArray]:
    def read() -> AnyArray:
        try:
            with np.load(path, allow_pickle=False) as archive:
                return _bfloat16_view(archive[name])
        except (zipfile.BadZipFile, EOFError, ValueError) as error:
            raise SourceError(
                f"{name!r} cannot be unpacked ({error})", where=path, remedy="write it again"
            ) from None

    return read


# --- writing ---


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` only once it is complete and on disk.

    Raises:
        OutputError: The folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot be written ({error.strerror or error})",
            where=path,
            remedy="free space or choose another place",
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> Path:
    """Create a folder for results, and check that it can be written before any work is done.

    Raises:
        OutputError: It cannot be created or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OutputError(
            f"this folder cannot be written ({error.strerror or error})",
            where=path,
            remedy="choose another with -o",
        ) from None
    return path


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header line; None becomes an empty field, NumPy scalars numbers."""
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        text.detach()  # flushes, and leaves closing to `replacing`


def write_safetensors(
    path: Path, tensors: Mapping[str, AnyArray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named arrays as a safetensors file; bfloat16 and float8 as ml_dtypes arrays."""
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    content = save(contiguous, dict(metadata or {}))
    with replacing(path) as file:
        file.write(content)
