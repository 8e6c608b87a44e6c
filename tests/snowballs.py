"""Generated snowballs for the tests: small, many, with ties, zeros of both signs and edge cases."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deadtokens.formats import Format
from deadtokens.snowball import Snowball

Float32 = npt.NDArray[np.float32]


def snowball_from_values(values: Float32, fmt: Format) -> Snowball:
    """A snowball by NumPy alone, of rows whose values the format holds exactly."""
    distinct, populations = np.unique(values + np.float32(0), axis=0, return_counts=True)
    return Snowball(fmt.round(distinct.astype(np.float32)), populations, fmt)


def generated_rows(seed: int, fmt: Format) -> Float32:
    """Rows of one of many shapes: from one row to dozens, from coinciding to far apart.

    Values are exact in the format, span binades and its smallest numbers, and hold zeros of both
    signs.
    """
    rng = np.random.default_rng(seed)
    n = int(rng.choice([1, 2, 3, 5, 17, 40, 70]))
    d = int(rng.choice([1, 2, 5, 30, 90]))
    scale = 2.0 ** rng.integers(fmt.min_exponent + 2, 5)
    centre = rng.standard_t(3, d) * scale
    if rng.random() < 0.3:
        centre[rng.random(d) < 0.5] = 0
    spread = np.abs(centre).max(initial=scale) * 2.0 ** rng.integers(-14, 2)
    rows = centre + rng.normal(0, spread, (n, d)) * (rng.random(d) < rng.choice([0.1, 0.5, 1]))
    if rng.random() < 0.3:
        rows = rows[rng.integers(0, max(1, n // 3), n)]
    rows[rng.random((n, d)) < 0.02] *= -0.0
    bound = float(fmt.values(fmt.codes(np.array([fmt.max_ordinal])))[0]) / 4
    return fmt.values(fmt.round(np.clip(rows, -bound, bound).astype(np.float32)))
