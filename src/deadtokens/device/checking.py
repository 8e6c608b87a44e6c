"""Whether a device gives the CPU's numbers: tried on small trials before it is used."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from deadtokens.cloud import Cloud
from deadtokens.device.simulator import DeviceSimulator
from deadtokens.errors import DeviceError
from deadtokens.trials import Batch, Simulator, TrialSpec

_SIGMAS = 3e-8, 3e-5, 1e-3  # equal rows, a graph that is neither complete nor empty, neither
_SPEC = TrialSpec(n_tokens=150, seed=42, epsilon=6e-5, touching=1e-4)
_TRIALS = 3


def check(device: torch.device) -> None:
    """Draw and measure some trials on the device and on the CPU, once in a process.

    Raises:
        DeviceError: A number differs, or the device fails.
    """
    if fault := _fault(device):
        what, remedy = fault
        raise DeviceError(what, where=str(device), remedy=remedy)


@cache
def _fault(device: torch.device) -> tuple[str, str | None] | None:
    """What is wrong with the device, and what to do about it."""
    centroid = np.random.default_rng(0).standard_t(4.5, 200) * 2.5e-3
    for sigma in _SIGMAS:
        cloud = Cloud(centroid, sigma)
        expected = Simulator(cloud, _SPEC, "direct").run(0, _TRIALS)
        try:
            found = DeviceSimulator(cloud, _SPEC, device, threads=1).run(0, _TRIALS)
        except DeviceError as error:
            return error.what, error.remedy
        if not same(found, expected):
            return (
                "it gives other numbers than the CPU in a small trial",
                "use --device cpu, and report this with the versions of torch and driver",
            )
    return None


def same(a: Batch, b: Batch) -> bool:
    """Whether two batches are the same bits."""
    return (
        a.first == b.first
        and a.rows.tobytes() == b.rows.tobytes()
        and np.array_equal(a.ranked, b.ranked)
        and np.array_equal(a.elements, b.elements)
        and a.power_sums == b.power_sums
    )
