"""Distributions: samplers against the literal method, closed forms and each other.

All seeds are fixed. Every threshold is a significance level divided by the number of tests that
share it (`LEVEL`), or a number of standard errors that is stated. Negative controls put a wrong
sampler through the very criterion that the right ones pass, and must fail it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from numba import njit
from scipy import special, stats

from deadtokens.cloud import Cloud
from deadtokens.formats import FORMATS
from deadtokens.kernels import direct, random
from deadtokens.noise import Noise
from deadtokens.sampling import DirectSampler, OccupancySampler
from deadtokens.theory import expectation
from deadtokens.touching import touching_probability

Keys = npt.NDArray[np.int64]
Features = dict[str, npt.NDArray[np.int64]]

TRIALS = 3000


@dataclass(frozen=True)
class Setting:
    """A small cloud and a number of tokens."""

    centroid: tuple[float, ...]
    sigma: float
    n: int
    format: str = "bfloat16"
    noise: Noise = "gaussian"

    def cloud(self, **changes: Any) -> Cloud:
        return Cloud(self.centroid, self.sigma, noise=self.noise, format=self.format, **changes)


def student(d: int, scale: float, seed: int) -> tuple[float, ...]:
    return tuple((np.random.default_rng(seed).standard_t(4.5, d) * scale).tolist())


def near_boundaries(d: int, seed: int) -> tuple[float, ...]:
    """Numbers between 1 and 2, within three float32 gaps of halfway between bfloat16 numbers."""
    rng = np.random.default_rng(seed)
    halfway = 1 + (2 * rng.integers(0, 128, d) + 1) * 2.0**-8
    return tuple((halfway + rng.integers(-3, 4, d) * 2.0**-23).tolist())


SETTINGS = {
    "few cells": Setting(student(8, 2.5e-3, 1), 2e-6, 100),
    "several cells": Setting(student(3, 2.5e-3, 2), 3e-5, 60),
    "float32 gap": Setting(near_boundaries(5, 3), 1.2e-7, 80),
    "below float32 gap": Setting(near_boundaries(6, 4), 0.5e-7, 80),
    "many tokens": Setting(student(12, 2.5e-3, 5), 1e-6, 2000),
    "float16": Setting(student(4, 2.5e-3, 6), 1.5e-6, 70, "float16"),
    "float16 around zero": Setting((0.0, 2e-7, -5e-5), 1e-7, 50, "float16"),
    "float8": Setting((0.1, -1.0, 0.011), 0.02, 60, "float8_e4m3fn"),
    "laplace": Setting(student(8, 2.5e-3, 7), 2e-6, 100, noise="laplace"),
    "uniform": Setting(student(8, 2.5e-3, 8), 2e-6, 100, noise="uniform"),
}
# Ten seconds go to the one with many tokens.
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if name == "many tokens" else ()) for name in SETTINGS
]
FEATURES = ("n_unique", "n_black_holes", "n_singletons", "largest", "pairs", "steps", "flips")
# One false alarm in a thousand runs of this file with other seeds, over all comparisons: two
# samplers against the literal method and against each other.
LEVEL = 1e-3 / (len(SETTINGS) * 3 * len(FEATURES))


def literal_ordinals(setting: Setting, rng: np.random.Generator, trials: int) -> Any:
    """Tokens the literal way: noise, sum and rounding in float32, then in the format."""
    fmt = FORMATS[setting.format]
    shape = (trials, setting.n, len(setting.centroid))
    if setting.noise == "gaussian":
        z = rng.standard_normal(shape, dtype=np.float32) * np.float32(setting.sigma)
    elif setting.noise == "laplace":
        z = rng.laplace(0, setting.sigma / math.sqrt(2), shape).astype(np.float32)
    else:
        half = setting.sigma * math.sqrt(3)
        z = rng.uniform(-half, half, shape).astype(np.float32)
    dtype = {
        "bfloat16": ml_dtypes.bfloat16,
        "float16": np.float16,
        "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    }[setting.format]
    x = (np.asarray(setting.centroid, dtype=np.float32) + z).astype(dtype)
    return fmt.ordinals(x.view(fmt.code_dtype))


def features(ordinals: Any, weights: Any, modal: Any) -> Features:
    """Per trial, from (trials, n, d) ordinals: populations, and two sums over the tokens."""
    keys = np.sort(ordinals.astype(np.int64) @ weights, axis=1)
    trials, n = keys.shape
    start = np.ones((trials, n), dtype=bool)
    start[:, 1:] = keys[:, 1:] != keys[:, :-1]
    trial, position = np.nonzero(start)
    population = np.diff(np.append(trial * n + position, trials * n))
    away = ordinals - modal

    def per_trial(values: Any) -> Any:
        return np.bincount(trial, weights=values, minlength=trials).astype(np.int64)

    largest = np.zeros(trials, dtype=np.int64)
    np.maximum.at(largest, trial, population)
    return {
        "n_unique": start.sum(axis=1),
        "n_black_holes": per_trial(population > 1),
        "n_singletons": per_trial(population == 1),
        "largest": largest,
        "pairs": per_trial(population * (population - 1) // 2),
        "steps": away.sum(axis=(1, 2)),
        "flips": (away != 0).sum(axis=(1, 2)),
    }


def p_value(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> float:
    """Chi-square test that two samples of whole numbers have one distribution.

    The bins have at least 10 of both together, so at least 5 expected of either, and are at most
    about 20, cut at quantiles of the two together.
    """
    both = np.sort(np.concatenate([a, b]))
    cuts = np.unique(both[:: max(10, both.size // 20)])
    tables = [np.bincount(np.searchsorted(cuts, x, side="right") - 1) for x in (a, b)]
    table = np.zeros((2, cuts.size))
    for row, counted in zip(table, tables, strict=True):
        row[: counted.size] = counted
    bins: list[Any] = []
    rest = np.zeros(2)
    for column in table.T:
        rest = rest + column
        if rest.sum() >= 10:
            bins.append(rest)
            rest = np.zeros(2)
    if bins:
        bins[-1] = bins[-1] + rest
    if len(bins) < 2:
        return 1.0
    return float(stats.chi2_contingency(np.array(bins).T, correction=False).pvalue)


def smallest_p(a: Features, b: Features) -> float:
    return min(p_value(a[name], b[name]) for name in FEATURES)


def occupancy_ordinals(
    cloud: Cloud, n: int, trials: int, *, seed: int = 42, last_split: bool = True
) -> Any:
    """(trials, n, d) ordinals drawn by occupancy sampling, tokens in the order of their groups."""
    sampler = OccupancySampler(cloud, n, seed=seed, rows=n)
    if not last_split:
        leave, hazard = sampler.table.leave.copy(), sampler.table.hazard.copy()
        leave[-1] = hazard[-1] = 0.0
        sampler.table = sampler.table._replace(leave=leave, hazard=hazard)
    result = np.empty((trials, n, cloud.d), dtype=np.int64)
    result[:] = cloud.modal
    for trial in range(trials):
        chunk = sampler.draw(trial, 1)
        rows = np.repeat(chunk.ordinals, chunk.populations, axis=0)
        assert rows.shape[0] == n
        result[trial][:, cloud.active] = rows
    return result


def direct_ordinals(cloud: Cloud, n: int, trials: int, *, seed: int = 42) -> Any:
    sampler = DirectSampler(cloud, n, seed=seed)
    result = np.empty((trials, n, cloud.d), dtype=np.int64)
    result[:] = cloud.modal
    for trial in range(trials):
        result[trial][:, cloud.active] = sampler.draw(trial)
    return result


def blocks(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)


@cache
def drawn(name: str, how: str) -> Features:
    """Features of TRIALS trials of a setting, by one method; computed once."""
    setting = SETTINGS[name]
    d = len(setting.centroid)
    cloud = setting.cloud()
    weights = np.random.default_rng(99).integers(-(2**40), 2**40, d) * 2 + 1
    if how == "occupancy":
        ordinals = occupancy_ordinals(cloud, setting.n, TRIALS)
        return features(ordinals, weights, cloud.modal)
    if how == "direct":
        return features(direct_ordinals(cloud, setting.n, TRIALS), weights, cloud.modal)
    if how == "midpoints":
        wrong = setting.cloud(intermediate="exact")
        return features(occupancy_ordinals(wrong, setting.n, TRIALS), weights, cloud.modal)
    if how == "last dimension never split":
        ordinals = occupancy_ordinals(cloud, setting.n, TRIALS, last_split=False)
        return features(ordinals, weights, cloud.modal)
    rng = np.random.default_rng([2026, *name.encode()])
    parts = [
        features(literal_ordinals(setting, rng, size), weights, cloud.modal)
        for size in blocks(TRIALS, 500)
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in FEATURES}


@pytest.mark.parametrize("how", ["occupancy", "direct"])
@pytest.mark.parametrize("name", NAMES)
def test_a_sampler_agrees_with_the_literal_method(name: str, how: str) -> None:
    assert smallest_p(drawn(name, how), drawn(name, "literal")) > LEVEL


@pytest.mark.parametrize("name", NAMES)
def test_samplers_agree_with_each_other(name: str) -> None:
    assert smallest_p(drawn(name, "occupancy"), drawn(name, "direct")) > LEVEL


@pytest.mark.parametrize("name", NAMES)
def test_settings_have_something_to_tell(name: str) -> None:
    spread = {key: np.ptp(values) for key, values in drawn(name, "literal").items()}
    assert all(spread[key] > 0 for key in ("n_unique", "pairs", "largest", "flips"))


@pytest.mark.parametrize("name", ["float32 gap", "below float32 gap"])
def test_plain_midpoints_are_caught(name: str) -> None:
    assert smallest_p(drawn(name, "midpoints"), drawn(name, "literal")) < LEVEL


@pytest.mark.parametrize("name", NAMES)
def test_never_splitting_the_last_dimension_is_caught(name: str) -> None:
    wrong = drawn(name, "last dimension never split")
    assert smallest_p(wrong, drawn(name, "literal")) < LEVEL


@pytest.mark.parametrize("how", ["occupancy", "direct", "literal"])
@pytest.mark.parametrize("name", NAMES)
def test_coinciding_pairs_have_their_expected_number(name: str, how: str) -> None:
    # E = n (n - 1) / 2 times the product of coincidence over the dimensions; 4 standard errors.
    setting = SETTINGS[name]
    pairs = drawn(name, how)["pairs"]
    chance = float(np.prod(setting.cloud().coincidence()))
    expected = setting.n * (setting.n - 1) / 2 * chance
    error = pairs.std(ddof=1) / math.sqrt(pairs.size)
    assert abs(pairs.mean() - expected) < 4 * error


def test_coinciding_pairs_tell_a_dimension_that_is_never_split() -> None:
    name = "few cells"
    pairs = drawn(name, "last dimension never split")["pairs"]
    setting = SETTINGS[name]
    chance = float(np.prod(setting.cloud().coincidence()))
    expected = setting.n * (setting.n - 1) / 2 * chance
    assert abs(pairs.mean() - expected) > 4 * pairs.std(ddof=1) / math.sqrt(pairs.size)


@pytest.mark.parametrize("name", NAMES)
def test_expectations_are_the_means_of_literal_trials(name: str) -> None:
    # 4 combined standard errors, 5 numbers of 10 settings.
    setting, trials = SETTINGS[name], drawn(name, "literal")
    expected = expectation(setting.cloud(), setting.n)
    means = {
        "coinciding_pairs": trials["pairs"],
        "n_unique": trials["n_unique"],
        "n_singletons": trials["n_singletons"],
        "n_black_holes": trials["n_black_holes"],
        "black_hole_population": setting.n - trials["n_singletons"],
    }
    for metric, values in means.items():
        own = getattr(expected, f"{metric}_se", 0.0)
        error = math.hypot(own, values.std(ddof=1) / math.sqrt(values.size))
        assert abs(values.mean() - getattr(expected, metric)) < 4 * error, metric


def literal_distances(setting: Setting, seed: int, pairs: int) -> Any:
    """(pairs,) distances of independent pairs of literal tokens, float32-rounded."""
    pair = replace(setting, n=2)
    ordinals = literal_ordinals(pair, np.random.default_rng(seed), pairs)
    values = FORMATS[setting.format].values_of(ordinals)
    return np.abs(values[:, 0] - values[:, 1]).max(axis=1)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", NAMES)
def test_pairs_of_literal_tokens_touch_as_often_as_expected(name: str, quantile: float) -> None:
    # The limit is a distance that occurs; one float32 step less makes it a chance that differs.
    setting, pairs = SETTINGS[name], 100_000
    limit = np.quantile(literal_distances(setting, 5, 1001), quantile, method="lower")
    distances = literal_distances(setting, 6, pairs)
    for touching in (limit, np.nextafter(limit, np.float32(0))):
        if touching > 0:
            chance, error = touching_probability(setting.cloud(), float(touching))
            assert error == 0
            standard_error = math.sqrt(chance * (1 - chance) / pairs)
            assert abs((distances <= touching).mean() - chance) < 4 * standard_error + 1e-9


def large_cloud(sigma: float, **changes: Any) -> Cloud:
    """The benchmark's: 2,560 dimensions, Student-t draws scaled to rms 3.282e-3."""
    draws = np.random.default_rng(0).standard_t(4.5, 2560)
    centroid = (draws * 3.282e-3 / np.sqrt(np.mean(draws**2))).astype(np.float32)
    return Cloud(centroid, sigma, **changes)


