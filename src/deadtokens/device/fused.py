"""Whether a device's fused kernels may stand in for torch's operations: if they give the same bits.

They run where Triton does, on CUDA devices. Before their first use each is put to a small problem
beside the torch form; one that does not compile or differs is not used, and a warning says so.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import torch

from deadtokens.cloud import Cloud
from deadtokens.device.distances import distance_matrix
from deadtokens.device.words import DeviceDraw, Quick

DistanceMatrix: TypeAlias = Callable[[torch.Tensor, int], torch.Tensor]
QuickDraw: TypeAlias = Callable[[DeviceDraw, range], Quick]


@dataclass(frozen=True)
class Loops:
    """The two loops that a device may have kernels for.

    Attributes:
        distance_matrix: As `deadtokens.device.distances.distance_matrix`.
        quick: As `DeviceDraw.quick`.
    """

    distance_matrix: DistanceMatrix
    quick: QuickDraw


TORCH = Loops(distance_matrix, DeviceDraw.quick)


@cache
def loops(device: torch.device) -> Loops:
    """The fastest loops of a device that give the right bits."""
    if device.type != "cuda":
        return TORCH
    try:
        kernels = importlib.import_module("deadtokens.device.triton_kernels")
    except ImportError as error:
        _warn("Triton cannot be loaded", error)
        return TORCH
    return checked(Loops(kernels.distance_matrix, kernels.quick), device)


def checked(fused: Loops, device: torch.device) -> Loops:
    """The loops given, but torch's in place of those that fail or give other bits."""
    return Loops(
        fused.distance_matrix if _same_distances(fused, device) else TORCH.distance_matrix,
        fused.quick if _same_draw(fused, device) else TORCH.quick,
    )


def _same_distances(fused: Loops, device: torch.device) -> bool:
    rows = np.random.default_rng(0).standard_normal((130, 37), dtype=np.float32)
    x = torch.from_numpy(rows).to(device)
    return _agree(
        "distances",
        lambda: torch.equal(fused.distance_matrix(x, 2**20), TORCH.distance_matrix(x, 2**20)),
    )


def _same_draw(fused: Loops, device: torch.device) -> bool:
    centroid = np.random.default_rng(0).standard_t(4.5, 701) * 2.5e-3
    trials = range(2**32 - 1, 2**32 + 1)

    def same() -> bool:
        for intermediate in ("float32", "exact"):
            cloud = Cloud(centroid, 1e-5, intermediate=intermediate)
            with ThreadPoolExecutor(1) as pool:
                draw = DeviceDraw(cloud, 30, 42, device, pool, 1)
                left, right = fused.quick(draw, trials), TORCH.quick(draw, trials)
                if not torch.equal(left.positions, right.positions):
                    return False
                if not torch.equal(left.words, right.words):
                    return False
                if not torch.equal(draw.settle(left, 2**32 - 1), draw.settle(right, 2**32 - 1)):
                    return False
        return True

    return _agree("the draw", same)


def _agree(what: str, same: Callable[[], bool]) -> bool:
    try:
        if same():
            return True
    except Exception as error:  # a compiler may raise anything
        _warn(f"the Triton kernel for {what} fails", error)
        return False
    _warn(f"the Triton kernel for {what} gives other bits than torch", None)
    return False


def _warn(what: str, error: Exception | None) -> None:
    lines = str(error).splitlines()
    reason = "" if error is None else f" ({lines[0] if lines else type(error).__name__})"
    warnings.warn(f"{what}{reason}: torch does it, more slowly", RuntimeWarning, stacklevel=4)
