"""Elements of all tokens of many trials: how far values lie from the centroid.

The histogram of the deviations value - centroid, and their power sums, come from the tokens counted
in every cell where the sampler counts them, and from the ordinals themselves in the direct draw
(docs/method.md, section 9). Neither depends on the order of trials.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from deadtokens.cloud import Cloud, IndexArray, OrdinalArray
from deadtokens.formats import Float64Array
from deadtokens.kernels import direct
from deadtokens.sampling import cell_table


class ElementTotals:
    """Deviations value - centroid of all elements of many trials, from their ordinals.

    A histogram whose bins the cloud fixes, and power sums. A trial's power sums are float64, added
    up in a fixed order; those of the trials are added up exactly, as whole multiples of `UNIT`. So
    the totals do not depend on order or chunking, and their size not on the number of trials.
    Active dimensions only: the others do not vary (`inactive_deviations`).

    Args:
        cloud: The null model.

    Attributes:
        edges: (b + 1,) float64, edges of the bins, a power of two apart; the outermost bins hold
            whatever lies beyond them too.
        scale: Bins per unit, a power of two.
        histogram: (b,) int64.
        power_sums: Sums of the powers 1 to 4, as multiples of `UNIT`.
    """

    BINS = 8192
    UNIT = Fraction(1, 2**1074)  # the smallest float64: every other one is a multiple

    def __init__(self, cloud: Cloud) -> None:
        fmt = cloud.format
        self._fraction_bits, self._min_exponent = fmt.fraction_bits, fmt.min_exponent
        self._centroid = cloud.centroid[cloud.active]
        sigma = cloud.sigma[cloud.active]
        far = 12.0 * sigma
        top = float(np.max(np.abs(self._centroid) + far, initial=0.0))
        largest_gap = 2.0 * top * 2.0**-fmt.fraction_bits
        width = float(np.max(far, initial=0.0)) + largest_gap
        half = 2.0 ** np.ceil(np.log2(max(width, 2.0**-149)))
        self.scale = self.BINS / 2 / half
        self._bins = np.zeros(self._centroid.size, dtype=np.int64)
        self.edges: Float64Array = (np.arange(self.BINS + 1) - self.BINS / 2) / self.scale
        self.histogram: IndexArray = np.zeros(self.BINS, dtype=np.int64)
        self.power_sums: list[int] = [0] * 4

    def add(self, ordinals: OrdinalArray, populations: IndexArray | None = None) -> None:
        """Add one trial: (m, a) ordinals, and how often each row counts (once)."""
        if populations is None:
            populations = np.ones(ordinals.shape[0], dtype=np.int64)
        sums = np.zeros((4, self._centroid.size))
        direct.add_elements(
            ordinals, populations, self._centroid, self._fraction_bits, self._min_exponent,
            self.scale, self.histogram, *sums, self._bins,
        )  # fmt: skip
        self.add_powers(sums)

    def add_powers(self, sums: Float64Array) -> None:
        """Add one trial's (4, a) sums over tokens of the powers 1 to 4; not to the histogram."""
        for power, of_dimensions in enumerate(sums.tolist()):
            self.power_sums[power] += int(Fraction(math.fsum(of_dimensions)) / self.UNIT)

    def merge(self, other: ElementTotals) -> None:
        """Add the totals of other trials of the same cloud."""
        self.histogram += other.histogram
        for power, total in enumerate(other.power_sums):
            self.power_sums[power] += total

    def totals(self) -> tuple[float, ...]:
        """Sums of the powers 1 to 4 of the deviations over all trials, rounded once."""
        return tuple(float(total * self.UNIT) for total in self.power_sums)


def cell_deviations(cloud: Cloud) -> Float64Array:
    """(cells,) float64: value - centroid of every cell of ``cloud.table``."""
    table = cell_table(cloud)
    dimensions = np.repeat(cloud.active, np.diff(table.first))
    values = cloud.format.values_of(table.ordinals).astype(np.float64)
    return values - cloud.centroid[dimensions]


def inactive_deviations(cloud: Cloud) -> Float64Array:
    """(d - a,) float64: value - centroid of the dimensions that do not vary."""
    inactive = np.ones(cloud.d, dtype=bool)
    inactive[cloud.active] = False
    values = cloud.format.values_of(cloud.modal[inactive]).astype(np.float64)
    return values - cloud.centroid[inactive]
