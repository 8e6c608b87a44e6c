"""How the cost grows with sigma, tokens, dimensions, trials and the size of a model.

Writes docs/performance/growth.csv, which docs/generate_performance.py draws. Other programs may run
meanwhile: what is compared is CPU seconds on one thread, the least of some repetitions, kernels
compiled. Peak memory is that of whole processes. Centroids are the other benchmarks', bfloat16.

    PYTHONPATH=tools python benchmarks/growth.py [SERIES ...]    with names: only these anew
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import csv
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from centroid import RMS, centroid
from distances import EPSILON, D, N, cluster
from distances import literal as literal_distances
from full_matrix import write_full_matrix
from measuring import FOLDER, Cost, child, cost, save
from sweep import literal_trial

import deadtokens as dt
from deadtokens.kernels.types import Float64Array
from deadtokens.snowball import Snowball
from deadtokens.specification import plan
from deadtokens.trials import STATISTICS, Simulator
from deadtokens.writing import write_safetensors

HEADER = ["series", "case", "method", "x", "cpu_s", "wall_s", "peak_mb", "active", "distinct"]
# Few vectors, all different but drawn by occupancy, every coordinate drawn.
SIGMAS = 1.5e-9, 1e-7, 3.281911e-3
ROWS = [2**k for k in range(7, 14)]
DIMENSIONS = [80 * 2**k for k in range(8)]
PERMUTATIONS = 12
PROGRAM = "from deadtokens.cli import run; run()"

Row = tuple[object, ...]


def row(
    series: str, case: object, method: str, x: float, took: Cost, per: int = 1, *more: object
) -> Row:
    """A line of the table: the cost of one of ``per`` things done at once."""
    seconds = took.cpu / per, took.wall / per
    return series, case, method, x, *seconds, round(took.peak) or "", *(*more, "", "")[:2]


def centre(d: int) -> Float64Array:
    """(d,) the centroid of the other benchmarks, for another number of dimensions."""
    draws = np.random.default_rng(0).standard_t(4.5, d)
    return np.asarray(draws * RMS / np.sqrt((draws**2).mean()))


def snowball(sigma: float, n: int = N, d: int = D) -> Snowball:
    return dt.sample(dt.Cloud(centre(d), sigma), n, trial=0, sampler="direct")


def trial(series: str, case: object, x: float, sigma: float, n: int = N, d: int = D) -> list[Row]:
    """Trials drawn and measured, by the sampler that the rule takes and, if it can, the other."""
    rows = []
    chosen = plan(centre(d), [sigma], n, epsilon=EPSILON).samplers[0]
    for sampler in ("occupancy", "direct"):
        if sampler != chosen and (series != "sigma" or dt.Cloud(centre(d), sigma).table is None):
            continue
        planned = plan(centre(d), [sigma], n, epsilon=EPSILON, sampler=sampler)
        simulator = Simulator(planned.cloud(0), planned.spec, planned.samplers[0])
        count = 1
        while cost(lambda c=count, s=simulator: s.run(0, c), 0).cpu < 0.02:  # type: ignore[misc]
            count *= 4
        took = cost(lambda c=count, s=simulator: s.run(0, c))  # type: ignore[misc]
        unique = simulator.run(0, min(count, 64)).rows[:, STATISTICS.index("n_unique")].mean()
        method = sampler if sampler == chosen else f"{sampler}, not taken"
        rows.append(row(series, case, method, x, took, count, planned.cloud(0).active.size, unique))
    return rows


def literal(series: str, x: float, sigma: float, n: int = N, d: int = D) -> Row:
    """A trial as notebooks draw and measure it."""
    start = torch.from_numpy(centre(d)).to(torch.float32)
    took = cost(lambda: literal_trial(start, sigma, n), least=1)
    return row(series, sigma if series != "sigma" else "", "literal", x, took)


def by_sigma() -> Iterator[Row]:
    for sigma in np.geomspace(1e-10, 1e-2, 25).tolist():
        yield from trial("sigma", "", sigma, sigma)
    for sigma in (1e-10, 1e-9, 3e-9, 1e-8, 1e-3):
        yield literal("sigma", sigma, sigma)


def by_tokens() -> Iterator[Row]:
    for n in ROWS:
        for sigma in SIGMAS:
            yield from trial("tokens", sigma, n, sigma, n=n)
        yield literal("tokens", n, SIGMAS[0], n=n)


def by_dimensions() -> Iterator[Row]:
    for d in DIMENSIONS:
        for sigma in SIGMAS:
            yield from trial("dimensions", sigma, d, sigma, d=d)
        if d <= 2 * D:  # beyond, nearly all tokens differ there, and it takes minutes
            yield literal("dimensions", d, SIGMAS[0], d=d)


def whole_sweep(sigma: float, trials: int, workers: int) -> Cost:
    """A sweep from cell probabilities to tables on disk."""

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            dt.sweep(
                centroid(), sigma, N, trials, folder,
                epsilon=EPSILON, workers=workers, device="cpu",
            )  # fmt: skip

    return cost(work, 2)


def by_trials() -> Iterator[Row]:
    for sigma, most in zip(SIGMAS, (262_144, 512, 16), strict=True):
        for trials in (most // 4**k for k in reversed(range(5 if most > 16 else 3))):
            yield row("trials", sigma, "sweep", trials, whole_sweep(sigma, trials, 1))


def by_workers() -> Iterator[Row]:
    for sigma, trials in zip(SIGMAS, (262_144, 512, 16), strict=True):
        for workers in (1, 2):
            yield row("workers", sigma, "sweep", workers, whole_sweep(sigma, trials, workers))


def unique_rows(path: Path) -> object:
    """NumPy's way to find equal rows."""
    codes = dt.open_matrix(path).codes[:]
    rows = np.ascontiguousarray(codes).view(np.dtype((np.void, codes.shape[1] * 2))).ravel()
    return np.unique(rows, return_counts=True)


