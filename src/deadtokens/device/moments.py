"""Histogram and power sums of a batch's elements, on a device that has float64.

The twin of `deadtokens.kernels.direct.add_elements`. Sums go row by row as there, for all trials of
a batch at once, so that they are the same bits.
"""

from __future__ import annotations

import numpy as np
import torch

from deadtokens.elements import ElementTotals
from deadtokens.kernels.types import Float64Array, Int64Array


def element_sums(
    deviations: torch.Tensor, totals: ElementTotals
) -> tuple[Int64Array, Float64Array]:
    """A histogram over all trials, and (trials, 4, a) sums of the powers 1 to 4.

    Args:
        deviations: (trials, n, a) float64, value - centroid.
        totals: Says what the bins are.
    """
    half = totals.BINS // 2
    places = (deviations * float(totals.scale)).floor_().clamp_(-half, half - 1).add_(half)
    histogram = torch.bincount(places.view(-1).long(), minlength=totals.BINS)
    del places
    square = deviations * deviations
    powers = torch.stack([deviations, square, square * deviations, square * square], dim=1)
    sums = torch.zeros_like(powers[:, :, 0])
    # No reduction says in which order it adds.
    for row in powers.unbind(dim=2):
        sums += row
    return np.asarray(histogram.cpu()), np.asarray(sums.cpu())
