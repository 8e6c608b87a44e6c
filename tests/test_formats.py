"""Formats as lattices: every code of the small formats, and the boundaries against arithmetic."""

from __future__ import annotations

import itertools
from dataclasses import FrozenInstanceError
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from deadtokens.errors import FormatError
from deadtokens.formats import (
    BFLOAT16,
    FLOAT8_E4M3FN,
    FLOAT8_E5M2,
    FLOAT16,
    FLOAT32,
    FORMATS,
    Codes,
    Format,
    Intermediate,
    _blocks,
    convert,
    effective_format,
    get_format,
    is_exact,
)

SMALL = [BFLOAT16, FLOAT16, FLOAT8_E4M3FN, FLOAT8_E5M2]
every_small_format = pytest.mark.parametrize("fmt", SMALL, ids=lambda fmt: fmt.name)
every_format = pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)


def every_code(fmt: Format) -> Codes:
    return np.arange(1 << fmt.bits, dtype=np.uint32).astype(fmt.code_dtype)


def as_float64(codes: Codes, fmt: Format) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # signalling NaN
        return codes.view(fmt.float_dtype).astype(np.float64)


def finite_codes(fmt: Format) -> Codes:
    codes = every_code(fmt)
    return codes[np.isfinite(as_float64(codes, fmt))]


def sample_of_ordinals(fmt: Format) -> npt.NDArray[np.int64]:
    """All finite ordinals of a small format; of float32 those around every binade and some more."""
    if fmt.bits <= 16:
        return np.arange(-fmt.max_ordinal, fmt.max_ordinal + 1)
    binades = np.arange(0, 255, dtype=np.int64) << fmt.fraction_bits
    near = (binades[:, None] + np.arange(-3, 4)).ravel()
    random = np.random.default_rng(0).integers(0, fmt.max_ordinal, 20_000)
    positive = np.concatenate([near[near >= 0], random])
    return np.unique(np.concatenate([positive, -positive]))


@every_format
def test_facts_are_those_of_ml_dtypes(fmt: Format) -> None:
    info: Any = ml_dtypes.finfo(fmt.float_dtype)  # type: ignore[no-untyped-call]
    assert fmt.bits == info.bits
    assert fmt.fraction_bits == info.nmant
    assert 2.0**fmt.min_exponent == float(info.smallest_normal)
    assert fmt.has_infinity == (fmt is not FLOAT8_E4M3FN)
    assert fmt.values(fmt.codes(np.array([fmt.max_ordinal])))[0] == np.float32(info.max)


@every_small_format
def test_finite_agrees_with_the_values_of_every_code(fmt: Format) -> None:
    codes = every_code(fmt)
    expected = np.isfinite(as_float64(codes, fmt))
    assert np.array_equal(fmt.finite(codes), expected)


@every_small_format
def test_values_are_those_of_ml_dtypes_for_every_code(fmt: Format) -> None:
    codes = every_code(fmt)
    with np.errstate(invalid="ignore"):
        expected = codes.view(fmt.float_dtype).astype(np.float32)
    values = fmt.values(codes)
    assert values.dtype == np.float32
    assert np.array_equal(values, expected, equal_nan=True)
    assert np.array_equal(np.signbit(values), np.signbit(expected))


@every_small_format
def test_ordinals_number_the_finite_values_in_order(fmt: Format) -> None:
    codes = finite_codes(fmt)
    ordinals = fmt.ordinals(codes)
    distinct_values = np.unique(as_float64(codes, fmt))
    assert np.array_equal(np.unique(ordinals), np.arange(-fmt.max_ordinal, fmt.max_ordinal + 1))
    position = np.searchsorted(distinct_values, fmt.values(codes).astype(np.float64))
    assert np.array_equal(ordinals, position - fmt.max_ordinal)


