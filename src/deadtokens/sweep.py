"""The one loop: for every sigma, draw trials, measure them, store the rows.

Work is cut into parts, ranges of trials of one sigma, that threads take one after another (the
kernels release the GIL) and write to the run folder as they finish. Nothing depends on how the
work was cut or in which order it was done.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deadtokens.cloud import Cloud
from deadtokens.errors import SelectionError
from deadtokens.formats import Intermediate
from deadtokens.kernels.types import Float64Array
from deadtokens.noise import Noise
from deadtokens.runs import RunFolder
from deadtokens.sampling import SamplerName, choose_sampler
from deadtokens.summaries import (
    SigmaTotals,
    sigma_totals,
    write_elements,
    write_summary,
    write_trials,
)
from deadtokens.touching import lengths
from deadtokens.trials import Simulator, TrialSpec

_PART_SECONDS = 5.0
_PART_TRIALS = 16_384  # at most
_PILOTS = 5


@dataclass(frozen=True)
class Sweep:
    """What is to be simulated: a centre, sigmas, and what a trial is.

    Attributes:
        centroid: (d,) float64.
        sigmas: Standard deviations of the noise, each one or more trials' worth.
        spec: What a trial is.
        noise: "gaussian", "laplace" or "uniform".
        format: Storage format's name.
        intermediate: "float32" or "exact".
        samplers: The sampler of each sigma.
    """

    centroid: Float64Array
    sigmas: tuple[float, ...]
    spec: TrialSpec
    noise: Noise
    format: str
    intermediate: Intermediate
    samplers: tuple[SamplerName, ...]

    def cloud(self, index: int) -> Cloud:
        """The null model of the sigma of that index."""
        return Cloud(
            self.centroid,
            self.sigmas[index],
            noise=self.noise,
            format=self.format,
            intermediate=self.intermediate,
        )

    def specification(self) -> dict[str, Any]:
        """All that the results depend on, as JSON values."""
        content = np.ascontiguousarray(self.centroid, dtype="<f8").tobytes()
        return {
            "centroid_sha256": hashlib.sha256(content).hexdigest(),
            "n_dimensions": self.centroid.size,
            "sigmas": list(self.sigmas),
            "samplers": list(self.samplers),
            "n_tokens": self.spec.n_tokens,
            "seed": self.spec.seed,
            "epsilon": self.spec.epsilon,
            "touching": self.spec.touching,
            "noise": self.noise,
            "format": self.format,
            "intermediate": self.intermediate,
        }

    @classmethod
    def from_run(cls, run: RunFolder) -> Sweep:
        """The sweep that a run folder holds."""
        s = run.specification
        spec = TrialSpec(s["n_tokens"], s["seed"], s["epsilon"], s["touching"])
        return cls(
            run.centroid(),
            tuple(s["sigmas"]),
            spec,
            s["noise"],
            s["format"],
            s["intermediate"],
            tuple(s["samplers"]),
        )


@dataclass(frozen=True)
class Estimate:
    """Measured beforehand on single trials."""

    seconds: float
    peak_bytes: int


@dataclass
class Progress:
    """How far a sweep is; shared by its threads."""

    done: int = 0
    stop: threading.Event = field(default_factory=threading.Event)


def plan(
    centroid: npt.ArrayLike,
    sigmas: Sequence[float],
    n_tokens: int,
    *,
    seed: int = 42,
    epsilon: float | None = None,
    touching: float | None = None,
    noise: Noise = "gaussian",
    format: str = "bfloat16",  # noqa: A002
    intermediate: Intermediate = "float32",
    sampler: SamplerName | Literal["auto"] = "auto",
) -> Sweep:
    """A sweep, checked: every cloud can be made and drawn from.

    Args:
        centroid: (d,) finite numbers.
        sigmas: Standard deviations, different from one another.
        n_tokens: Tokens of a trial.
        seed: Of all random streams.
        epsilon: The length in which distances are quoted; the ULP of the centroid's largest |value|
            by default.
        touching: The distance up to which vectors touch; 2 epsilon by default.
        noise: Kind of noise.
        format: Storage format.
        intermediate: "float32" if centroid + noise is rounded to float32 first.
        sampler: "auto" for the fixed rule of `choose_sampler`.

    Raises:
        SelectionError: A number out of range, or a sampler that cannot draw a sigma.
        FormatError: An unknown format, or values that would overflow it.
    """
    if not sigmas:
        raise SelectionError("no sigma", remedy="give at least one")
    if len(set(sigmas)) != len(sigmas):
        raise SelectionError("a sigma is given twice", remedy="give each once")
    values = np.atleast_1d(np.asarray(centroid, dtype=np.float64))
    samplers: list[SamplerName] = []
    for sigma in sigmas:
        cloud = Cloud(values, sigma, noise=noise, format=format, intermediate=intermediate)
        cloud.check(n_tokens)
        chosen = choose_sampler(cloud, n_tokens) if sampler == "auto" else sampler
        if chosen == "occupancy" and cloud.table is None:
            raise SelectionError(
                f"sigma {sigma:g} has too many cells for the occupancy sampler",
                remedy="use --sampler auto or direct",
            )
        samplers.append(chosen)
    spec = TrialSpec(n_tokens, seed, *lengths(values, format, epsilon, touching))
    return Sweep(
        values, tuple(map(float, sigmas)), spec, noise, format, intermediate, tuple(samplers)
    )


def parse_sigmas(text: str) -> list[float]:
    """The sigmas that a SPEC names: a number, a comma list, ``A:B:N`` or ``A:B:N:log``.

    Raises:
        SelectionError: It is none of these.
    """
    wrong = SelectionError(
        f"sigma {text!r}", remedy="give a number, a comma list, A:B:N or A:B:N:log"
    )
    try:
        if ":" not in text:
            return [float(number) for number in text.split(",")]
        start, stop, count, *scale = text.split(":")
        low, high, n = float(start), float(stop), int(count)
    except ValueError:
        raise wrong from None
    ends_valid = math.isfinite(low) and math.isfinite(high) and n >= 1 and (n > 1 or low == high)
    if not ends_valid or scale not in ([], ["log"]) or (scale and not (low > 0 and high > 0)):
        raise wrong
    spaced = np.geomspace(low, high, n) if scale else np.linspace(low, high, n)
    return [low, *spaced[1:-1].tolist(), high][: max(n, 1)]


def estimate(sweep: Sweep, n_trials: int, workers: int) -> Estimate:
    """Time and memory that a sweep needs, from one trial at a few of its sigmas (timed warm)."""
    chosen = np.unique(np.linspace(0, len(sweep.sigmas) - 1, _PILOTS).round().astype(int))
    seconds, sizes = [], []
    for index in chosen.tolist():
        simulator = Simulator(sweep.cloud(index), sweep.spec, sweep.samplers[index])
        simulator.run(0, 1)
        start = time.perf_counter()
        simulator.run(0, 1)
        seconds.append(time.perf_counter() - start)
        sizes.append(simulator.peak_bytes())
    per_trial = np.interp(np.arange(len(sweep.sigmas)), chosen, seconds)
    total = float(per_trial.sum()) * n_trials / min(workers, os.cpu_count() or 1)
    return Estimate(total, max(sizes) * workers)


def simulate(
    sweep: Sweep,
    run: RunFolder,
    n_trials: int | Sequence[int],
    *,
    workers: int | None = None,
    part_trials: int | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Progress:
    """Draw and measure the trials that the run folder lacks.

    Args:
        sweep: What to simulate.
        run: Where parts go.
        n_trials: Trials of each sigma: one number, or one for each.
        workers: Threads; all cores by default.
        part_trials: Trials of a part; by default what takes some seconds.
        report: Called as parts finish.

    Raises:
        KeyboardInterrupt: On Ctrl-C, after the trials finished so far are on disk.
    """
    workers = workers or os.cpu_count() or 1
    wanted = [n_trials] * len(sweep.sigmas) if isinstance(n_trials, int) else n_trials
    missing = {i: run.missing(i, count) for i, count in enumerate(wanted)}
    progress = Progress()
    report = report or (lambda _: None)
    report(progress)
    with ThreadPoolExecutor(workers) as pool:
        try:
            _work_off(sweep, run, missing, workers, part_trials, pool, progress, report)
        finally:
            progress.stop.set()
    return progress


def _work_off(
    sweep: Sweep,
    run: RunFolder,
    missing: dict[int, list[tuple[int, int]]],
    workers: int,
    part_trials: int | None,
    pool: ThreadPoolExecutor,
    progress: Progress,
    report: Callable[[Progress], None],
) -> None:
    lock = threading.Lock()

    def work(simulator: Simulator, index: int, units: Iterator[tuple[int, int]]) -> None:
        while not progress.stop.is_set():
            with lock:
                unit = next(units, None)
            if unit is None:
                return
            batch = simulator.run(*unit, stop=progress.stop.is_set)
            if len(batch.rows):
                run.write(index, batch)
                with lock:
                    progress.done += len(batch.rows)

    for index, ranges in missing.items():
        if not ranges:
            continue
        cloud = sweep.cloud(index)
        simulators = [Simulator(cloud, sweep.spec, sweep.samplers[index]) for _ in range(workers)]
        size = part_trials or _part_size(simulators[0], ranges, workers)
        units = _cut(ranges, size)
        futures: set[Future[None]] = {
            pool.submit(work, simulator, index, units) for simulator in simulators
        }
        try:
            while futures:
                finished, futures = wait(futures, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                report(progress)
        except BaseException:
            progress.stop.set()
            wait(futures)
            raise


def _part_size(simulator: Simulator, ranges: list[tuple[int, int]], workers: int) -> int:
    """Trials that take some seconds, and few enough that every worker has some."""
    simulator.run(ranges[0][0], 1)  # loads what is compiled
    start = time.perf_counter()
    simulator.run(ranges[0][0], 1)
    seconds = max(time.perf_counter() - start, 1e-6)
    share = math.ceil(sum(count for _, count in ranges) / workers)
    return max(1, min(_PART_TRIALS, share, round(_PART_SECONDS / seconds)))


def _cut(ranges: list[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    for first, count in ranges:
        for start in range(first, first + count, size):
            yield start, min(size, first + count - start)


def finish(sweep: Sweep, run: RunFolder) -> list[SigmaTotals]:
    """Add up a run's parts, and write trials.csv, summary.csv and elements.npz."""
    totals = [
        sigma_totals(run, i, sweep.cloud(i), sweep.spec, sampler)
        for i, sampler in enumerate(sweep.samplers)
    ]
    write_trials(run.path / "trials.csv", totals, sweep.spec, sweep.format)
    write_summary(run.path / "summary.csv", totals)
    write_elements(run.path / "elements.npz", totals)
    return totals


def sweep(
    centroid: npt.ArrayLike,
    sigmas: float | Sequence[float],
    n_tokens: int,
    trials: int,
    run: str | Path,
    *,
    workers: int | None = None,
    **options: Any,
) -> list[SigmaTotals]:
    """Simulate synthetic snowballs into a run folder, resuming or extending what it holds.

    Args:
        centroid: (d,) finite numbers.
        sigmas: One standard deviation or several.
        n_tokens: Tokens of a trial.
        trials: Trials of each sigma.
        run: The run folder.
        workers: Threads; all cores by default.
        options: As for `plan`.

    Raises:
        SelectionError: A number out of range, or the folder holds another specification.
        FormatError: An unknown format, or values that would overflow it.
        OutputError: The folder cannot be written.
    """
    values = [float(sigmas)] if isinstance(sigmas, (int, float)) else [float(s) for s in sigmas]
    planned = plan(centroid, values, n_tokens, **options)
    if trials < 1:
        raise SelectionError(f"{trials} trials", remedy="give at least one")
    folder = RunFolder.create(Path(run), planned.specification(), planned.centroid)
    with folder.locked():
        simulate(planned, folder, trials, workers=workers)
        return finish(planned, folder)
