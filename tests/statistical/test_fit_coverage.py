"""The estimate of sigma over many synthetic snowballs: its interval's coverage, and its bias.

Every snowball has its own centre, because the prior of the means is what intervals hold for. Rows
are drawn literally, centre plus noise in float32 and then rounded, with fixed seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from snowballs import snowball_from_values

from deadtokens.fit import fit
from deadtokens.formats import get_format

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """A cluster: centres are normal of that scale."""

    format: str
    n: int
    d: int
    scale: float
    sigma: float

    def rows(self, seed: int) -> npt.NDArray[np.float32]:
        """(n, d) rounded."""
        rng = np.random.default_rng([seed, self.d])
        fmt = get_format(self.format)
        centre = rng.normal(0, self.scale, self.d)
        rows = (centre + rng.normal(0, self.sigma, (self.n, self.d))).astype(np.float32)
        return fmt.values(fmt.round(rows))


# Of some 50 to 80 dimensions that vary, of 384 or 300, or of 64 all.
SETTINGS = {
    "float16 below": Setting("float16", 300, 384, 0.05, 2e-7),
    "bfloat16 near": Setting("bfloat16", 200, 64, 3e-3, 1.5e-5),
    "bfloat16 above": Setting("bfloat16", 200, 64, 3e-3, 1.5e-4),
    "bfloat16 below": Setting("bfloat16", 300, 384, 3e-3, 2e-7),
    "few tokens": Setting("bfloat16", 40, 300, 3e-3, 3e-7),
}
ALL_VARY = {"bfloat16 near", "bfloat16 above"}
HEAVY = pytest.mark.slow  # twenty seconds to a minute each
QUICK = "bfloat16 above"
BY_SETTING = pytest.mark.parametrize(
    "name", [name if name == QUICK else pytest.param(name, marks=HEAVY) for name in SETTINGS]
)
REPEATS = 200


@dataclass(frozen=True)
class Outcome:
    """Of every snowball, (REPEATS,) each; estimates over sigma.

    Attributes:
        n_varying: Dimensions that vary.
        fitted: The estimate.
        covered: Whether the interval holds sigma.
        narrowly: Whether an interval of three quarters of its width does.
        held: The estimate from varying dimensions alone, said to be such.
        held_covered: Whether its interval holds sigma.
        uncorrected: The estimate from them as though all dimensions were held.
        pooled: Standard deviation of the rows around their mean, over all dimensions.
        midpoints: Likewise, less what rounding adds to a smooth variance, ULP^2 / 12.
    """

    n_varying: Float64
    fitted: Float64
    covered: Float64
    narrowly: Float64
    held: Float64
    held_covered: Float64
    uncorrected: Float64
    pooled: Float64
    midpoints: Float64


def spreads(rows: npt.NDArray[np.float32], name: str) -> tuple[float, float]:
    """Sigma as it would be without a likelihood: `Outcome.pooled`, `Outcome.midpoints`."""
    variance = rows.astype(np.float64).var(axis=0, ddof=1)
    fmt = get_format(name)
    rounding = (fmt.ulp(fmt.round(rows)) ** 2 / 12).mean()
    return float(np.sqrt(variance.mean())), float(np.sqrt(max(variance.mean() - rounding, 0.0)))


def estimates(setting: Setting, seed: int) -> tuple[float, ...]:
    rows = setting.rows(seed)
    fmt, sigma = get_format(setting.format), setting.sigma
    whole = fit(snowball_from_values(rows, fmt))
    varying = rows[:, whole.cells.occupied > 1]
    held = uncorrected = whole
    if varying.shape != rows.shape:
        snowball = snowball_from_values(varying, fmt)
        held, uncorrected = fit(snowball, varying_only=True), fit(snowball)
    edge = whole.sigma_low if sigma < whole.sigma else whole.sigma_high
    return (
        whole.n_varying,
        whole.sigma / sigma,
        whole.sigma_low <= sigma <= whole.sigma_high,
        abs(sigma - whole.sigma) <= 0.75 * abs(edge - whole.sigma),
        held.sigma / sigma,
        held.sigma_low <= sigma <= held.sigma_high,
        uncorrected.sigma / sigma,
        *(spread / sigma for spread in spreads(rows, setting.format)),
    )


@cache
def outcome(name: str) -> Outcome:
    found = np.array([estimates(SETTINGS[name], seed) for seed in range(REPEATS)])
    return Outcome(*found.T)


def bias(fitted: Float64) -> float:
    return float(abs(fitted.mean() - 1))


@BY_SETTING
def test_the_interval_covers_sigma(name: str) -> None:
    """In 92 to 98 % of snowballs: two standard errors either way."""
    assert outcome(name).n_varying.mean() > 40
    assert 0.92 <= outcome(name).covered.mean() <= 0.98


@BY_SETTING
def test_the_estimate_is_not_biased(name: str) -> None:
    fitted = outcome(name).fitted
    assert fitted.std() / np.sqrt(REPEATS) < 0.01 / 3
    assert bias(fitted) < 0.02


@BY_SETTING
def test_varying_dimensions_alone_are_enough(name: str) -> None:
    assert (outcome(name).n_varying.min() == SETTINGS[name].d) == (name in ALL_VARY)
    assert bias(outcome(name).held) < 0.03
    assert 0.92 <= outcome(name).held_covered.mean() <= 0.98


# Negative controls.


@HEAVY
def test_leaving_out_what_does_not_vary_biases_a_fit_that_is_not_told() -> None:
    """By 3 % and more where tokens are few; by more than four standard errors everywhere."""
    assert bias(outcome("few tokens").uncorrected) > 0.03
    for name in SETTINGS.keys() - ALL_VARY:
        found = outcome(name).uncorrected
        assert found.mean() - 1 > 4 * found.std() / np.sqrt(REPEATS)


@BY_SETTING
def test_the_spread_of_rounded_rows_is_no_estimate(name: str) -> None:
    """It is one only where sigma is well above the ULP; a correction helps down to the ULP."""
    assert (bias(outcome(name).pooled) > 0.03) == (name != QUICK)
    assert (bias(outcome(name).midpoints) > 0.03) == (name not in ALL_VARY)


def test_an_interval_for_another_confidence_would_be_told() -> None:
    """Of three quarters of its width, it would cover in 86 % of snowballs."""
    assert outcome(QUICK).narrowly.mean() < 0.92
