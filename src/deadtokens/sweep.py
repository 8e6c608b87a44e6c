"""The one loop: for every sigma, draw trials, measure them, store the rows.

Work is cut into units, ranges of trials of one sigma, that threads or the workers of a cluster take
one after another; each becomes a part in the run folder. Nothing depends on how the work was cut,
in which order it was done, or where.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deadtokens.arguments import check_names
from deadtokens.centres import Centre, Centred, Terms, as_centre, settle
from deadtokens.device.choice import DeviceName, choose_device, pick, take_the_cpu
from deadtokens.errors import DeviceError, SelectionError
from deadtokens.interrupts import noticed
from deadtokens.listening import doing, listener
from deadtokens.observed import Measured, observe
from deadtokens.remote import draw_remotely
from deadtokens.runs import RunFolder, missing_parts
from deadtokens.scheduler import Cluster, connected
from deadtokens.specification import Sweep, Unit, plan, trial_counts
from deadtokens.summaries import (
    Totals,
    sigma_totals,
    write_elements,
    write_summary,
    write_trials,
)
from deadtokens.trial_tables import Trials
from deadtokens.trials import Simulator
from deadtokens.writing import as_folder

_PART_SECONDS = 5.0
_PART_TRIALS = 16_384  # at most
_PILOTS = 5


@dataclass(frozen=True)
class Estimate:
    """Measured beforehand on single trials.

    Attributes:
        seconds: Of one core, for the whole sweep.
        peak_bytes: Memory of one worker's work.
    """

    seconds: float
    peak_bytes: int


def estimate(sweep: Sweep, counts: Sequence[int]) -> Estimate:
    """Time and memory that so many trials of each sigma need, from one at a few (timed warm)."""
    chosen = np.unique(np.linspace(0, len(sweep.sigmas) - 1, _PILOTS).round().astype(int))
    seconds, sizes = [], []
    for index in chosen.tolist():
        simulator = Simulator(sweep.cloud(index), sweep.spec, sweep.samplers[index])
        seconds.append(_trial_seconds(simulator, 0))
        sizes.append(simulator.peak_bytes())
    per_trial = np.interp(np.arange(len(sweep.sigmas)), chosen, seconds)
    return Estimate(float(per_trial @ np.asarray(counts, dtype=np.float64)), max(sizes))


def simulate(
    sweep: Sweep,
    run: RunFolder,
    n_trials: int | Sequence[int],
    *,
    workers: int | None = None,
    device: DeviceName = "auto",
    cluster: Cluster | None = None,
    part_trials: int | None = None,
    report: Callable[[int], None] = lambda _: None,
) -> int:
    """Draw and measure the trials that the run folder lacks; returns how many that were.

    Args:
        sweep: What to simulate.
        run: Where parts go.
        n_trials: Trials of each sigma: one number, or one for each.
        workers: Threads; all cores by default.
        device: "cpu", or a GPU for the direct draw ("cuda", "mps"; "auto" if it is faster). Of a
            cluster, each worker's.
        cluster: Where the work is done, if not in threads of this process.
        part_trials: Trials of a part; by default what takes some seconds.
        report: Called with the number of trials done as parts finish.

    Raises:
        KeyboardInterrupt: On Ctrl-C, after the trials finished so far are on disk.
        ClusterError: The cluster is gone, or its workers cannot do the work; what was finished is
            on disk.
        DeviceError: The device is not there or fails, or one trial does not fit into its memory.
        SourceError: A part vanished meanwhile.
    """
    workers = max(1, cluster.threads()) if cluster else workers or os.cpu_count() or 1
    wanted = [n_trials] * len(sweep.sigmas) if isinstance(n_trials, int) else n_trials
    missing = run.missing_of_each(wanted)
    report(0)
    if cluster:
        units = _units(sweep, missing, workers, part_trials)
        done = draw_remotely(cluster, sweep, run, units, device, report)
    else:
        done = _draw_here(sweep, run, missing, workers, device, part_trials, report)
    if any(run.missing_of_each(wanted).values()):
        raise missing_parts(run)
    return done


def _draw_here(
    sweep: Sweep,
    run: RunFolder,
    missing: dict[int, list[tuple[int, int]]],
    workers: int,
    device: DeviceName,
    part_trials: int | None,
    report: Callable[[int], None],
) -> int:
    done = 0
    for index in _for_device(sweep, missing, device):
        simulator = pick(sweep.cloud(index), sweep.spec, "direct", device, workers)
        if simulator.on_device:
            ranges = missing.pop(index)
            units = _units(sweep, {index: ranges}, 1, part_trials, simulator)

            def told(n: int, before: int = done) -> None:
                report(before + n)

            try:
                done += _draw_in_threads(sweep, run, units, 1, told, simulator)
            except DeviceError as error:
                take_the_cpu(device, error)
                missing[index] = run.missing(index, sum(ranges[-1]))
                done += _trials(ranges) - _trials(missing[index])
    units = _units(sweep, missing, workers, part_trials)
    return done + _draw_in_threads(sweep, run, units, workers, lambda n: report(done + n))


def _trials(ranges: list[tuple[int, int]]) -> int:
    return sum(count for _, count in ranges)


def _for_device(
    sweep: Sweep, missing: dict[int, list[tuple[int, int]]], device: DeviceName
) -> list[int]:
    """The sigmas that a GPU might draw: it has a form of the direct draw only."""
    if choose_device(device) == "cpu":
        return []
    return [i for i, ranges in missing.items() if ranges and sweep.samplers[i] == "direct"]


def _draw_in_threads(
    sweep: Sweep,
    run: RunFolder,
    units: Iterator[Unit],
    workers: int,
    report: Callable[[int], None],
    simulator: Simulator | None = None,
) -> int:
    """Draw units, each thread with a simulator of its own, or one thread with the one given."""
    lock = threading.Lock()
    stop = threading.Event()
    done = 0

    def work(simulator: Simulator | None) -> None:
        nonlocal done
        while not stop.is_set():
            with lock:
                unit = next(units, None)
            if unit is None:
                return
            if simulator is None or simulator.cloud is not unit.cloud:
                simulator = Simulator(unit.cloud, sweep.spec, sweep.samplers[unit.index])
            batch = simulator.run(unit.first, unit.count, stop=stop.is_set)
            if len(batch.rows):
                run.write(unit.index, batch)
                with lock:
                    done += len(batch.rows)

    # From the first thread on, whatever ends the loop has to stop them before they are waited for.
    with noticed() as check, ThreadPoolExecutor(workers) as pool:
        try:
            futures: set[Future[None]] = {pool.submit(work, simulator) for _ in range(workers)}
            while futures:
                finished, futures = wait(futures, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                report(done)
                check()
        finally:
            stop.set()
    return done


def _units(
    sweep: Sweep,
    missing: dict[int, list[tuple[int, int]]],
    workers: int,
    part_trials: int | None,
    simulator: Simulator | None = None,
) -> Iterator[Unit]:
    """The missing trials in units of some seconds, sigma by sigma.

    Timed with the simulator given, or with one for each sigma.
    """
    for index, ranges in missing.items():
        if not ranges:
            continue
        timed = simulator or Simulator(sweep.cloud(index), sweep.spec, sweep.samplers[index])
        cloud = timed.cloud
        size = part_trials or _part_size(timed, ranges, workers)
        for first, count in ranges:
            for start in range(first, first + count, size):
                yield Unit(index, cloud, start, min(size, first + count - start))


def _part_size(simulator: Simulator, ranges: list[tuple[int, int]], workers: int) -> int:
    """Trials that take some seconds, and few enough that every worker has some."""
    seconds = max(_trial_seconds(simulator, ranges[0][0]), 1e-6)
    share = math.ceil(_trials(ranges) / workers)
    return max(1, min(_PART_TRIALS, share, round(_PART_SECONDS / seconds)))


def _trial_seconds(simulator: Simulator, trial: int) -> float:
    simulator.run(trial, simulator.batch)  # loads what is compiled
    start = time.perf_counter()
    batch = simulator.batch
    simulator.run(trial, batch)
    return (time.perf_counter() - start) / batch


def finish(sweep: Sweep, run: RunFolder) -> Totals:
    """Add up a run's parts, and write trials.csv, summary.csv and elements.npz.

    Raises:
        SourceError: A part is damaged or gone, or two hold the same trials.
        OutputError: A file cannot be written.
    """
    with doing("adding trials up"):
        totals = Totals(
            sigma_totals(run, i, sweep.cloud(i), sweep.spec, sampler)
            for i, sampler in enumerate(sweep.samplers)
        )
    spec = sweep.spec
    trials = Trials(totals.of_sigmas(), spec.epsilon, spec.touching, sweep.format)
    with doing("writing trials.csv, summary.csv and elements.npz"):
        write_trials(run.path / "trials.csv", trials)
        write_summary(run.path / "summary.csv", trials.summary())
        write_elements(run.path / "elements.npz", totals)
    return totals


def sweep(
    centroid: Centred,
    sigmas: float | Sequence[float] | None = None,
    n_tokens: int | None = None,
    trials: int | None = None,
    run: str | Path | None = None,
    *,
    like: Measured | None = None,
    epsilon: float | None = None,
    touching: float | None = None,
    format: str | None = None,  # noqa: A002
    workers: int | None = None,
    device: DeviceName = "auto",
    scheduler: str | None = None,
    **options: Any,
) -> Totals:
    """Simulate synthetic snowballs into a run folder, resuming or extending what it holds.

    Args:
        centroid: (d,) finite numbers, a `Fit`, or a file that fit or census wrote. What is left out
            below is taken from a fit or a file, and from ``like``.
        sigmas: One standard deviation or several; the fitted one by default.
        n_tokens: Tokens of a trial.
        trials: Trials of each sigma; by default as for `trial_counts`.
        run: The run folder, which has to be named.
        like: The measured cluster that trials are to be compared with: a measurement, a row of
            statistics or a file of one, whose tokens, format and lengths trials get.
        epsilon: As for `plan`.
        touching: As for `plan`.
        format: As for `plan`.
        workers: Threads; all cores by default. None with a scheduler.
        device: As for `simulate`.
        scheduler: Address of a Dask scheduler whose workers draw the trials instead.
        options: As for `plan`.

    Raises:
        SelectionError: A number out of range, a contradiction between what is given and what came
            with the centre, or the folder holds another specification.
        FormatError: An unknown format, or values that would overflow it.
        OutputError: The folder cannot be written.
        ClusterError: The scheduler cannot be reached, or its workers cannot do the work.
        DeviceError: The device is not there or fails, or one trial does not fit into its memory.
    """
    if run is None:
        raise SelectionError("no run folder", remedy="name one: run=FOLDER")
    check_names("sweep", options, _OF_A_PLAN)
    given = Terms(format=format, n_tokens=n_tokens, epsilon=epsilon, touching=touching)
    planned, said = plan_around(as_centre(centroid), sigmas, given, like, **options)
    if said:
        listener().message(f"taken: {said}")
    counts = trial_counts(planned, trials)
    if scheduler is None:
        choose_device(device)  # before anything is written
    elif workers is not None:
        raise SelectionError("both workers and a scheduler", remedy="give one of them")
    folder = RunFolder.create(as_folder(run, "run"), planned.specification(), planned.centroid)
    with folder.locked(), connected(scheduler) as cluster:
        missing = folder.missing_of_each(counts).values()
        with listener().work("trials", sum(map(_trials, missing))) as report:
            simulate(
                planned,
                folder,
                counts,
                workers=workers,
                device=device,
                cluster=cluster,
                report=report,
            )
        return finish(planned, folder)


# Keyword arguments of `plan` that `sweep` hands on.
_OF_A_PLAN = ("seed", "noise", "intermediate", "sampler")


def plan_around(
    centre: Centre,
    sigmas: float | Sequence[float] | None,
    given: Terms,
    like: Measured | None = None,
    **options: Any,
) -> tuple[Sweep, str]:
    """A sweep around a centre, with what came with it; and what was taken from where, in words.

    Args:
        centre: The centre.
        sigmas: One or several; None for the fitted one.
        given: What is asked for.
        like: The measured cluster that trials are to be like.
        options: As for `plan`.

    Raises:
        SelectionError: As for `settle` and `plan`.
        FormatError: As for `plan`.
    """
    chosen = None
    if sigmas is not None:
        chosen = [sigmas] if isinstance(sigmas, (int, float)) else list(sigmas)
        given = replace(given, sigma=float(chosen[0]) if chosen else 0.0)
    terms = settle(centre, given, None if like is None else observe(like))
    planned = plan(
        centre.values,
        [terms.sigma] if chosen is None else [float(sigma) for sigma in chosen],
        terms.n_tokens,
        epsilon=terms.epsilon,
        touching=terms.touching,
        format=terms.format,
        **options,
    )
    return planned, terms.said
