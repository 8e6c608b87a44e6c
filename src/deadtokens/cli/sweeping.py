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
    Like,
    Noise,
    NoiseOption,
    Scheduler,
    Seed,
    Tokens,
    Touching,
    announce_taken,
    load_centre,
)

if TYPE_CHECKING:
    from deadtokens.runs import RunFolder
    from deadtokens.scheduler import Cluster
    from deadtokens.specification import Sweep


FITTED = "fit"


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
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="RUN", help="The run folder.", show_default=False),
    ],
    sigma: Annotated[
        str | None,
        typer.Option(
            "--sigma",
            metavar="SPEC",
            help="A number, a comma list, A:B:N (evenly spaced) or A:B:N:log; by default, or if "
            "it is fit, the fitted one, which came with the centroid.",
            show_default=False,
        ),
    ] = None,
    tokens: Tokens = None,
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials",
            metavar="T",
            help="Trials of each sigma; by default 5,000, fewer where they take long.",
        ),
    ] = None,
    like: Like = None,
    seed: Seed = 42,
    epsilon: Epsilon = None,
    touching: Touching = None,
    noise: NoiseOption = Noise.GAUSSIAN,
    format: Format = None,  # noqa: A002
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

    from deadtokens.centres import Terms
    from deadtokens.cli import display, tables
    from deadtokens.device.choice import choose_device
    from deadtokens.runs import RunFolder
    from deadtokens.scheduler import connected
    from deadtokens.specification import parse_sigmas, trial_counts
    from deadtokens.summaries import check_results
    from deadtokens.sweep import finish, plan_around
    from deadtokens.wording import size
    from deadtokens.writing import shell_line

    started = time.perf_counter()
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("the scheduler's workers draw", param_hint="--workers")
    if scheduler is None:
        choose_device(device.value)  # before anything is written
    with display.resumable(shell_line(["deadtokens", *sys.argv[1:]])):
        planned, said = plan_around(
            load_centre(centroid),
            None if sigma in (None, FITTED) else parse_sigmas(sigma),
            Terms(format, tokens, epsilon, touching),
            like,
            seed=seed,
            noise=noise.value,
            intermediate=intermediate.value,
            sampler=sampler.value,
        )
        announce_taken(said)
        counts = trial_counts(planned, trials)
        n_workers = workers or os.cpu_count() or 1
        run = RunFolder.create(output, planned.specification(), planned.centroid)
        with run.locked():
            check_results(run.path)
            with connected(scheduler) as cluster:
                drawn = _simulate(planned, run, counts, n_workers, device, cluster)
            totals = finish(planned, run)
            seconds = time.perf_counter() - started
            from deadtokens.pictures import write_figures  # loads what draws, which takes a second

            pictures = write_figures(run.path / "figures", planned, totals)
    tables.sweep_tables(totals)
    held = sum(len(of_sigma.rows) for of_sigma in totals)
    tables.sweep_closing(planned, held, drawn, seconds, _bytes_in(run.path))
    for name in ("trials.csv", "summary.csv", "elements.npz"):
        path = run.path / name
        display.message(f"wrote {path}: {size(path.stat().st_size)}")
    display.message(f"wrote {run.path / 'figures'}: {', '.join(path.name for path in pictures)}")


def sample(
    centroid: Centroid,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FILE.safetensors", help="The file.", show_default=False
        ),
    ],
    trial: Annotated[int, typer.Option("--trial", metavar="I", help="Number of the trial.")] = 0,
    sigma: Annotated[
        float | None,
        typer.Option("--sigma", metavar="S", help="Standard deviation; by default the fitted one."),
    ] = None,
    tokens: Tokens = None,
    seed: Seed = 42,
    noise: NoiseOption = Noise.GAUSSIAN,
    format: Format = None,  # noqa: A002
    intermediate: IntermediateOption = Intermediate.FLOAT32,
    sampler: SamplerOption = Sampler.AUTO,
) -> None:
    """Write one trial of a sweep as a matrix.

    All tokens by all dimensions, in the storage format. `deadtokens measure FILE --rows all` with
    the sweep's epsilon gives the statistics that the sweep recorded for that trial.
    """
    from deadtokens.centres import Terms, settle
    from deadtokens.cli import display
    from deadtokens.cloud import Cloud
    from deadtokens.sampling import sample as draw
    from deadtokens.wording import size
    from deadtokens.writing import check_place, make_folder, write_safetensors

    centre = load_centre(centroid)
    terms = settle(centre, Terms(format, tokens, sigma=sigma))
    announce_taken(terms.said)
    cloud = Cloud(
        centre.values,
        terms.sigma,
        noise=noise.value,
        format=terms.format,
        intermediate=intermediate.value,
    )
    check_place(output)
    make_folder(output.parent)
    snowball = draw(cloud, terms.n_tokens, trial=trial, seed=seed, sampler=sampler.value)
    codes = snowball.codes[snowball.row_order()].view(snowball.format.float_dtype)
    metadata = {
        "origin": "sample",
        "sigma": repr(terms.sigma),
        "trial": str(trial),
        "seed": str(seed),
    }
    write_safetensors(output, {"tokens": codes}, metadata)
    display.message(
        f"wrote {output}: tokens {terms.n_tokens:,} x {cloud.d:,} {terms.format}, "
        f"{size(output.stat().st_size)}"
    )


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
    counts: list[int],
    workers: int,
    device: Device,
    cluster: Cluster | None,
) -> int:
    """Estimate, then simulate."""
    import os

    from deadtokens.cli import display
    from deadtokens.listening import listener
    from deadtokens.sweep import estimate, simulate
    from deadtokens.wording import duration, size

    missing = run.missing_of_each(counts)
    lacking = sum(count for ranges in missing.values() for _, count in ranges)
    wanted = sum(counts)
    if lacking:
        expected = estimate(planned, counts)
        threads = max(1, cluster.threads()) if cluster else workers
        cores = threads if cluster else min(workers, os.cpu_count() or 1)
        seconds = expected.seconds * lacking / wanted / cores
        display.message(
            f"{lacking:,} of {wanted:,} trials to do: about {duration(seconds)} on "
            f"{threads} thread{'s' * (threads > 1)}{f' of {cluster.address}' if cluster else ''}, "
            f"{size(expected.peak_bytes * threads)} of memory for their work"
        )
        if cluster and not cluster.threads():
            display.message(f"{cluster.address} has no workers yet: waiting for them")
    with listener().work("trials", lacking) as report:
        return simulate(
            planned,
            run,
            counts,
            workers=workers,
            device=device.value,
            cluster=cluster,
            report=report,
        )
