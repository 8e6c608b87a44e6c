"""Which device draws trials: the CPU's compiled code, or a GPU through torch.

Torch is imported only where a GPU is asked for, or seems to be there.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from deadtokens.cloud import Cloud
from deadtokens.errors import DeviceError, SelectionError
from deadtokens.sampling import SamplerName
from deadtokens.trials import Simulator, TrialSpec

if TYPE_CHECKING:
    from deadtokens.device.simulator import DeviceSimulator

DeviceName: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]

_PILOT_TRIALS = 16
_DRIVERS = "/dev/nvidiactl", "/dev/kfd", "/dev/dxg"  # NVIDIA, AMD, and either under WSL


def choose_device(name: str) -> Literal["cpu", "cuda", "mps"]:
    """The device that a name means; for "auto" a GPU if there is one, else the CPU.

    Raises:
        SelectionError: An unknown name.
        DeviceError: It is not there, or torch is not installed.
    """
    if name not in get_args(DeviceName):
        names = ", ".join(get_args(DeviceName))
        raise SelectionError(f"unknown device {name!r}", remedy=f"use one of {names}")
    if name == "cpu" or (name == "auto" and not _gpu_likely()):
        return "cpu"
    if importlib.util.find_spec("torch") is None:
        raise DeviceError(
            "torch is not installed", where=name, remedy="pip install 'deadtokens[torch]'"
        )
    present = _present()
    if name == "auto":
        return present[0] if present else "cpu"
    for device in present:
        if device == name:
            return device
    raise DeviceError(
        "torch finds no such device",
        where=name,
        remedy=f"use --device {' or '.join([*present, 'cpu'])}",
    )


def pick(
    cloud: Cloud, spec: TrialSpec, sampler: SamplerName, device: str, workers: int
) -> Simulator:
    """What draws and measures trials: the results are the same bits, whichever it is.

    Occupancy sampling stays on the CPU. "auto" times some trials where there is a GPU, and takes it
    if it is faster than the workers together; where it cannot be used, a warning says why. Before
    its first use a device has to give the CPU's numbers in small trials.

    Args:
        cloud: The null model.
        spec: What a trial is.
        sampler: How it is drawn.
        device: A `DeviceName`.
        workers: Threads that would share the work on the CPU, and help the device.

    Raises:
        SelectionError: An unknown name.
        DeviceError: The device is not there or fails, torch is not installed, or its numbers
            differ.
    """
    chosen = choose_device(device)
    on_host = Simulator(cloud, spec, sampler)
    if chosen == "cpu" or sampler != "direct":
        return on_host
    import torch

    from deadtokens.device.checking import check
    from deadtokens.device.simulator import DeviceSimulator

    where = torch.device(chosen)
    try:
        check(where)
        on_device = DeviceSimulator(cloud, spec, where, threads=workers)
        return on_device if device != "auto" or _faster(on_device, on_host, workers) else on_host
    except DeviceError as error:
        take_the_cpu(device, error)
        return on_host


def take_the_cpu(device: str, error: DeviceError) -> None:
    """Warn that the CPU draws in place of a device that failed.

    Raises:
        DeviceError: The one given, if the device was asked for by name.
    """
    if device != "auto":
        raise error
    warnings.warn(f"{error}: the CPU draws", RuntimeWarning, stacklevel=3)


def _faster(on_device: DeviceSimulator, on_host: Simulator, workers: int) -> bool:
    cores = min(workers, os.cpu_count() or 1)
    batch = min(on_device.batch, _PILOT_TRIALS)
    return _seconds(on_device, batch) / batch < _seconds(on_host, 1) / cores


def _seconds(simulator: Simulator, trials: int) -> float:
    simulator.run(0, 1)  # loads what is compiled
    start = time.perf_counter()
    simulator.run(0, trials)
    return time.perf_counter() - start


def _gpu_likely() -> bool:
    """Whether it is worth asking torch, which takes a second or more."""
    if importlib.util.find_spec("torch") is None:
        return False
    return sys.platform in ("darwin", "win32") or any(Path(driver).exists() for driver in _DRIVERS)


def _present() -> list[Literal["cuda", "mps"]]:
    import torch

    present: list[Literal["cuda", "mps"]] = []
    if torch.cuda.is_available():
        present.append("cuda")
    if torch.backends.mps.is_available():
        present.append("mps")
    return present
