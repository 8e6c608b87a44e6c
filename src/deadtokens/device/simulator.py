"""Trials drawn and measured on a device: what `Simulator` gives, bit for bit.

Trials go through in batches as large as memory allows; what does not fit is tried again in smaller
ones. Results do not depend on that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from deadtokens.cloud import Cloud
from deadtokens.device.distances import summarise
from deadtokens.device.fused import loops
from deadtokens.device.grouping import Groups, coefficients, group_rows
from deadtokens.device.moments import element_sums
from deadtokens.device.words import DeviceDraw
from deadtokens.elements import ElementTotals
from deadtokens.errors import DeviceError
from deadtokens.kernels.separation import population_row
from deadtokens.kernels.types import Float64Array, Int64Array, OrdinalArray
from deadtokens.sampling import DirectSampler
from deadtokens.trials import STATISTICS, Simulator, TrialSpec

_ELEMENT_BYTES = 120  # of the draw and the sums together, at their most
_PAIR_BYTES = 12
_TILE_BYTES = 2**26
_SMALLEST_TILE = 2**20
_BATCH_AT_MOST = 64
_HOST_BUDGET = 2**30  # where a device does not tell how much memory is free


def has_float64(device: torch.device) -> bool:
    """Whether the device computes in float64; Apple's do not."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return False
    return True


@dataclass
class _Measured:
    # A batch: its elements, populations, and rows of which the last 8 places are filled.
    totals: ElementTotals
    populations: list[Int64Array]
    rows: Float64Array