@every_format
def test_codes_and_ordinals_round_trip(fmt: Format) -> None:
    ordinals = sample_of_ordinals(fmt)
    codes = fmt.codes(ordinals)
    assert codes.dtype == fmt.code_dtype
    assert np.array_equal(fmt.ordinals(codes), ordinals)
    assert np.array_equal(fmt.round(fmt.values(codes)), codes)


@every_format
def test_both_zeros_have_ordinal_zero(fmt: Format) -> None:
    zeros = np.array([0, fmt.sign_bit], dtype=fmt.code_dtype)
    assert np.array_equal(fmt.ordinals(zeros), [0, 0])
    assert np.array_equal(np.signbit(fmt.values(zeros)), [False, True])
    assert fmt.codes(np.array([0]))[0] == 0


@every_format
def test_ordinals_may_be_of_a_narrow_type(fmt: Format) -> None:
    narrow = np.array([-7, 0, 7], dtype=np.int16)
    assert np.array_equal(fmt.codes(narrow), fmt.codes(narrow.astype(np.int64)))
    assert np.array_equal(fmt.values_of(narrow), fmt.values(fmt.codes(narrow)))


@every_format
def test_codes_may_be_of_either_byte_order(fmt: Format) -> None:
    codes = fmt.codes(np.array([1, -1, fmt.max_ordinal]))
    swapped = codes.astype(codes.dtype.newbyteorder())
    assert np.array_equal(fmt.values(swapped), fmt.values(codes))


def test_values_of_float32_are_its_codes_looked_at() -> None:
    codes = FLOAT32.codes(np.arange(9))
    assert np.shares_memory(FLOAT32.values(codes), codes)


def test_signalling_nan_is_rounded_without_a_warning() -> None:
    signalling = np.array([0x7F80_0001, 0xFF80_0001], dtype=np.uint32).view(np.float32)
    for fmt in FORMATS.values():
        assert np.isnan(fmt.values(fmt.round(signalling))).all()


@every_format
def test_one_number_out_of_place_among_others_is_refused(fmt: Format) -> None:
    codes = fmt.round(np.array([1.0, np.nan], dtype=np.float32))
    with pytest.raises(FormatError, match="1 NaN"):
        fmt.ordinals(codes)
    with pytest.raises(FormatError, match="no ULP"):
        fmt.ulp(codes)
    beyond = np.array([1, fmt.max_ordinal + 2])
    with pytest.raises(FormatError, match=f"ordinal {fmt.max_ordinal + 2} is beyond"):
        fmt.codes(beyond)
    with pytest.raises(FormatError, match=f"ordinal {fmt.max_ordinal + 2} has no"):
        fmt.boundaries(beyond)


@every_format
def test_infinities_come_next_to_the_largest_numbers_and_nan_nowhere(fmt: Format) -> None:
    infinite = fmt.round(np.array([np.inf, -np.inf], dtype=np.float32))
    if fmt.has_infinity:
        assert np.array_equal(fmt.ordinals(infinite), [fmt.overflow_ordinal, -fmt.overflow_ordinal])
        assert np.array_equal(fmt.codes(fmt.ordinals(infinite)), infinite)
        assert not fmt.finite(infinite).any()
    nan = fmt.round(np.array([np.nan], dtype=np.float32))
    with pytest.raises(FormatError, match="NaN"):
        fmt.ordinals(nan)
    with pytest.raises(FormatError, match="beyond"):
        fmt.codes(np.array([fmt.max_ordinal + 1 + fmt.has_infinity]))


@every_small_format
def test_every_nan_code_is_refused(fmt: Format) -> None:
    codes = every_code(fmt)
    nan = codes[np.isnan(as_float64(codes, fmt))]
    assert nan.size == 2 * (2**fmt.fraction_bits - 1 if fmt.has_infinity else 1)
    for code in nan:
        with pytest.raises(FormatError, match="NaN"):
            fmt.ordinals(np.array([code]))


