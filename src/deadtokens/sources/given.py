"""What callers have in hand in Python: arrays, torch tensors and state dicts, as stored tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from deadtokens.errors import SourceError
from deadtokens.files import StoredTensor
from deadtokens.sources.matrix import Matrix


class TensorLike(Protocol):
    """A torch tensor."""

    def detach(self) -> Any: ...  # noqa: D102


class HasStateDict(Protocol):
    """A module."""

    def state_dict(self) -> Any: ...  # noqa: D102


class HasMatrix(Protocol):
    """A result that knows its matrix."""

    @property
    def matrix(self) -> Matrix: ...  # noqa: D102


# A path or an id; V rows by d columns as an array or a torch tensor; a state dict, or a module that
# has one; a matrix, or a result that knows its own.
MatrixLike: TypeAlias = (
    str
    | Path
    | npt.NDArray[Any]
    | TensorLike
    | Mapping[str, Any]
    | HasStateDict
    | Matrix
    | HasMatrix
)
# Formats that NumPy does not have, and the integers as which torch hands them over.
_BITS = {"bfloat16": "int16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}


def given_array(source: object) -> npt.NDArray[Any] | None:
    """The numbers of an array or a torch tensor, without a copy where they are in memory."""
    if isinstance(source, np.ndarray):
        return source
    if not _is_tensor(source):
        return None
    import torch

    tensor = torch.as_tensor(source).detach().cpu()
    name = str(tensor.dtype).removeprefix("torch.")
    bits = tensor.contiguous().view(getattr(torch, _BITS[name])) if name in _BITS else tensor
    array: npt.NDArray[Any] = bits.numpy()
    return array.view(getattr(ml_dtypes, name)) if name in _BITS else array


def given_tensors(source: object) -> dict[str, StoredTensor] | None:
    """The tensors of a state dict, or of a module that has one."""
    if not isinstance(source, Mapping):
        held = getattr(source, "state_dict", None)
        return given_tensors(held()) if callable(held) and not isinstance(source, type) else None
    arrays = {str(name): given_array(value) for name, value in source.items()}
    return {name: stored_array(name, held) for name, held in arrays.items() if held is not None}


def stored_array(name: str, array: npt.NDArray[Any]) -> StoredTensor:
    """An array in memory as a tensor of that name."""
    dtype = str(array.dtype)
    return StoredTensor(name, Path(name), dtype, array.shape, array.nbytes, lambda: array)


def known_matrix(source: object) -> Matrix | None:
    """The matrix that something is, or the one that a result was made from."""
    held = source if isinstance(source, Matrix) else getattr(source, "matrix", None)
    return held if isinstance(held, Matrix) else None


def check_kind(source: object, argument: str) -> None:
    """Refuse what can be no source, by the name of the argument.

    Raises:
        SourceError: It is neither a path nor anything that holds numbers.
    """
    fits = isinstance(source, (str, Path, np.ndarray, Mapping)) or _is_tensor(source)
    if not fits and not callable(getattr(source, "state_dict", None)):
        raise SourceError(
            f"a value of type {type(source).__name__} is no model",
            where=argument,
            remedy="give a path, hf:owner/name, an array, a torch tensor, a state dict or a Matrix",
        )


def _is_tensor(source: object) -> bool:
    return type(source).__module__.partition(".")[0] == "torch" and hasattr(source, "detach")
