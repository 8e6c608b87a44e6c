"""From a file, a folder of shards or a built-in to a `Matrix`; nothing is rounded on the way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deadtokens.errors import SourceError
from deadtokens.files import StoredTensor, read_tensors
from deadtokens.sources.builtin import BUILTINS, PREFIX, open_builtin
from deadtokens.sources.choose import Candidate, Choice, candidates, choose
from deadtokens.sources.matrix import Matrix, matrix_codes

__all__ = ["BUILTINS", "Candidate", "Inspection", "Matrix", "inspect", "open_matrix"]


@dataclass(frozen=True)
class Inspection:
    """What a source offers: candidates, and which is used or why none is.

    Attributes:
        candidates: Tensors that can hold token vectors.
        choice: The one that `open_matrix` would read, None if it would refuse.
        refusal: The line it would refuse with, None if it would not.
        n_tensors: Number of tensors in the source.
    """

    candidates: list[Candidate]
    choice: Choice | None
    refusal: str | None
    n_tensors: int


def open_matrix(source: str | Path | npt.NDArray[Any], tensor: str | None = None) -> Matrix:
    """Open the matrix of token vectors that a source holds.

    Opening reads headers only: the codes are memory-mapped (.npz, float64 and built-ins are
    loaded).

    Args:
        source: A .safetensors, .npy or .npz file, a folder or ``*.index.json`` of safetensors
            shards, ``builtin:qwen3-4b`` or ``builtin:whisper-tiny.en``, or an array of V rows by d
            columns.
        tensor: The tensor's name; the output matrix by default, or the input one if tied.

    Raises:
        SourceError: There is no such source, it is damaged or of an unsupported kind, or it does
            not say which tensor to take.
    """
    if isinstance(source, np.ndarray):
        held = StoredTensor(
            "array", Path("array"), str(source.dtype), source.shape, source.nbytes, lambda: source
        )
        return Matrix(*matrix_codes(held), "array", "array", "given as an array")
    if str(source).startswith(PREFIX):
        matrix = open_builtin(str(source))
        if tensor not in (None, matrix.tensor):
            raise SourceError(f"no tensor {tensor!r} there", where=source, remedy="leave it out")
        return matrix
    path = Path(source)
    tensors = _tensors(path)
    choice = choose(tensors, path, tensor, _tied(path))
    codes, fmt = matrix_codes(choice.tensor)
    files = {tensor.path for tensor in tensors.values()} | {_config(path)}
    files |= {path} if path.is_file() else set(path.glob("*.index.json"))
    return Matrix(
        codes, fmt, str(source), choice.tensor.name, choice.reason, files=tuple(sorted(files))
    )


def inspect(source: str | Path, tensor: str | None = None) -> Inspection:
    """The tensors of a source that can hold token vectors, and which one is used.

    Raises:
        SourceError: There is no such source, or it is damaged or of an unsupported kind.
    """
    path = Path(source)
    if str(source).startswith(PREFIX):
        matrix = open_matrix(source, tensor)
        held = StoredTensor(
            matrix.tensor,
            path,
            matrix.format.name,
            matrix.codes.shape,
            matrix.codes.nbytes,
            lambda: matrix.codes,
        )
        return Inspection([Candidate(held, "output")], Choice(held, matrix.reason), None, 1)
    tensors = _tensors(path)
    found = candidates(tensors)
    try:
        choice = choose(tensors, path, tensor, _tied(path))
        if choice.tensor not in [candidate.tensor for candidate in found]:
            found.append(Candidate(choice.tensor, "other"))
        matrix_codes(choice.tensor)
    except SourceError as error:
        return Inspection(found, None, str(error), len(tensors))
    return Inspection(found, choice, None, len(tensors))


def _tensors(path: Path) -> dict[str, StoredTensor]:
    if path.is_dir():
        return _folder_tensors(path)
    if path.name.endswith(".index.json"):
        return _index_tensors(path)
    return read_tensors(path)


def _folder_tensors(folder: Path) -> dict[str, StoredTensor]:
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    if len(indexes) == 1:
        return _index_tensors(indexes[0])
    files = sorted(folder.glob("*.safetensors"))
    conventional = folder / "model.safetensors"
    if conventional in files and not indexes:
        return read_tensors(conventional)
    if len(files) == 1 and not indexes:
        return read_tensors(files[0])
    if not files and not indexes:
        raise SourceError(
            "no .safetensors file or index in this folder",
            where=folder,
            remedy="give a model's folder or one file",
        )
    names = ", ".join(path.name for path in (indexes or files)[:8])
    raise SourceError(
        f"several model files and no single index: {names}", where=folder, remedy="give one of them"
    )


def _index_tensors(index: Path) -> dict[str, StoredTensor]:
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        _is_file_name(file) for file in weight_map.values()
    ):
        raise SourceError(
            "not an index of shards: no 'weight_map' from tensor names to file names beside it",
            where=index,
            remedy="fetch the file again",
        )
    shards = {file: read_tensors(index.parent / file) for file in sorted(set(weight_map.values()))}
    for name, file in weight_map.items():
        if name not in shards[file]:
            raise SourceError(
                f"the index places tensor {name!r} in {file}, which does not hold it",
                where=index,
                remedy="fetch the shards again",
            )
    return {name: shards[file][name] for name, file in weight_map.items()}


def _is_file_name(file: object) -> bool:
    """Whether it names a file in the index's own folder, and cannot lead out of it."""
    plain = isinstance(file, str) and file not in ("", "..") and "\0" not in file
    return plain and Path(str(file)).name == file


def _config(path: Path) -> Path:
    return (path if path.is_dir() else path.parent) / "config.json"


def _tied(path: Path) -> bool | None:
    """What config.json beside the weights says of tying, None if there is none or it is silent."""
    config = _config(path)
    if not config.is_file():
        return None
    facts = _read_json(config)
    text = facts.get("text_config")  # multimodal models describe the language model in here
    for section in (facts, text if isinstance(text, dict) else {}):
        tied = section.get("tie_word_embeddings")
        if isinstance(tied, bool):
            return tied
    return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(
            error.strerror or str(error), where=path, remedy="check the path"
        ) from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise SourceError("not a JSON object", where=path, remedy="fetch the file again")
    return content