@every_format
def test_ulp_is_the_gap_to_the_next_number_of_larger_magnitude(fmt: Format) -> None:
    ordinals = sample_of_ordinals(fmt)
    ordinals = ordinals[np.abs(ordinals) < fmt.max_ordinal]
    outward = ordinals + np.where(ordinals < 0, -1, 1)
    here, next_one = (fmt.values(fmt.codes(o)).astype(np.float64) for o in (ordinals, outward))
    assert np.array_equal(fmt.ulp(fmt.codes(ordinals)), np.abs(next_one - here))


@every_format
def test_ulp_is_constant_in_a_binade_and_doubles_between(fmt: Format) -> None:
    codes = fmt.codes(np.arange(0, fmt.max_ordinal, 1 << fmt.fraction_bits))
    ulps = fmt.ulp(codes)
    assert ulps[0] == ulps[1] == 2.0 ** (fmt.min_exponent - fmt.fraction_bits)
    assert np.array_equal(ulps[2:] / ulps[1:-1], np.full(ulps.size - 2, 2.0))
    largest = fmt.codes(np.array([fmt.max_ordinal]))
    assert fmt.ulp(largest)[0] == ulps[-1]


@every_format
def test_ulp_of_numbers_that_are_none_is_refused(fmt: Format) -> None:
    with pytest.raises(FormatError, match="no ULP"):
        fmt.ulp(fmt.round(np.array([np.inf], dtype=np.float32)))


@every_format
def test_neighbours_are_one_ordinal_away(fmt: Format) -> None:
    inner = fmt.codes(np.array([-1, 0, 1, fmt.max_ordinal - 1, 1 - fmt.max_ordinal]))
    below, above = fmt.neighbours(inner)
    assert np.array_equal(fmt.ordinals(below), fmt.ordinals(inner) - 1)
    assert np.array_equal(fmt.ordinals(above), fmt.ordinals(inner) + 1)
    extreme = np.array([fmt.max_ordinal + fmt.has_infinity])
    with pytest.raises(FormatError, match="beyond"):
        fmt.neighbours(fmt.codes(extreme))


# --- boundaries ---


def boundary_ordinals(fmt: Format) -> npt.NDArray[np.int64]:
    """Lower ordinals of neighbouring cells: all of the small formats, with the overflow cells."""
    ordinals = sample_of_ordinals(fmt)
    return np.concatenate([[-fmt.overflow_ordinal], ordinals])


