"""One cluster from end to end: census, measure, fit, both tests, a sweep, comparison, report.

Everything is computed by the modules that the single commands use, and written into one run folder.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from deadtokens.census import rows_nearby
from deadtokens.census_files import CENSUS_FILES, write_inventory
from deadtokens.compare import Comparison, SigmaComparison, compare
from deadtokens.curves import expected_along
from deadtokens.errors import SelectionError, plain
from deadtokens.exports import (
    write_cluster,
    write_comparison,
    write_fit,
    write_measurement,
    write_tests,
    write_theory,
)
from deadtokens.fit import Fit, fit
from deadtokens.independence import Independence, independence
from deadtokens.inventory import Inventory, Untied
from deadtokens.kernels.types import BoolArray
from deadtokens.listening import doing, listener
from deadtokens.marginals import Marginals, marginals
from deadtokens.montecarlo import spread_words
from deadtokens.pictures import write_figures
from deadtokens.report.rendering import write_report
from deadtokens.runs import RunFolder
from deadtokens.selection import rows_to_measure, snowball_of
from deadtokens.showing import Shown
from deadtokens.snowball import Snowball, check_lattice
from deadtokens.sources import Matrix, MatrixLike, TokenizerSource, as_matrix
from deadtokens.specification import Sweep, trial_counts
from deadtokens.statistics import Measurement, measure
from deadtokens.stocktaking import take_both, take_inventory
from deadtokens.study_plan import (
    Noise,
    noise_of,
    outlook,
    plan_around_estimate,
    theory_seconds,
)
from deadtokens.sweep import finish, simulate
from deadtokens.verdict import Verdict, judge
from deadtokens.wording import duration
from deadtokens.writing import (
    Written,
    as_folder,
    check_folder,
    check_spares,
    make_folder,
    write_facts,
)

_MANY_CELLS = 1_000_000  # permuted some thousand times
_VERSIONED = ("deadtokens", "numpy", "scipy", "numba", "ml_dtypes", "pyarrow", "vl-convert-python")


@dataclass(frozen=True)
class Study(Shown):
    """What a study found.

    Attributes:
        matrix: The source's.
        inventory: What is known of all its rows.
        snowball: The cluster.
        measurement: Its statistics.
        fit: Its noise and centre.
        independence: The first test,
        marginals: the second,
        verdict: and both in words, with what the trials say.
        sweep: What was simulated.
        comparison: The cluster among the trials.
        report: The page.
        written: Everything else that was written.
        seconds: Time by stage.
    """

    matrix: Matrix
    inventory: Inventory
    snowball: Snowball
    measurement: Measurement
    fit: Fit
    independence: Independence
    marginals: Marginals
    verdict: Verdict
    sweep: Sweep
    comparison: Comparison
    report: Path
    written: tuple[Written, ...]
    seconds: dict[str, float]

    def __repr__(self) -> str:
        return f"<Study of {self.matrix!r}: {self.verdict!r}, {plain(str(self.report))}>"


def study(
    matrix: MatrixLike,
    rows: BoolArray | None = None,
    run: str | Path | None = None,
    *,
    tokenizer: TokenizerSource | str | None = None,
    selection: str = "a mask",
    command: str = "",
    varying_only: bool = False,
    trials: int | None = None,
    seed: int = 42,
    workers: int | None = None,
    read: Iterable[Path] = (),
) -> Study:
    """Study a cluster, into a run folder; the same call resumes one that was stopped.

    Args:
        matrix: Where the rows are: a matrix, or whatever `open_matrix` takes.
        rows: (V,) bool: the cluster's; None for those that are measured by default.
        run: The run folder, which has to be named.
        tokenizer: Of the rows, where the source brings none, or another one.
        selection: How the rows were chosen, in words; known where that is left to the function.
        command: The command that does this again, for the report.
        varying_only: As for `fit`; the matrix may say so too.
        trials: Of each sigma; by default as for `trial_counts`.
        seed: Of all random streams.
        workers: Threads; all cores by default.
        read: Files that were read for the rows, which results must not replace.

    Raises:
        SelectionError: Nothing to measure or estimate from, the numbers are quantised, or the
            folder holds another run.
        OutputError: The folder cannot be written.
    """
    if run is None:
        raise SelectionError("no run folder", remedy="name one: run=FOLDER")
    matrix = as_matrix(matrix, "matrix").with_tokenizer(tokenizer)
    run = as_folder(run, "run")
    check_lattice(matrix.quantised.kind if matrix.quantised else "", "a study", matrix.source)
    if rows is None:
        chosen = rows_to_measure(matrix, workers=workers)
        rows, selection = chosen.rows, chosen.name
    check_folder(run)
    RunFolder.check(run, {"seed": seed, "n_tokens": int(np.count_nonzero(rows))})
    check_spares([run / name for name in _SAFETENSORS], (*matrix.files, *read))
    tell = listener().message
    clock = _Clock(tell)
    with clock.stage("census", f"census of {matrix.n_rows:,} rows"):
        found = take_inventory(matrix, workers=workers)
        both = take_both(found, workers=workers)
        if both.unread:
            tell(f"the other matrix was not looked at: {both.unread}")
        snowball = snowball_of(matrix, rows)
    with clock.stage("measure", f"measuring {snowball.n_unique:,} distinct vectors"):
        measurement = measure(snowball, workers=workers)
    with clock.stage("fit", "fitting sigma and the centre"):
        fitted = fit(snowball, varying_only=varying_only or matrix.varying_only)
    cells = snowball.n_tokens * snowball.varying.size
    long = ", which takes minutes" if cells > _MANY_CELLS else ""
    with clock.stage("tests", f"testing independence and marginals{long}"):
        joint = independence(snowball, seed=seed, workers=workers)
        single = marginals(fitted, seed=seed, workers=workers)
        left_out = rows_nearby(matrix, snowball) if selection == "duplicates" else 0
        verdict = judge(fitted, joint, single, left_out=left_out)
    noise = noise_of(fitted, verdict)
    planned = plan_around_estimate(snowball, measurement, fitted, noise, verdict, seed)
    folder = RunFolder.create(run, planned.specification(), planned.centroid)
    with folder.locked():
        with clock.stage("write", f"writing what is known into {run}"):
            written = _write_cluster(
                run, found, both.untied, snowball, measurement, fitted, verdict
            )
        counts = trial_counts(planned, trials)
        lacking = _lacking(folder, counts)
        with clock.stage("sweep", *outlook(planned, counts, lacking, workers)):
            with listener().work("trials", lacking) as report:
                simulate(planned, folder, counts, workers=workers, report=report)
            totals = finish(planned, folder)
        with clock.stage("compare", "comparing"):
            comparison = compare(folder, measurement)
            at = comparison.sigmas[planned.sigmas.index(noise.sigma)]
            verdict = _with_trials(verdict, at)
            written.append(write_comparison(run / "comparison.csv", comparison))
            written.append(write_tests(run / "tests.json", joint, single, verdict))
        with clock.stage("theory", "closed forms", theory_seconds(planned)):
            expected = expected_along(planned)
            written.append(write_theory(run / "theory.csv", expected))
        with clock.stage("figures", "drawing figures"):
            write_figures(run / "figures", planned, totals, expected)
        facts = _facts(matrix, snowball, selection, left_out, command, noise, clock.seconds)
        written.append(write_facts(run / "study.json", facts))
        with clock.stage("report", "writing the report"):
            write_report(run / "report.html", run)
    return Study(
        matrix=matrix,
        inventory=found,
        snowball=snowball,
        measurement=measurement,
        fit=fitted,
        independence=joint,
        marginals=single,
        verdict=verdict,
        sweep=planned,
        comparison=comparison,
        report=run / "report.html",
        written=tuple(written),
        seconds=clock.seconds,
    )


_SAFETENSORS = (
    *(f"census/{name}" for name in CENSUS_FILES),
    "cluster/snowball.safetensors",
    "cluster/pairs.safetensors",
    "fit/centroid.safetensors",
)


class _Clock:
    """Time by stage."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._tell = tell

    @contextmanager
    def stage(self, name: str, what: str, seconds: float | None = None) -> Iterator[None]:
        """A stage, and the seconds that it is expected to take."""
        long = seconds is not None and seconds >= 1
        self._tell(f"{what}, about {duration(seconds or 0)}" if long else what)
        start = time.perf_counter()
        with doing(what, seconds):
            yield
        self.seconds[name] = time.perf_counter() - start


