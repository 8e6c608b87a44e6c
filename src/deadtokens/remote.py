"""Trials of a sweep drawn by the workers of a cluster: the same bits as in this process.

A worker is sent the tables made here, so that all agree to the bit, and refuses if its versions are
others. Where it can reach the run folder it writes the part itself; else it sends the trials back.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deadtokens.cloud import Cloud
from deadtokens.device.choice import DeviceName, pick, take_the_cpu
from deadtokens.errors import ClusterError, DeviceError
from deadtokens.kernels.occupancy import OccupancyTable
from deadtokens.parts import write_part
from deadtokens.runs import RunFolder, digest, environment
from deadtokens.sampling import SamplerName, occupancy_table
from deadtokens.scheduler import Cluster, Job
from deadtokens.specification import Sweep, Unit
from deadtokens.trials import Batch, Simulator, TrialSpec


@dataclass(frozen=True)
class Order:
    """What a worker needs to draw trials of one sigma.

    Attributes:
        index: The sigma's.
        cloud: The null model, with its table of probabilities.
        table: What occupancy sampling makes of that.
        spec: What a trial is.
        sampler: How it is drawn.
        device: On what.
        run: Digest of the run's specification.
        incoming: Where parts are written, by whoever sees this folder.
        environment: Versions that trials depend on, here.
    """

    index: int
    cloud: Cloud
    table: OccupancyTable | None
    spec: TrialSpec
    sampler: SamplerName
    device: DeviceName
    run: str
    incoming: Path
    environment: dict[str, str]


def draw_remotely(
    cluster: Cluster,
    sweep: Sweep,
    run: RunFolder,
    units: Iterator[Unit],
    device: DeviceName,
    report: Callable[[int], None],
) -> int:
    """Have the workers draw units, and keep the parts; returns the number of trials.

    Args:
        cluster: Whose workers.
        sweep: What is simulated.
        run: Where parts go; locked by the caller.
        units: The work.
        device: Each worker's.
        report: Called with the number of trials done so far.

    Raises:
        ClusterError: The scheduler is gone, or workers cannot do the work.
        OutputError: A part cannot be written.
    """
    done = 0
    with run.incoming() as incoming:
        for unit, result in cluster.results(draw_unit, _jobs(sweep, units, device, incoming)):
            if isinstance(result, ClusterError):
                raise result
            if isinstance(result, Batch):
                run.write(unit.index, result)
            else:
                run.adopt(incoming / result)
            done += unit.count
            report(done)
    return done


def _jobs(
    sweep: Sweep, units: Iterator[Unit], device: DeviceName, incoming: Path
) -> Iterator[Job[Unit]]:
    order = None
    for unit in units:
        if order is None or order.index != unit.index:
            sampler = sweep.samplers[unit.index]
            table = occupancy_table(unit.cloud) if sampler == "occupancy" else None
            order = Order(
                unit.index,
                unit.cloud,
                table,
                sweep.spec,
                sampler,
                device,
                digest(sweep.specification()),
                incoming,
                environment(),
            )
        yield Job(unit, order, (unit.first, unit.count))


def draw_unit(order: Order, first: int, count: int) -> str | Batch:
    """On a worker: draw and measure trials; the name of the part, or the trials to be sent back.

    Raises:
        ClusterError: This worker's versions differ from the client's.
        DeviceError: The device that was asked for is not there, or fails.
        OutputError: The part cannot be written.
    """
    try:
        batch = _simulator(order).run(first, count)
    except DeviceError as error:
        take_the_cpu(order.device, error)
        _held.simulator = Simulator(order.cloud, order.spec, order.sampler, order.table)
        batch = _held.simulator.run(first, count)
    if os.access(order.incoming, os.W_OK | os.X_OK):
        return write_part(order.incoming, order.run, order.index, batch).name
    return batch


_held = threading.local()


def _simulator(order: Order) -> Simulator:
    """This thread's simulator for an order, with its work space; the last one is kept."""
    if getattr(_held, "order", None) is not order:
        _check_environment(order.environment)
        _held.simulator = (
            pick(order.cloud, order.spec, order.sampler, order.device, workers=1)
            if order.sampler == "direct"
            else Simulator(order.cloud, order.spec, order.sampler, order.table)
        )
        _held.order = order
    simulator: Simulator = _held.simulator
    return simulator


def _check_environment(expected: dict[str, str]) -> None:
    own = environment()
    differing = [
        f"{name} {own.get(name)} here, {value} at the client"
        for name, value in expected.items()
        if own.get(name) != value
    ]
    if differing:
        from distributed import get_worker

        raise ClusterError(
            f"this worker would draw other trials: {'; '.join(differing)}",
            where=get_worker().address,
            remedy="install the client's versions on all workers",
        )