def literal_cells(fmt: Format, sums: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Ordinals of float32 numbers rounded to the format by ml_dtypes, overflow as the next one."""
    codes = fmt.round(sums)
    finite = fmt.finite(codes)
    cells = np.where(np.signbit(sums), -fmt.overflow_ordinal, fmt.overflow_ordinal)
    cells[finite] = fmt.ordinals(codes[finite])
    return cells


@every_small_format
def test_exact_boundaries_are_midpoints(fmt: Format) -> None:
    ordinals = np.arange(-fmt.max_ordinal, fmt.max_ordinal)
    values = fmt.values(fmt.codes(np.append(ordinals, fmt.max_ordinal))).astype(np.float64)
    assert np.array_equal(fmt.boundaries(ordinals, "exact"), (values[1:] + values[:-1]) / 2)


@every_small_format
def test_float32_numbers_either_side_of_an_exact_boundary_are_rounded_apart(fmt: Format) -> None:
    """Every boundary m is a float32 number: m itself goes to the even one, its neighbours apart."""
    ordinals = boundary_ordinals(fmt)
    middle = fmt.boundaries(ordinals, "exact").astype(np.float32)
    assert np.array_equal(middle.astype(np.float64), fmt.boundaries(ordinals, "exact"))
    assert np.array_equal(literal_cells(fmt, np.nextafter(middle, np.float32(-np.inf))), ordinals)
    assert np.array_equal(
        literal_cells(fmt, np.nextafter(middle, np.float32(np.inf))), ordinals + 1
    )
    even = np.where(ordinals % 2 == 0, ordinals, ordinals + 1)
    assert np.array_equal(literal_cells(fmt, middle), even)


def float32_sums_near(
    boundary: npt.NDArray[np.float64], gap: npt.NDArray[np.float64], steps: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Float32 numbers c, z whose exact sum is ``steps`` float32 gaps from the boundary.

    c is the float32 number below the boundary, z the small rest: quarter gaps are exact in z.
    """
    target = boundary + steps * gap
    c = (np.floor(target / gap - 4) * gap).astype(np.float32)
    z = (target - c.astype(np.float64)).astype(np.float32)
    assert np.array_equal(c.astype(np.float64) + z.astype(np.float64), target)
    return c, z


@every_small_format
@pytest.mark.parametrize("steps", [-3, -1.5, -1, -0.75, -0.25, 0, 0.25, 0.75, 1, 1.5, 3])
def test_float32_boundaries_against_literal_addition_and_rounding(
    fmt: Format, steps: float
) -> None:
    """Sums c + z placed within three float32 gaps of every boundary land where it says.

    Numbers near which float32 is itself subnormal have no room for quarter gaps; see below.
    """
    ordinals = boundary_ordinals(fmt)
    boundary = fmt.boundaries(ordinals, "float32")
    middle = fmt.boundaries(ordinals, "exact")
    gap = 2 * np.abs(boundary - middle)  # the float32 gap on the side that the rule looks at
    normal = (np.abs(middle) > 2.0**-120) & (np.abs(middle) < 2.0**127)
    ordinals, boundary, gap = ordinals[normal], boundary[normal], gap[normal]
    c, z = float32_sums_near(boundary, gap, steps)
    cells = literal_cells(fmt, c + z)
    # On the boundary itself the even neighbour has it.
    upper = steps > 0 or (steps == 0) & (ordinals % 2 != 0)
    assert np.array_equal(cells, ordinals + upper)


@pytest.mark.parametrize("fmt", [BFLOAT16, FLOAT16], ids=lambda fmt: fmt.name)
def test_float32_boundaries_of_random_sums(fmt: Format) -> None:
    """Random float32 c + z, among them sums of many binades and of float32 subnormals."""
    rng = np.random.default_rng(1)
    exponents = rng.integers(-148, 14, 400_000)
    c = np.ldexp(rng.uniform(-1, 1, exponents.size), exponents).astype(np.float32)
    z = c * rng.choice([2.0**-7, 2.0**-12, 2.0**-20, 1.0], c.size) * rng.normal(size=c.size)
    z32 = z.astype(np.float32)
    cells = literal_cells(fmt, c + z32)
    exact = c.astype(np.float64) + z32.astype(np.float64)
    # A float64 sum of float32 numbers less than 2**29 apart in size is exact.
    comparable = (np.abs(z32) > np.abs(c) * 2.0**-28) | (z32 == 0)
    lower = fmt.boundaries(cells - 1)
    upper = fmt.boundaries(cells)
    inside = (lower <= exact) & (exact <= upper)
    assert comparable.mean() > 0.9
    assert inside[comparable].all()


def test_float32_storage_has_one_rounding_only() -> None:
    ordinals = sample_of_ordinals(FLOAT32)[:-1]
    assert np.array_equal(
        FLOAT32.boundaries(ordinals, "float32"), FLOAT32.boundaries(ordinals, "exact")
    )


@every_small_format
def test_double_rounding_moves_every_boundary_towards_the_odd_neighbour(fmt: Format) -> None:
    ordinals = boundary_ordinals(fmt)
    shift = fmt.boundaries(ordinals, "float32") - fmt.boundaries(ordinals, "exact")
    assert np.array_equal(shift > 0, ordinals % 2 == 0)
    assert (shift != 0).all()


@every_format
@pytest.mark.parametrize("intermediate", ["float32", "exact"])
def test_boundaries_increase_and_are_symmetric(fmt: Format, intermediate: Intermediate) -> None:
    ordinals = np.arange(-min(fmt.overflow_ordinal, 70_000), min(fmt.max_ordinal, 69_999) + 1)
    boundaries = fmt.boundaries(ordinals, intermediate)
    assert (np.diff(boundaries) > 0).all()
    assert np.array_equal(boundaries, -boundaries[::-1])


@every_format
def test_ordinals_without_a_cell_above_have_no_boundary(fmt: Format) -> None:
    for ordinal in (fmt.overflow_ordinal, -fmt.overflow_ordinal - 1):
        with pytest.raises(FormatError, match=r"no .* cell above"):
            fmt.boundaries(np.array([ordinal]))
    with pytest.raises(FormatError, match="intermediate"):
        fmt.boundaries(np.array([0]), "float64")  # type: ignore[arg-type]


# --- choosing and converting ---


def test_names_of_formats() -> None:
    assert list(FORMATS) == ["bfloat16", "float16", "float32", "float8_e4m3fn", "float8_e5m2"]
    assert all(fmt.name == name for name, fmt in FORMATS.items())
    assert [get_format(name) for name in FORMATS] == list(FORMATS.values())
    with pytest.raises(FormatError, match=r"unknown storage format 'fp4'.*bfloat16"):
        get_format("fp4")


def test_only_float32_is_rounded() -> None:
    with pytest.raises(FormatError, match="float64"):
        BFLOAT16.round(np.array([1.0]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, -0.0, 2.0**126], BFLOAT16),
        ([1.0, 2049.0], FLOAT32),
        ([1.0, 1 + 2**-10], FLOAT16),
        ([1.0, 2.0**-24, 2.0**-140], FLOAT32),
        ([1.0, np.nan], BFLOAT16),
        ([], BFLOAT16),
    ],
)
def test_effective_format_of_float32_storage(values: list[float], expected: Format) -> None:
    codes = np.array([values], dtype=np.float32).view(np.uint32)
    assert effective_format(codes, FLOAT32) is expected
    converted = convert(codes, FLOAT32, expected)
    assert converted.dtype == expected.code_dtype
    assert np.array_equal(
        expected.values(converted), np.array([values], dtype=np.float32), equal_nan=True
    )


