"""Centres of noise for the tests, heavy-tailed as those of models are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def student(
    d: int, scale: float, seed: int | Sequence[int] | None = None
) -> npt.NDArray[np.float64]:
    """(d,) draws of Student's t; d is the seed unless one is given."""
    return np.random.default_rng(d if seed is None else seed).standard_t(4.5, d) * scale
