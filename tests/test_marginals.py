"""The marginal test: replicates against literal draws, closed forms, its level and its power.

All seeds are fixed. Thresholds are a level divided by the number of tests that share it, or a
stated number of standard errors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import chi2_contingency
from snowballs import snowball_from_values

import deadtokens as dt
from deadtokens import marginals as package_function
from deadtokens.fit import Fit, fit
from deadtokens.formats import BFLOAT16, FLOAT16, FORMATS, Format
from deadtokens.independence import independence
from deadtokens.kernels import random
from deadtokens.kernels.replicates import TOTALS, replicates
from deadtokens.marginals import FEATURES, Marginals, _Expected, marginals
from deadtokens.montecarlo import FAMILY_LEVEL
from deadtokens.snowball import Snowball
from deadtokens.verdict import Verdict, judge

Float64 = npt.NDArray[np.float64]

NAMES = ("varying", "occupied", "skipped", "skipping", "pairs")

# Replicates, against normals drawn and rounded.


@dataclass(frozen=True)
class Lattice:
    """Dimensions of a format around the cells of the given values, and noise."""

    format: str
    values: tuple[float, ...]
    sigma: float
    n: int = 40

    @property
    def fmt(self) -> Format:
        return FORMATS[self.format]

    @property
    def home(self) -> npt.NDArray[np.int64]:
        return self.fmt.ordinals(self.fmt.round(np.array(self.values, dtype=np.float32)))

    def arrays(self) -> tuple[npt.NDArray[np.int64], Float64, npt.NDArray[np.int64]]:
        """What the kernel takes."""
        edges, first, home = [], [0], []
        for value, ordinal in zip(self.values, self.home, strict=True):
            ends = np.array([value - 30 * self.sigma, value + 30 * self.sigma], dtype=np.float32)
            low, high = self.fmt.ordinals(self.fmt.round(ends))
            home.append(first[-1] + ordinal - 1 - (low - 2))
            edges.append(self.fmt.boundaries(np.arange(low - 2, high + 2)))
            first.append(first[-1] + edges[-1].size)
        return np.array(first), np.concatenate(edges), np.array(home)


LATTICES = {
    "cells far wider": Lattice("bfloat16", (1.5, -1.25, 1.75, 1.6, -1.1, 1.9), 2.0**-13),
    "cells as wide": Lattice("bfloat16", (1.5, -1.25, 1.75), 0.6 * 2.0**-7),
    "cells far narrower": Lattice("bfloat16", (1.5, -1.25), 6 * 2.0**-7, 25),
    "several widths": Lattice("float16", (0.3, 0.7, -1.3, 3.0, 5.0), 2.0**-10),
    "uneven around powers of 2": Lattice("bfloat16", (1.0, -0.5, 2.0, 1.0078125), 0.7 * 2.0**-8),
    "uneven around 0": Lattice("float8_e4m3fn", (0.0, 2.0**-9, -0.02), 2.0**-8, 12),
}
COUNT = 1500


def simulated(
    lattice: Lattice, *, conditional: bool = False, sigma: float | None = None, count: int = COUNT
) -> Float64:
    """(count, TOTALS) replicates of the kernel."""
    totals = np.empty((count, TOTALS))
    replicates(
        np.uint64(5), np.uint64(0), lattice.n, np.full(count, sigma or lattice.sigma), conditional,
        *lattice.arrays(), np.zeros(random.STATE_SIZE, dtype=np.uint64),
        np.zeros(random.AHEAD, dtype=np.uint64), totals,
    )  # fmt: skip
    return totals


def cells_to_counts(ordinals: npt.NDArray[np.int64]) -> Float64:
    """(r, TOTALS) of one dimension, from (r, n) ordinals of its tokens."""
    ordered = np.sort(ordinals, axis=1)
    steps = np.diff(ordered, axis=1)
    occupied = 1 + (steps > 0).sum(axis=1)
    skipped = ordered[:, -1] - ordered[:, 0] + 1 - occupied
    n = ordinals.shape[1]
    # A pair i < j shares a cell if no step lies between; n is small.
    pairs = np.zeros(len(ordinals))
    for gap in range(1, n):
        pairs += (ordered[:, gap:] == ordered[:, :-gap]).sum(axis=1)
    return np.stack([occupied > 1, occupied, skipped, skipped > 0, pairs], axis=1).astype(float)


def literal(lattice: Lattice, *, conditional: bool = False, count: int = COUNT) -> Float64:
    """The same by its definition: means and tokens drawn and rounded, unvaried ones left out."""
    fmt, rng = lattice.fmt, np.random.default_rng(11)
    total = np.zeros((count, TOTALS))
    for ordinal in lattice.home:
        low, high = fmt.boundaries(np.array([ordinal - 1, ordinal]))
        kept = np.zeros((0, TOTALS))
        while len(kept) < count:
            mean = rng.uniform(low, high, count)
            tokens = mean[:, None] + lattice.sigma * rng.standard_normal((count, lattice.n))
            found = cells_to_counts(fmt.ordinals(fmt.round(tokens.astype(np.float32))))
            kept = np.concatenate([kept, found[found[:, 0] > 0] if conditional else found])
        total += kept[:count]
    return total[total[:, 0] > 0]  # nothing is tested where nothing varies


def least_p(one: Float64, other: Float64) -> float:
    """Smallest p-value over the totals that two samples differ, times the number of tests."""
    found = []
    for a, b in zip(one.T, other.T, strict=True):
        joined = np.concatenate([a, b])
        edges = np.unique(np.quantile(joined, np.linspace(0, 1, 13)))[1:]
        bins = [np.bincount(np.searchsorted(edges, x), minlength=edges.size + 1) for x in (a, b)]
        table = np.array(bins)[:, np.sum(bins, axis=0) > 0]
        if table.shape[1] > 1:
            found.append(float(chi2_contingency(table).pvalue))
    return min(found, default=1.0) * max(len(found), 1)


@pytest.mark.parametrize("conditional", [False, True], ids=["all", "those that vary"])
@pytest.mark.parametrize("name", LATTICES)
def test_replicates_are_rounded_normals(name: str, conditional: bool) -> None:
    found = simulated(LATTICES[name], conditional=conditional)
    expected = literal(LATTICES[name], conditional=conditional)
    if conditional:
        assert set(found[:, 0]) == {len(LATTICES[name].values)}
    assert least_p(found, expected) > 0.01 / (2 * len(LATTICES))
    error = np.hypot(found.std(axis=0), expected.std(axis=0)) / np.sqrt(COUNT)
    difference = np.abs(found.mean(axis=0) - expected.mean(axis=0))
    for total, off, se in zip(NAMES, difference, error, strict=True):
        assert off <= 4 * se, total


def test_each_setting_tests_something() -> None:
    """Every total varies in some setting, and noise a sixth too wide would be caught."""
    assert (np.array([simulated(one).std(axis=0) > 0 for one in LATTICES.values()])).any(0).all()
    for name in ("cells as wide", "cells far narrower", "several widths"):
        one = LATTICES[name]
        assert least_p(simulated(one, sigma=1.15 * one.sigma), literal(one)) < 1e-3, name


def test_replicates_uncompiled_give_the_same_numbers() -> None:
    script = "import json, test_marginals as t; print(json.dumps(t.some_replicates()))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "NUMBA_DISABLE_JIT": "1"},
        check=True,
        capture_output=True,
    )
    assert json.loads(done.stdout) == some_replicates()


def some_replicates() -> list[list[list[float]]]:
    return [
        simulated(LATTICES[name], conditional=conditional, count=4).tolist()
        for name in ("cells as wide", "uneven around 0", "cells far wider")
        for conditional in (False, True)
    ]


# Closed forms, on an even lattice.


def expected_on_even_lattice(widths: Sequence[float], n: int, *, varying_only: bool) -> _Expected:
    """`_Expected` of dimensions of those widths, with the observed totals of sigma = 1 there."""
    likelihood = SimpleNamespace(width=np.array(widths))
    given = cast(Fit, SimpleNamespace(n_tokens=n, varying_only=varying_only, likelihood=likelihood))
    rng = np.random.default_rng(3)
    observed = sum(even_draws(1 / w, n, 1, rng, varying_only)[0] for w in widths)
    return _Expected(given, np.ones(len(widths), dtype=np.bool_), np.asarray(observed))


def even_draws(
    u: float, n: int, count: int, rng: np.random.Generator, conditional: bool = False
) -> Float64:
    """(count, TOTALS) of a dimension whose cells have width 1, noise of width u."""
    kept = np.zeros((0, TOTALS))
    while len(kept) < count:
        tokens = rng.uniform(0, 1, (count, 1)) + u * rng.standard_normal((count, n))
        found = cells_to_counts(np.floor(tokens).astype(np.int64))
        kept = np.concatenate([kept, found[found[:, 0] > 0] if conditional else found])
    return kept[:count]


RATIOS = np.array([0.003, 0.03, 0.2, 0.5, 1.0, 4.0, 20.0])


@pytest.mark.parametrize("n", [2, 40])
def test_closed_forms_are_the_means_of_draws(n: int) -> None:
    expected = expected_on_even_lattice([1.0, 2.0], n, varying_only=False)
    closed = np.stack(
        [
            expected._varying(RATIOS),
            expected._occupied(RATIOS),
            expected._agreeing(RATIOS) * n * (n - 1) / 2,
        ],
        axis=1,
    )
    count = 4000
    rng = np.random.default_rng(n)
    for u, forms in zip(RATIOS.tolist(), closed, strict=True):
        draws = even_draws(u, n, count, rng)[:, [0, 1, 4]]
        # Where all draws agree the standard error says nothing: one in `count` could have differed.
        error = np.maximum(draws.std(axis=0) / np.sqrt(count), 1 / count)
        assert (np.abs(draws.mean(axis=0) - forms) <= 4 * error).all(), u


@pytest.mark.parametrize("conditional", [False, True])
def test_expected_counts_add_up_over_widths(conditional: bool) -> None:
    widths, n, count = [0.25, 1.0, 1.0, 8.0], 30, 3000
    expected = expected_on_even_lattice(widths, n, varying_only=conditional)
    rng = np.random.default_rng(1)
    for sigma in (0.5, 1.0, 2.0):
        draws = sum(even_draws(sigma / w, n, count, rng, conditional) for w in widths)
        counts = expected.counts(np.log([sigma]))[0]
        error = np.maximum(np.asarray(draws)[:, :2].std(axis=0) / np.sqrt(count), 1e-3)
        assert (np.abs(np.asarray(draws)[:, :2].mean(axis=0) - counts) <= 4 * error).all()
        # What is expected at sigma is refitted to sigma.
        again = float(np.exp(expected.refitted(np.asarray(draws).mean(axis=0)[None])[0]))
        assert again == pytest.approx(sigma, rel=0.05)


# Its level where the story is true.


@dataclass(frozen=True)
class Null:
    format: str
    n: int
    d: int
    scale: float
    sigma: float

    @property
    def cloud(self) -> dt.Cloud:
        centre = np.random.default_rng([self.d, self.n]).normal(0, self.scale, self.d)
        return dt.Cloud(centre, self.sigma, format=self.format)

    def snowball(self, trial: int) -> Snowball:
        return dt.sample(self.cloud, self.n, trial=trial)


NULLS = {
    "float16": Null("float16", 300, 384, 0.05, 2e-7),
    "bfloat16": Null("bfloat16", 300, 384, 3e-3, 2e-7),
    "wide": Null("bfloat16", 200, 64, 3e-3, 1.5e-5),
}
LEVELS = (0.01, 0.05, 0.1)


def varying_part(snowball: Snowball) -> Snowball:
    codes = np.ascontiguousarray(snowball.codes[:, snowball.varying])
    return Snowball(codes, snowball.populations, snowball.format)


def marginals_of(snowball: Snowball, *, varying_only: bool = False, count: int = 499) -> Marginals:
    found = fit(snowball, varying_only=varying_only)
    return marginals(found, count=count, workers=1)


def assert_level(results: Sequence[Sequence[float]], names: Sequence[str]) -> None:
    """P(p <= a) <= a + 3 Monte Carlo standard errors for each feature."""
    p_values = np.array(results)
    for name, values in zip(names, p_values.T, strict=True):
        for level in LEVELS:
            allowed = level + 3 * np.sqrt(level * (1 - level) / len(values))
            assert np.mean(values <= level) <= allowed, (name, level)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "repeats", "varying_only"),
    [
        ("wide", 10, False),
        *(pytest.param(name, 200, only, marks=SLOW) for name in NULLS for only in (False, True)),
    ],
)
def test_level(name: str, repeats: int, varying_only: bool) -> None:
    results = []
    for trial in range(repeats):
        snowball = NULLS[name].snowball(trial)
        if varying_only:
            snowball = varying_part(snowball)
        found = marginals_of(snowball, varying_only=varying_only)
        assert found.reason is None
        results.append([feature.p_value for feature in found.features])
    assert_level(results, FEATURES[2:] if varying_only else FEATURES)


# Its power, and that of both tests together.


def skipping(snowball: Snowball, seed: int) -> Snowball:
    """A fifth of the varying dimensions with deviations of ordinals two or three times as large."""
    rng = np.random.default_rng(seed)
    ordinals = snowball.format.ordinals(snowball.codes[snowball.row_order()])
    # Not across zero, where ordinals are exponents: three times one may be any number.
    varying = snowball.varying[np.ptp(ordinals[:, snowball.varying], axis=0) < 1000]
    for k in rng.choice(varying, varying.size // 5, replace=False):
        cells, rows = np.unique(ordinals[:, k], return_counts=True)
        mode = cells[rows.argmax()]
        ordinals[:, k] = mode + (ordinals[:, k] - mode) * rng.integers(2, 4)
    return snowball_from_values(snowball.format.values_of(ordinals), snowball.format)


CASES = [
    ("wide", 3),
    *(pytest.param(name, 40, marks=SLOW) for name in ("bfloat16", "wide")),
]


@pytest.mark.parametrize(("name", "repeats"), CASES)
def test_power_against_skipped_cells(name: str, repeats: int) -> None:
    rejected = [
        min(marginals_of(skipping(NULLS[name].snowball(i), i), count=1999).p_holm) <= FAMILY_LEVEL
        for i in range(repeats)
    ]
    assert np.mean(rejected) > 0.9


def verdict_of(snowball: Snowball) -> Verdict:
    """With as few simulations as can still reject at the family-wise level of ten features."""
    fitted = fit(snowball)
    joint = independence(snowball, permutations=1999, workers=1)
    return judge(fitted, joint, marginals(fitted, count=1999, workers=1))


def rows_of(cloud: dt.Cloud, n: int, trial: int) -> npt.NDArray[np.float32]:
    drawn = dt.sample(cloud, n, trial=trial)
    return drawn.values()[drawn.row_order()]


@pytest.mark.parametrize(("name", "repeats"), CASES)
def test_verdict_rejects_a_mixture_of_two_centres(name: str, repeats: int) -> None:
    null = NULLS[name]
    fits = []
    for trial in range(repeats):
        shift = 3 * null.sigma * np.random.default_rng(trial).choice([-1, 1], null.d)
        halves = [
            rows_of(dt.Cloud(centre, null.sigma, format=null.format), null.n // 2, 2 * trial + i)
            for i, centre in enumerate((null.cloud.centroid, null.cloud.centroid + shift))
        ]
        fits.append(verdict_of(snowball_from_values(np.vstack(halves), BFLOAT16)).fits)
    assert np.mean([one is False for one in fits]) > 0.9


@pytest.mark.parametrize(("name", "repeats"), CASES)
def test_verdict_rejects_dependent_blocks(name: str, repeats: int) -> None:
    fits = []
    for trial in range(repeats):
        half = rows_of(NULLS[name].cloud, NULLS[name].n, trial)[:, : NULLS[name].d // 2]
        fits.append(verdict_of(snowball_from_values(np.hstack([half, half]), BFLOAT16)).fits)
    assert np.mean([one is False for one in fits]) > 0.9


@pytest.mark.parametrize(
    ("name", "repeats"),
    [("wide", 4), *(pytest.param(name, 200, marks=SLOW) for name in ("bfloat16", "wide"))],
)
def test_verdict_rejects_few_true_nulls(name: str, repeats: int) -> None:
    fits = [verdict_of(NULLS[name].snowball(1000 + trial)).fits for trial in range(repeats)]
    allowed = FAMILY_LEVEL + 3 * np.sqrt(FAMILY_LEVEL * (1 - FAMILY_LEVEL) / repeats)
    assert np.mean([one is not True for one in fits]) <= allowed


# The built-ins.


@cache
def builtin(name: str) -> Fit:
    matrix = dt.open_matrix(f"builtin:{name}")
    snowball = dt.snowball_of(matrix, np.ones(matrix.n_rows, dtype=np.bool_))
    return fit(snowball, varying_only=matrix.varying_only)


def test_whisper_is_not_rejected() -> None:
    found = marginals(builtin("whisper-tiny.en"))
    assert [feature.name for feature in found.features] == list(FEATURES)
    assert [feature.observed for feature in found.features[:1]] == [28]
    assert min(feature.p_value for feature in found.features) > 0.05
    # Pairs that share a cell tell the width less sharply than the likelihood, which says 1.3e-8.
    assert found.sigma == pytest.approx(1.3e-8, rel=0.3)
    assert found.replicates == 4999
    assert found.n_dimensions == 384


def test_qwen_skips_cells_that_noise_never_does() -> None:
    found = marginals(builtin("qwen3-4b"))
    assert [feature.name for feature in found.features] == list(FEATURES[2:])
    assert [feature.observed for feature in found.features] == [16, 4]
    assert max(found.p_holm) <= FAMILY_LEVEL
    assert found.features[0].mean < 0.1


def test_result_depends_on_the_seed_and_not_on_workers() -> None:
    given = builtin("whisper-tiny.en")
    one = marginals(given, count=300, workers=1)
    assert one == marginals(given, count=300, workers=2)
    other = marginals(given, count=300, seed=43)
    assert one != other
    assert [f.observed for f in one.features] == [f.observed for f in other.features]
    assert package_function is marginals


# What cannot be tested.


def test_nothing_varies() -> None:
    values = np.full((30, 5), 1.5, dtype=np.float32)
    found = marginals_of(snowball_from_values(values, BFLOAT16))
    assert (found.features, found.replicates, found.p_holm) == ((), 0, ())
    assert found.reason == "no dimension varies"
    assert "no dimension varies" in found._repr_html_()


def test_cells_far_narrower_than_the_noise() -> None:
    values = np.random.default_rng(0).normal(1.5, 0.1, (50, 4)).astype(np.float16)
    found = marginals_of(snowball_from_values(values.astype(np.float32), FLOAT16))
    assert found.features == ()
    assert found.reason is not None
    assert "far wider than the cells" in found.reason


def test_more_cells_than_can_be_gone_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["deadtokens.marginals"], "_MOST_CELLS", 100)
    fitted = builtin("whisper-tiny.en")
    found = marginals(fitted)
    assert (found.features, found.replicates) == ((), 0)
    assert found.reason is not None
    assert "more than the 100 gone over here" in found.reason


@pytest.mark.parametrize("way", ["two rows", "one dimension", "mixed widths", "largest", "tiny"])
def test_odd_clusters_do_not_crash(way: str) -> None:
    rng = np.random.default_rng(2)
    values: dict[str, Any] = {
        "two rows": np.array([[1, 1, 1.5], [1.0078125, 1, 1.5]]),
        "one dimension": np.array([[1.0], [1.0], [1.0078125], [1.0]]),
        # Noise that is far narrower than some cells and spans thousands of others.
        "mixed widths": np.array([1e-30, 1e-6, 1.0, 0]) + rng.normal(0, 3e-3, (60, 4)),
        "largest": 3.38e38 + np.array([[0, 1], [0, 0], [1, 0]]) * 1e36,
        "tiny": np.array([[1, 0], [0, 2], [3, 1], [0, -1]]) * 2.0**-133,
    }
    codes = BFLOAT16.round(values[way].astype(np.float32))
    found = marginals_of(snowball_from_values(BFLOAT16.values(codes), BFLOAT16), count=99)
    assert found.reason is None or found.features == ()
    assert all(0 < feature.p_value <= 1 for feature in found.features)


@pytest.mark.parametrize("displaced_by", [1e-4, 1e-3, 1e-1])
def test_half_of_the_rows_displaced_in_one_dimension(displaced_by: float) -> None:
    """The further off, the surer: what contradicts the story must not excuse itself."""
    centre = 3e-3 * np.random.default_rng(1).standard_normal(384)
    drawn = dt.sample(dt.Cloud(centre, 1e-8), 300, trial=0)
    rows = drawn.values()[drawn.row_order()]
    rows[:150, 5] = BFLOAT16.values(BFLOAT16.round(rows[:150, 5] + np.float32(displaced_by)))
    found = marginals_of(snowball_from_values(rows, BFLOAT16))
    p_values = {feature.name: feature.p_value for feature in found.features}
    assert p_values["skipped_cells"] <= 2 / (found.replicates + 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("seed", range(3))
def test_wide_noise_around_zero_is_no_contradiction(dtype: Any, seed: int) -> None:
    """Cells crowd towards zero, so that fewer tokens share one than on an even lattice."""
    rows: npt.NDArray[Any] = np.random.default_rng(seed).normal(0, 0.02, (300, 32)).astype(dtype)
    snowball = dt.snowball_of(dt.open_matrix(rows), np.ones(300, dtype=np.bool_))
    found = dt.marginals(dt.fit(snowball))
    assert found.features == ()
    assert found.reason is not None
    assert "far wider than the cells" in found.reason
