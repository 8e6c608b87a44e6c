"""Storage formats as lattices: codes, ordinals, values, ULPs, and the boundaries between cells.

Notation (docs/method.md, section 1). A *code* is the bit pattern of a number, as an unsigned
integer. Its *ordinal* is the integer that numbers the representable values in order: 0 for both
zeros, +k for the k-th representable value above zero, -k for its negative. The *cell* of an
ordinal is the interval of reals that rounds to its value, and ``boundaries`` separates
neighbouring cells (equations 1.2 to 1.4).

Every format here is a subset of float32, which is therefore the type of all values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from deadtokens.errors import FormatError

Codes: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
Ordinals: TypeAlias = npt.NDArray[np.int64]
Float32Array: TypeAlias = npt.NDArray[np.float32]
Float64Array: TypeAlias = npt.NDArray[np.float64]
Intermediate: TypeAlias = Literal["float32", "exact"]


@dataclass(frozen=True)
class Format:
    """A binary floating-point storage format, as a lattice of numbers.

    Attributes:
        name: The name used everywhere in this package, e.g. ``"bfloat16"``.
        float_dtype: NumPy dtype of its values (from ml_dtypes where NumPy has none).
        code_dtype: Unsigned integer dtype of its bit patterns.
        fraction_bits: Stored significand bits, without the implicit leading one.
        min_exponent: Exponent of the smallest normal number, 2 ** min_exponent.
        max_ordinal: Ordinal of the largest finite number.
        has_infinity: Whether overflow gives an infinity; otherwise it gives NaN.
    """

    name: str
    float_dtype: np.dtype[Any]
    code_dtype: np.dtype[Any]
    fraction_bits: int
    min_exponent: int
    max_ordinal: int
    has_infinity: bool

    @property
    def bits(self) -> int:
        """Width of a code in bits."""
        return self.code_dtype.itemsize * 8

    @property
    def sign_bit(self) -> int:
        """The code of -0.0; every code's low bits without it are its magnitude."""
        return 1 << (self.bits - 1)

    @property
    def overflow_ordinal(self) -> int:
        """The ordinal that stands for overflow: infinity's, or NaN's where there is none."""
        return self.max_ordinal + 1

    def finite(self, codes: Codes) -> npt.NDArray[np.bool_]:
        """Whether each code is a finite number (neither NaN nor an infinity)."""
        return np.asarray((codes & (self.sign_bit - 1)) <= self.max_ordinal)

    def ordinals(self, codes: Codes) -> Ordinals:
        """Ordinals of codes: int64, monotone in the value, 0 for both zeros.

        An infinity has the ordinal next to the largest finite number's.

        Raises:
            FormatError: A code is NaN, which has no place in the order.
        """
        magnitude = (codes & (self.sign_bit - 1)).astype(np.int64)
        if magnitude.size and int(magnitude.max()) > self.max_ordinal + self.has_infinity:
            raise FormatError(
                f"{int((magnitude > self.max_ordinal + self.has_infinity).sum())} NaN among the "
                f"{self.name} codes, which have no ordinal",
                remedy="leave rows with NaN out",
            )
        return np.where(codes & self.sign_bit, -magnitude, magnitude)

    def codes(self, ordinals: npt.NDArray[np.signedinteger[Any]]) -> Codes:
        """Codes of ordinals; the inverse of `ordinals` (ordinal 0 gives +0.0).

        Raises:
            FormatError: An ordinal lies beyond the format's largest number (or infinity).
        """
        magnitude: Ordinals = np.abs(ordinals.astype(np.int64))
        if magnitude.size and int(magnitude.max()) > self.max_ordinal + self.has_infinity:
            raise FormatError(
                f"ordinal {int(ordinals[np.unravel_index(magnitude.argmax(), ordinals.shape)])} "
                f"is beyond {self.name}, whose largest is {self.max_ordinal}"
            )
        return np.where(ordinals < 0, magnitude | self.sign_bit, magnitude).astype(self.code_dtype)

    def values(self, codes: Codes) -> Float32Array:
        """Values of codes as float32, which holds every value of every format exactly."""
        codes = np.ascontiguousarray(codes, dtype=self.code_dtype)
        return codes.view(self.float_dtype).astype(np.float32, copy=False)

    def values_of(self, ordinals: npt.NDArray[np.signedinteger[Any]]) -> Float32Array:
        """Values of ordinals as float32.

        Raises:
            FormatError: An ordinal lies beyond the format's largest number (or infinity).
        """
        return self.values(self.codes(ordinals))

    def round(self, values: Float32Array) -> Codes:
        """Codes of float32 values rounded to nearest, ties to even; overflow as `has_infinity`.

        float64 is not accepted: casting it here would round twice.

        Raises:
            FormatError: The values are not float32.
        """
        if values.dtype != np.float32:
            raise FormatError(f"values to round are {values.dtype}", remedy="pass float32")
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(self.float_dtype).view(self.code_dtype)

    def neighbours(self, codes: Codes) -> tuple[Codes, Codes]:
        """Codes of the next representable number below and above each code.

        Raises:
            FormatError: A code is NaN or has no neighbour on one side (the extreme ones).
        """
        ordinals = self.ordinals(codes)
        return self.codes(ordinals - 1), self.codes(ordinals + 1)

    def ulp(self, codes: Codes) -> Float64Array:
        """The ULP at each code: the spacing of the format in that number's binade, as float64.

        It is the gap to the next number of larger magnitude; the smallest subnormal at zero.

        Raises:
            FormatError: A code is NaN or infinite.
        """
        if not bool(np.all(self.finite(codes))):
            raise FormatError(f"a {self.name} code that is not finite has no ULP")
        biased = (codes & (self.sign_bit - 1)).astype(np.int64) >> self.fraction_bits
        exponent = np.maximum(biased - 1, 0) + self.min_exponent - self.fraction_bits
        return np.asarray(np.ldexp(1.0, exponent))

    def boundaries(
        self, ordinals: Ordinals, intermediate: Intermediate = "float32"
    ) -> Float64Array:
        """The real number that separates cell ``ordinals`` from cell ``ordinals + 1``, float64.

        A real number x below it is stored as ``ordinals`` or less, above it as ``ordinals + 1`` or
        more; x equal to it goes to whichever of the two has an even ordinal.

        Args:
            ordinals: Ordinals whose upper boundary is wanted, any shape; the largest finite one
                has a boundary to overflow.
            intermediate: ``"float32"`` if x is rounded to float32 first and to the format
                afterwards, as code that adds in float32 does (equations 1.3 and 1.4); ``"exact"``
                if it is rounded once (equation 1.2).

        Raises:
            FormatError: An ordinal without a cell above it, or an unknown ``intermediate``.
        """
        if intermediate not in ("float32", "exact"):
            raise FormatError(f"intermediate {intermediate!r}", remedy="use 'float32' or 'exact'")
        outside = (ordinals < -self.overflow_ordinal) | (ordinals > self.max_ordinal)
        if bool(np.any(outside)):
            raise FormatError(
                f"ordinal {int(ordinals[outside].flat[0])} has no {self.name} cell above it"
            )
        midpoints = (self._extended_values(ordinals) + self._extended_values(ordinals + 1)) / 2
        if intermediate == "exact" or self.name == "float32":
            return midpoints
        # m is a float32 number with an even significand, so sums half a float32 step from it are
        # rounded onto it, and m itself goes to the neighbour with the even ordinal.
        middle = midpoints.astype(np.float32)
        towards = np.where(ordinals % 2 == 0, np.float32(np.inf), np.float32(-np.inf))
        return (midpoints + np.nextafter(middle, towards).astype(np.float64)) / 2

    def _extended_values(self, ordinals: Ordinals) -> Float64Array:
        """Values of ordinals, with overflow counted as the number that would come next."""
        magnitude = np.abs(ordinals)
        biased = magnitude >> self.fraction_bits
        fraction = magnitude - (np.maximum(biased - 1, 0) << self.fraction_bits)
        exponent = np.maximum(biased - 1, 0) + self.min_exponent - self.fraction_bits
        return np.asarray(np.sign(ordinals) * np.ldexp(fraction.astype(np.float64), exponent))


