"""Direct draw on a device beside the CPU's compiled code, in one run; and where the time goes.

n = 2,100 tokens, d = 2,560, the centroid of the other benchmarks, bfloat16, epsilon 5.9604645e-05.
The same trials are drawn by both, and their rows compared. The time of a stage is that of a batch,
waited for, per trial; its floor is the larger of the bytes it must move over the bandwidth of a
copy and the operations it must do over the rate of a matrix product (a multiply-add counted as
one), both measured here.

    PYTHONPATH=tools python benchmarks/device.py [--device cuda|mps|torch-cpu] [--trials T]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from centroid import D, centroid

from deadtokens.cloud import Cloud
from deadtokens.device.distances import summarise
from deadtokens.device.fused import loops
from deadtokens.device.grouping import coefficients, group_rows
from deadtokens.device.moments import element_sums
from deadtokens.device.simulator import DeviceSimulator, has_float64
from deadtokens.device.words import DeviceDraw
from deadtokens.elements import ElementTotals
from deadtokens.kernels.types import Float64Array
from deadtokens.sampling import DirectSampler, choose_sampler
from deadtokens.trials import Simulator, TrialSpec

N = 2_100
EPSILON = 5.9604645e-05
SIGMAS = 1.5e-9, 1e-7, 3.281911e-3
TILE_BYTES = 2**26


def wait_for(device: torch.device) -> None:
    """Until the device has done all that it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds(device: torch.device, work: Callable[[], Any], times: int = 3) -> float:
    """The median time of some repetitions, after one that is not timed."""
    work()
    measured = []
    for _ in range(times):
        wait_for(device)
        start = time.perf_counter()
        work()
        wait_for(device)
        measured.append(time.perf_counter() - start)
    return float(np.median(measured))


def rates(device: torch.device) -> tuple[float, float]:
    """Bytes per second of a copy (read and written), multiply-adds per second of a product."""
    size = 2**28 if device.type != "cpu" else 2**26
    source, target = torch.ones((2, size // 4), device=device)
    side = 8192 if device.type != "cpu" else 1024
    square = torch.ones((side, side), device=device)
    copied = 2 * size / seconds(device, lambda: target.copy_(source))
    return copied, side**3 / seconds(device, lambda: square @ square)


def host_rate(cloud: Cloud, spec: TrialSpec, trials: int, workers: int) -> tuple[float, Any]:
    """Trials per second of the compiled code on all cores, and the rows of the first trials."""
    simulators = [Simulator(cloud, spec, "direct") for _ in range(workers)]
    simulators[0].run(0, 1)
    with ThreadPoolExecutor(workers) as pool:
        start = time.perf_counter()
        batches = list(pool.map(lambda i: simulators[i].run(i * trials, trials), range(workers)))
        taken = time.perf_counter() - start
    return workers * trials / taken, batches[0].rows


def stages(
    cloud: Cloud, spec: TrialSpec, device: torch.device, batch: int, workers: int
) -> dict[str, tuple[float, float, float]]:
    """Seconds, bytes that must be moved, and operations that must be done, per trial and stage."""
    a, numbers = cloud.active.size, N * cloud.active.size
    multipliers = coefficients(a, device)
    simulator = DeviceSimulator(cloud, spec, device, threads=workers, batch=batch)
    trials = range(batch)
    measured: dict[str, tuple[float, float, float]] = {}

    def record(stage: str, work: Callable[[], Any], moved: float, operations: float) -> None:
        measured[stage] = seconds(device, work) / batch, moved, operations

    if has_float64(device):
        with ThreadPoolExecutor(workers) as pool:
            draw = DeviceDraw(cloud, N, spec.seed, device, pool, workers)
            quick_draw = loops(device).quick
            record("draw", lambda: quick_draw(draw, trials), 2 * numbers, 70 * numbers)
            quick = quick_draw(draw, trials)
            record(
                "doubtful words", lambda: draw.settle(quick, 0), 18 * len(quick.words) / batch, 0
            )
            tokens = draw.settle(quick, 0)
        totals = ElementTotals(cloud)

        def elements() -> None:
            element_sums(simulator.values(tokens).double().sub_(draw.centroid), totals)

        record("elements", elements, 2 * numbers, 12 * numbers)
    else:
        sampler = DirectSampler(cloud, N, seed=spec.seed)
        drawn = np.stack([sampler.draw(trial) for trial in trials])
        tokens = torch.from_numpy(drawn).to(device)
    record("grouping", lambda: group_rows(tokens, multipliers), 2 * numbers, 2 * numbers)
    groups = group_rows(tokens, multipliers)
    pairs = float(np.mean([len(g.vectors) * (len(g.vectors) - 1) / 2 for g in groups]))
    values = [simulator.values(group.vectors) for group in groups if len(group.vectors) > 1]

    def all_distances() -> list[torch.Tensor]:
        return [loops(device).distance_matrix(x, TILE_BYTES) for x in values]

    record("distances", all_distances, 8 * pairs, 2 * pairs * a)
    matrices = all_distances()
    record(
        "summary",
        lambda: [summarise(matrix, spec.touching, TILE_BYTES) for matrix in matrices],
        4 * pairs,
        31 * pairs,
    )
    return measured


def same_rows(found: Float64Array, expected: Float64Array) -> str:
    """Whether the rows that both drew are the same bits."""
    common = min(len(found), len(expected))
    return "yes" if found[:common].tobytes() == expected[:common].tobytes() else "NO"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    gpu = "cuda" if torch.cuda.is_available() else "torch-cpu"
    gpu = "mps" if torch.backends.mps.is_available() else gpu
    parser.add_argument("--device", default=gpu, help="torch-cpu is torch on the CPU, for a look")
    parser.add_argument("--trials", type=int, default=64, help="on the device, per sigma")
    arguments = parser.parse_args()
    device = torch.device(arguments.device.removeprefix("torch-"))
    workers = os.cpu_count() or 1
    bandwidth, rate = rates(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else arguments.device
    print(f"n = {N:,}, d = {D:,}, bfloat16; {name}, torch {torch.__version__}, {workers} cores")
    print(f"copy {bandwidth / 1e9:,.0f} GB/s, {rate / 1e9:,.0f} G multiply-adds/s, float32\n")
    for sigma in SIGMAS:
        cloud, spec = Cloud(centroid(), sigma), TrialSpec(N, 42, EPSILON, 2 * EPSILON)
        on_host, expected = host_rate(cloud, spec, max(2, arguments.trials // 8), workers)
        worker = DeviceSimulator(cloud, spec, device, threads=workers)
        worker.batch = min(worker.batch, arguments.trials)
        worker.run(0, worker.batch)
        start = time.perf_counter()
        batch = worker.run(0, arguments.trials)
        on_device = arguments.trials / (time.perf_counter() - start)
        print(
            f"sigma {sigma:g}: {cloud.active.size:,} active dimensions, auto takes "
            f"{choose_sampler(cloud, N)} sampling, batches of {worker.batch}\n"
            f"  trials/s: device {on_device:,.1f}, CPU {on_host:,.1f}, ratio "
            f"{on_device / on_host:.2f}; same rows: {same_rows(batch.rows, expected)}"
        )
        print(f"  {'stage':<16}{'ms/trial':>10}{'floor ms':>10}")
        measured = stages(cloud, spec, device, worker.batch, workers)
        for stage, (taken, moved, operations) in measured.items():
            floor = max(moved / bandwidth, operations / rate)
            print(f"  {stage:<16}{taken * 1e3:10.2f}{floor * 1e3:10.3f}")
        print()


if __name__ == "__main__":
    main()
