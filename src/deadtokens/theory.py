"""Closed forms: what to expect of a trial without drawing any (docs/method.md, section 10).

With s_k = sum_j p[k, j]^2 the chance that two tokens agree in dimension k, the expected number of
coinciding pairs is n (n - 1) / 2 prod_k s_k, exactly. The expected numbers of distinct vectors and
of singletons are sums over vectors where those are few enough to be enumerated, and elsewhere means
over drawn tokens, of functions of the token's own probability: estimates, with standard errors,
that need no trial.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from deadtokens.cloud import Cloud, blocks
from deadtokens.formats import Float64Array, Intermediate
from deadtokens.listening import watched
from deadtokens.noise import Noise
from deadtokens.sampling import cell_table
from deadtokens.showing import Shown
from deadtokens.tabular import Records
from deadtokens.touching import LOG_SMALLEST, lengths, touching_probability, vanishes

_ELEMENTS = 4_000_000  # drawn, over all tokens and dimensions
_TOKENS_AT_MOST = 100_000
_TOKENS_PER_DIMENSION = 8  # at least, so that every dimension is seen to leave its modal cell
_NO_PAIRS = 1e-9  # expected coinciding pairs below which no three tokens coincide
_ENUMERATED = 2**18  # vectors
_RARE = 1e-8  # a vector expected this often is held by one token, if by any
_EXACT = 1e-7  # error, relative to the smaller of coinciding pairs and 1, of what is enumerated


@dataclass(frozen=True)
class Expectation(Shown):
    """Expected numbers in a trial of n tokens; standard errors are 0 where they are exact.

    Attributes:
        sigma: Standard deviation of the noise; NaN if it differs between dimensions.
        coinciding_pairs: Pairs of tokens with equal vectors: exact.
        n_unique: Distinct vectors.
        n_unique_se: Its standard error.
        n_singletons: Vectors that one token holds.
        n_singletons_se: Its standard error.
        n_black_holes: Vectors that two or more tokens share.
        n_black_holes_se: Its standard error.
        black_hole_population: Tokens that share their vector.
        black_hole_population_se: Its standard error, that of ``n_singletons``.
        touching_probability: The chance that two random tokens touch; NaN if it was not asked for.
        touching_probability_se: Its standard error.
    """

    sigma: float
    coinciding_pairs: float
    n_unique: float
    n_unique_se: float
    n_singletons: float
    n_singletons_se: float
    n_black_holes: float
    n_black_holes_se: float
    black_hole_population: float
    black_hole_population_se: float
    touching_probability: float = math.nan
    touching_probability_se: float = math.nan

    def __repr__(self) -> str:
        return (
            f"<Expectation at sigma {self.sigma:.4g}: {self.n_unique:,.5g} distinct vectors, "
            f"{self.n_black_holes:,.5g} black holes>"
        )


def theory(
    centroid: npt.ArrayLike,
    sigmas: float | Sequence[float],
    n_tokens: int,
    *,
    touching: float | None = None,
    epsilon: float | None = None,
    noise: Noise = "gaussian",
    format: str = "bfloat16",  # noqa: A002
    intermediate: Intermediate = "float32",
) -> Records[Expectation]:
    """What to expect of trials, for each sigma, without drawing any.

    Args:
        centroid: (d,) finite numbers.
        sigmas: One standard deviation or several.
        n_tokens: Tokens of a trial.
        touching: The distance up to which tokens touch; 2 epsilon by default.
        epsilon: The ULP of the centroid's largest |value| by default.
        noise: Kind of noise.
        format: Storage format.
        intermediate: "float32" if centroid + noise is rounded to float32 first.

    Raises:
        SelectionError: A number out of range.
        FormatError: An unknown format, or values that would overflow it.
    """
    values = [float(sigmas)] if isinstance(sigmas, (int, float)) else [float(s) for s in sigmas]
    clouds = (
        Cloud(centroid, sigma, noise=noise, format=format, intermediate=intermediate)
        for sigma in values
    )
    first = Cloud(centroid, 0.0, noise=noise, format=format, intermediate=intermediate)
    _, limit = lengths(first.centroid, format, epsilon, touching)
    expected = (expectation(cloud, n_tokens, touching=limit) for cloud in clouds)
    return Records(Expectation, watched(expected, "expectations", len(values)))


def coinciding_pairs(cloud: Cloud, n_tokens: int) -> float:
    """Expected pairs of equal tokens in a trial (equation 10.1)."""
    return n_tokens * (n_tokens - 1) / 2 * math.exp(log_coincidence(cloud))


def log_coincidence(cloud: Cloud, negligible: float = LOG_SMALLEST) -> float:
    """Log of the chance that two tokens are equal; -inf stands for less than what is negligible."""
    if vanishes(cloud, 0.0):
        return -math.inf
    if cloud.table is not None:
        return float(np.sum(np.log(cloud.coincidence())))
    low, high = cloud.range_of(cloud.active)
    order = np.argsort(high - low, kind="stable")  # dimensions of few cells cost least
    total = 0.0
    for part in blocks((high - low + 1)[order]):
        total += float(np.sum(np.log(cloud.coincidences(cloud.active[order[part]]))))
        if total < negligible:
            return -math.inf
    return total


def expectation(
    cloud: Cloud, n_tokens: int, seed: int = 0, *, touching: float | None = None
) -> Expectation:
    """Expected numbers of a trial (equations 10.1 to 10.10).

    Args:
        cloud: The null model.
        n_tokens: Tokens of a trial.
        seed: Of the tokens drawn for the estimates.
        touching: The distance up to which tokens touch, if its chance is wanted.

    Raises:
        SelectionError: No number of tokens.
        FormatError: Values that would overflow the format.
    """
    cloud.check(n_tokens)
    pairs = coinciding_pairs(cloud, n_tokens)
    lost, shared, holes = _counts(cloud, n_tokens, pairs, seed)
    sigma = float(cloud.sigma[0]) if np.ptp(cloud.sigma) == 0 else math.nan
    result = Expectation(
        sigma,
        pairs,
        n_tokens - lost[0],
        lost[1],
        n_tokens - shared[0],
        shared[1],
        *holes,
        *shared,
    )
    if touching is None:
        return result
    chance, error = touching_probability(cloud, touching, seed)
    return replace(result, touching_probability=chance, touching_probability_se=error)


def _counts(
    cloud: Cloud, n_tokens: int, pairs: float, seed: int
) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    """Expected n - n_unique, n - n_singletons and n_black_holes, each with its standard error."""
    if n_tokens == 1:
        return (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)
    if cloud.active.size == 0:
        return (n_tokens - 1.0, 0.0), (float(n_tokens), 0.0), (1.0, 0.0)
    if pairs < _NO_PAIRS:
        return (pairs, 0.0), (2 * pairs, 0.0), (pairs, 0.0)
    p = _vectors(cloud, n_tokens, pairs)
    if p is not None:
        terms = _terms(p, n_tokens)
        lost, shared, holes = ((n_tokens * float(np.sum(p * term)), 0.0) for term in terms)
        return lost, shared, holes
    log_p, weights = _drawn_tokens(cloud, np.random.Generator(np.random.PCG64(seed)))
    p = np.exp(np.minimum(log_p, 0.0))
    chance = pairs / (n_tokens * (n_tokens - 1) / 2)
    known = np.stack([weights - 1, weights * (p / chance) - 1], axis=1)
    terms = _terms(p, n_tokens)
    lost, shared, holes = (_estimate(n_tokens * weights * term, known) for term in terms)
    return lost, shared, holes


def _terms(p: Float64Array, n: int) -> tuple[Float64Array, Float64Array, Float64Array]:
    """For a token whose vector has probability p, in a trial of n: three chances.

    1 - (1 - (1 - p)^n) / (n p) and 1 - (1 - p)^(n - 1), the terms of n - n_unique and of
    n - n_singletons (equations 10.2 and 10.3), and their difference, that of n_black_holes.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        log_other = np.log1p(-p)  # -inf for a certain vector
        lost = 1 + np.expm1(n * log_other) / (n * p)
        shared = -np.expm1((n - 1) * log_other)
    # The first terms of their series, to a relative (n p)^2.
    pairs, triples = (n - 1) * p / 2, (n - 1) * (n - 2) * p * p / 6
    rare = n * p < 1e-5
    lost = np.where(rare, pairs - triples, lost)
    shared = np.where(rare, 2 * pairs - 3 * triples, shared)
    return lost, shared, np.where(rare, pairs - 2 * triples, shared - lost)