class DeviceSimulator(Simulator):
    """Draws and measures trials of one cloud by the direct draw, on a device.

    Where the device has no float64, and for Laplace noise, which needs a logarithm for every
    number, the host draws and adds up elements; equal rows and distances are the device's.

    Args:
        cloud: The null model.
        spec: What a trial is.
        device: Where.
        threads: Of the host, for its part; all cores by default.
        batch: Trials at once, to begin with; by default as many as memory has room for.

    Raises:
        DeviceError: The driver fails.
    """

    on_device = True

    def __init__(
        self,
        cloud: Cloud,
        spec: TrialSpec,
        device: torch.device,
        *,
        threads: int | None = None,
        batch: int | None = None,
    ) -> None:
        super().__init__(cloud, spec, "direct")
        self.device = device
        self._threads = threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads)
        self._tile_bytes = _TILE_BYTES
        try:
            self._load(batch)
        except RuntimeError as error:  # of torch or a driver
            raise _failed(device, error) from error

    def _load(self, batch: int | None) -> None:
        """Put on the device what all trials need."""
        cloud, device, lattice = self.cloud, self.device, self._lattice
        self.batch = batch or max(1, min(_BATCH_AT_MOST, _budget(device) // self._trial_bytes()))
        self._multipliers = coefficients(cloud.active.size, device)
        self._draw: DeviceDraw | None = None
        if cloud.active.size and cloud.noise != "laplace" and has_float64(device):
            n, seed = self.spec.n_tokens, self.spec.seed
            self._draw = DeviceDraw(cloud, n, seed, device, self._pool, self._threads)
        self._loops = loops(device)
        self._device_lattice = None if lattice is None else torch.from_numpy(lattice).to(device)

    def values(self, ordinals: torch.Tensor) -> torch.Tensor:
        """float32 values of ordinals."""
        if self._device_lattice is None:
            sign = (ordinals < 0).int() << 31
            return (ordinals.abs() | sign).view(torch.float32)
        middle = len(self._device_lattice) // 2
        return self._device_lattice[ordinals.int() + middle]

    def _trial_bytes(self) -> int:
        n, a = self.spec.n_tokens, self.cloud.active.size
        return n * a * _ELEMENT_BYTES + n * n * _PAIR_BYTES

    def _run_direct(
        self, first: int, rows: Float64Array, ranked: Int64Array, stop: Callable[[], bool]
    ) -> tuple[int, Int64Array, tuple[int, ...]]:
        totals = ElementTotals(self.cloud)
        done = 0
        while done < len(rows) and not stop():
            count = min(self.batch, len(rows) - done)
            measured = self._attempt(range(first + done, first + done + count))
            if measured is None:
                continue
            totals.merge(measured.totals)
            part = rows[done : done + count]
            for populations, row in zip(measured.populations, part, strict=True):
                population_row(populations, self.spec.ranks, self.spec.population_bins, row, ranked)
            part[:, 12:] = measured.rows[:, 12:]
            done += count
        return done, totals.histogram, tuple(totals.power_sums)

    def _attempt(self, trials: range) -> _Measured | None:
        """The trials, measured; None if there was no room, and the next attempt takes less."""
        try:
            return self._measure(trials)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise _failed(self.device, error) from error
            reason = _first_line(error)
        # Here the exception, and with it what it kept on the device, is gone.
        self._shrink(reason)
        return None

    def _shrink(self, reason: str) -> None:
        if self.batch > 1:
            self.batch //= 2
        elif self._tile_bytes > _SMALLEST_TILE:
            self._tile_bytes //= 2
        else:
            n, a = self.spec.n_tokens, self.cloud.active.size
            raise DeviceError(
                f"one trial of {n:,} tokens in {a:,} active dimensions does not fit ({reason})",
                where=str(self.device),
                remedy="use --device cpu",
            )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()

    def _measure(self, trials: range) -> _Measured:
        tokens, totals = self._drawn(trials)
        groups = group_rows(tokens, self._multipliers)
        rows = np.zeros((len(trials), len(STATISTICS)))
        for trial, row in zip(groups, rows, strict=True):
            self._measure_group(trial, row)
        return _Measured(totals, [trial.populations for trial in groups], rows)

    def _drawn(self, trials: range) -> tuple[torch.Tensor, ElementTotals]:
        """(trials, n, a) ordinals, and their elements added up."""
        totals = ElementTotals(self.cloud)
        if self._draw is not None:
            if self.cloud.noise == "gaussian":
                quick = self._loops.quick(self._draw, trials)
                tokens = self._draw.settle(quick, trials.start)
            else:
                tokens = self._draw.uniform(trials)
            self._add_elements(tokens, self._draw.centroid, totals)
            return tokens, totals
        on_host = list(self._pool.map(self._draw_on_host, trials))
        for _, of_trial in on_host:
            totals.merge(of_trial)
        drawn = np.stack([ordinals for ordinals, _ in on_host])
        return torch.from_numpy(drawn).to(self.device), totals

    def _add_elements(
        self, tokens: torch.Tensor, centroid: torch.Tensor, totals: ElementTotals
    ) -> None:
        deviations = self.values(tokens).double().sub_(centroid)
        histogram, powers = element_sums(deviations, totals)
        totals.histogram += histogram
        for of_trial in powers:
            totals.add_powers(of_trial)

    def _draw_on_host(self, trial: int) -> tuple[OrdinalArray, ElementTotals]:
        totals = ElementTotals(self.cloud)
        sampler = DirectSampler(self.cloud, self.spec.n_tokens, seed=self.spec.seed)
        ordinals = sampler.draw(trial)
        totals.add(ordinals)
        return ordinals, totals

    def _measure_group(self, trial: Groups, row: Float64Array) -> None:
        """Extent and topology of one trial, into its row's last 8 places."""
        m = len(trial.vectors)
        if m > 1:
            distances = self._loops.distance_matrix(self.values(trial.vectors), self._tile_bytes)
            summary = summarise(distances, self._touching, self._tile_bytes)
            if summary.exact:
                self._fill_row(m, summary.distances, lambda: summary.forest, row)
                return
        self._measure_pairs(trial.vectors.cpu().numpy(), row)


def _budget(device: torch.device) -> int:
    """Bytes that a batch may take: half of what is free, or a fixed number if that is unknown."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + kept) // 2
    return _HOST_BUDGET


def _failed(device: torch.device, error: RuntimeError | MemoryError) -> DeviceError:
    return DeviceError(
        f"it fails ({_first_line(error)})", where=str(device), remedy="use --device cpu"
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return any(words in text for words in ("out of memory", "allocate memory", "not enough memory"))