def _write_cluster(
    run: Path,
    found: Inventory,
    untied: Untied | None,
    snowball: Snowball,
    measurement: Measurement,
    fitted: Fit,
    verdict: Verdict,
) -> list[Written]:
    return [
        *write_inventory(make_folder(run / "census"), found, untied),
        write_measurement(run / "measured.csv", measurement),
        *write_cluster(make_folder(run / "cluster"), snowball, measurement),
        *write_fit(make_folder(run / "fit"), fitted, found.matrix, verdict.withheld),
    ]


def _with_trials(verdict: Verdict, at: SigmaComparison) -> Verdict:
    """The verdict, and in a sentence what the trials at the fitted sigma say."""
    unique = next(metric for metric in at.metrics if metric.metric == "n_unique")
    tally = at.tally
    off = at.count("rejected") + at.count("never seen")
    beyond = f"{off} of {len(at.metrics)} statistics set it apart"
    if not off:
        beyond = f"{tally.within_2} of {tally.within_2 + tally.beyond_2} statistics that vary lie "
        beyond += "within two standard deviations"
    simulated = spread_words(unique.synthetic_mean, unique.synthetic_std or 0.0)
    sentence = (
        f"{at.trials:,} synthetic clusters at sigma {at.sigma:.4g}, around the centre that goes "
        f"with it, have {simulated} distinct vectors, the real one {unique.observed or 0:,.0f}: "
        f"{beyond}."
    )
    return replace(verdict, sentences=(*verdict.sentences[:-1], sentence, verdict.sentences[-1]))


def _lacking(folder: RunFolder, counts: Sequence[int]) -> int:
    gaps = folder.missing_of_each(counts)
    return sum(count for of_sigma in gaps.values() for _, count in of_sigma)


def _facts(
    matrix: Matrix,
    snowball: Snowball,
    selection: str,
    left_out: int,
    command: str,
    noise: Noise,
    seconds: dict[str, float],
) -> dict[str, Any]:
    notes = [matrix.note or matrix.reason]
    if selection == "duplicates":
        notes.append(
            "the rows were chosen because they coincide, so that sigma comes out too small if the "
            f"cluster has others; {left_out:,} other rows lie as close"
        )
    return {
        "source": matrix.source,
        "tensor": matrix.tensor,
        "rows": selection,
        "storage": matrix.storage,
        "format": snowball.format.name,
        "n_rows": matrix.n_rows,
        "n_dimensions": matrix.n_dimensions,
        "note": "; ".join((*notes, *matrix.notes)),
        "warnings": list(matrix.warnings),
        "simulated_sigma": noise.sigma,
        "commands": [command] if command else [],
        "versions": {name: metadata.version(name) for name in _VERSIONED},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }
