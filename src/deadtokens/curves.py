"""What is expected along the widths of a sweep: the closed forms that its charts draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deadtokens.specification import Sweep
from deadtokens.tabular import Records
from deadtokens.theory import Expectation, theory

POINTS = 41


def curve_sigmas(sweep: Sweep) -> list[float]:
    """A sweep's own widths and as many between as make a curve, ascending."""
    low, high = min(sweep.sigmas), max(sweep.sigmas)
    space = np.geomspace if low > 0 else np.linspace
    return sorted({*space(low, high, POINTS).tolist(), *sweep.sigmas})


def expected_along(sweep: Sweep, sigmas: Sequence[float] | None = None) -> Records[Expectation]:
    """What to expect of a sweep's trials at those widths, by default at `curve_sigmas`."""
    return theory(
        sweep.centroid,
        curve_sigmas(sweep) if sigmas is None else sigmas,
        sweep.spec.n_tokens,
        touching=sweep.spec.touching,
        noise=sweep.noise,
        format=sweep.format,
        intermediate=sweep.intermediate,
    )
