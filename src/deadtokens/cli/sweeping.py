"""The commands that simulate: sweep and sample."""

from __future__ import annotations

import contextlib
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deadtokens.cli.options import (
    Centroid,
    Epsilon,
    Format,
    Intermediate,
    IntermediateOption,
    Noise,
    NoiseOption,
    Scheduler,
    Seed,
    Tokens,
    Touching,
    load_centroid,
)

if TYPE_CHECKING:
    from deadtokens.runs import RunFolder
    from deadtokens.scheduler import Cluster
    from deadtokens.specification import Sweep


class Sampler(StrEnum):
    """Ways to draw a trial."""

    AUTO = "auto"
    OCCUPANCY = "occupancy"
    DIRECT = "direct"


class Device(StrEnum):
    """What draws trials."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


SamplerOption = Annotated[
    Sampler, typer.Option("--sampler", help="How trials are drawn; auto is a fixed rule.")
]


def sweep(
    centroid: Centroid,
    sigma: Annotated[
        str,
        typer.Option(
            "--sigma",
            metavar="SPEC",
            help="A number, a comma list, A:B:N (evenly spaced) or A:B:N:log.",
            show_default=False,
        ),
    ],
    tokens: Tokens,
    trials: Annotated[int, typer.Option("--trials", metavar="T", help="Trials of each sigma.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="RUN", help="The run folder.", show_default=False),
    ],
    seed: Seed = 42,
    epsilon: Epsilon = None,
    touching: Touching = None,
    noise: NoiseOption = Noise.GAUSSIAN,
    format: Format = "bfloat16",  # noqa: A002
    intermediate: IntermediateOption = Intermediate.FLOAT32,
    sampler: SamplerOption = Sampler.AUTO,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="W", min=1, help="Threads; all cores by default."),
    ] = None,
    device: Annotated[
        Device,
        typer.Option("--device", help="What draws directly drawn trials; auto is the faster one."),
    ] = Device.AUTO,
    scheduler: Scheduler = None,
) -> None:
    """Simulate synthetic snowballs, for one sigma or many.

    Each trial is noise around the centroid, rounded to the format and measured as a real cluster
    is. The rows are kept in the run folder; the same command again resumes, more --trials extend.
    """
    import os

    from deadtokens.cli import display, tables
    from deadtokens.device.choice import choose_device
    from deadtokens.errors import SelectionError
    from deadtokens.pictures import write_figures
    from deadtokens.runs import RunFolder
    from deadtokens.scheduler import connected
    from deadtokens.specification import parse_sigmas, plan
    from deadtokens.summaries import check_results
    from deadtokens.sweep import finish
    from deadtokens.writing import shell_line

    started = time.perf_counter()
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("the scheduler's workers draw", param_hint="--workers")
    if trials < 1:
        raise SelectionError(f"{trials} trials", remedy="give at least one")
    if scheduler is None:
        choose_device(device.value)  # before anything is written
    with display.resumable(shell_line(["deadtokens", *sys.argv[1:]])):
        planned = plan(
            load_centroid(centroid),
            parse_sigmas(sigma),
            tokens,
            seed=seed,
            epsilon=epsilon,
            touching=touching,
            noise=noise.value,
            format=format,
            intermediate=intermediate.value,
            sampler=sampler.value,
        )
        n_workers = workers or os.cpu_count() or 1
        run = RunFolder.create(output, planned.specification(), planned.centroid)
        with run.locked():
            check_results(run.path)
            with connected(scheduler) as cluster:
                drawn = _simulate(planned, run, trials, n_workers, device, cluster)
            totals = finish(planned, run)
            seconds = time.perf_counter() - started
            pictures = write_figures(run.path / "figures", planned, totals)
    tables.sweep_tables(totals)
    held = sum(len(of_sigma.rows) for of_sigma in totals)
    tables.sweep_closing(planned, held, drawn, seconds, _bytes_in(run.path))
    for name in ("trials.csv", "summary.csv", "elements.npz"):
        path = run.path / name
        display.message(f"wrote {path}: {display.size(path.stat().st_size)}")
    display.message(f"wrote {run.path / 'figures'}: {', '.join(path.name for path in pictures)}")


def sample(
    centroid: Centroid,
    sigma: Annotated[
        float,
        typer.Option("--sigma", metavar="S", help="Standard deviation.", show_default=False),
    ],
    tokens: Tokens,
    trial: Annotated[int, typer.Option("--trial", metavar="I", help="Number of the trial.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FILE.safetensors", help="The file.", show_default=False
        ),
    ],
    seed: Seed = 42,
    noise: NoiseOption = Noise.GAUSSIAN,
    format: Format = "bfloat16",  # noqa: A002
    intermediate: IntermediateOption = Intermediate.FLOAT32,
    sampler: SamplerOption = Sampler.AUTO,
) -> None:
    """Write one trial of a sweep as a matrix.

    All tokens by all dimensions, in the storage format. `deadtokens measure FILE --rows all` with
    the sweep's epsilon gives the statistics that the sweep recorded for that trial.
    """
    from deadtokens.cli import display
    from deadtokens.cloud import Cloud
    from deadtokens.sampling import sample as draw
    from deadtokens.writing import check_place, make_folder, write_safetensors

    cloud = Cloud(
        load_centroid(centroid),
        sigma,
        noise=noise.value,
        format=format,
        intermediate=intermediate.value,
    )
    check_place(output)
    make_folder(output.parent)
    snowball = draw(cloud, tokens, trial=trial, seed=seed, sampler=sampler.value)
    codes = snowball.codes[snowball.row_order()].view(snowball.format.float_dtype)
    metadata = {"origin": "sample", "sigma": repr(sigma), "trial": str(trial), "seed": str(seed)}
    write_safetensors(output, {"tokens": codes}, metadata)
    size = display.size(output.stat().st_size)
    display.message(f"wrote {output}: tokens {tokens:,} x {cloud.d:,} {format}, {size}")


def _bytes_in(folder: Path) -> int:
    """Bytes of all files in a folder; other processes may be writing and removing some."""
    import os

    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(place, name).stat().st_size
    return total


def _simulate(
    planned: Sweep,
    run: RunFolder,
    trials: int,
    workers: int,
    device: Device,
    cluster: Cluster | None,
) -> int:
    """Estimate, then simulate."""
    import os

    from deadtokens.cli import display
    from deadtokens.listening import listener
    from deadtokens.sweep import estimate, simulate

    missing = run.missing_of_each([trials] * len(planned.sigmas))
    lacking = sum(count for ranges in missing.values() for _, count in ranges)
    wanted = trials * len(planned.sigmas)
    if lacking:
        expected = estimate(planned, trials)
        threads = max(1, cluster.threads()) if cluster else workers
        cores = threads if cluster else min(workers, os.cpu_count() or 1)
        seconds = expected.seconds * lacking / wanted / cores
        display.message(
            f"{lacking:,} of {wanted:,} trials to do: about {display.duration(seconds)} on "
            f"{threads} thread{'s' * (threads > 1)}{f' of {cluster.address}' if cluster else ''}, "
            f"{display.size(expected.peak_bytes * threads)} of memory for their work"
        )
        if cluster and not cluster.threads():
            display.message(f"{cluster.address} has no workers yet: waiting for them")
    with listener().work("trials", lacking) as report:
        return simulate(
            planned,
            run,
            trials,
            workers=workers,
            device=device.value,
            cluster=cluster,
            report=report,
        )
