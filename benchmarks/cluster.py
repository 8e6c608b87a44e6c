"""What a Dask cluster costs beside threads of one process, and the points of the cost model.

A scheduler and two workers of one thread each, on loopback, against two threads; n = 2,100 tokens,
d = 2,560, the centroid of the other benchmarks. The trials are the same to the byte, which is
checked. Then the overhead of a unit, the cost of finishing a run, and a survey's cost per model.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from centroid import centroid
from dask_processes import dask_processes

from deadtokens.runs import RunFolder
from deadtokens.scheduler import Cluster, connected
from deadtokens.specification import plan
from deadtokens.survey import survey
from deadtokens.sweep import finish, simulate

N = 2_100
WORKERS = 2
CASES = ((1.5e-9, 400_000), (1e-7, 3_000), (3.281911e-3, 150))
UNITS = 600
MODELS = 24


def timed(
    folder: Path, sigma: float, trials: int, cluster: Cluster | None, part: int | None = None
) -> tuple[float, float, bytes]:
    """Seconds of drawing and of finishing, and trials.csv."""
    planned = plan(centroid(), [sigma], N)
    run = RunFolder.create(folder, planned.specification(), planned.centroid)
    with run.locked():
        start = time.perf_counter()
        simulate(planned, run, trials, workers=WORKERS, cluster=cluster, part_trials=part)
        drawn = time.perf_counter()
        finish(planned, run)
        finished = time.perf_counter()
    return drawn - start, finished - drawn, (folder / "trials.csv").read_bytes()


def compare_places(scratch: Path, cluster: Cluster) -> None:
    print(f"{'sigma':>12}{'trials':>9}{'threads s':>11}{'workers s':>11}{'overhead':>10}"
          f"{'per trial us':>14}{'finish us':>11}{'bytes':>7}")  # fmt: skip
    for sigma, trials in CASES:
        for place in (None, cluster):
            timed(scratch / f"warm-{sigma}-{place is None}", sigma, 2, place)
        here, finishing, content = timed(scratch / f"here-{sigma}", sigma, trials, None)
        there, _, same = timed(scratch / f"there-{sigma}", sigma, trials, cluster)
        if same != content:
            raise SystemExit(f"sigma {sigma}: the cluster's trials.csv is another one")
        size = sum(path.stat().st_size for path in (scratch / f"here-{sigma}").rglob("*.parquet"))
        print(f"{sigma:12.7g}{trials:9,}{here:11.2f}{there:11.2f}{there / here - 1:10.1%}"
              f"{(there - here) / trials * 1e6:14.2f}{finishing / trials * 1e6:11.2f}"
              f"{size / trials:7.0f}")  # fmt: skip


def cost_model(scratch: Path, cluster: Cluster) -> None:
    """Seconds = fixed + trials x per trial, by least squares, and what that makes of 1e9 trials."""
    print("\nfitted to runs on the cluster: seconds = fixed + trials x per trial / workers")
    print(f"{'sigma':>12}{'fixed s':>9}{'core us per trial':>19}{'worst residual':>16}"
          f"{'1e9 trials: core hours':>24}")  # fmt: skip
    for sigma, most in CASES:
        trials = np.array([most // 4, most // 2, most, 2 * most])
        seconds = np.array(
            [timed(scratch / f"fit-{sigma}-{n}", sigma, n, cluster)[0] for n in trials.tolist()]
        )
        slope, fixed = np.polyfit(trials, seconds, 1, w=1 / seconds)
        residual = float(np.abs((fixed + slope * trials) / seconds - 1).max())
        core = slope * WORKERS
        print(f"{sigma:12.7g}{fixed:9.2f}{core * 1e6:19,.1f}{residual:16.1%}"
              f"{core * 1e9 / 3600:24,.1f}")  # fmt: skip


def unit_overhead(scratch: Path, cluster: Cluster) -> None:
    """Units of one trial of next to no work: what is left is the hand-out, and writing parts."""
    timed(scratch / "warm", 0.0, 8, cluster, part=1)
    here, _, _ = timed(scratch / "units-here", 0.0, UNITS, None, part=1)
    there, _, _ = timed(scratch / "units-there", 0.0, UNITS, cluster, part=1)
    print(f"\n{UNITS} units of one trial: {here / UNITS * 1e3:.2f} ms each by threads, "
          f"{there / UNITS * 1e3:.2f} ms on the cluster")  # fmt: skip


def survey_cost(scratch: Path, cluster: Cluster) -> None:
    """Matrices of 32,000 x 512 in float16, all different."""
    rng = np.random.default_rng(0)
    sources = []
    for i in range(MODELS):
        np.save(scratch / f"{i}.npy", rng.standard_normal((32_000, 512)).astype(np.float16))
        sources.append(str(scratch / f"{i}.npy"))
    survey(sources[:1])
    start = time.perf_counter()
    survey(sources, workers=WORKERS)
    here = time.perf_counter() - start
    start = time.perf_counter()
    survey(sources, cluster=cluster)
    there = time.perf_counter() - start
    numbers = MODELS * 32_000 * 512
    print(f"\nsurvey of {MODELS} matrices of 32,000 x 512: {here / MODELS:.3f} s each by threads, "
          f"{there / MODELS:.3f} s on the cluster; {here * WORKERS / numbers * 1e9:.2f} core "
          "seconds per 1e9 numbers")  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        with dask_processes(scratch, WORKERS) as processes, connected(processes.address) as cluster:
            if cluster is None:
                raise SystemExit("no cluster")
            compare_places(scratch, cluster)
            cost_model(scratch, cluster)
            unit_overhead(scratch, cluster)
            survey_cost(scratch, cluster)


if __name__ == "__main__":
    main()
