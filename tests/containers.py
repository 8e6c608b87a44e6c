"""Files written byte by byte for the tests, so that what is in them depends on no library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

AnyArray: TypeAlias = npt.NDArray[Any]

SAFETENSORS_DTYPES: dict[str, npt.DTypeLike] = {
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
_NAMES = {np.dtype(dtype): name for name, dtype in SAFETENSORS_DTYPES.items()}


def write_header(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    """A safetensors file of that header (JSON, or raw bytes) and data; the length may lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    announced = len(text) if length is None else length
    path.write_bytes(announced.to_bytes(8, "little") + text + data)
    return path


def write_tensors(path: Path, tensors: Mapping[str, AnyArray]) -> Path:
    """A well-formed safetensors file of those arrays, in that order."""
    header, data = {}, b""
    for name, array in tensors.items():
        raw = array.tobytes()
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    return write_header(path, header, data)


def write_npy_header(path: Path, header: str, data: bytes, version: int = 1) -> Path:
    """A .npy file of that header text and data."""
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + data)
    return path


def write_index(
    folder: Path, weight_map: object, name: str = "model.safetensors.index.json"
) -> Path:
    """An index of shards."""
    path = folder / name
    path.write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return path
