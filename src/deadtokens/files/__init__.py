"""Arrays in files, read as they lie on disk and memory-mapped where the container allows it.

Headers are read here rather than with the containers' own packages because those copy, or trust
what a header says: one that lies must end in one clear line.
"""

from __future__ import annotations

from pathlib import Path

from deadtokens.errors import SourceError
from deadtokens.files.gguf import read_gguf
from deadtokens.files.hdf5 import PartedTensor, read_hdf5
from deadtokens.files.kinds import missing, other_kind, unread_kind
from deadtokens.files.npy import read_npy, read_npz
from deadtokens.files.onnx_files import read_onnx
from deadtokens.files.safetensors import read_metadata, read_safetensors
from deadtokens.files.stored import AnyArray, Region, StoredTensor
from deadtokens.files.torch_files import read_torch

__all__ = [
    "AnyArray",
    "PartedTensor",
    "Region",
    "StoredTensor",
    "array_file",
    "load_array",
    "load_metadata",
    "read_tensors",
]

_READERS = {
    ".safetensors": read_safetensors,
    ".npy": read_npy,
    ".npz": read_npz,
    ".gguf": read_gguf,
    ".bin": read_torch,
    ".pt": read_torch,
    ".pth": read_torch,
    ".ckpt": read_torch,
    ".onnx": read_onnx,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
}


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors in a file, by name; reads headers only.

    Raises:
        SourceError: The file is missing, of another kind, truncated, or its header is wrong.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None and not path.exists():
        raise missing(str(path))
    if reader is not None and path.exists() and not path.is_file():
        raise SourceError("not a regular file", where=path, remedy="give a file")
    try:
        if reader is None:
            raise _unread(path)
        if (other := other_kind(path)) is not None:
            raise other
        return reader(path)
    except OSError as error:
        raise SourceError(
            error.strerror or str(error), where=path, remedy="check the path"
        ) from None


def _unread(path: Path) -> SourceError:
    """What a file is whose kind is not read, by its name or its first bytes."""
    named = unread_kind(path)
    if named is None and path.is_file():
        named = other_kind(path)
    return named or SourceError(
        f"files of kind {path.suffix or '(no suffix)'!r} are not supported",
        where=path,
        remedy=f"use one of {', '.join(_READERS)}",
    )


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
    return read_metadata(path) if path.suffix.lower() == ".safetensors" else {}


def _split_key(spec: str) -> tuple[Path, str]:
    if not Path(spec).exists() and ":" in spec:
        head, _, key = spec.rpartition(":")
        return Path(head), key
    return Path(spec), ""
