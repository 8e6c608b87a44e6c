"""GGUF files written byte by byte for the tests, by ggml's docs/gguf.md and no library."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = range(10)
UINT64, INT64, FLOAT64 = 10, 11, 12
LETTERS = dict(
    zip(
        (UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, UINT64, INT64, FLOAT64),
        "BbHhIif?Qqd",
        strict=True,
    )
)

# The number of a type, the numbers in a block of it, the bytes of one (ggml.h, ggml-common.h).
GGML: dict[str, tuple[int, int, int]] = {
    "F32": (0, 1, 4),
    "F16": (1, 1, 2),
    "Q4_0": (2, 32, 18),
    "Q4_1": (3, 32, 20),
    "Q5_0": (6, 32, 22),
    "Q5_1": (7, 32, 24),
    "Q8_0": (8, 32, 34),
    "Q8_1": (9, 32, 40),
    "Q2_K": (10, 256, 84),
    "Q3_K": (11, 256, 110),
    "Q4_K": (12, 256, 144),
    "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210),
    "Q8_K": (15, 256, 292),
    "IQ2_XXS": (16, 256, 66),
    "IQ2_XS": (17, 256, 74),
    "IQ3_XXS": (18, 256, 98),
    "IQ1_S": (19, 256, 50),
    "IQ4_NL": (20, 32, 18),
    "IQ3_S": (21, 256, 110),
    "IQ2_S": (22, 256, 82),
    "IQ4_XS": (23, 256, 136),
    "I8": (24, 1, 1),
    "I16": (25, 1, 2),
    "I32": (26, 1, 4),
    "I64": (27, 1, 8),
    "F64": (28, 1, 8),
    "IQ1_M": (29, 256, 56),
    "BF16": (30, 1, 2),
    "TQ1_0": (34, 256, 54),
    "TQ2_0": (35, 256, 66),
    "MXFP4": (39, 32, 17),
    "NVFP4": (40, 64, 36),
}
SCALARS: dict[str, npt.DTypeLike] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
}


@dataclass(frozen=True)
class Tensor:
    """A tensor to write.

    Attributes:
        kind: Name of its type, or its number.
        shape: Rows first, in numbers.
        data: Its bytes.
        offset: Where they are said to lie, if not where they do.
    """

    kind: str | int
    shape: tuple[int, ...]
    data: bytes
    offset: int | None = None


def tensor_of(array: npt.NDArray[Any]) -> Tensor:
    """An array, in the type that has its numbers."""
    (kind,) = (name for name, scalar in SCALARS.items() if np.dtype(scalar) == array.dtype)
    return Tensor(kind, array.shape, array.tobytes())


def quantised(kind: str, raw: npt.NDArray[np.uint8]) -> Tensor:
    """Rows of raw bytes, in a quantised type."""
    _, block, size = GGML[kind]
    assert raw.shape[1] % size == 0
    return Tensor(kind, (raw.shape[0], raw.shape[1] // size * block), raw.tobytes())


def row_bytes(kind: str, numbers: int) -> int:
    """The bytes of a row of so many numbers."""
    _, block, size = GGML[kind]
    assert numbers % block == 0
    return numbers // block * size


def string(text: str | bytes, order: str = "<") -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack(order + "Q", len(raw)) + raw


def value(kind: int, content: Any, order: str = "<") -> bytes:
    """A metadata value without its type; an array is (type of its items, items)."""
    if kind == STRING:
        return string(content, order)
    if kind == ARRAY:
        of, items = content
        return struct.pack(order + "IQ", of, len(items)) + b"".join(
            value(of, item, order) for item in items
        )
    return struct.pack(order + LETTERS[kind], content)


def metadata_entry(key: str | bytes, kind: int, content: Any, order: str = "<") -> bytes:
    return string(key, order) + struct.pack(order + "I", kind) + value(kind, content, order)


def strings(items: Sequence[str | bytes]) -> tuple[int, Any]:
    """An array of strings, as an entry of ``metadata``."""
    return ARRAY, (STRING, list(items))


def gguf_bytes(
    tensors: Mapping[str, Tensor] | Sequence[tuple[str, Tensor]],
    metadata: Mapping[str, tuple[int, Any]] | None = None,
    *,
    version: int = 3,
    order: str = "<",
    alignment: int = 32,
    raw_entries: bytes = b"",
    counts: tuple[int, int] | None = None,
) -> bytes:
    """A GGUF file.

    Args:
        tensors: By name, in this order.
        metadata: By key, the type of a value and the value.
        version: Of the format.
        order: ``"<"`` or ``">"``.
        alignment: Of the tensors' bytes; the metadata has to say so if it is not 32.
        raw_entries: Bytes put after the metadata's entries.
        counts: The numbers of tensors and of metadata entries that are announced, if not the true.
    """
    named = list(tensors.items()) if isinstance(tensors, Mapping) else list(tensors)
    entries = metadata or {}
    announced = counts or (len(named), len(entries))
    head = b"GGUF" + struct.pack(order + "IQQ", version, *announced)
    head += b"".join(metadata_entry(key, *entry, order) for key, entry in entries.items())
    head += raw_entries
    data = b""
    for name, tensor in named:
        number = tensor.kind if isinstance(tensor.kind, int) else GGML[tensor.kind][0]
        place = len(data) if tensor.offset is None else tensor.offset
        head += string(name, order) + struct.pack(order + "I", len(tensor.shape))
        head += struct.pack(f"{order}{len(tensor.shape)}Q", *tensor.shape[::-1])
        head += struct.pack(order + "IQ", number, place)
        data += tensor.data + bytes(-len(tensor.data) % alignment)
    return head + bytes(-len(head) % alignment) + data


def write_gguf(path: Path, tensors: Any, metadata: Any = None, **options: Any) -> Path:
    """A GGUF file, as for `gguf_bytes`."""
    path.write_bytes(gguf_bytes(tensors, metadata, **options))
    return path
