"""Monte Carlo tests: where an observed feature lies among simulated ones (docs/method.md, 11).

The observation counts as one of the T + 1 equally likely draws, and ties count on both sides, so
that a p-value is valid whatever T is and conservative for discrete features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from deadtokens.kernels.types import Float64Array

# The chance of calling a story that is true false, over all features together. Fixed beforehand.
FAMILY_LEVEL = 0.01
# A departure that does not reject the story is still reported as mild below this single p-value.
MILD_LEVEL = 0.05


@dataclass(frozen=True)
class Feature:
    """A feature of the real cluster beside the same feature of simulated ones.

    Attributes:
        name: Its name, as in docs/method.md.
        observed: Of the real cluster.
        mean: Mean over the simulated ones.
        std: Their standard deviation (ddof 1).
        low: Their 2.5 % quantile.
        high: Their 97.5 % quantile.
        p_lo: P(simulated <= observed), the observation counted in (equation 11.1).
        p_hi: P(simulated >= observed), likewise.
        p_value: Two-sided (equation 11.2).
    """

    name: str
    observed: float
    mean: float
    std: float
    low: float
    high: float
    p_lo: float
    p_hi: float
    p_value: float


def feature(name: str, observed: float, simulated: npt.ArrayLike) -> Feature:
    """Place an observed number among simulated ones, at least one of them."""
    values = np.asarray(simulated, dtype=np.float64)
    p_lo, p_hi = tails(observed, values)
    low, high = np.quantile(values, [0.025, 0.975]).tolist()
    return Feature(
        name=name,
        observed=float(observed),
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if values.size > 1 else 0.0,
        low=low,
        high=high,
        p_lo=p_lo,
        p_hi=p_hi,
        p_value=two_sided(p_lo, p_hi),
    )


def tails(observed: float, simulated: Float64Array) -> tuple[float, float]:
    """p_lo and p_hi (equation 11.1)."""
    draws = simulated.size + 1
    p_lo = (1 + int((simulated <= observed).sum())) / draws
    p_hi = (1 + int((simulated >= observed).sum())) / draws
    return p_lo, p_hi


def two_sided(p_lo: float, p_hi: float) -> float:
    """min(1, 2 min(p_lo, p_hi)) (equation 11.2)."""
    return min(1.0, 2 * min(p_lo, p_hi))


def smallest_p(n_simulated: int) -> float:
    """The smallest two-sided p-value that so many simulations can give."""
    return min(1.0, 2 / (n_simulated + 1))


def called(p_value: float, p_corrected: float) -> Literal["rejected", "mild", "consistent"]:
    """What a p-value and the same corrected for its family say of a story."""
    if p_corrected <= FAMILY_LEVEL:
        return "rejected"
    return "mild" if p_value <= MILD_LEVEL else "consistent"


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: below a, the family-wise level is a.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979).
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1.0, p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty(p.size)
    adjusted[order] = np.maximum.accumulate(steps)
    return [float(value) for value in adjusted]


def p_words(p: float) -> str:
    """A p-value with two significant digits and no leading zero: .014, .00020, 1."""
    if p >= 0.995:
        return "1"
    digits, _, exponent = f"{p:.1e}".partition("e")
    return f"{float(digits + 'e' + exponent):.{1 - int(exponent)}f}".removeprefix("0")


def spread_words(mean: float, std: float) -> str:
    """Mean +- standard deviation, to the digits that the latter makes sense of: 430 +- 6."""
    if std == 0:
        return f"{mean:,.6g}"
    decimals = 0 if std >= 3 else min(6, 1 - math.floor(math.log10(std)))
    return f"{mean:,.{decimals}f} +- {std:,.{decimals}f}"
