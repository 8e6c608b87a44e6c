"""PyTorch checkpoints: .bin, .pt, .pth. Their pickles may name tensors, and nothing that runs.

torch does the reading, with ``weights_only``, and is imported only here and only then.
"""

from __future__ import annotations

import mmap
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from deadtokens.errors import SourceError
from deadtokens.files.stored import LONGEST_NAME, AnyArray, StoredTensor, check_name, short

_STORAGE = re.compile(r"(.*/)?data/\d+", re.DOTALL)
_ZIP = b"PK\x03\x04"
_FETCH = "fetch the file again"
_MOST_ENTRIES = 200_000
_MOST_DEEP = 64
_MOST_LOADED = 1 << 33  # bytes of a file that cannot be mapped
# Of all that weights_only lets a pickle call, these make many bytes of few.
_SWELLING = re.compile(rb"\n(bytearray)\n|_codecs\n(encode)\n")
_SCALAR = re.compile(rb"numpy(?:\._core|\.core)\.multiarray\n(scalar)\n")
# torch has these and NumPy does not: viewed as integers of their width, then as what they are.
_FOREIGN: dict[str, np.dtype[Any]] = {
    name: np.dtype(getattr(ml_dtypes, name))
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")
}


def require_torch(where: object) -> ModuleType:
    """The torch package.

    Raises:
        SourceError: It is not installed.
    """
    try:
        import torch
    except ImportError:
        raise SourceError(
            "reading this kind of file needs torch, which is not installed",
            where=where,
            remedy="pip install 'deadtokens[torch]'",
        ) from None
    module: ModuleType = torch
    return module


