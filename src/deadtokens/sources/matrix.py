"""The matrix of token vectors: raw bits of V rows by d columns, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from deadtokens.errors import SourceError, plain
from deadtokens.files import PartedTensor, StoredTensor
from deadtokens.formats import BFLOAT16, FLOAT16, FLOAT32, FORMATS, Float32Array, Format, get_format
from deadtokens.rows import MadeRows, RowChoice, RowCodes
from deadtokens.showing import Shown
from deadtokens.sources.quantised import can_dequantise, dequantised_rows, is_quantisation

if TYPE_CHECKING:
    from deadtokens.sources.model import Model

_BLOCK_BYTES = 1 << 24
_SAMPLED_ROWS = 256
# Integers that may hold the bits of numbers, in the spelling of each container, and their bits.
_INTEGERS = dict.fromkeys(("uint16", "int16", "U16", "I16"), 16) | dict.fromkeys(
    ("uint8", "int8", "U8", "I8"), 8
)

# A tokenizer.json, or the metadata of a file that holds the vocabulary itself.
TokenizerSource: TypeAlias = Path | Mapping[str, Any]


@dataclass(frozen=True)
class Quantised:
    """How a quantised tensor is stored.

    Attributes:
        kind: The quantisation, e.g. ``"Q4_K"``.
        raw: V x bytes of a row, uint8; memory-mapped where possible.
        self_contained: Whether a row's bytes say all of its numbers; scales beside them say more.
    """

    kind: str
    raw: npt.NDArray[np.uint8]
    self_contained: bool = True


@dataclass(frozen=True)
class Matrix(Shown):
    """A matrix of token vectors.

    Attributes:
        codes: V x d bit patterns, row i the vector of token i; memory-mapped where possible, and
            made of the rows asked for where they are quantised.
        format: The storage format of the codes; float32 for what quantised numbers stand for.
        source: What was opened, as the user named it.
        tensor: The tensor's name there.
        reason: Why this tensor was taken.
        token_ids: Length V, int64: the token of each row where the rows are not the vocabulary
            from 0 up; -1 where it is not known. None where row i is token i.
        default_rows: Which rows `measure` takes unless told otherwise.
        varying_only: Whether columns in which the rows agree were left out of the source.
        files: The files read, which results must not replace.
        note: What a reader of results from this source has to know, or "".
        warnings: Where the evidence for this matrix conflicts or is thin, a sentence each: they
            stand before every answer.
        notes: What else of the source was left out or not understood, a sentence each.
        quantised: How the numbers are stored, where they are no floating-point numbers.
        tokenizer: Where the tokenizer of the rows is, if the source brings one.
        model: What else the source holds; None for built-ins and arrays.
    """

    codes: RowCodes
    format: Format
    source: str
    tensor: str
    reason: str
    token_ids: npt.NDArray[np.int64] | None = None
    default_rows: Literal["duplicates", "all"] = "duplicates"
    varying_only: bool = False
    files: tuple[Path, ...] = ()
    note: str = ""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    quantised: Quantised | None = None
    tokenizer: TokenizerSource | None = None
    model: Model | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        shape = f"{self.n_rows:,} x {self.n_dimensions:,}"
        return plain(f"<Matrix {self.tensor}, {shape} {self.storage}, of {self.source}>")

    def with_tokenizer(self, tokenizer: TokenizerSource | str | None) -> Matrix:
        """The matrix with another tokenizer of its rows; None leaves it as it is."""
        return self if tokenizer is None else replace(self, tokenizer=_tokenizer(tokenizer))

    @property
    def storage(self) -> str:
        """How the numbers are stored: the format's name, or the quantisation's."""
        return self.quantised.kind if self.quantised else self.format.name

    @property
    def shape(self) -> tuple[int, int]:
        """(V, d)."""
        return self.n_rows, self.n_dimensions

    @property
    def n_rows(self) -> int:
        """V, the number of rows."""
        return int(self.codes.shape[0])

    @property
    def n_dimensions(self) -> int:
        """d, the number of columns."""
        return int(self.codes.shape[1])

    def values(self, rows: RowChoice = slice(None)) -> Float32Array:
        """Rows as float32 values: those of a slice, row numbers or a mask; by default all."""
        return self.format.values(self.codes[rows])


def _tokenizer(given: TokenizerSource | str) -> TokenizerSource:
    return Path(given) if isinstance(given, str) else given


def matrix_format(tensor: StoredTensor) -> Format | None:
    """The format a tensor of that dtype would be read in, None if it cannot be.

    It is the storage format, or float32 for what quantised numbers stand for.
    """
    if can_dequantise(tensor.dtype):
        return FLOAT32
    label = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}.get(
        tensor.dtype, tensor.dtype
    )
    label = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}.get(label, label)
    return FORMATS.get("float32" if label == "float64" else label)


def with_format(tensors: Mapping[str, StoredTensor], name: str) -> dict[str, StoredTensor]:
    """Tensors, of which those of integers as wide as a format's codes are read as these.

    Raises:
        FormatError: An unknown format.
    """
    fmt = get_format(name)
    return {
        key: _read_as(tensor, fmt) if _INTEGERS.get(tensor.dtype) == fmt.bits else tensor
        for key, tensor in tensors.items()
    }


def _read_as(tensor: StoredTensor, fmt: Format) -> StoredTensor:
    if isinstance(tensor, PartedTensor):
        return replace(tensor, dtype=fmt.name)
    return replace(tensor, dtype=fmt.name, read=lambda: tensor.read().view(fmt.float_dtype))


def _bits_of_16(tensor: StoredTensor) -> SourceError:
    """What 16-bit integers would be in either format, and how to say which."""
    rows = np.asarray(tensor.read()[:_SAMPLED_ROWS]).view(np.uint16)
    read = []
    for fmt in (BFLOAT16, FLOAT16):
        with np.errstate(invalid="ignore"):
            values = np.abs(fmt.values(rows))
        largest = float(np.max(values, initial=0, where=np.isfinite(values)))
        odd = "" if np.isfinite(values).all() else " and NaN or infinity"
        read.append(f"as {fmt.name} the first rows reach {largest:.3g}{odd}")
    return SourceError(
        f"tensor {tensor.name!r} holds 16-bit integers ({tensor.dtype}), which may be the bits of "
        f"numbers: {', '.join(read)}",
        where=tensor.path,
        remedy="say which with --format bfloat16 or --format float16",
    )


def check_matrix(tensor: StoredTensor) -> Format:
    """The format a tensor will be read in.

    Raises:
        SourceError: The tensor is not 2-D, is empty, or has a dtype that is no format here.
    """
    if len(tensor.shape) != 2 or 0 in tensor.shape:
        raise SourceError(
            f"tensor {tensor.name!r} has shape {list(tensor.shape)}, not rows by columns",
            where=tensor.path,
            remedy="name a 2-D tensor with --tensor",
        )
    fmt = matrix_format(tensor)
    if fmt is None and _INTEGERS.get(tensor.dtype) == 16 and not isinstance(tensor, PartedTensor):
        raise _bits_of_16(tensor)
    if fmt is None:
        unsupported = (
            "which the gguf package cannot dequantise"
            if is_quantisation(tensor.dtype)
            else "which is not supported"
        )
        raise SourceError(
            f"tensor {tensor.name!r} has dtype {tensor.dtype}, {unsupported}",
            where=tensor.path,
            remedy=f"store it as one of {', '.join(FORMATS)}",
        )
    return fmt


def matrix_codes(
    tensor: StoredTensor, transposed: bool = False
) -> tuple[RowCodes, Format, Quantised | None]:
    """The bit patterns of a 2-D tensor, without a copy, their format, and how they are stored.

    Where it is transposed, rows are its columns, gathered when they are asked for. float64 is the
    exception: it is copied to float32, which must hold every number. Of quantised numbers the bit
    patterns are those of the float32 they stand for, made row by row.

    Raises:
        SourceError: The tensor is not 2-D, is empty, or has a dtype that is no format here.
    """
    fmt = check_matrix(tensor)
    if transposed:
        return _transposed_codes(tensor, fmt), fmt, None
    if isinstance(tensor, PartedTensor):
        return _parted_codes(tensor, fmt), fmt, None
    array = tensor.read()
    if can_dequantise(tensor.dtype):
        codes = dequantised_rows(array, tensor.dtype, tensor.shape[1])
        return codes, fmt, Quantised(tensor.dtype, array)
    if array.dtype == np.float64:
        array = _as_float32(array, tensor)
    return array.view(fmt.code_dtype), fmt, None


def _parted_codes(tensor: PartedTensor, fmt: Format) -> RowCodes:
    """The bit patterns of a tensor that is read part by part."""
    rows = tensor.rows
    if tensor.dtype == "float64":
        return _as_float32(rows, tensor).view(fmt.code_dtype)
    return MadeRows(rows.shape, lambda choice: rows[choice].view(fmt.code_dtype))


def _transposed_codes(tensor: StoredTensor, fmt: Format) -> RowCodes:
    """The bit patterns of a tensor's columns, as rows."""
    if can_dequantise(tensor.dtype):
        raise SourceError(
            f"tensor {tensor.name!r} is quantised along its columns, which are the tokens",
            where=tensor.path,
            remedy="give the model that it was quantised from",
        )
    array = tensor.read()
    if array.dtype == np.float64:
        array = np.asarray(_as_float32(array, tensor))
    codes = array.view(fmt.code_dtype).T
    return MadeRows(codes.shape, lambda rows: np.ascontiguousarray(codes[rows]))


def _as_float32(array: RowCodes, tensor: StoredTensor) -> npt.NDArray[np.float32]:
    narrow = np.empty(array.shape, dtype=np.float32)
    step = max(1, _BLOCK_BYTES // (8 * array.shape[1]))
    for start in range(0, array.shape[0], step):
        wide = array[start : start + step]
        with np.errstate(over="ignore", under="ignore"):
            block = wide.astype(np.float32)
        inexact = (block != wide) & ~np.isnan(wide)
        if bool(inexact.any()):
            row, column = (int(axis[0]) for axis in np.nonzero(inexact))
            raise SourceError(
                f"tensor {tensor.name!r} is float64 and float32 does not hold every number "
                f"(row {start + row}, column {column}: {float(wide[row, column])!r})",
                where=tensor.path,
                remedy=f"store it as one of {', '.join(FORMATS)}",
            )
        narrow[start : start + step] = block
    return narrow
