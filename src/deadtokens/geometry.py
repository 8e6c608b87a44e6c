"""What the vectors of a snowball say of distances, without looking at all pairs."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from deadtokens.errors import SelectionError
from deadtokens.formats import FLOAT32, Float32Array
from deadtokens.kernels.pairs import any_pair_within
from deadtokens.kernels.types import RealArray
from deadtokens.snowball import Snowball

SAMPLED_PAIRS = 100_000
_DECIDING_DIMENSIONS = 64  # the widest, looked at to show that a large graph has no edge
_PAIR_VISITS = 500_000_000  # seconds of work, after which the question is left open
_BLOCK = 1024


def touching_distance(touching: float) -> float:
    """The threshold as float32, which distances, being float32, are compared with."""
    with np.errstate(over="ignore"):
        return float(np.float32(touching))


def default_epsilon(snowball: Snowball) -> float:
    """The length that distances of a snowball are quoted in unless another is given.

    Raises:
        SelectionError: It has no vectors, or one that is not finite.
    """
    return Geometry(snowball).default_epsilon()[0]


class Geometry:
    """What a snowball's vectors say of distances, computed in blocks and when asked for."""

    def __init__(self, snowball: Snowball) -> None:
        self.snowball = snowball
        if snowball.n_unique:
            _ = snowball.extremes  # refuses vectors that are not finite

    @cached_property
    def values(self) -> Float32Array:
        """(m, varying dimensions) values."""
        return self.snowball.values(self.snowball.varying)

    @cached_property
    def steps(self) -> RealArray:
        """(m, varying dimensions) ordinals, in the narrower float type that holds them exactly."""
        fmt = self.snowball.format
        dtype = np.float64 if fmt is FLOAT32 else np.float32
        varying = self.snowball.varying
        steps = np.empty((self.snowball.n_unique, varying.size), dtype=dtype)
        for start in range(0, len(steps), _BLOCK):
            block = slice(start, start + _BLOCK)
            steps[block] = fmt.ordinals(self.snowball.codes[block][:, varying])
        return steps

    @cached_property
    def _ranges(self) -> npt.NDArray[np.float64]:
        fmt = self.snowball.format
        low, high = (fmt.values_of(end).astype(np.float64) for end in self.snowball.extremes)
        return high - low

    @property
    def largest_distance(self) -> float:
        """The largest L-infinity distance: the largest range, as a float32 difference."""
        return touching_distance(float(self._ranges.max()))

    @property
    def largest_steps(self) -> float:
        """The largest distance in lattice steps."""
        low, high = self.snowball.extremes
        return float((high - low).max())

    def default_epsilon(self) -> tuple[float, str]:
        """The ULP that distances are quoted in by default, and where it comes from."""
        if self.snowball.n_unique == 0:
            raise SelectionError("no vectors to take a length from", remedy="give epsilon")
        fmt = self.snowball.format
        magnitudes = np.maximum(*(np.abs(end) for end in self.snowball.extremes))
        varies = bool(self._ranges.max() > 0)
        dimension = int(self._ranges.argmax() if varies else magnitudes.argmax())
        if self.snowball.quantised:
            return self._smallest_step(dimension) if varies else self._largest_value(dimension)
        code = fmt.codes(magnitudes[[dimension]])
        size = fmt.values(code).item()
        where = "of largest range" if varies else "where it is largest, as nothing varies"
        origin = f"{fmt.name} ULP of {size:.4g}, the largest |value| in dimension {dimension}"
        return fmt.ulp(code).item(), f"{origin} ({where})"

    def _smallest_step(self, dimension: int) -> tuple[float, str]:
        values = self.snowball.values(np.array([dimension])).astype(np.float64)
        step = float(np.diff(np.unique(values)).min())
        return step, (
            f"smallest difference of two values in dimension {dimension} (of largest range), as "
            f"{self.snowball.quantised} numbers have no ULP"
        )

    def _largest_value(self, dimension: int) -> tuple[float, str]:
        size = float(np.abs(self.snowball.values(np.array([dimension]))).max())
        origin = f"largest |value|, in dimension {dimension}" if size else "1, as all values are 0"
        return size or 1.0, f"{origin} (nothing varies)"

    def sampled_pairs(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Distances, as values and in steps, of `SAMPLED_PAIRS` random pairs (fixed seed)."""
        snowball = self.snowball
        generator = np.random.Generator(np.random.PCG64(0))
        left = generator.integers(0, snowball.n_unique, SAMPLED_PAIRS)
        right = generator.integers(0, snowball.n_unique - 1, SAMPLED_PAIRS)
        right += right >= left
        distances, steps = np.empty(SAMPLED_PAIRS), np.empty(SAMPLED_PAIRS)
        for start in range(0, SAMPLED_PAIRS, _BLOCK):
            block = slice(start, start + _BLOCK)
            a, b = snowball.codes[left[block]], snowball.codes[right[block]]
            fmt = snowball.format
            with np.errstate(over="ignore"):
                distances[block] = np.abs(fmt.values(a) - fmt.values(b)).max(axis=1)
            steps[block] = np.abs(fmt.ordinals(a) - fmt.ordinals(b)).max(axis=1)
        return distances, steps

    def no_pair_within(self, threshold: float) -> bool:
        """Whether the widest dimensions alone show that no two vectors touch."""
        widest = np.argsort(-self._ranges, kind="stable")[:_DECIDING_DIMENSIONS]
        values = self.snowball.values(widest)
        values = np.ascontiguousarray(values[np.argsort(values[:, 0], kind="stable")])
        return not any_pair_within(values, threshold, _PAIR_VISITS)
