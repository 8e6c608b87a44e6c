"""Cell probabilities against enumeration of the literal rounding, and validation at the door."""

from __future__ import annotations

import math
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from scipy import integrate, special

from deadtokens import cloud as cloud_module
from deadtokens.cloud import Cloud
from deadtokens.errors import FormatError, SelectionError
from deadtokens.formats import FORMATS, Format, Intermediate
from deadtokens.noise import Noise

SQRT2, SQRT3 = math.sqrt(2), math.sqrt(3)


def student_centroid(d: int = 2560, rms: float = 3.282e-3) -> np.ndarray[Any, np.dtype[np.float32]]:
    draws = np.random.default_rng(20).standard_t(4.5, d)
    return np.asarray(draws * rms / np.sqrt(np.mean(draws**2)), dtype=np.float32)


def quantiles(noise: Noise, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Evenly spaced quantiles of noise of standard deviation 1."""
    u = (np.arange(count) + 0.5) / count
    if noise == "gaussian":
        return np.asarray(special.ndtri(u))
    if noise == "laplace":
        return np.where(u < 0.5, np.log(2 * u), -np.log(2 * (1 - u))) / SQRT2
    return (2 * u - 1) * SQRT3


def store(x: Any, fmt: Format, intermediate: Intermediate) -> Any:
    """Ordinals of float64 numbers stored the literal way."""
    if intermediate == "float32":
        return fmt.ordinals(fmt.round(x.astype(np.float32)))
    # ml_dtypes and NumPy round float64 to narrow formats once or twice, so search instead: the
    # nearest representable number, ties to the even ordinal.
    codes = fmt.codes(np.arange(-fmt.max_ordinal, fmt.max_ordinal + 1))
    values = fmt.values(codes).astype(np.float64)
    right = np.clip(np.searchsorted(values, x), 1, values.size - 1)
    down, up = x - values[right - 1], values[right] - x
    left_even = (right - 1 - fmt.max_ordinal) % 2 == 0
    take_left = (down < up) | ((down == up) & left_even)
    return right - take_left - fmt.max_ordinal


@pytest.mark.parametrize("noise", ["gaussian", "laplace", "uniform"])
@pytest.mark.parametrize("intermediate", ["float32", "exact"])
@pytest.mark.parametrize(
    ("fmt", "centroid", "sigma"),
    [
        ("bfloat16", 1.00390625 + 2.0**-22, 2.0**-23),  # at a boundary, sigma at the float32 gap
        ("bfloat16", 1.01171875 - 2.0**-23, 2.0**-24),
        ("bfloat16", 3.3e-3, 1e-5),
        ("bfloat16", -3.3e-3, 4e-3),
        ("bfloat16", 0.0, 1e-39),
        ("float16", 6e-5, 2e-7),
        ("float16", -0.3, 1e-3),
        ("float8_e4m3fn", 0.02, 0.01),
        ("float8_e5m2", -3.0, 1.5),
    ],
)
def test_probabilities_are_those_of_literal_rounding(
    fmt: str, centroid: float, sigma: float, intermediate: Intermediate, noise: Noise
) -> None:
    count = 200_000
    cloud = Cloud([centroid], sigma, noise=noise, format=fmt, intermediate=intermediate)
    ordinals, probabilities = cloud.cells(0)
    x = cloud.centroid[0] + sigma * quantiles(noise, count)
    literal = store(x, cloud.format, intermediate)
    assert ordinals[0] <= literal.min()
    assert literal.max() <= ordinals[-1]
    # x is monotone: between two boundaries, cumulative counts are off by less than one each, and
    # by what the float64 sum x moves a boundary when sigma is tiny.
    below = np.searchsorted(literal, ordinals, side="right") / count
    slack = 1.5 / count + 2 * abs(centroid) * 2.0**-52 / sigma
    assert np.abs(np.cumsum(probabilities) - below).max() <= slack


def test_midpoint_boundaries_would_be_noticed() -> None:
    # The negative control of the test above: the same number without the float32 rounding.
    c, sigma = 1.00390625 + 2.0**-22, 2.0**-23
    rounded = Cloud([c], sigma).cells(0)[1]
    exact = Cloud([c], sigma, intermediate="exact").cells(0)[1]
    assert np.abs(rounded - exact).max() > 0.01


def test_far_tails_and_narrow_cells_keep_their_precision() -> None:
    ordinals, probabilities = Cloud([1.0], 2.0**-9).cells(0)
    fmt = FORMATS["bfloat16"]
    low = (fmt.boundaries(ordinals - 1) - 1.0) * 2.0**9
    high = (fmt.boundaries(ordinals) - 1.0) * 2.0**9
    tail = (low > 6) | (high < -6)
    assert tail.sum() >= 2
    for a, b, p in zip(low[tail], high[tail], probabilities[tail], strict=True):
        near, far = sorted((abs(a), abs(b)))
        expected = (math.erfc(near / SQRT2) - math.erfc(far / SQRT2)) / 2
        assert p == pytest.approx(expected, rel=1e-12)

    ordinals, probabilities = Cloud([0.0], 1e-3).cells(0)
    widths = (fmt.boundaries(ordinals) - fmt.boundaries(ordinals - 1)) * 1e3
    starts = fmt.boundaries(ordinals - 1) * 1e3
    for i in range(0, ordinals.size, 997):
        if widths[i] < 1e-6:
            # Far narrower than float64 resolves a difference of distributions.
            expected = math.exp(-((starts[i] + widths[i] / 2) ** 2) / 2) / math.sqrt(2 * math.pi)
            assert probabilities[i] == pytest.approx(expected * widths[i], rel=1e-11)
        elif probabilities[i] > 1e-10:
            area = integrate.quad(
                lambda t: math.exp(-t * t / 2) / math.sqrt(2 * math.pi),
                starts[i], starts[i] + widths[i], epsabs=0, epsrel=1e-13,
            )[0]  # fmt: skip
            assert probabilities[i] == pytest.approx(area, rel=1e-9)


@pytest.mark.parametrize("noise", ["gaussian", "laplace", "uniform"])
@pytest.mark.parametrize("sigma", [1e-10, 1.5e-9, 1e-7, 2e-7])
def test_table_is_a_distribution_up_to_what_is_dropped(noise: Noise, sigma: float) -> None:
    cloud = Cloud(student_centroid(), sigma, noise=noise)
    table = cloud.table
    assert table is not None
    assert cloud.dropped(2100) < 1e-12
    assert (table.probabilities > 0).all()
    if not cloud.active.size:
        return
    sums = np.add.reduceat(table.probabilities, table.first[:-1])
    assert np.abs(sums - 1).max() < 1e-14
    most = np.maximum.reduceat(table.probabilities, table.first[:-1])
    assert (table.probabilities[table.modal] == most).all()
    assert np.abs(table.leave + most - 1).max() < 1e-14
    sizes = np.diff(table.first)
    steps = np.diff(table.ordinals.astype(int))
    assert (np.delete(steps, table.first[1:-1] - 1) == 1).all()
    assert (sizes >= 2).all()


def test_inactive_dimensions_are_all_but_certain() -> None:
    cloud = Cloud(student_centroid(), 1.5e-9)
    inactive = np.setdiff1d(np.arange(cloud.d), cloud.active)
    assert 10 < cloud.active.size < 60
    leaving = 0.0
    for k in inactive:
        ordinals, probabilities = cloud.cells(int(k))
        assert ordinals[probabilities.argmax()] == cloud.modal[k]
        leaving += probabilities.sum() - probabilities.max()
    assert leaving * 2100 < 1e-12


def test_closed_form_pieces_agree_with_and_without_table(monkeypatch: pytest.MonkeyPatch) -> None:
    centroid = student_centroid(40)
    with_table = Cloud(centroid, 1e-6)
    monkeypatch.setattr(cloud_module, "CELL_LIMIT", 10)
    without = Cloud(centroid, 1e-6)
    assert with_table.table is not None
    assert without.table is None
    np.testing.assert_allclose(with_table.coincidence(), without.coincidence(), rtol=1e-12)
    np.testing.assert_array_equal(with_table.active, without.active)


def test_sigma_zero_leaves_every_dimension_certain() -> None:
    # 1.00390625 lies halfway between two numbers; ties go to even, with sigma 0 always.
    cloud = Cloud([1.00390625, 0.0, -2.5], 0.0)
    assert cloud.active.size == 0
    values = cloud.format.values(cloud.format.codes(cloud.modal.astype(np.int64)))
    assert values.tolist() == [1.0, 0.0, -2.5]
    assert Cloud([1.00390625], 1e-300, intermediate="exact").active.size == 1


def test_one_sigma_per_dimension() -> None:
    centroid = student_centroid(6)
    sigmas = np.array([0, 1e-9, 1e-7, 1e-6, 1e-5, 1e-4])
    cloud = Cloud(centroid, sigmas)
    for k, sigma in enumerate(sigmas):
        one = Cloud(centroid[k : k + 1], sigma)
        ordinals, probabilities = one.cells(0)
        here = cloud.cells(k)
        shared = np.isin(here[0], ordinals)
        assert probabilities.sum() == pytest.approx(here[1][shared].sum(), abs=1e-15)
    assert 0 not in cloud.active


def test_too_many_cells_leave_no_table() -> None:
    assert Cloud(student_centroid(), 3.28e-3).table is None
    assert Cloud(student_centroid(), 3.28e-3).active.size == 2560
    assert Cloud(student_centroid(), 1e-6, format="float32").table is None
    small = Cloud([1.0], 1e-6, format="float32")
    assert small.table is not None
    assert small.table.ordinals.dtype == np.int32


@pytest.mark.parametrize("name", list(FORMATS))
def test_overflow_is_refused_in_every_format(name: str) -> None:
    fmt = FORMATS[name]
    largest = float(fmt.values(fmt.codes(np.array([fmt.max_ordinal])))[0])
    with pytest.raises(FormatError, match="overflow"):
        Cloud([0.0, largest], largest * 0.04, format=name)
    Cloud([0.0, largest * 0.5], largest * 0.04, format=name)
    Cloud([largest], 0.0, format=name)
    Cloud([largest], largest * 1e-9, format=name)


def test_overflow_counts_the_tokens() -> None:
    fmt = FORMATS["float8_e4m3fn"]
    limit = float(fmt.boundaries(np.array([fmt.max_ordinal]))[0])
    cloud = Cloud([0.0], limit / 7.5, format=fmt.name)  # 6e-14 a token
    cloud.check(10)
    with pytest.raises(FormatError, match="overflow float8_e4m3fn"):
        cloud.check(1000)
    with pytest.raises(FormatError, match="overflow"):
        Cloud([465.0], 0.0, format=fmt.name)


@pytest.mark.parametrize(
    ("centroid", "sigma", "what"),
    [
        ([], 1.0, "centroid"),
        ([[1.0]], 1.0, "centroid"),
        ([1.0, math.nan], 1.0, "dimension 1"),
        ([math.inf], 1.0, "centroid"),
        ([1e300], 1.0, "centroid"),
        (["a"], 1.0, "centroid"),
        ([1j], 1.0, "centroid"),
        ([1.0], -1.0, "sigma"),
        ([1.0], math.nan, "sigma"),
        ([1.0], math.inf, "sigma"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "sigma"),
        ([1.0, 2.0], [1.0, -2.0], "sigma"),
        ([1.0], [[1.0]], "sigma"),
        ([1.0], None, "sigma"),
    ],
)
def test_input_that_cannot_be_used_is_one_line(centroid: Any, sigma: Any, what: str) -> None:
    with pytest.raises(SelectionError, match=what) as caught:
        Cloud(centroid, sigma)
    assert "\n" not in str(caught.value)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SelectionError, match="noise"):
        Cloud([1.0], 1.0, noise="cauchy")  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="intermediate"):
        Cloud([1.0], 1.0, intermediate="float64")  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="format"):
        Cloud([1.0], 1.0, format="float4")


@pytest.mark.parametrize("n_tokens", [0, -1, 2**32, 2.5, math.nan])
def test_impossible_numbers_of_tokens_are_refused(n_tokens: Any) -> None:
    with pytest.raises(SelectionError, match="tokens"):
        Cloud([1.0], 1e-6).check(n_tokens)


def test_arrays_cannot_be_changed() -> None:
    cloud = Cloud([1.0, 2.0], 1e-3)
    with pytest.raises(ValueError, match="read-only"):
        cloud.centroid[0] = 2.0


def test_building_is_quick_and_small() -> None:
    # Allowance: the design asks for well under a second and tens of megabytes; 1e-6 is the worst.
    for sigma in (1e-10, 1.5e-9, 1e-6, 1e-2):
        start = time.process_time()
        Cloud(student_centroid(), sigma)
        assert time.process_time() - start < 1.0
    tracemalloc.start()
    Cloud(student_centroid(), 1e-6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


@pytest.mark.parametrize("noise", ["gaussian", "laplace", "uniform"])
@pytest.mark.parametrize(
    ("centroid", "sigma", "format_name"),
    [
        (0.3, 1e-3, "float16"),
        (0.0, 1e-3, "float16"),
        (-2e-3, 3e-3, "bfloat16"),
        (0.7, 0.1, "bfloat16"),
    ],
)
def test_coincidence_by_binades_is_that_of_the_cells(
    noise: Any, centroid: float, sigma: float, format_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = Cloud([centroid], sigma, noise=noise, format=format_name)
    expected = float((cloud.cells(0)[1] ** 2).sum())
    assert cloud.coincidence_of(0) == pytest.approx(expected, rel=1e-14)
    monkeypatch.setattr("deadtokens.cloud._ENUMERATED", 2)
    # The closed form is good to (width / sigma)^2 / 12 of each binade, the widest being the worst.
    by_binade = cloud.coincidence_of(0)
    widest = np.array([abs(centroid) + 8 * sigma], dtype=np.float32)
    width = float(cloud.format.ulp(cloud.format.round(widest))[0]) / sigma
    assert by_binade == pytest.approx(expected, rel=width if noise == "uniform" else width**2)
    monkeypatch.setattr("deadtokens.cloud._ENUMERATED", 2**16 - 1)
    assert cloud.coincidence_of(0) == pytest.approx(expected, rel=1e-9)


def test_few_wide_cells_above_many_narrow_ones_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of uniform noise a tenth lies above 128, where float32 has few numbers and twice the step."""
    cloud = Cloud([128.3 - math.sqrt(3.0)], 1.0, noise="uniform", format="float32")
    above = int(cloud.range_of(np.array([0]))[1][0]) - int(np.float32(128).view(np.int32))
    assert 0 < above < cloud_module._ENUMERATED
    found = cloud.coincidence_of(0)
    monkeypatch.setattr(cloud_module, "_ENUMERATED", 2**30)
    assert found == pytest.approx(cloud.coincidence_of(0), rel=3e-5)


def test_coincidence_of_a_fine_lattice_needs_no_cells() -> None:
    """float32 around zero has 2**31 cells within reach; the answer is of the size of one cell."""
    cloud = Cloud([1.0, 0.0], 1e-3, format="float32")
    near_one, near_zero = cloud.coincidence()
    # Half of the cells have width 2**-24, half 2**-23.
    assert near_one == pytest.approx(0.75 * 2**-23 / 1e-3 / (2 * np.sqrt(np.pi)), rel=1e-3)
    assert 0 < near_zero < near_one
