"""The page's tables: what stands in each cell, and the number it is sorted by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from deadtokens.report.findings import Cluster, Findings, Fit
from deadtokens.report.tablekit import ROWS_AT_MOST, Cell, Table, number_cell, shown_of
from deadtokens.report.words import NOISES, count, figure, label, p_value

_MARKS = {"mild": "mild", "rejected": "rejected", "never seen": "rejected"}


def tables(findings: Findings) -> list[Table]:
    """The tables that there is something to say in."""
    made = [
        _comparison(findings),
        _features(findings),
        _dimensions(findings.fit),
        _black_holes(findings.cluster),
    ]
    return [table for table in made if table is not None]


def _comparison(findings: Findings) -> Table | None:
    if not findings.compared:
        return None
    main = findings.main.sigma
    lines = sorted(findings.compared, key=lambda line: abs(line.sigma - main) > 1e-9 * main)
    several = len({line.sigma for line in findings.compared}) > 1
    columns = ("metric", "real", "mean", "std", "range", "z", "p", "p, Holm", "verdict")
    rows = [
        (
            Cell(label(line.metric)),
            number_cell(line.observed),
            number_cell(line.mean),
            number_cell(line.std, 3),
            Cell(f"{figure(line.low)} to {figure(line.high)}", line.low),
            number_cell(line.z, 3),
            _p(line.p),
            _p(line.p_holm),
            _verdict(line.verdict),
            *([number_cell(line.sigma)] if several else []),
        )
        for line in lines
    ]
    more = ("σ",) if several else ()
    numeric = (False, *(True,) * 7, False, *(True for _ in more))
    trials = ", ".join(sorted({f"{line.trials:,}" for line in findings.compared}))
    note = f"Mean, standard deviation and range are those of {trials} trials"
    note += f" of each σ; first, σ = {figure(main)}." if several else "."
    return Table(
        "comparison", "Real against synthetic", note, (*columns, *more), numeric, tuple(rows)
    )


def _features(findings: Findings) -> Table | None:
    if not findings.tested:
        return None
    rows = [
        (
            Cell(feature.test),
            Cell(label(feature.name)),
            number_cell(feature.observed),
            number_cell(feature.mean),
            Cell(f"{figure(feature.low)} to {figure(feature.high)}", feature.low),
            _p(feature.p),
            _p(feature.p_holm),
            _verdict(feature.verdict),
        )
        for feature in findings.tested
    ]
    columns = ("test", "feature", "real", "mean", "middle 95 %", "p", "p, Holm", "verdict")
    numeric = (False, False, True, True, True, True, True, False)
    note = (
        "Independence: cells shuffled within each dimension by itself, which needs neither σ nor a "
        "centre. Marginals: each dimension's cells, with σ and the centres drawn from what the "
        "data leave open."
    )
    return Table("tests", "Tests of the story", note, columns, numeric, tuple(rows))


_FIT_COLUMNS = {
    "occupied": "cells held",
    "skipped": "cells skipped",
    "centre": "centre",
    "half": "±",
    "influence": "influence",
    "sigma_without": "σ without it",
}


_DIGITS = {"centre": 7, "half": 3}


def _dimensions(fit: Fit | None) -> Table | None:
    if fit is None or not fit.dimensions:
        return None
    lines = sorted(fit.dimensions, key=lambda line: -abs(line.get("influence") or 0.0))
    shown = lines[:ROWS_AT_MOST]
    shown = [{**line, "half": _half(line)} for line in shown]
    held = [name for name in _FIT_COLUMNS if any(line.get(name) is not None for line in shown)]
    rows = [
        (
            number_cell(line["dimension"]),
            *(number_cell(line.get(name), _DIGITS.get(name, 4)) for name in held),
        )
        for line in shown
    ]
    note = shown_of(len(shown), len(lines), "dimension", "those of most influence on σ")
    return Table(
        "dimensions",
        "Dimensions of the fit",
        note,
        ("dimension", *(_FIT_COLUMNS[name] for name in held)),
        (True,) * (1 + len(held)),
        tuple(rows),
    )


def _half(line: Mapping[str, float | None]) -> float | None:
    """Half the width of a centre's interval, which no number of digits of its ends would show."""
    low, high = line.get("centre_low"), line.get("centre_high")
    return (high - low) / 2 if low is not None and high is not None else None


