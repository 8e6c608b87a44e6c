"""ONNX models: their initializers, by the onnx package, which is imported only here and only then.

The file is parsed as a whole, which protobuf allows up to 2 GB; data outside it is read from the
files beside it that it names, when it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import ml_dtypes
import numpy as np

from deadtokens.errors import SourceError
from deadtokens.files.stored import AnyArray, StoredTensor, check_axes, check_name, short

_MOST_BYTES = 1 << 31
_FLOATS: dict[str, np.dtype[Any]] = {
    "FLOAT": np.dtype(np.float32),
    "FLOAT16": np.dtype(np.float16),
    "BFLOAT16": np.dtype(ml_dtypes.bfloat16),
    "DOUBLE": np.dtype(np.float64),
}


def read_onnx(path: Path) -> dict[str, StoredTensor]:
    """The initializers of an ONNX model, by name.

    Raises:
        SourceError: onnx is not installed, or the file is damaged or too large.
    """
    try:
        import onnx
    except ImportError:
        raise SourceError(
            "reading ONNX models needs the onnx package, which is not installed",
            where=path,
            remedy="pip install 'deadtokens[onnx]'",
        ) from None
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise SourceError(
            f"{size:,} bytes, where an ONNX file has {_MOST_BYTES:,} at the most", where=path
        )
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises its own
        raise SourceError(
            f"not a readable ONNX model ({short(error)})", where=path, remedy="fetch it again"
        ) from None
    if not model.graph.initializer:
        raise SourceError(
            "no ONNX model with weights in it", where=path, remedy="give the model's own file"
        )
    names = {number: name for name, number in onnx.TensorProto.DataType.items()}
    return {
        tensor.name: _stored(onnx, path, tensor, names.get(tensor.data_type, "unknown"))
        for tensor in model.graph.initializer
    }


def _stored(onnx: Any, path: Path, tensor: Any, kind: str) -> StoredTensor:
    check_name(path, tensor.name)
    shape = tuple(int(n) for n in tensor.dims)
    check_axes(path, tensor.name, len(shape))
    if any(n < 0 for n in shape):
        raise SourceError(f"malformed: {tensor.name!r} has shape {short(shape)}", where=path)
    scalar = _FLOATS.get(kind)
    label = kind if scalar is None else str(scalar)
    nbytes = math.prod(shape) * (scalar.itemsize if scalar else 1)
    read: Callable[[], AnyArray]
    if tensor.data_location == onnx.TensorProto.EXTERNAL and scalar is not None:
        read = _external(path, tensor, scalar, shape, nbytes)
    else:
        read = _inside(onnx, path, tensor)
    return StoredTensor(tensor.name, path, label, shape, nbytes, read)


def _inside(onnx: Any, path: Path, tensor: Any) -> Callable[[], AnyArray]:
    def read() -> AnyArray:
        try:
            array: AnyArray = onnx.numpy_helper.to_array(tensor)
        except Exception as error:
            raise SourceError(
                f"{tensor.name!r} cannot be read ({short(error)})",
                where=path,
                remedy="export it again",
            ) from None
        return array

    return read


def _external(
    path: Path, tensor: Any, scalar: np.dtype[Any], shape: tuple[int, ...], nbytes: int
) -> Callable[[], AnyArray]:
    """What maps a tensor's bytes in a file beside the model.

    Raises:
        SourceError: It names no file in the model's folder.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = PurePosixPath(entries.get("location", ""))
    if not location.parts or location.is_absolute() or ".." in location.parts:
        raise SourceError(
            f"{tensor.name!r} lies outside the model's folder, by what the file says",
            where=path,
            remedy="export the model again",
        )
    beside = path.parent / location

    def read() -> AnyArray:
        try:
            offset = int(entries.get("offset") or 0)
            return np.memmap(beside, dtype=scalar, mode="r", offset=offset, shape=shape)
        except (OSError, ValueError, OverflowError) as error:
            raise SourceError(
                f"{tensor.name!r} of {nbytes:,} bytes is not there ({short(error)})",
                where=beside,
                remedy="put the file beside the model",
            ) from None

    return read
