"""What is asked of a centre: what to expect around it, which sigma would do, one trial of it.

A fit, or a file that fit or census wrote, brings the format, the number of tokens, the lengths and
the width with it; what else is given has to agree.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from deadtokens.centres import Centre, Centred, Settled, Terms, as_centre, settle
from deadtokens.cloud import Cloud
from deadtokens.errors import SelectionError
from deadtokens.formats import Intermediate
from deadtokens.noise import Noise
from deadtokens.sampling import SamplerName
from deadtokens.sampling import sample as draw
from deadtokens.snowball import Snowball
from deadtokens.solving import Solutions
from deadtokens.solving import solve as find
from deadtokens.tabular import Records
from deadtokens.theory import Expectation
from deadtokens.theory import theory as expect


def theory(
    centroid: Centred,
    sigmas: npt.ArrayLike | None = None,
    n_tokens: int | None = None,
    *,
    touching: float | None = None,
    epsilon: float | None = None,
    noise: Noise = "gaussian",
    format: str | None = None,  # noqa: A002
    intermediate: Intermediate = "float32",
) -> Records[Expectation]:
    """What to expect of trials, for each sigma, without drawing any.

    Args:
        centroid: (d,) finite numbers, a `Fit`, or a file that fit or census wrote.
        sigmas: One standard deviation or several; the fitted one by default.
        n_tokens: Tokens of a trial; by default those of the fitted cluster.
        touching: The distance up to which tokens touch; what came with the centre, or 2 epsilon.
        epsilon: What came with the centre, or the ULP of its largest |value|.
        noise: Kind of noise.
        format: Storage format; what came with the centre, or bfloat16.
        intermediate: "float32" if centroid + noise is rounded to float32 first.

    Raises:
        SelectionError: A number out of range, a contradiction with what came with the centre, or
            nothing says how many tokens or which sigma.
        FormatError: An unknown format, or values that would overflow it.
        SourceError: The file cannot be read.
    """
    chosen = None if sigmas is None else np.atleast_1d(np.asarray(sigmas, np.float64)).tolist()
    if chosen == []:
        raise SelectionError("no sigma", where="sigmas", remedy="give at least one, or a fit")
    first = None if chosen is None else 0.0  # any sigma may be asked for
    centre, terms = _settled(centroid, first, n_tokens, format, epsilon, touching)
    return expect(
        centre.values,
        [terms.sigma] if chosen is None else chosen,
        terms.n_tokens,
        touching=terms.touching,
        epsilon=terms.epsilon,
        noise=noise,
        format=terms.format,
        intermediate=intermediate,
    )


def solve(
    centroid: Centred,
    metric: str,
    value: float,
    n_tokens: int | None = None,
    *,
    between: tuple[float, float] | None = None,
    touching: float | None = None,
    epsilon: float | None = None,
    noise: Noise = "gaussian",
    format: str | None = None,  # noqa: A002
    intermediate: Intermediate = "float32",
) -> Solutions:
    """The sigmas at which a metric's expectation is that value, ascending; one but for black holes.

    Args:
        centroid: As for `theory`.
        metric: One of `deadtokens.solving.METRICS`.
        value: What it is to be.
        n_tokens: As for `theory`, and so are the others.
        between: The range of sigma to search; `deadtokens.solving.default_range` by default.
        touching: The distance up to which tokens touch.
        epsilon: The length in which distances are quoted.
        noise: Kind of noise.
        format: Storage format.
        intermediate: "float32" if centroid + noise is rounded to float32 first.

    Raises:
        SelectionError: No such metric, a value that it cannot take, or not in that range; or as for
            `theory`.
        FormatError: An unknown format, or values that would overflow it.
        SourceError: The file cannot be read.
    """
    centre, terms = _settled(centroid, 0.0, n_tokens, format, epsilon, touching)
    return find(
        centre.values,
        metric,
        value,
        terms.n_tokens,
        between=between,
        touching=terms.touching,
        epsilon=terms.epsilon,
        noise=noise,
        format=terms.format,
        intermediate=intermediate,
    )


def sample(
    cloud: Cloud | Centred,
    n_tokens: int | None = None,
    *,
    sigma: float | None = None,
    trial: int = 0,
    seed: int = 42,
    sampler: SamplerName | Literal["auto"] = "auto",
) -> Snowball:
    """Draw one trial.

    By the direct draw its rows are the trial's tokens, in the order drawn; by occupancy sampling
    tokens have no order.

    Args:
        cloud: The null model; or a centre as for `theory`, with Gaussian noise.
        n_tokens: Tokens to draw; by default those of the fitted cluster.
        sigma: Of a centre; the fitted one by default.
        trial: Number of the trial.
        seed: Any number below 2^64; trials of different seeds are independent.
        sampler: "auto" for the fixed rule of `deadtokens.sampling.choose_sampler`.

    Raises:
        SelectionError: A number out of range, a sampler that cannot draw this cloud, or as for
            `theory`.
        FormatError: The format may overflow.
        SourceError: The file cannot be read.
    """
    if not isinstance(cloud, Cloud):
        centre, terms = _settled(cloud, sigma, n_tokens, None, None, None)
        cloud, n_tokens = Cloud(centre.values, terms.sigma, format=terms.format), terms.n_tokens
    elif n_tokens is None or sigma is not None:
        wrong = "no n_tokens" if n_tokens is None else "a sigma beside a cloud, which has its own"
        raise SelectionError(wrong, where="sample", remedy="give a cloud and n_tokens, or a fit")
    return draw(cloud, n_tokens, trial=trial, seed=seed, sampler=sampler)


def _settled(
    centroid: Centred,
    sigma: float | None,
    n_tokens: int | None,
    fmt: str | None,
    epsilon: float | None,
    touching: float | None,
) -> tuple[Centre, Settled]:
    centre = as_centre(centroid)
    given = Terms(fmt, n_tokens, epsilon, touching, sigma)
    return centre, settle(centre, given)