def _format(name: str, dtype: npt.DTypeLike) -> Format:
    float_dtype = np.dtype(dtype)
    info = ml_dtypes.finfo(float_dtype)  # type: ignore[no-untyped-call]
    code_dtype = np.dtype(f"u{float_dtype.itemsize}")
    infinity = np.array(np.inf).astype(float_dtype)
    return Format(
        name=name,
        float_dtype=float_dtype,
        code_dtype=code_dtype,
        fraction_bits=int(info.nmant),
        min_exponent=int(info.minexp),
        max_ordinal=int(np.array(info.max).view(code_dtype)),
        has_infinity=bool(np.isinf(infinity.astype(np.float32))),
    )


BFLOAT16 = _format("bfloat16", ml_dtypes.bfloat16)
FLOAT16 = _format("float16", np.float16)
FLOAT32 = _format("float32", np.float32)
FLOAT8_E4M3FN = _format("float8_e4m3fn", ml_dtypes.float8_e4m3fn)
FLOAT8_E5M2 = _format("float8_e5m2", ml_dtypes.float8_e5m2)

FORMATS: dict[str, Format] = {
    fmt.name: fmt for fmt in (BFLOAT16, FLOAT16, FLOAT32, FLOAT8_E4M3FN, FLOAT8_E5M2)
}


