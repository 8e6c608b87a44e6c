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


@cache
def check(device: torch.device) -> None:
    """Draw and measure some trials on the device and on the CPU.

    Raises:
        DeviceError: A number differs.
    """
    centroid = np.random.default_rng(0).standard_t(4.5, 200) * 2.5e-3
    for sigma in _SIGMAS:
        cloud = Cloud(centroid, sigma)
        expected = Simulator(cloud, _SPEC, "direct").run(0, _TRIALS)
        found = DeviceSimulator(cloud, _SPEC, device, threads=1).run(0, _TRIALS)
        if not same(found, expected):
            raise DeviceError(
                "it gives other numbers than the CPU in a small trial",
                where=device,
                remedy="use --device cpu, and report this with the versions of torch and driver",
            )


def same(a: Batch, b: Batch) -> bool:
    """Whether two batches are the same bits."""
    return (
        a.first == b.first
        and a.rows.tobytes() == b.rows.tobytes()
        and np.array_equal(a.ranked, b.ranked)
        and np.array_equal(a.elements, b.elements)
        and a.power_sums == b.power_sums
    )
