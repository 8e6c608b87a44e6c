"""What is to be simulated: a centre, sigmas, and what a trial is, checked before any work."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deadtokens.cloud import Cloud
from deadtokens.errors import SelectionError
from deadtokens.formats import Intermediate
from deadtokens.kernels.types import Float64Array
from deadtokens.noise import Noise
from deadtokens.runs import RunFolder
from deadtokens.sampling import SamplerName, choose_sampler
from deadtokens.theory import expectation
from deadtokens.touching import lengths
from deadtokens.trials import TrialSpec

TRIALS = 5_000
# Where a trial draws every number and looks at pairs of vectors, as many trials as come to this.
_NUMBERS = 1e10
_PAIR_COST = 20.0
_FEWEST_TRIALS = 100


@dataclass(frozen=True)
class Sweep:
    """What is to be simulated: a centre, sigmas, and what a trial is.

    Attributes:
        centroid: (d,) float64.
        sigmas: Standard deviations of the noise, each one or more trials' worth.
        spec: What a trial is.
        noise: "gaussian", "laplace" or "uniform".
        format: Storage format's name.
        intermediate: "float32" or "exact".
        samplers: The sampler of each sigma.
    """

    centroid: Float64Array
    sigmas: tuple[float, ...]
    spec: TrialSpec
    noise: Noise
    format: str
    intermediate: Intermediate
    samplers: tuple[SamplerName, ...]

    def cloud(self, index: int) -> Cloud:
        """The null model of the sigma of that index."""
        return Cloud(
            self.centroid,
            self.sigmas[index],
            noise=self.noise,
            format=self.format,
            intermediate=self.intermediate,
        )

    def specification(self) -> dict[str, Any]:
        """All that the results depend on, as JSON values."""
        content = np.ascontiguousarray(self.centroid, dtype="<f8").tobytes()
        return {
            "centroid_sha256": hashlib.sha256(content).hexdigest(),
            "n_dimensions": self.centroid.size,
            "sigmas": list(self.sigmas),
            "samplers": list(self.samplers),
            "n_tokens": self.spec.n_tokens,
            "seed": self.spec.seed,
            "epsilon": self.spec.epsilon,
            "touching": self.spec.touching,
            "noise": self.noise,
            "format": self.format,
            "intermediate": self.intermediate,
        }

    @classmethod
    def from_run(cls, run: RunFolder) -> Sweep:
        """The sweep that a run folder holds."""
        s = run.specification
        spec = TrialSpec(s["n_tokens"], s["seed"], s["epsilon"], s["touching"])
        return cls(
            run.centroid(),
            tuple(s["sigmas"]),
            spec,
            s["noise"],
            s["format"],
            s["intermediate"],
            tuple(s["samplers"]),
        )


@dataclass(frozen=True)
class Unit:
    """Work for one worker: consecutive trials of one sigma.

    Attributes:
        index: The sigma's.
        cloud: Its null model; one object for all units of a sigma.
        first: Number of the first trial.
        count: Trials.
    """

    index: int
    cloud: Cloud
    first: int
    count: int


def plan(
    centroid: npt.ArrayLike,
    sigmas: Sequence[float],
    n_tokens: int,
    *,
    seed: int = 42,
    epsilon: float | None = None,
    touching: float | None = None,
    noise: Noise = "gaussian",
    format: str = "bfloat16",  # noqa: A002
    intermediate: Intermediate = "float32",
    sampler: SamplerName | Literal["auto"] = "auto",
) -> Sweep:
    """A sweep, checked: every cloud can be made and drawn from.

    Args:
        centroid: (d,) finite numbers.
        sigmas: Standard deviations, different from one another.
        n_tokens: Tokens of a trial.
        seed: Of all random streams.
        epsilon: The length in which distances are quoted; the ULP of the centroid's largest |value|
            by default.
        touching: The distance up to which vectors touch; 2 epsilon by default.
        noise: Kind of noise.
        format: Storage format.
        intermediate: "float32" if centroid + noise is rounded to float32 first.
        sampler: "auto" for the fixed rule of `choose_sampler`.

    Raises:
        SelectionError: A number out of range, or a sampler that cannot draw a sigma.
        FormatError: An unknown format, or values that would overflow it.
    """
    if not sigmas:
        raise SelectionError("no sigma", remedy="give at least one")
    if len(set(sigmas)) != len(sigmas):
        raise SelectionError("a sigma is given twice", remedy="give each once")
    values = np.atleast_1d(np.asarray(centroid, dtype=np.float64))
    samplers: list[SamplerName] = []
    for sigma in sigmas:
        cloud = Cloud(values, sigma, noise=noise, format=format, intermediate=intermediate)
        cloud.check(n_tokens)
        chosen = choose_sampler(cloud, n_tokens) if sampler == "auto" else sampler
        if chosen == "occupancy" and cloud.table is None:
            raise SelectionError(
                f"sigma {sigma:g} has too many cells for the occupancy sampler",
                remedy="use --sampler auto or direct",
            )
        samplers.append(chosen)
    spec = TrialSpec(n_tokens, seed, *lengths(values, format, epsilon, touching))
    return Sweep(
        values, tuple(map(float, sigmas)), spec, noise, format, intermediate, tuple(samplers)
    )


def trial_counts(planned: Sweep, trials: int | None = None) -> list[int]:
    """Trials of each sigma.

    Args:
        planned: What is to be simulated.
        trials: As many of each; by default `TRIALS`, fewer where one costs much: a fixed function
            of the specification, never of a timing.

    Raises:
        SelectionError: None at all.
    """
    if trials is not None:
        if trials < 1:
            raise SelectionError(f"{trials} trials", remedy="give at least one")
        return [trials] * len(planned.sigmas)
    n = planned.spec.n_tokens
    counts = []
    for i, sampler in enumerate(planned.samplers):
        cloud = planned.cloud(i)
        numbers = _PAIR_COST * expectation(cloud, n).n_unique ** 2
        if sampler == "direct":
            numbers += n * cloud.active.size
        counts.append(int(min(TRIALS, max(_FEWEST_TRIALS, _NUMBERS / numbers))))
    return counts


def parse_sigmas(text: str) -> list[float]:
    """The sigmas that a SPEC names: a number, a comma list, ``A:B:N`` or ``A:B:N:log``.

    Raises:
        SelectionError: It is none of these.
    """
    wrong = SelectionError(
        f"sigma {text!r}", remedy="give a number, a comma list, A:B:N or A:B:N:log"
    )
    try:
        if ":" not in text:
            return [float(number) for number in text.split(",")]
        start, stop, count, *scale = text.split(":")
        low, high, n = float(start), float(stop), int(count)
    except ValueError:
        raise wrong from None
    if scale == ["log"] and not (low > 0 and high > 0):
        raise SelectionError(
            f"sigma {text!r}: a logarithmic range begins and ends above 0",
            remedy="begin at a small number, as 1e-10; A:B:N, evenly spaced, may begin at 0",
        )
    ends_valid = math.isfinite(low) and math.isfinite(high) and n >= 1 and (n > 1 or low == high)
    if not ends_valid or scale not in ([], ["log"]):
        raise wrong
    spaced = np.geomspace(low, high, n) if scale else np.linspace(low, high, n)
    return [low, *spaced[1:-1].tolist(), high][: max(n, 1)]