def read_torch(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a PyTorch checkpoint, by name; those in nested mappings by dotted names.

    Files in the zip format (torch 1.6 and later) are memory-mapped; older ones are loaded.

    Raises:
        SourceError: torch is not installed, or the file is damaged, asks for code to be run, or
            holds something else.
    """
    torch = require_torch(path)
    sizes = _storage_sizes(path) if _is_zip(path) else None
    if sizes is None:
        _check_loaded(path)
    held = _load(torch, path, mapped=sizes is not None)
    if isinstance(held, torch.Tensor):
        held = {path.stem: held}
    tensors: dict[str, StoredTensor] = {}
    for name, tensor in _flattened(torch, held, path):
        check_name(path, name)
        if name in tensors:
            raise SourceError(f"two tensors are called {name!r}", where=path, remedy=_FETCH)
        if sizes is not None:
            _check_storage(name, tensor, sizes, path)
        tensors[name] = _stored(torch, name, tensor, path)
    if not tensors:
        raise SourceError(
            "no tensors in this checkpoint", where=path, remedy="give a model's weights"
        )
    return tensors


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def _storage_sizes(path: Path) -> set[int]:
    """The sizes of what tensors are stored in, of an archive that holds everything as it is.

    Raises:
        SourceError: It is damaged, something in it is compressed, as torch never does, or its
            pickle could make much of little.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            for member in members:
                _check_stored(member, path)
                if member.filename.endswith("data.pkl"):
                    _check_pickle(archive.read(member), path)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        raise SourceError(
            f"not a PyTorch checkpoint, or truncated ({short(error)})", where=path, remedy=_FETCH
        ) from None
    return {member.file_size for member in members if _STORAGE.fullmatch(member.filename)}


def _check_stored(member: zipfile.ZipInfo, path: Path) -> None:
    packed = member.compress_type != zipfile.ZIP_STORED
    if packed or member.file_size != member.compress_size:
        raise SourceError(
            f"{member.filename[:80]!r} in it is compressed, which PyTorch does not do",
            where=path,
            remedy="save it again with torch.save",
        )


def _check_loaded(path: Path) -> None:
    """Refuse a file in the old format that would fill the memory.

    Raises:
        SourceError: It is too large, or its pickle could make much of little.
    """
    size = path.stat().st_size
    if size > _MOST_LOADED:
        raise SourceError(
            f"in the format before torch 1.6, of which {_MOST_LOADED:,} bytes are the most loaded: "
            f"it has {size:,}",
            where=path,
            remedy="load it with torch and save it again, which writes a file that is mapped",
        )
    if size:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _check_pickle(data, path)


def _check_pickle(content: bytes | mmap.mmap, path: Path) -> None:
    """Refuse a pickle that calls for memory beyond what it takes in the file.

    Raises:
        SourceError: It names something that does.
    """
    if _SCALAR.search(content):  # which calls encode for its bytes
        raise SourceError(
            "more than weights: it holds a NumPy scalar (numpy.core.multiarray.scalar), which is "
            "not loaded",
            where=path,
            remedy="save the weights alone: torch.save(torch.load(FILE, weights_only=False)["
            "'model'], NEW), if it can be trusted",
        )
    found = _SWELLING.search(content)
    if found is not None:
        name = (found[1] or found[2]).decode()
        raise SourceError(
            f"more than weights: its pickle names {name}, which is not loaded",
            where=path,
            remedy="where it can be trusted, load it with torch and save the state_dict alone",
        )


def _check_storage(name: str, tensor: Any, sizes: set[int], path: Path) -> None:
    """Refuse a tensor in a storage that no member has the size of: torch looks at no size.

    Raises:
        SourceError: The pickle says another size than the archive.
    """
    if _is_plain(tensor) and (stated := tensor.untyped_storage().nbytes()) not in {0, *sizes}:
        raise SourceError(
            f"malformed: {name!r} is said to lie in {stated:,} bytes, and nothing there has that "
            "size",
            where=path,
            remedy=_FETCH,
        )


def _is_plain(tensor: Any) -> bool:
    """Whether its numbers lie in memory, one after the other or in steps."""
    strided = str(tensor.layout) == "torch.strided" and tensor.device.type == "cpu"
    return strided and not tensor.is_quantized


def _load(torch: ModuleType, path: Path, *, mapped: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise _refused(error, path) from None
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can make torch's reader raise anything
        raise SourceError(
            f"not a readable PyTorch checkpoint ({short(error)})", where=path, remedy=_FETCH
        ) from None


def _refused(error: pickle.UnpicklingError, path: Path) -> SourceError:
    """What torch says where a pickle holds more than weights."""
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    if named is None:
        return SourceError(
            "no PyTorch checkpoint, or one that holds more than weights",
            where=path,
            remedy="give a file that torch.save wrote; of one, save the state_dict alone",
        )
    return SourceError(
        f"more than weights: its pickle names {named[1][:80]}, which is not loaded",
        where=path,
        remedy="where it can be trusted, load it with torch and save the state_dict alone",
    )


def _flattened(torch: ModuleType, held: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """The tensors in mappings within mappings, with their keys joined by dots.

    Raises:
        SourceError: There is no end of them, or of their depth or names.
    """
    seen = 1
    inside: dict[int, list[tuple[str, Any]]] = {}  # many mappings may hold the same one
    waiting: list[tuple[str, Any, tuple[int, ...]]] = [("", held, ())]
    while waiting:
        prefix, value, above = waiting.pop()
        if isinstance(value, torch.Tensor):
            yield prefix, value
        if not isinstance(value, Mapping) or id(value) in above:
            continue
        if len(above) == _MOST_DEEP:
            raise _endless(f"mappings within mappings, more than {_MOST_DEEP} deep", path)
        if id(value) not in inside:
            inside[id(value)] = [
                (str(key), entry)
                for key, entry in reversed(list(value.items()))
                if isinstance(entry, (torch.Tensor, Mapping))
            ]
        entries = inside[id(value)]
        seen += len(entries)
        if seen > _MOST_ENTRIES:
            raise _endless(f"more than {_MOST_ENTRIES:,} tensors and mappings", path)
        if any(len(prefix) + len(key) >= LONGEST_NAME for key, _ in entries):
            raise _endless(f"names of more than {LONGEST_NAME:,} characters", path)
        waiting += [
            (f"{prefix}.{key}" if prefix else key, entry, (*above, id(value)))
            for key, entry in entries
        ]


def _endless(what: str, path: Path) -> SourceError:
    return SourceError(what, where=path, remedy=_FETCH)


def _stored(torch: ModuleType, name: str, tensor: Any, path: Path) -> StoredTensor:
    label = str(tensor.dtype).removeprefix("torch.")
    if not _is_plain(tensor):
        label = f"{label} ({str(tensor.layout).removeprefix('torch.')}, {tensor.device.type})"
    elif tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        label = f"{label} (repeated)"
    shape = tuple(tensor.shape)
    nbytes = tensor.numel() * tensor.element_size()
    return StoredTensor(name, path, label, shape, nbytes, _reader(torch, name, tensor, label, path))


def _reader(
    torch: ModuleType, name: str, tensor: Any, label: str, path: Path
) -> Callable[[], AnyArray]:
    def read() -> AnyArray:
        dense = tensor.detach()
        if label in _FOREIGN:
            integers = {1: torch.uint8, 2: torch.int16}[dense.element_size()]
            array: AnyArray = dense.view(integers).numpy().view(_FOREIGN[label])
        elif label.isidentifier():
            array = dense.numpy()
        else:
            raise SourceError(
                f"tensor {name!r} is {label}, which is not supported",
                where=path,
                remedy="save it as a plain tensor",
            )
        array.flags.writeable = False
        return array

    return read
