"""safetensors files: a length, a JSON header, the tensors' bytes."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from deadtokens.errors import SourceError, plain
from deadtokens.files.stored import Region, StoredTensor, check_axes, check_name, short

PREFIX_BYTES = 8  # the header's length, before it
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors specification's own reader

_SCALARS: dict[str, np.dtype[Any]] = {
    name: np.dtype(scalar)
    for name, scalar in {
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
    }.items()
}


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a .safetensors file, by name; reads its header only.

    Raises:
        SourceError: It is truncated, or its header is wrong.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = header_length(path, file.read(PREFIX_BYTES), size)
        header = file.read(length)
    return {name: region.stored(path) for name, region in regions(path, header, size).items()}


def header_length(where: object, prefix: bytes, size: int) -> int:
    """The length of the header in bytes, from the first bytes of a file of that size.

    Raises:
        SourceError: There is no room for it, or it is longer than safetensors allows.
    """
    length = int.from_bytes(prefix, "little")
    if len(prefix) < PREFIX_BYTES or length > size - PREFIX_BYTES:
        raise SourceError(
            f"not a safetensors file, or truncated: {size:,} bytes"
            + (f", header of {length:,} bytes announced" if len(prefix) == PREFIX_BYTES else ""),
            where=where,
            remedy="fetch the file again",
        )
    if length > _MAX_HEADER_BYTES:
        raise SourceError(
            f"header of {length:,} bytes; safetensors allows {_MAX_HEADER_BYTES:,}", where=where
        )
    return length


def regions(where: object, header: bytes, size: int) -> dict[str, Region]:
    """Where each tensor lies in a file of that size and header, by name.

    Raises:
        SourceError: The header is wrong, or describes another size.
    """
    entries = _parse(where, header)
    entries.pop("__metadata__", None)
    data_start = PREFIX_BYTES + len(header)
    found = {name: _region(where, name, entry, data_start) for name, entry in entries.items()}
    end = max((region.offset + region.nbytes for region in found.values()), default=data_start)
    if end != size:
        raise SourceError(
            f"{'truncated' if end > size else 'malformed'}: the header describes {end:,} bytes, "
            f"the file has {size:,}",
            where=where,
            remedy="fetch the file again",
        )
    return found


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata in the header of a .safetensors file; nothing where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def _parse(where: object, header: bytes) -> dict[str, Any]:
    try:
        entries = json.loads(header)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict):
        raise SourceError(
            "not a safetensors file: its header is not a JSON object",
            where=where,
            remedy="fetch the file again",
        )
    return entries


def _region(where: object, name: str, entry: Any, data_start: int) -> Region:
    def is_size(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63

    check_name(where, name)
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
            where=where,
            remedy="fetch the file again",
        )
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    check_axes(where, name, len(shape))
    scalar = _SCALARS.get(entry["dtype"])
    if scalar is not None and (nbytes := math.prod(shape) * scalar.itemsize) != end - begin:
        raise SourceError(
            f"malformed: {name!r} is {entry['dtype']} of shape {short(list(shape), 80)}, which is "
            f"{short(f'{nbytes:,}', 80)} bytes, but has {end - begin:,}",
            where=where,
            remedy="fetch the file again",
        )
    dtype = plain(entry["dtype"])[:40]  # whatever it says, as one word of a line
    return Region(name, dtype, shape, data_start + begin, end - begin, scalar, shape)
