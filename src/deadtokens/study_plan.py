"""What a study simulates and expects: widths around the estimate, and how long that takes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deadtokens.cloud import Cloud
from deadtokens.curves import curve_sigmas, expected_along
from deadtokens.errors import FormatError
from deadtokens.fit import Fit
from deadtokens.kernels.types import Float64Array
from deadtokens.snowball import Snowball
from deadtokens.specification import Sweep, plan
from deadtokens.statistics import Measurement
from deadtokens.sweep import estimate
from deadtokens.verdict import Verdict

_NEAR = 2.0 ** np.arange(-2.0, 2.25, 0.5)  # around the fitted sigma, which is among them
_WIDE_POINTS = 17
_WIDE, _BEYOND = 30.0, 2.0  # how far around the estimate, and beyond the likeliest sigma
_PILOTS = 3


@dataclass(frozen=True)
class Noise:
    """The width and centre to simulate around."""

    sigma: float
    centre: Float64Array


def noise_of(fitted: Fit, verdict: Verdict) -> Noise:
    """The fitted ones; where the story is rejected, those without the dimensions that skip cells.

    With those dimensions the width is so large that the others would be split all over.
    """
    if verdict.fits is False and fitted.without_skipping and fitted.without_skipping.sigma > 0:
        sigma = fitted.without_skipping.sigma
        return Noise(sigma, fitted.centre_at(sigma))
    return Noise(fitted.sigma or fitted.sigma_high, fitted.centre)


def plan_around_estimate(
    snowball: Snowball,
    measurement: Measurement,
    fitted: Fit,
    noise: Noise,
    verdict: Verdict,
    seed: int,
) -> Sweep:
    """Sigmas around the estimate, over a wide range where that means little."""
    sigmas = (noise.sigma * _NEAR).tolist()
    if verdict.fits is False:
        top = max(noise.sigma * _WIDE, fitted.sigma * _BEYOND)
        wide = np.geomspace(noise.sigma / _WIDE, top, _WIDE_POINTS)
        sigmas = sorted({*wide.tolist(), noise.sigma, fitted.sigma})
    sigmas = [sigma for sigma in sigmas if sigma == noise.sigma or _drawn(noise, sigma, snowball)]
    return plan(
        noise.centre,
        sigmas,
        snowball.n_tokens,
        seed=seed,
        epsilon=float(measurement.row["epsilon"] or 0),
        touching=float(measurement.row["touching"] or 0),
        format=snowball.format.name,
    )


def _drawn(noise: Noise, sigma: float, snowball: Snowball) -> bool:
    """Whether noise of that width can be drawn: it may overflow the format."""
    try:
        Cloud(noise.centre, sigma, format=snowball.format.name).check(snowball.n_tokens)
    except FormatError:
        return False
    return True


def outlook(
    planned: Sweep, counts: Sequence[int], lacking: int, workers: int | None
) -> tuple[str, float | None]:
    """What is to be simulated, and in what time, by trials that are timed."""
    if not lacking:
        return f"simulating nothing: all {sum(counts):,} clusters are there", None
    cores = os.cpu_count() or 1
    threads = min(workers or cores, cores)
    seconds = estimate(planned, counts).seconds * lacking / sum(counts) / threads
    there = sum(counts) - lacking
    more = f" more ({there:,} are there)" if there else ""
    return f"simulating {lacking:,}{more} clusters", seconds


def theory_seconds(planned: Sweep) -> float:
    """How long `expected_along` takes, by those at a few widths."""
    wanted = curve_sigmas(planned)
    chosen = np.unique(np.linspace(0, len(wanted) - 1, _PILOTS).round().astype(int))
    taken = []
    for index in chosen.tolist():
        start = time.perf_counter()
        expected_along(planned, [wanted[index]])
        taken.append(time.perf_counter() - start)
    return float(np.interp(np.arange(len(wanted)), chosen, taken).sum())