def _black_holes(cluster: Cluster | None) -> Table | None:
    if cluster is None:
        return None
    populations, first = cluster.populations, cluster.first_rows
    order = np.argsort(-populations, kind="stable")
    holes = [i for i in order.tolist() if populations[i] > 1]
    if not holes:
        return None
    total = int(populations.sum())
    rows = []
    for rank, i in enumerate(holes[:ROWS_AT_MOST], start=1):
        share = float(populations[i]) / total
        cells = [number_cell(rank), number_cell(float(populations[i])), Cell(f"{share:.1%}", share)]
        rows.append((*cells, *([] if first is None else [number_cell(float(first[i]))])))
    columns = ("rank", "rows", "share of the cluster", *([] if first is None else ["first row"]))
    note = shown_of(len(rows), len(holes), "black hole", "the fullest")
    return Table("holes", "Black holes", note, tuple(columns), (True,) * len(columns), tuple(rows))


def _p(value: float | None) -> Cell:
    return Cell(p_value(value), value)


def _verdict(verdict: str) -> Cell:
    return Cell(verdict, mark=_MARKS.get(verdict, ""))


def facts(findings: Findings) -> Iterable[tuple[str, str]]:
    """What was run: names and values, for a list."""
    sweep, study, fit = findings.sweep, findings.study or {}, findings.fit
    for name, key in (("Source", "source"), ("Tensor", "tensor"), ("Rows measured", "rows")):
        if study.get(key):
            yield name, str(study[key])
    if study.get("note"):
        yield "Note", str(study["note"])
    trials = sorted({len(t.rows) for t in findings.totals})
    each = "each of " if len(findings.totals) > 1 else ""
    rounded = "to float32 first" if sweep.intermediate == "float32" else "once"
    yield (
        "Synthetic clusters",
        (
            f"{' to '.join(f'{t:,}' for t in trials[:: max(1, len(trials) - 1)])} trials of "
            f"{each}{count(len(findings.totals), 'sigma')}, {sweep.spec.n_tokens:,} tokens in "
            f"{sweep.centroid.size:,} dimensions, {NOISES[sweep.noise]} noise, {sweep.format}, "
            f"sums rounded {rounded}, seed {sweep.spec.seed}"
        ),
    )
    yield (
        "Lengths",
        (f"epsilon {figure(sweep.spec.epsilon)}, touching up to {figure(sweep.spec.touching)}"),
    )
    if fit is not None:
        interval = f" ({figure(fit.low)} to {figure(fit.high)})" if fit.low and fit.high else ""
        rejected = findings.answer is not None and findings.answer.fits is False
        doubt = ("likeliest in a story that is rejected",) if rejected else ()
        yield "Fitted sigma", "; ".join((f"{figure(fit.sigma)}{interval}", *doubt, *fit.notes))
    manifest = findings.manifest
    versions = study.get("versions") or manifest.get("versions")
    if isinstance(versions, dict):
        yield "Versions", ", ".join(f"{name} {version}" for name, version in versions.items())
    for name, key in (("Python", "python"), ("Machine", "machine"), ("Created", "created")):
        value = study.get(key) or manifest.get(key)
        if value:
            yield name, str(value)
    seconds = study.get("seconds")
    if isinstance(seconds, dict):
        yield "Seconds", ", ".join(f"{k} {_seconds(v)}" for k, v in seconds.items())
    yield "Specification", f"SHA-256 {manifest.get('digest', '')}"


def _seconds(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, int | float) else str(value)


def commands(findings: Findings) -> Sequence[str]:
    """Commands that make this again: the study's, else the sweep's and the report's."""
    given = (findings.study or {}).get("commands")
    if isinstance(given, list) and given:
        return [str(line) for line in given]
    sweep = findings.sweep
    sigmas = ",".join(f"{sigma!r}" for sigma in sweep.sigmas)
    again = f"{findings.name}-again"
    samplers = set(sweep.samplers)
    return [
        f"deadtokens sweep --centroid {findings.name}/centroid.safetensors --sigma {sigmas} "
        f"--tokens {sweep.spec.n_tokens} --trials {max(len(t.rows) for t in findings.totals)} "
        f"--seed {sweep.spec.seed} --epsilon {sweep.spec.epsilon!r} "
        f"--touching {sweep.spec.touching!r} --noise {sweep.noise} --format {sweep.format} "
        f"--intermediate {sweep.intermediate}"
        + (f" --sampler {samplers.pop()}" if len(samplers) == 1 else "")
        + f" -o {again}",
        f"deadtokens report {again}",
    ]