def _vectors(cloud: Cloud, n_tokens: int, pairs: float) -> Float64Array | None:
    """Probabilities of all vectors but the rare ones, which no two tokens share.

    None if they are too many, or if the rare ones weigh too much to be left out.
    """
    if cloud.table is None:
        return None
    table = cloud.table
    rare = _RARE / n_tokens
    p, left_out = np.ones(1), 0.0
    for k in np.argsort(table.leave, kind="stable").tolist():
        cells = table.probabilities[table.first[k] : table.first[k + 1]]
        if p.size * cells.size > 16 * _ENUMERATED:
            return None
        p = np.outer(p, cells).ravel()
        few = p < rare
        left_out += float(np.sum(p[few]))
        p = p[~few]
        # Each token there would be lost with probability n rare / 2 at most.
        error = n_tokens * left_out * n_tokens * rare / 2
        if p.size > _ENUMERATED or error > _EXACT * min(pairs, 1.0):
            return None
    return p


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


def _estimate(x: Float64Array, known: Float64Array) -> tuple[float, float]:
    """The expectation of x, and its standard error, from (drawn,) values.

    ``known``, (drawn, m), are numbers of the same tokens whose expectation is 0: what x has in
    common with them is taken out by least squares (control variates, equation 10.6).
    """
    scale = np.sqrt(np.mean(known * known, axis=0))
    columns = np.column_stack([np.ones(x.size), known / np.where(scale > 0, scale, 1.0)])
    solution = np.linalg.lstsq(columns, x, rcond=None)[0]
    residual = x - columns @ solution
    return float(solution[0]), float(residual.std(ddof=columns.shape[1])) / math.sqrt(x.size)