def largest_and_pairs(cloud: Cloud, n: int, trials: int) -> Any:
    """(trials, 2) largest population and number of coinciding pairs."""
    sampler = OccupancySampler(cloud, n)
    rows = []
    for trial in range(trials):
        populations = sampler.draw(trial, 1).populations
        rows.append((populations.max(), (populations * (populations - 1) // 2).sum()))
    return np.array(rows, dtype=np.float64)


@pytest.mark.parametrize(("sigma", "trials"), [(1.5e-9, 20_000), (5e-9, 2000)])
def test_coinciding_pairs_of_a_large_cloud(sigma: float, trials: int) -> None:
    cloud = large_cloud(sigma)
    pairs = largest_and_pairs(cloud, 2100, trials)[:, 1]
    expected = 2100 * 2099 / 2 * float(np.prod(cloud.coincidence()))
    assert abs(pairs.mean() - expected) < 4 * pairs.std(ddof=1) / math.sqrt(trials)


def test_a_large_cloud_agrees_with_the_literal_method() -> None:
    # The literal method in the dimensions within 12 sigma of changing; 4 standard errors of the
    # mean largest population, which midpoint boundaries miss.
    sigma, trials = 1.5e-9, 1200
    cloud = large_cloud(sigma)
    fmt = cloud.format
    low, high = (
        fmt.round((cloud.centroid + side * 12 * sigma).astype(np.float32)) for side in (-1, 1)
    )
    dims = np.flatnonzero(low != high)
    assert np.isin(cloud.active, dims).all()
    near = Setting(tuple(cloud.centroid[dims].tolist()), sigma, 2100)
    rng = np.random.default_rng(77)
    weights = rng.integers(-(2**40), 2**40, dims.size) * 2 + 1
    literal = np.concatenate([
        features(literal_ordinals(near, rng, 100), weights, cloud.modal[dims])["largest"]
        for _ in range(trials // 100)
    ])  # fmt: skip

    def standard_errors(candidate: Cloud) -> float:
        largest = largest_and_pairs(candidate, 2100, 20_000)[:, 0]
        error = math.sqrt(literal.var() / literal.size + largest.var() / largest.size)
        return abs(float(largest.mean() - literal.mean())) / error

    assert standard_errors(cloud) < 4
    assert standard_errors(large_cloud(sigma, intermediate="exact")) > 4


def neighbour_correlation(values: npt.NDArray[np.int64]) -> float:
    """Correlation of each trial with the next, in standard errors (1 / sqrt(trials))."""
    centred = values - values.mean()
    return float((centred[1:] * centred[:-1]).mean() / centred.var() * math.sqrt(values.size - 1))


# Normal quantile of LEVEL, two-sided; lag 1 of independent trials.
CORRELATION_LIMIT = float(special.ndtri(1 - LEVEL / 2))


@pytest.mark.parametrize("how", ["occupancy", "direct"])
@pytest.mark.parametrize("name", NAMES)
def test_trials_are_independent(name: str, how: str) -> None:
    for key in FEATURES:
        values = drawn(name, how)[key]
        assert np.ptp(values) == 0 or abs(neighbour_correlation(values)) < CORRELATION_LIMIT, key


@pytest.mark.parametrize("how", ["occupancy", "direct"])
def test_a_stream_shared_between_trials_is_caught(how: str) -> None:
    # Every two trials share their numbers; every trial has the same.
    right = drawn("few cells", how)
    for trial in (np.arange(TRIALS) // 2, np.zeros(TRIALS, dtype=np.int64)):
        shared = {key: values[trial] for key, values in right.items()}
        correlated = any(
            np.ptp(values) and abs(neighbour_correlation(values)) > CORRELATION_LIMIT
            for values in shared.values()
        )
        assert correlated or smallest_p(shared, drawn("few cells", "literal")) < LEVEL


@pytest.mark.parametrize("how", ["occupancy", "direct"])
def test_dimensions_are_independent(how: str) -> None:
    # Coincidences of a pair in two dimensions at once: the product of the chances, each pair of
    # tokens (2 i, 2 i + 1) of the direct draw once; 4 standard errors, 28 pairs of dimensions at
    # 1.8e-3 together. Groups come sorted out of occupancy sampling, hence a random order there.
    setting = SETTINGS["few cells"]
    cloud = setting.cloud()
    rng = np.random.default_rng(8)
    if how == "occupancy":
        ordinals = rng.permuted(occupancy_ordinals(cloud, 100, 1500, seed=5), axis=0)
        for trial in ordinals:
            rng.shuffle(trial, axis=0)
    else:
        ordinals = direct_ordinals(cloud, 100, 1500, seed=5)
    equal = (ordinals[:, ::2] == ordinals[:, 1::2]).reshape(-1, cloud.d)
    chance = cloud.coincidence()
    for j in range(cloud.d):
        for k in range(j):
            p = chance[j] * chance[k]
            error = math.sqrt(max(p * (1 - p), 1e-12) / equal.shape[0])
            assert abs((equal[:, j] & equal[:, k]).mean() - p) < 4 * error + 1e-12


@pytest.mark.parametrize("intermediate", ["float32", "exact"])
@pytest.mark.parametrize("name", NAMES)
def test_cells_have_their_probabilities(name: str, intermediate: str) -> None:
    # Chi-square over cells of 5 expected tokens or more, for either sampler; the counts of the
    # occupancy sampler are those that the element statistics are made from.
    setting = SETTINGS[name]
    cloud = setting.cloud(intermediate=intermediate)
    table = cloud.table
    assert table is not None
    trials = 200
    sampler = OccupancySampler(cloud, setting.n, seed=11)
    for trial in range(trials):
        sampler.draw(trial, 1)
    by_occupancy = sampler.cell_counts()
    draws = direct_ordinals(cloud, setting.n, trials, seed=11)[:, :, cloud.active]
    level = 1e-3 / (len(SETTINGS) * 2 * 2 * 12)
    for k in range(cloud.active.size):
        cells = slice(*table.first[k : k + 2])
        place = (draws[:, :, k] - int(table.ordinals[cells][0])).ravel()
        by_draw = np.bincount(place, minlength=cells.stop - cells.start)
        expected = table.probabilities[cells] * setting.n * trials
        for counts in (by_occupancy[cells], by_draw):
            assert p_of_counts(counts, expected) > level


def p_of_counts(counts: Any, expected: Any) -> float:
    """Chi-square p-value of counts; the cells of under 5 expected are taken together."""
    many = expected >= 5
    observed = np.append(counts[many], counts[~many].sum())
    wanted = np.append(expected[many], expected[~many].sum())
    if wanted[-1] < 5:
        smallest = wanted[:-1].argmin()
        observed[smallest] += observed[-1]
        wanted[smallest] += wanted[-1]
        observed, wanted = observed[:-1], wanted[:-1]
    if wanted.size < 2:
        return 1.0
    statistic = float(np.sum((observed - wanted) ** 2 / wanted))
    return float(stats.chi2.sf(statistic, wanted.size - 1))


BINOMIALS = [
    (1, 0.3), (3, 0.5), (7, 0.9), (40, 0.01), (2100, 0.001), (2100, 0.004), (100, 0.0999),
    (100, 0.1001), (25, 0.45), (40, 0.5), (50, 0.75), (2100, 0.01), (2100, 0.37), (2100, 0.999),
    (10**6, 0.5), (10**9, 3e-8), (10**9, 0.2), (17, 0.6),
]  # fmt: skip


@njit
def binomials(state, ahead, n, p, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = random.binomial(state, ahead, n, p)


def stream(trial: int) -> tuple[Any, Any]:
    state = np.zeros(random.STATE_SIZE, dtype=np.uint64)
    ahead = np.zeros(random.AHEAD, dtype=np.uint64)
    random.start_stream(state, ahead, np.uint64(2026), 0, np.uint64(trial), 0)
    return state, ahead


def binomial_p_value(counts: Any, n: int, p: float) -> float:
    """Chi-square of binomial counts, over single values, or some 200 quantiles where many."""
    low, high = stats.binom.ppf([1e-9, 1 - 1e-9], n, p).astype(int)
    edges = np.unique(np.linspace(low, high + 1, min(high - low + 2, 200)).astype(int))
    edges = np.concatenate([[0], edges[(edges > 0) & (edges <= n)], [n + 1]])
    observed = np.histogram(counts, edges)[0]
    expected = np.diff(stats.binom.cdf(edges - 1, n, p)) * counts.size
    return p_of_counts(observed, expected)


@pytest.mark.parametrize(("n", "p"), BINOMIALS)
def test_binomial(n: int, p: float) -> None:
    counts = np.empty(400_000, dtype=np.int64)
    binomials(*stream(n), n, p, counts)
    assert binomial_p_value(counts, n, p) > 1e-3 / len(BINOMIALS)


def test_a_binomial_off_by_a_percent_is_caught() -> None:
    counts = np.empty(400_000, dtype=np.int64)
    binomials(*stream(1), 2100, 0.37 * 1.001, counts)
    assert binomial_p_value(counts, 2100, 0.37) < 1e-3 / len(BINOMIALS)


def test_binomial_limits() -> None:
    assert random.binomial(*stream(0), 5, 0.0) == 0
    assert random.binomial(*stream(0), 5, 1.0) == 5
    assert random.binomial(*stream(0), 0, 0.5) == 0


def noise_draws(noise: int, count: int) -> npt.NDArray[np.float64]:
    a = 4096
    z = np.empty((count, a))
    words, doubtful = np.zeros(a, dtype=np.uint64), np.zeros(a, dtype=np.uint8)
    state, ahead = stream(0)
    for token in range(count):
        direct.fill_noise(z[token], noise, np.uint64(5), token, 0, words, doubtful, state, ahead)
    return z.ravel()


@pytest.mark.parametrize("noise", ["gaussian", "laplace", "uniform"])
def test_noise_has_its_distribution(noise: str) -> None:
    # 4 million numbers in 1000 bins of equal probability and in the tails, three noises.
    z = noise_draws(getattr(direct, noise.upper()), 1000)
    quantile = {
        "gaussian": special.ndtri,
        "laplace": stats.laplace(scale=math.sqrt(0.5)).ppf,
        "uniform": stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)).ppf,
    }[noise]
    tails = 10.0 ** -np.arange(3.2, 5.3, 0.1)
    u = np.unique(np.concatenate([
        np.linspace(0, 1, 1001), tails, 1 - tails
    ]))  # fmt: skip
    edges = quantile(u)
    edges[0], edges[-1] = -np.inf, np.inf
    counts = np.histogram(z, edges)[0]
    assert p_of_counts(counts, np.diff(u) * z.size) > 1e-3 / 3
    assert abs(z.mean()) < 4 / math.sqrt(z.size)
    # No two neighbours, rows or signs are related: lags of 1, of the block layout and of a row.
    for lag in (1, 2, 2048, 4096):
        assert abs((z[lag:] * z[:-lag]).mean()) < 5 / math.sqrt(z.size)
