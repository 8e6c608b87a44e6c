"""How far vectors are apart: largest, mean and median distance, exact or estimated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deadtokens.distances import DistanceSummary


@dataclass(frozen=True)
class Extent:
    """Largest, mean and (lower) median distance, with standard errors where estimated."""

    largest: float
    mean: float
    median: float
    mean_se: float | None = None
    median_se: float | None = None

    @classmethod
    def exact(cls, summary: DistanceSummary) -> Extent:
        """From all pairs."""
        return cls(summary.largest, summary.mean, summary.median)

    @classmethod
    def estimated(cls, largest: float, sample: npt.NDArray[np.float64]) -> Extent:
        """From a random sample of pairs; errors as in equation 4.3."""
        ordered = np.sort(sample)
        n = ordered.size
        spread = round(np.sqrt(n) / 2)
        low, high = ordered[n // 2 - spread], ordered[n // 2 + spread]
        mean = float(sample.mean())
        return cls(
            largest=largest,
            mean=mean,
            median=float(ordered[(n - 1) // 2]),
            mean_se=float(sample.std(ddof=1) / np.sqrt(n)) if np.isfinite(mean) else np.inf,
            median_se=float((high - low) / 2) if np.isfinite(high) else np.inf,
        )

    def columns(self, unit: str) -> dict[str, float]:
        """By the names of the columns in that unit."""
        return {
            f"max_{unit}": self.largest,
            f"mean_{unit}": self.mean,
            f"median_{unit}": self.median,
        }

    def standard_errors(self, unit: str) -> dict[str, float]:
        """By the names of their columns; none where the extent is exact."""
        if self.mean_se is None or self.median_se is None:
            return {}
        return {f"mean_{unit}_se": self.mean_se, f"median_{unit}_se": self.median_se}


NO_EXTENT = Extent(0.0, 0.0, 0.0)
