"""From a file, a folder, a hub or a built-in to a `Matrix`; nothing is rounded on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deadtokens.errors import SourceError
from deadtokens.files import StoredTensor
from deadtokens.sources.builtin import BUILTINS, PREFIX, open_builtin
from deadtokens.sources.candidates import Candidate
from deadtokens.sources.choose import Choice
from deadtokens.sources.given import (
    MatrixLike,
    check_kind,
    given_array,
    given_tensors,
    known_matrix,
    stored_array,
)
from deadtokens.sources.hub import open_hub
from deadtokens.sources.local import open_local
from deadtokens.sources.matrix import (
    Matrix,
    Quantised,
    TokenizerSource,
    check_matrix,
    matrix_codes,
    with_format,
)
from deadtokens.sources.model import Model
from deadtokens.sources.pairs import like_with_like, roles_compared, roles_doubt
from deadtokens.sources.repository import HUB_PREFIX

__all__ = [
    "BUILTINS",
    "HUB_PREFIX",
    "PREFIX",
    "Candidate",
    "Inspection",
    "Matrix",
    "MatrixLike",
    "Model",
    "Quantised",
    "TokenizerSource",
    "as_matrix",
    "inspect",
    "like_with_like",
    "open_matrix",
    "open_model",
    "roles_compared",
    "roles_doubt",
]


@dataclass(frozen=True)
class Inspection:
    """What a source offers: candidates, and which is used or why none is.

    Attributes:
        candidates: Tensors that can hold token vectors.
        choice: The one that `open_matrix` would read, None if it would refuse.
        refusal: The line it would refuse with, None if it would not.
        n_tensors: Number of tensors in the source.
        model: What was opened; None for a built-in.
    """

    candidates: list[Candidate]
    choice: Choice | None
    refusal: str | None
    n_tensors: int
    model: Model | None = None


def open_model(source: str | Path, *, format: str | None = None) -> Model:  # noqa: A002
    """Open a model file, a folder or a repository: its tensors by name, only headers read.

    Args:
        source: As for `open_matrix`, but no built-in, which is one matrix only, and no array.
        format: As for `open_matrix`.

    Raises:
        SourceError: There is no such source, it is damaged or of an unsupported kind.
    """
    remote = str(source).startswith(HUB_PREFIX)
    model = open_hub(str(source)) if remote else open_local(str(source), Path(source))
    if format is None:
        return model
    return replace(model, tensors=with_format(model.tensors, format))


def as_matrix(source: MatrixLike, argument: str) -> Matrix:
    """The matrix of whatever a caller has in hand: as for `open_matrix`, or known already.

    Args:
        source: A source, a matrix, or a result that knows its own.
        argument: What the caller's function calls it, for errors.

    Raises:
        SourceError: It is none of these, or cannot be opened.
    """
    known = known_matrix(source)
    if known is not None:
        return known
    check_kind(source, argument)
    return open_matrix(source)


def open_matrix(
    source: MatrixLike,
    tensor: str | None = None,
    *,
    format: str | None = None,  # noqa: A002
) -> Matrix:
    """Open the matrix of token vectors that a source holds.

    Opening reads headers only: the codes are memory-mapped (.npz, float64 and built-ins are
    loaded). From a hub the tensor's bytes are transferred, once, and kept.

    Args:
        source: A .safetensors, .gguf, .bin, .pt, .pth, .npy or .npz file, a folder or
            ``*.index.json`` of shards, ``hf:owner/name`` and then ``@revision``, ``:FILE`` or both,
            ``builtin:qwen3-4b`` or ``builtin:whisper-tiny.en``; V rows by d columns as an array or
            a torch tensor; or a state dict of such.
        tensor: The tensor's name; the output matrix by default, or the input one if tied.
        format: The format whose bits integers hold: ``"bfloat16"`` or ``"float16"`` of 16 bits,
            a float8 one of 8.

    Raises:
        FormatError: An unknown format.
        SourceError: There is no such source, it is damaged or of an unsupported kind, or it does
            not say which tensor to take.
    """
    check_kind(source, "source")
    array = given_array(source)
    if array is not None:
        held = stored_array("array", array)
        if format is not None:
            held = with_format({"array": held}, format)["array"]
        codes, fmt, _ = matrix_codes(held)
        return Matrix(codes, fmt, "array", "array", "given as an array")
    if not isinstance(source, (str, Path)):
        tensors = given_tensors(source) or {}
        tensors = tensors if format is None else with_format(tensors, format)
        return Model("state dict", tensors).matrix(tensor)
    if str(source).startswith(PREFIX):
        matrix = open_builtin(str(source))
        if tensor not in (None, matrix.tensor):
            raise SourceError(f"no tensor {tensor!r} there", where=source, remedy="leave it out")
        return matrix
    return open_model(source, format=format).matrix(tensor)


def inspect(
    source: str | Path,
    tensor: str | None = None,
    *,
    format: str | None = None,  # noqa: A002
) -> Inspection:
    """The tensors of a source that can hold token vectors, and which one is used.

    Args:
        source: As for `open_matrix`, but no array; only headers are read.
        tensor: The tensor wanted, by name, if any.
        format: As for `open_matrix`.

    Raises:
        SourceError: There is no such source, or it is damaged or of an unsupported kind.
    """
    if str(source).startswith(PREFIX):
        return _inspect_builtin(open_matrix(source, tensor))
    model = open_model(source, format=format)
    found = model.weighed.listed
    try:
        choice = model.choose(tensor)
        if choice.tensor not in [candidate.tensor for candidate in found]:
            found.append(Candidate(choice.tensor, "other"))
        check_matrix(choice.tensor)
    except SourceError as error:
        return Inspection(found, None, str(error), len(model.tensors), model)
    return Inspection(found, choice, None, len(model.tensors), model)


def _inspect_builtin(matrix: Matrix) -> Inspection:
    held = StoredTensor(
        matrix.tensor,
        Path(matrix.source),
        matrix.format.name,
        matrix.shape,
        matrix.n_rows * matrix.n_dimensions * matrix.format.bits // 8,
        lambda: np.asarray(matrix.codes[:]),
    )
    return Inspection([Candidate(held, "output")], Choice(held, matrix.reason), None, 1)