def by_matrix() -> Iterator[Row]:
    """Census by vocabulary and by dimensions, in a warm page cache, and its memory."""
    with tempfile.TemporaryDirectory() as folder:
        path, piece = Path(folder) / "full.safetensors", Path(folder) / "piece.safetensors"
        write_full_matrix(path, Path(folder) / "mask.safetensors")
        codes = dt.open_matrix(path).codes[:]
        stored = codes.view(dt.get_format("bfloat16").float_dtype)
        v, d = codes.shape
        for series, shapes in {
            "vocabulary": [(v >> k, d) for k in range(6)],
            "width": [(v, d >> k) for k in range(6)],
        }.items():
            for rows, columns in reversed(shapes):
                write_safetensors(piece, {"lm_head.weight": stored[:rows, :columns]})
                x = rows if series == "vocabulary" else columns
                numpy = cost(lambda: unique_rows(piece), least=1)
                yield row(series, "", "numpy.unique", x, numpy)
                took = cost(lambda: dt.census(dt.open_matrix(piece)))
                peak = child(PROGRAM, "census", str(piece), "-o", folder).peak
                yield row(series, "", "census", x, took._replace(peak=peak))


def by_vectors() -> Iterator[Row]:
    """`measure` by distinct vectors, beyond the limit of exact distances too."""
    for m in [*ROWS, 16_384, 32_768]:
        x = snowball(SIGMAS[2], m)
        took = cost(lambda x=x: dt.measure(x, EPSILON, workers=1), least=1)  # type: ignore[misc]
        with tempfile.TemporaryDirectory() as folder:
            values = Path(folder) / "rows.safetensors"
            write_safetensors(values, {"rows": x.codes.view(x.format.float_dtype)})
            peak = child(PROGRAM, "measure", str(values), "--rows", "all").peak
        yield row("vectors", "", "measure", m, took._replace(peak=peak))
        if m <= 1024:
            rows = cluster(SIGMAS[2])[:m]
            literally = cost(lambda r=rows: literal_distances(r, 2 * EPSILON), least=1)  # type: ignore[misc]
            yield row("vectors", "", "literal", m, literally)


def inference(series: str, x: int, sigma: float, rows: Snowball) -> Iterator[Row]:
    """Fit, and a permutation of the independence test."""
    varying = rows.varying.size
    yield row(f"fit {series}", sigma, "fit", x, cost(lambda: dt.fit(rows)), 1, varying)
    if varying >= 2:
        dt.independence(rows, permutations=1, workers=1)
        several = cost(lambda: dt.independence(rows, permutations=PERMUTATIONS, workers=1))
        yield row(
            f"independence {series}", sigma, "permutation", x, several, PERMUTATIONS, varying
        )  # fmt: skip


def by_inference() -> Iterator[Row]:
    for sigma in (1.3e-8, 1e-6):
        for n in ROWS:
            yield from inference("tokens", n, sigma, snowball(sigma, n))
        for d in DIMENSIONS[:-2]:
            yield from inference("dimensions", d, sigma, snowball(sigma, d=d))


def by_theory() -> Iterator[Row]:
    for sigma in np.geomspace(1e-10, 1e-2, 17).tolist():
        took = cost(lambda s=sigma: dt.theory(centroid(), s, N))  # type: ignore[misc]
        yield row("theory", "", "theory", sigma, took)


def by_memory() -> Iterator[Row]:
    """Peaks of sweeps as whole processes; those of census and measure are taken there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "centroid.safetensors"
        write_safetensors(path, {"centroid": centroid()})
        for sigma in SIGMAS:
            for n in ROWS[2::2]:
                run = ["-o", str(Path(folder) / f"{sigma}-{n}"), "--workers", "1"]
                took = child(
                    PROGRAM, "sweep", "--centroid", str(path), "--sigma", str(sigma),
                    "--tokens", str(n), "--trials", "2", "--device", "cpu", *run,
                )  # fmt: skip
                yield row("memory", sigma, "sweep", n, took)


SERIES: dict[str, Callable[[], Iterator[Row]]] = {
    "sigma": by_sigma,
    "tokens": by_tokens,
    "dimensions": by_dimensions,
    "trials": by_trials,
    "workers": by_workers,
    "matrix": by_matrix,
    "vectors": by_vectors,
    "inference": by_inference,
    "theory": by_theory,
    "memory": by_memory,
}


def keep(rows: list[Row]) -> None:
    """Put series into the table, in place of what it had of them."""
    path = FOLDER / "growth.csv"
    replaced = {str(found[0]) for found in rows}
    kept: list[Row] = []
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            kept += [tuple(old) for old in csv.reader(file) if old[0] not in replaced][1:]
    save("growth", HEADER, [*kept, *rows])


def main() -> None:
    torch.set_num_threads(1)
    dt.measure(snowball(1e-8, 64), EPSILON)  # compiles, or loads what is compiled
    for name in sys.argv[1:] or SERIES:
        print(name, flush=True)
        rows = []
        for found in SERIES[name]():
            print("   ", *found, flush=True)
            rows.append(found)
        keep(rows)


if __name__ == "__main__":
    main()
