"""Scales beside a matrix of few bits: what its codes are multiplied by to be the model's numbers.

FP8 and int8 checkpoints keep a scale for the whole tensor, for each row, each column or each block,
under names that differ by who wrote them. The numbers are code times scale, in float32, whatever
the name says (``weight_scale_inv`` is multiplied too).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deadtokens.errors import SourceError
from deadtokens.files import StoredTensor
from deadtokens.formats import Codes, Float32Array
from deadtokens.rows import MadeRows, RowChoice

_FP8 = {
    "F8_E4M3": "float8_e4m3fn",
    "float8_e4m3fn": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "float8_e5m2": "float8_e5m2",
}
_INT8 = ("I8", "int8")
_BLOCKS = (128, 64, 32, 256, 16, 512, 1024)
_SCALES = ("{name}_scale_inv", "{name}_scale", "{name}.scale", "{name}._scale", "{base}.scales",
           "{base}.scale", "{base}.weight_scale_2")  # fmt: skip
_PER_ROW_127 = "{base}.SCB"  # of LLM.int8(): a row's largest |value|, which 127 stands for
_ZERO_POINTS = ("{name}_zero_point", "{base}.zero_point", "{base}.zeros", "{base}.qzeros",
                "{base}.weight_offset")  # fmt: skip


@dataclass(frozen=True)
class Scaled:
    """A matrix of codes with its scales.

    Attributes:
        rows: V x d bit patterns of float32, made when they are asked for.
        kind: How it is stored, in words: ``"F8_E4M3 with a scale per row"``.
        raw: V x bytes of a row, uint8: the codes as they are stored.
    """

    rows: MadeRows
    kind: str
    raw: npt.NDArray[np.uint8]


def scaled(
    tensors: Mapping[str, StoredTensor], matrix: StoredTensor, block: Sequence[int] | None = None
) -> Scaled | None:
    """The numbers that a matrix of few bits stands for; None where no scales stand beside it.

    Args:
        tensors: What the source holds, by name.
        matrix: The chosen tensor, V x d.
        block: Rows and columns of a block, as a configuration says.

    Raises:
        SourceError: Its codes have zero points, or its scales fit in no known way.
    """
    if len(matrix.shape) != 2 or matrix.dtype not in (*_FP8, *_INT8):
        return None
    found = _beside(tensors, matrix.name, (*_SCALES, _PER_ROW_127))
    if found is None:
        if matrix.dtype in _INT8:
            raise SourceError(
                f"tensor {matrix.name!r} holds 8-bit integers, and no scales stand beside it",
                where=matrix.path,
                remedy="give the model that it was quantised from",
            )
        return None
    if (zero := _beside(tensors, matrix.name, _ZERO_POINTS)) is not None:
        raise SourceError(
            f"tensor {matrix.name!r} has zero points ({zero.name}), which are not read",
            where=matrix.path,
            remedy="give the model that it was quantised from",
        )
    scales = np.asarray(found.read()).astype(np.float32)
    if found.name.endswith(".SCB"):
        scales = scales / np.float32(127)
    layout = _layout(scales.shape, matrix.shape, block)
    if layout is None:
        raise SourceError(
            f"the scales {found.name!r} of shape {list(scales.shape)} fit tensor {matrix.name!r} "
            f"of shape {list(matrix.shape)} in no known way",
            where=matrix.path,
            remedy="give the model that it was quantised from",
        )
    words, high, wide = layout
    codes = matrix.read()
    if matrix.dtype in _FP8:
        import ml_dtypes

        codes = codes.view(getattr(ml_dtypes, _FP8[matrix.dtype]))
    shaped = scales.reshape(-(-matrix.shape[0] // high), -(-matrix.shape[1] // wide))
    rows = MadeRows(matrix.shape, _maker(codes, shaped, high, wide))
    return Scaled(rows, f"{matrix.dtype} with {words} ({found.name})", codes.view(np.uint8))


def _maker(
    codes: npt.NDArray[np.generic], scales: Float32Array, high: int, wide: int
) -> Callable[[RowChoice], Codes]:
    """What makes float32 bit patterns of chosen rows."""
    n_rows, n_columns = codes.shape
    numbers = np.arange(n_rows)
    columns = np.arange(n_columns) // wide

    def make(choice: RowChoice) -> Codes:
        chosen = np.atleast_1d(numbers[choice])
        with np.errstate(over="ignore", invalid="ignore"):
            values = codes[chosen].astype(np.float32)
            values *= scales[chosen // high][:, columns]
        made: Codes = values.view(np.uint32)
        return made

    return make


def _layout(
    shape: tuple[int, ...], matrix: tuple[int, ...], block: Sequence[int] | None
) -> tuple[str, int, int] | None:
    """What the scales are for, in words, and the rows and columns of one."""
    n_rows, n_columns = matrix
    if int(np.prod(shape)) == 1:
        return "one scale", n_rows, n_columns
    if shape in ((n_rows,), (n_rows, 1)):
        return "a scale per row", 1, n_columns
    if shape in ((n_columns,), (1, n_columns)):
        return "a scale per column", n_rows, 1
    if len(shape) != 2:
        return None
    said = list(block or ())
    high = _size(n_rows, shape[0], said[:1])
    wide = _size(n_columns, shape[1], said[1:2])
    if high is None or wide is None:
        return None
    return f"a scale per block of {high} x {wide}", high, wide


def _size(n: int, parts: int, said: Sequence[int]) -> int | None:
    """How many numbers a block has, of so many blocks in n; None if no size that is used fits."""
    tried = (*said, 1, *_BLOCKS, *([n // parts] if parts and n % parts == 0 else []), n)
    return next((size for size in tried if size > 0 and -(-n // size) == parts), None)


def _beside(
    tensors: Mapping[str, StoredTensor], name: str, patterns: Sequence[str]
) -> StoredTensor | None:
    base = name.removesuffix(".weight")
    named = (pattern.format(name=name, base=base) for pattern in patterns)
    return next((tensors[one] for one in named if one in tensors and one != name), None)