@pytest.mark.parametrize("row", [0, 1, 2])
def test_one_inexact_number_in_a_large_array_counts(row: int) -> None:
    """The rows are as long as the blocks in which they are looked at, and converted."""
    codes = np.zeros((3, 1 << 22), dtype=np.uint32)
    codes[row, -1] = FLOAT32.round(np.array([1 + 2**-10], dtype=np.float32))[0]
    assert not is_exact(codes, FLOAT32, BFLOAT16)
    assert effective_format(codes, FLOAT32) is FLOAT16
    converted = convert(codes, FLOAT32, FLOAT16)
    assert np.array_equal(np.flatnonzero(converted), [(row + 1 << 22) - 1])
    assert is_exact(np.delete(codes, row, axis=0), FLOAT32, BFLOAT16)


def test_formats_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        BFLOAT16.name = "other"  # type: ignore[misc]


@every_small_format
def test_other_storage_is_its_own_format(fmt: Format) -> None:
    codes = np.zeros((2, 2), dtype=fmt.code_dtype)
    assert effective_format(codes, fmt) is fmt
    assert convert(codes, fmt, fmt) is codes


@pytest.mark.parametrize(
    ("shape", "ends"),
    [
        ((5, 1 << 21), [0, 2, 4, 6]),
        ((2, 3, 1 << 20), [0, 1, 2]),
        ((2, 1 << 23), [0, 1, 2]),
        (((1 << 22) + 1,), [0, 1 << 22, 1 << 23]),
        ((3, 0), [0, 1 << 22]),
        ((0, 3), [0]),
    ],
)
def test_large_arrays_are_looked_at_four_million_numbers_at_a_time(
    shape: tuple[int, ...], ends: list[int]
) -> None:
    codes = np.broadcast_to(np.uint16(0), shape)
    assert list(_blocks(codes)) == [slice(*pair) for pair in itertools.pairwise(ends)]
