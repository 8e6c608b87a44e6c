"""Distributions of the 20 statistics: the rows of `Simulator` against the literal method's.

The literal method draws float32 noise, adds it to the float32 centroid, rounds to the format and
measures rows of numbers, pair by pair; nothing of the package takes part, and `tests/reference.py`
checks the measuring. All seeds are fixed; every threshold is a significance level divided by the
number of tests that share it (`LEVEL`), or a number of standard errors that is stated. Negative
controls put a wrong simulation through the very criterion that the right ones pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from reference import reference_row
from scipy import special, stats
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform

from deadtokens.cloud import Cloud
from deadtokens.formats import Intermediate
from deadtokens.sampling import (
    DirectSampler,
    OccupancySampler,
    SamplerName,
    choose_sampler,
    distinct_rows,
)
from deadtokens.statistics import COLUMNS
from deadtokens.theory import coinciding_pairs
from deadtokens.trials import STATISTICS, Simulator, TrialSpec

Rows = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Graphs = Literal["complete", "empty", "between"]

TRIALS = 1000
CHECKED = 12  # literal trials of each setting that the reference measures too
DTYPES: dict[str, npt.DTypeLike] = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


@dataclass(frozen=True)
class Setting:
    """A small cloud, a number of tokens, and the lengths that measuring needs.

    The touching graphs of its trials are as `graphs` says: all complete, all empty, or many of them
    in between.
    """

    centroid: tuple[float, ...]
    sigma: float
    n: int
    epsilon: float
    touching: float
    graphs: Graphs
    format: str = "bfloat16"

    def cloud(self, intermediate: Intermediate = "float32") -> Cloud:
        return Cloud(self.centroid, self.sigma, format=self.format, intermediate=intermediate)

    def spec(self) -> TrialSpec:
        return TrialSpec(self.n, 42, self.epsilon, self.touching)


def student(d: int, scale: float, seed: int) -> tuple[float, ...]:
    return tuple((np.random.default_rng(seed).standard_t(4.5, d) * scale).tolist())


def near_boundaries(
    d: int, seed: int, *, exponent: int = 0, fraction_bits: int = 7, reach: int = 3
) -> tuple[float, ...]:
    """Numbers from 2**exponent up, within a few float32 gaps of halfway between neighbours."""
    rng = np.random.default_rng(seed)
    halfway = 1 + (2 * rng.integers(0, 2**fraction_bits, d) + 1) * 2.0 ** -(fraction_bits + 1)
    numbers = halfway + rng.integers(-reach, reach + 1, d) * 2.0**-23
    return tuple((numbers * 2.0**exponent).tolist())


# The float32 gap is 2**-29 = 1.9e-9 at 2**-6, 2**-31 = 4.7e-10 at 2**-8 and 1.2e-7 at 1.
SETTINGS = {
    "below the float32 gap": Setting(
        near_boundaries(5, 1, exponent=-6) + near_boundaries(4, 2, exponent=-8),
        1e-9, 60, 2.0**-13, 2.0**-14, "between",
    ),
    "many tokens": Setting(
        near_boundaries(10, 3, exponent=-8, reach=8), 1.5e-9, 400, 2.0**-15, 2.0**-14, "complete"
    ),
    "float16 around zero": Setting(
        (0.0, 2e-7, -5e-5), 1e-7, 40, 2.0**-24, 2 * 2.0**-24, "between", "float16"
    ),
    "float16 at the float32 gap": Setting(
        near_boundaries(7, 4, fraction_bits=10), 1.2e-7, 80, 2.0**-10, 2.0**-11, "empty", "float16"
    ),
    "few cells": Setting(student(8, 2.5e-3, 1), 2e-6, 25, 2.0**-16, 2.0**-17, "between"),
    "several cells": Setting(student(3, 2.5e-3, 2), 1e-5, 30, 2.0**-15, 2.0**-16, "between"),
    "crowded towards zero": Setting(student(30, 2.5e-3, 5), 1e-4, 30, 6e-5, 3e-4, "between"),
    "all tokens alone": Setting(
        student(12, 2.5e-3, 6), 1e-3, 30, 2.0**-18, 2.0**-17, "empty", "float16"
    ),
    "too many cells for a table": Setting(student(40, 3e-3, 7), 1e-2, 24, 6e-5, 0.025, "between"),
    "one dimension": Setting((3e-3,), 1e-2, 60, 6e-5, 4e-4, "between"),
}  # fmt: skip
SAMPLERS: tuple[SamplerName, ...] = ("occupancy", "direct")
NO_TABLE = (
    "crowded towards zero",
    "too many cells for a table",
)  # only the direct draw is possible
WITH_TABLE = [name for name in SETTINGS if name not in NO_TABLE]
SIMULATED = [
    (name, sampler)
    for name in SETTINGS
    for sampler in SAMPLERS
    if sampler == "direct" or name in WITH_TABLE
]
# The settings of every run: one of each kind of graph, with and without a table. `make slow` has
# all of them.
AT_ONCE = (
    "below the float32 gap",
    "many tokens",
    "float16 at the float32 gap",
    "crowded towards zero",
)


def sorted_out(cases: Iterable[Any]) -> list[Any]:
    """Cases as parameters, those of the other settings marked as slow."""
    parameters = []
    for case in cases:
        values = case if isinstance(case, tuple) else (case,)
        marks = () if values[0] in AT_ONCE else pytest.mark.slow
        parameters.append(pytest.param(*values, marks=marks))
    return parameters


# One false alarm in a thousand runs of this file with other seeds, over the comparisons of either
# sampler with the literal method and of the two with each other.
LEVEL = 1e-3 / ((len(SIMULATED) + len(WITH_TABLE)) * len(STATISTICS))
FOUR_ERRORS = 2 * float(special.ndtr(-4))


def literal_tokens(setting: Setting, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """(n, d) tokens of one trial: noise and sum in float32, then rounded to the format."""
    c = np.array(setting.centroid, dtype=np.float32)
    z = rng.standard_normal((setting.n, c.size), dtype=np.float32) * np.float32(setting.sigma)
    stored = (c + z).astype(DTYPES[setting.format])
    return stored.astype(np.float32)


def literal_row(tokens: npt.NDArray[np.float32], epsilon: float, touching: float) -> Numbers:
    """The 20 statistics and the number of coinciding pairs, from all pairs."""
    vectors, populations = np.unique(tokens + np.float32(0), axis=0, return_counts=True)
    m = len(vectors)
    holes = np.sort(populations[populations > 1])
    row = np.zeros(len(STATISTICS) + 1)
    row[[0, 4]] = len(tokens)
    row[1], row[2], row[3], row[5] = m, holes.size, m - holes.size, holes.sum()
    if holes.size:
        row[6], row[7], row[8] = holes[-1], holes[0], holes.mean()
        row[9], row[10] = holes[(holes.size - 1) // 2], holes[-2:].sum()
    if holes.size > 1:
        differences = np.abs(holes[:, None] - holes)
        row[11] = differences.mean() / (2 * holes.mean())
    row[15:20] = 1
    if m > 1:
        distances = pdist(vectors.astype(np.float64), "chebyshev").astype(np.float32)
        quoted = np.sort(distances.astype(np.float64)) / epsilon
        row[12], row[13], row[14] = quoted[-1], quoted.mean(), quoted[(quoted.size - 1) // 2]
        edges = squareform(distances <= np.float32(touching))
        row[15], component = connected_components(edges, directed=False)
        degrees = edges.sum(axis=1)
        sizes = np.bincount(component)
        within = np.bincount(component, weights=degrees)[sizes == sizes.max()].max()
        row[16], row[17] = (degrees == 0).sum(), sizes.max()
        row[18] = within / (sizes.max() * (sizes.max() - 1)) if sizes.max() > 1 else 1
        row[19] = degrees.sum() / (m * (m - 1))
    row[20] = (populations * (populations - 1) // 2).sum()
    return row


@cache
def literal(name: str) -> Rows:
    """(TRIALS, 21) statistics and coinciding pairs of a setting, the literal way."""
    setting = SETTINGS[name]
    rng = np.random.default_rng([2027, *name.encode()])
    rows = [
        literal_row(literal_tokens(setting, rng), setting.epsilon, setting.touching)
        for _ in range(TRIALS)
    ]
    return np.array(rows)


@cache
def simulated(name: str, sampler: SamplerName) -> Rows:
    """(TRIALS, 20) statistics of a setting as a sweep records them."""
    setting = SETTINGS[name]
    return Simulator(setting.cloud(), setting.spec(), sampler).run(0, TRIALS).rows


def significant(values: Numbers) -> Numbers:
    """Values to 30 bits, so that two ways of adding up one mean give one number."""
    mantissa, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.round(np.ldexp(mantissa, 30)), exponent - 30), dtype=np.float64)


def p_value(a: Numbers, b: Numbers) -> float:
    """Two-sample test that a statistic has one distribution in both.

    What is constant in both must be the same number. What is constant in one only fails: settings
    are such that what varies at all does so in many trials. Of up to 40 different numbers, a
    chi-square test, of neighbouring numbers taken together to at least 10 of both (so at least 5
    expected of either); of more, Kolmogorov and Smirnov's, which ties make conservative.
    """
    a, b = significant(a), significant(b)
    constant = [bool(np.ptp(x) == 0) for x in (a, b)]
    if any(constant):
        return float(all(constant) and a[0] == b[0])
    both, place = np.unique(np.concatenate([a, b]), return_inverse=True)
    if both.size > 40:
        return float(stats.ks_2samp(a, b, method="asymp").pvalue)
    table = np.stack([
        np.bincount(places, minlength=both.size) for places in np.split(place, [a.size])
    ])  # fmt: skip
    if 2 * a.size - table.sum(axis=0).max() < 20:  # hardly varies: how often it is not as usual
        usual = table[:, table.sum(axis=0).argmax()]
        return float(stats.fisher_exact(np.stack([usual, table.sum(axis=1) - usual])).pvalue)
    return float(stats.chi2_contingency(taken_together(table), correction=False).pvalue)


def taken_together(table: Counts) -> Counts:
    """Neighbouring columns of a (2, values) table added up, to at least 10 in each."""
    columns: list[Any] = []
    rest = np.zeros(2, dtype=np.int64)
    for column in table.T:
        rest = rest + column
        if rest.sum() >= 10:
            columns.append(rest)
            rest = np.zeros(2, dtype=np.int64)
    columns[-1] = columns[-1] + rest
    return np.array(columns).T


def p_values(a: Rows, b: Rows) -> dict[str, float]:
    return {name: p_value(a[:, i], b[:, i]) for i, name in enumerate(STATISTICS)}


def neighbours_p(rows: Rows) -> float:
    """Smallest p-value, over the statistics, of no correlation between a trial and the next.

    The correlation of independent trials is normal to 1 / sqrt(trials) for statistics that differ
    from their commonest value in a tenth of the trials or more; others are left out.
    """
    smallest = 1.0
    for values in significant(rows).T:
        if np.unique(values, return_counts=True)[1].max() > 0.9 * values.size:
            continue
        centred = values - values.mean()
        correlation = (centred[1:] * centred[:-1]).sum() / (centred**2).sum()
        smallest = min(smallest, 2 * float(special.ndtr(-abs(correlation) * math.sqrt(len(rows)))))
    return smallest


@pytest.mark.parametrize("name", sorted_out(SETTINGS))
def test_the_literal_measuring_is_the_references(name: str) -> None:
    setting = SETTINGS[name]
    rng = np.random.default_rng([2027, *name.encode()])
    for row in literal(name)[:CHECKED]:
        expected = reference_row(literal_tokens(setting, rng), setting.epsilon, setting.touching)
        assert row[:-1].tolist() == pytest.approx(list(expected.values())[1:], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("name", "sampler"), sorted_out(SIMULATED))
def test_statistics_have_the_literal_methods_distribution(name: str, sampler: SamplerName) -> None:
    p = p_values(simulated(name, sampler), literal(name))
    assert {key: value for key, value in p.items() if value <= LEVEL} == {}


@pytest.mark.parametrize("name", sorted_out(WITH_TABLE))
def test_statistics_do_not_depend_on_the_sampler(name: str) -> None:
    p = p_values(simulated(name, "occupancy"), simulated(name, "direct"))
    assert {key: value for key, value in p.items() if value <= LEVEL} == {}


def test_settings_cover_what_they_should() -> None:
    assert COLUMNS[1:] == STATISTICS
    sigmas = [setting.sigma for setting in SETTINGS.values()]
    assert (min(sigmas), max(sigmas)) == (1e-9, 1e-2)
    below = SETTINGS["below the float32 gap"]
    gaps = np.spacing(np.array(below.centroid, dtype=np.float32))
    assert below.sigma <= gaps[:5].min()
    chosen = {name: choose_sampler(s.cloud(), s.n) for name, s in SETTINGS.items()}
    assert set(chosen.values()) == set(SAMPLERS)
    for name, setting in SETTINGS.items():
        assert (setting.cloud().table is not None) == (name in WITH_TABLE)


@pytest.mark.parametrize("name", sorted_out(SETTINGS))
def test_settings_have_something_to_tell(name: str) -> None:
    rows = literal(name)[:, :-1]
    density = rows[rows[:, 1] > 1, 19]
    graphs = SETTINGS[name].graphs
    if graphs == "between":
        assert ((density > 0) & (density < 1)).mean() > 0.2
    else:
        assert (density == (graphs == "complete")).all()
    assert (np.ptp(rows, axis=0) > 0).sum() >= (3 if graphs == "empty" else 5)


@pytest.mark.parametrize("name", ["below the float32 gap", "float16 at the float32 gap"])
def test_plain_midpoints_are_caught(name: str) -> None:
    setting = SETTINGS[name]
    for sampler in SAMPLERS:
        wrong = Simulator(setting.cloud("exact"), setting.spec(), sampler).run(0, TRIALS).rows
        assert min(p_values(wrong, literal(name)).values()) < LEVEL


def never_splitting_the_last_dimension(name: str) -> Rows:
    setting = SETTINGS[name]
    simulator = Simulator(setting.cloud(), setting.spec(), "occupancy")
    table = simulator._occupancy.table
    leave, hazard = table.leave.copy(), table.hazard.copy()
    leave[-1] = hazard[-1] = 0.0
    simulator._occupancy.table = table._replace(leave=leave, hazard=hazard)
    return simulator.run(0, TRIALS).rows


@pytest.mark.parametrize("name", sorted_out(WITH_TABLE))
def test_never_splitting_the_last_dimension_is_caught(name: str) -> None:
    wrong = never_splitting_the_last_dimension(name)
    assert min(p_values(wrong, literal(name)).values()) < LEVEL


@pytest.mark.parametrize(("name", "sampler"), sorted_out(SIMULATED))
def test_trials_are_independent(name: str, sampler: SamplerName) -> None:
    assert neighbours_p(simulated(name, sampler)) > LEVEL


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", sorted_out(["below the float32 gap", "several cells"]))
def test_a_stream_shared_by_two_trials_is_caught(name: str, sampler: SamplerName) -> None:
    setting = SETTINGS[name]
    simulator = Simulator(setting.cloud(), setting.spec(), sampler)
    shared = np.concatenate([simulator.run(trial // 2, 1).rows for trial in range(TRIALS)])
    assert neighbours_p(shared) < LEVEL


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_stream_shared_by_all_trials_is_caught(sampler: SamplerName) -> None:
    name = "below the float32 gap"
    setting = SETTINGS[name]
    simulator = Simulator(setting.cloud(), setting.spec(), sampler)
    shared = np.concatenate([simulator.run(0, 1).rows for _ in range(100)])
    assert min(p_values(shared, literal(name)).values()) < LEVEL


def pairs_of_trials(name: str, how: SamplerName | Literal["literal"]) -> Numbers:
    """(TRIALS,) coinciding pairs: of the very trials whose rows the other tests compare."""
    setting = SETTINGS[name]
    if how == "literal":
        return literal(name)[:, -1]
    populations: list[Counts] = []
    seed = setting.spec().seed
    if how == "occupancy":
        groups = OccupancySampler(setting.cloud(), setting.n, seed=seed)
        while len(populations) < TRIALS:
            chunk = groups.draw(len(populations), TRIALS - len(populations))
            populations += [p.copy() for p in np.split(chunk.populations, chunk.offsets[1:-1])]
    else:
        tokens = DirectSampler(setting.cloud(), setting.n, seed=seed)
        populations = [distinct_rows(tokens.draw(trial))[1] for trial in range(TRIALS)]
    assert [p.size for p in populations] == simulated(name, how)[:, 1].tolist()
    return np.array([float((p * (p - 1) // 2).sum()) for p in populations])


@pytest.mark.parametrize(
    ("name", "how"), sorted_out(SIMULATED + [(name, "literal") for name in SETTINGS])
)  # fmt: skip
def test_coinciding_pairs_have_their_expected_number(
    name: str, how: SamplerName | Literal["literal"]
) -> None:
    setting = SETTINGS[name]
    pairs = pairs_of_trials(name, how)
    assert pairs_agree(pairs, coinciding_pairs(setting.cloud(), setting.n))


def pairs_agree(pairs: Numbers, expected: float) -> bool:
    """Within 4 standard errors, or as likely by Poisson's law where few pairs are expected."""
    if expected * pairs.size < 100:
        total = pairs.sum()
        law = stats.poisson(expected * pairs.size)
        return bool(2 * min(law.cdf(total), law.sf(total - 1)) > FOUR_ERRORS)
    error = pairs.std(ddof=1) / math.sqrt(pairs.size)
    return bool(abs(pairs.mean() - expected) < 4 * error)


def test_coinciding_pairs_tell_wrong_boundaries() -> None:
    setting = SETTINGS["below the float32 gap"]
    expected = coinciding_pairs(setting.cloud("exact"), setting.n)
    assert not pairs_agree(literal("below the float32 gap")[:, -1], expected)