def get_format(name: str) -> Format:
    """The format of that name.

    Raises:
        FormatError: There is none.
    """
    try:
        return FORMATS[name]
    except KeyError:
        raise FormatError(
            f"unknown storage format {name!r}", remedy=f"use one of {', '.join(FORMATS)}"
        ) from None


def effective_format(codes: Codes, storage: Format) -> Format:
    """The narrowest lattice that the numbers stored as ``codes`` lie on.

    Training checkpoints are often bfloat16 numbers kept as float32. float32 storage is taken as
    bfloat16 if every number is one, else as float16 if every number is one, else as float32; any
    other storage is its own format.
    """
    return narrowest(storage, (codes[block] for block in _blocks(codes)))


def narrowest(storage: Format, blocks: Iterable[Codes]) -> Format:
    """`effective_format` of numbers that come in blocks, each looked at once."""
    if storage is not FLOAT32:
        return storage
    left = [BFLOAT16, FLOAT16]
    for codes in blocks:
        left = [candidate for candidate in left if is_exact(codes, storage, candidate)]
        if not left:
            return storage
    return left[0]


def is_exact(codes: Codes, storage: Format, target: Format) -> bool:
    """Whether ``target`` represents every number stored as ``codes`` exactly (NaN excepted)."""

    def exact(block: Codes) -> bool:
        values = storage.values(block)
        again = target.values(target.round(values))
        return bool(np.all((again == values) | np.isnan(values)))

    return all(exact(codes[block]) for block in _blocks(codes))


def convert(codes: Codes, storage: Format, target: Format) -> Codes:
    """Codes in ``target`` of the numbers stored as ``codes``, rounding where it must."""
    if storage is target:
        return codes
    converted = np.empty(codes.shape, dtype=target.code_dtype)
    for block in _blocks(codes):
        converted[block] = target.round(storage.values(codes[block]))
    return converted


def _blocks(codes: Codes) -> Iterator[slice]:
    """Slices over the first axis, so that a large memory-mapped array is not held as values."""
    step = max(1, (1 << 22) // max(1, int(np.prod(codes.shape[1:]))))
    for start in range(0, len(codes), step):
        yield slice(start, start + step)
