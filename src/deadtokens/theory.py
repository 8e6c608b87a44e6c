"""Closed forms: what to expect of a trial without drawing any (docs/method.md, section 10).

With s_k = sum_j p[k, j]^2 the chance that two tokens agree in dimension k, the expected number of
coinciding pairs is n (n - 1) / 2 prod_k s_k, exactly. The expected numbers of distinct vectors and
of singletons are means over drawn tokens, of functions of the token's own probability: unbiased
estimates, with standard errors, that need no trial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deadtokens.cloud import Cloud
from deadtokens.formats import Float64Array
from deadtokens.sampling import cell_table

_ELEMENTS = 4_000_000  # drawn, over all tokens and dimensions
_TOKENS_AT_MOST = 100_000
_TOKENS_PER_DIMENSION = 8  # at least, so that every dimension is seen to leave its modal cell
_NO_PAIRS = 1e-9  # expected coinciding pairs below which every token is taken as distinct


@dataclass(frozen=True)
class Expectation:
    """Expected numbers in a trial of n tokens; the standard errors are of the estimates.

    Attributes:
        coinciding_pairs: Pairs of tokens with equal vectors: exact, but only an upper bound where
            it is below 1e-9 and there is no table (`coinciding_pairs` is exact there too).
        n_unique: Distinct vectors.
        n_singletons: Vectors that one token holds.
        n_black_holes: Vectors that two or more tokens share.
        n_unique_se: Standard error of ``n_unique``,
        n_singletons_se: of ``n_singletons``,
        n_black_holes_se: of ``n_black_holes``.
    """

    coinciding_pairs: float
    n_unique: float
    n_singletons: float
    n_black_holes: float
    n_unique_se: float
    n_singletons_se: float
    n_black_holes_se: float


def coinciding_pairs(cloud: Cloud, n_tokens: int) -> float:
    """Expected pairs of equal tokens in a trial (equation 10.1)."""
    return _pairs(cloud, n_tokens, negligible=0.0)


def _pairs(cloud: Cloud, n_tokens: int, negligible: float) -> float:
    """The same; dimensions are left out once the product is below what is negligible."""
    pairs = n_tokens * (n_tokens - 1) / 2
    if cloud.table is not None:
        return pairs * float(np.prod(cloud.coincidence()))
    for dimension in cloud.active.tolist():
        pairs *= cloud.coincidence_of(dimension)
        if pairs < negligible:
            break
    return pairs


def expectation(cloud: Cloud, n_tokens: int, seed: int = 0) -> Expectation:
    """Expected counts of a trial (equations 10.1 to 10.4).

    Args:
        cloud: The null model.
        n_tokens: Tokens of a trial.
        seed: Of the tokens drawn for the estimates.
    """
    if cloud.active.size == 0:
        alone = float(n_tokens == 1)
        pairs = n_tokens * (n_tokens - 1) / 2
        return Expectation(pairs, 1.0, alone, 1.0 - alone, 0.0, 0.0, 0.0)
    pairs = _pairs(cloud, n_tokens, _NO_PAIRS)
    if pairs < _NO_PAIRS:
        return Expectation(pairs, float(n_tokens), float(n_tokens), 0.0, 0.0, 0.0, 0.0)
    log_p, weights = _drawn_tokens(cloud, np.random.Generator(np.random.PCG64(seed)))
    p = np.exp(np.minimum(log_p, 0.0))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_other = np.log1p(-p)  # -inf for a certain vector
        alone_chance = np.exp((n_tokens - 1) * log_other) if n_tokens > 1 else np.ones_like(p)
        seen = -np.expm1(n_tokens * log_other) / (n_tokens * p)
    seen = np.where(n_tokens * p < 1e-12, 1.0, seen)
    terms = (seen, alone_chance, seen - alone_chance)
    estimates = [_mean_and_error(n_tokens * weights * term) for term in terms]
    (unique, unique_se), (single, single_se), (holes, holes_se) = estimates
    return Expectation(pairs, unique, single, holes, unique_se, single_se, holes_se)


def _drawn_tokens(
    cloud: Cloud, generator: np.random.Generator
) -> tuple[Float64Array, Float64Array]:
    """Log probabilities of drawn tokens' vectors, and the tokens' weights.

    Half of the tokens are made to leave the modal cell of one dimension, each dimension as often as
    any, so that vectors too rare to be drawn are seen. With p a vector's probability and q_k that
    of leaving in dimension k, a token is drawn with p / 2 + p / 2a sum over left k of 1 / q_k, and
    its weight, p over that, is 2 at most (equation 10.5).
    """
    a = cloud.active.size
    n_drawn = int(np.clip(_ELEMENTS // a, _TOKENS_PER_DIMENSION * a, _TOKENS_AT_MOST))
    if cloud.table is None:
        return _drawn_without_table(cloud, generator, n_drawn), np.ones(n_drawn)
    table = cell_table(cloud)
    made_to = np.where(generator.random(n_drawn) < 0.5, generator.integers(0, a, n_drawn), -1)
    log_p, inverse = np.zeros(n_drawn), np.zeros(n_drawn)
    for k in range(a):
        cells = slice(int(table.first[k]), int(table.first[k + 1]))
        probabilities = table.probabilities[cells]
        modal = int(table.modal[k]) - cells.start
        others = probabilities.copy()
        others[modal] = 0.0
        drawn = _draw(probabilities, generator.random(n_drawn))
        forced = made_to == k
        drawn[forced] = _draw(others, generator.random(int(forced.sum())))
        log_p += np.log(probabilities)[drawn]
        inverse += np.where(drawn == modal, 0.0, 1 / table.leave[k])
    return log_p, 1 / (0.5 + 0.5 * inverse / a)


def _draw(probabilities: Float64Array, uniform: Float64Array) -> npt.NDArray[np.intp]:
    cumulative = np.cumsum(probabilities)
    place = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    return np.asarray(np.minimum(place, np.flatnonzero(probabilities)[-1]))


def _drawn_without_table(
    cloud: Cloud, generator: np.random.Generator, n_drawn: int
) -> Float64Array:
    total = np.zeros(n_drawn)
    for dimension in cloud.active.tolist():
        if cloud.noise == "gaussian":
            z = generator.standard_normal(n_drawn)
        elif cloud.noise == "laplace":
            z = generator.laplace(0.0, math.sqrt(0.5), n_drawn)
        else:
            z = generator.uniform(-math.sqrt(3.0), math.sqrt(3.0), n_drawn)
        total += np.log(cloud.probability_near(dimension, z))
    return total


def _mean_and_error(x: Float64Array) -> tuple[float, float]:
    return float(x.mean()), float(x.std(ddof=1)) / math.sqrt(x.size)
