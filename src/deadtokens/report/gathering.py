"""A run folder's files, read and checked for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deadtokens.compare import compare
from deadtokens.curves import expected_along
from deadtokens.errors import SelectionError, SourceError
from deadtokens.exports import theory_row
from deadtokens.files import read_tensors
from deadtokens.report.census_findings import gather_census
from deadtokens.report.findings import JOINT, Answer, Cluster, Compared, Findings, Fit, Tested
from deadtokens.report.inputs import (
    known,
    number,
    objects,
    read_object,
    read_table,
    real,
    text,
    texts,
)
from deadtokens.runs import RunFolder
from deadtokens.specification import Sweep
from deadtokens.statistics import COLUMNS
from deadtokens.summaries import SigmaTotals, sigma_totals

_COUNTS = {"n_tokens", "n_unique", "n_black_holes", "n_singletons", "largest_bh"}
_COMPARED = (
    "metric", "observed", "synthetic_mean", "synthetic_std", "synthetic_median", "synthetic_min",
    "synthetic_max", "z_score", "p_value", "p_holm", "verdict", "sigma", "trials",
)  # fmt: skip


def gather(folder: Path, measured: Path | None = None) -> Findings:
    """Read a run folder.

    Args:
        folder: The run folder of a sweep, with whatever else was written there.
        measured: The real cluster's row of statistics; the folder's measured.csv by default.

    Raises:
        SourceError: It is no run folder, or a file there is damaged.
        SelectionError: It holds no trials yet.
    """
    run = RunFolder.open(folder)
    sweep = Sweep.from_run(run)
    totals = tuple(
        sigma_totals(run, i, sweep.cloud(i), sweep.spec, sampler)
        for i, sampler in enumerate(sweep.samplers)
        if run.leading(i)
    )
    if not totals:
        raise SelectionError("no trials yet", where=folder, remedy="run its sweep first")
    if measured is None and (folder / "measured.csv").exists():
        measured = folder / "measured.csv"
    row = _measured(measured) if measured else None
    tested, answer = _tests(folder / "tests.json")
    compared = _compared(folder / "comparison.csv")
    if not compared and measured:
        compared = _compare(run, measured)
    row = row or _observed(compared, sweep)
    cluster = _cluster(folder / "cluster")
    _check_same_cluster(folder, row or {}, compared, cluster)
    return Findings(
        name=folder.resolve().name,
        manifest=read_object(folder / "manifest.json"),
        sweep=sweep,
        totals=totals,
        measured=row,
        compared=compared,
        theory=_columns(folder / "theory.csv", ("sigma",)) or _expected(sweep, totals),
        fit=_fit(folder / "fit", rejected=answer is not None and answer.fits is False),
        cluster=cluster,
        tested=tested,
        answer=answer,
        study=read_object(folder / "study.json") if (folder / "study.json").exists() else None,
        census=gather_census(folder / "census"),
    )


def _measured(path: Path) -> dict[str, float]:
    rows = read_table(path, COLUMNS)
    if len(rows) != 1:
        raise SourceError(
            f"{len(rows)} rows of statistics instead of one",
            where=path,
            remedy="give the file that deadtokens measure -o FILE.csv writes",
        )
    found = {name: number(value, path) for name, value in rows[0].items() if name != "format"}
    return {name: value for name, value in found.items() if value is not None}


def _observed(compared: Sequence[Compared], sweep: Sweep) -> dict[str, float] | None:
    """The real cluster's row as far as the comparison has it, which is in the run's units."""
    row = {line.metric: line.observed for line in compared if line.metric != JOINT}
    known = {name: value for name, value in row.items() if value is not None}
    lengths = {"epsilon": sweep.spec.epsilon, "touching": sweep.spec.touching}
    return known | lengths if known else None


def _check_same_cluster(
    folder: Path, row: Mapping[str, float], compared: Sequence[Compared], cluster: Cluster | None
) -> None:
    """Refuse parts that are about another real cluster than the one measured."""
    for line in compared:
        measured = row.get(line.metric)
        if line.metric in _COUNTS and line.observed is not None and measured is not None:
            _check_equal(folder / "comparison.csv", line.metric, line.observed, measured)
    if cluster is not None and row:
        held = {"n_unique": cluster.populations.size, "n_tokens": int(cluster.populations.sum())}
        for name, value in held.items():
            _check_equal(folder / "cluster", name, value, row.get(name, value))


def _check_equal(path: Path, name: str, there: float, measured: float) -> None:
    if there != measured:
        raise SelectionError(
            f"about another cluster than the one measured: {name} is {there:,g} there and "
            f"{measured:,g} in the row of statistics",
            where=path,
            remedy="write it again for this cluster, or move it out of the run folder",
        )


def _compared(path: Path) -> tuple[Compared, ...]:
    """The comparison that was written."""
    if not path.exists():
        return ()
    return tuple(_compared_line(row, path) for row in read_table(path, _COMPARED))


def _compare(run: RunFolder, measured: Path) -> tuple[Compared, ...]:
    """What `compare` finds, where it was not written."""
    return tuple(
        Compared(
            sigma=at.sigma,
            trials=at.trials,
            metric=line.metric,
            observed=line.observed,
            mean=line.synthetic_mean,
            std=line.synthetic_std,
            median=line.synthetic_median,
            low=line.synthetic_min,
            high=line.synthetic_max,
            z=line.z_score,
            p=line.p_value,
            p_holm=line.p_holm,
            verdict=line.verdict,
        )
        for at in compare(run, measured).sigmas
        for line in (*at.metrics, at.joint)
    )


def _compared_line(row: Mapping[str, str], path: Path) -> Compared:
    def cell(name: str) -> float | None:
        return number(row[name], path)

    return Compared(
        sigma=known(cell("sigma"), "sigma", path),
        trials=int(known(cell("trials"), "number of trials", path)),
        metric=row["metric"],
        observed=cell("observed"),
        mean=cell("synthetic_mean"),
        std=cell("synthetic_std"),
        median=cell("synthetic_median"),
        low=cell("synthetic_min"),
        high=cell("synthetic_max"),
        z=cell("z_score"),
        p=cell("p_value"),
        p_holm=cell("p_holm"),
        verdict=row["verdict"],
    )


def _columns(path: Path, required: tuple[str, ...]) -> tuple[Mapping[str, float | None], ...]:
    if not path.exists():
        return ()
    rows = read_table(path, required)
    return tuple({name: number(value, path) for name, value in row.items()} for row in rows)


def _expected(
    sweep: Sweep, totals: Sequence[SigmaTotals]
) -> tuple[Mapping[str, float | None], ...]:
    """What is expected along trials of several widths, where it was not written."""
    return tuple(map(theory_row, expected_along(sweep))) if len(totals) > 1 else ()


def _fit(folder: Path, *, rejected: bool) -> Fit | None:
    """The fit; of a story that is rejected without an interval, which older files hold."""
    path = folder / "fit.json"
    if not path.exists():
        return None
    facts = read_object(path)
    return Fit(
        sigma=known(real(facts, "sigma", path), "sigma", path),
        low=None if rejected else real(facts, "sigma_low", path),
        high=None if rejected else real(facts, "sigma_high", path),
        facts=facts,
        notes=texts(facts, "notes"),
        dimensions=_columns(folder / "dimensions.csv", ("dimension",)),
    )


def _tests(path: Path) -> tuple[tuple[Tested, ...], Answer | None]:
    if not path.exists():
        return (), None
    facts = read_object(path)
    tested = tuple(
        _tested(test, feature, path)
        for test in ("independence", "marginals")
        if isinstance(facts.get(test), dict)
        for feature in objects(facts[test], "features", path)
    )
    verdict = facts.get("verdict")
    if not isinstance(verdict, dict):
        return tested, None
    fits = verdict.get("fits")
    answer = Answer(
        fits if isinstance(fits, bool) else None,
        text(verdict, "headline"),
        texts(verdict, "sentences"),
    )
    return tested, answer


def _tested(test: str, feature: Mapping[str, Any], path: Path) -> Tested:
    return Tested(
        test=test,
        name=text(feature, "name"),
        observed=real(feature, "observed", path),
        mean=real(feature, "mean", path),
        std=real(feature, "std", path),
        low=real(feature, "low", path),
        high=real(feature, "high", path),
        p=real(feature, "p_value", path),
        p_holm=real(feature, "p_holm", path),
        verdict=text(feature, "verdict"),
    )


def _cluster(folder: Path) -> Cluster | None:
    path = folder / "snowball.safetensors"
    if not path.exists():
        return None
    tensors = read_tensors(path)
    if "populations" not in tensors:
        raise SourceError("no tensor 'populations'", where=path, remedy="write it again")
    populations = np.asarray(tensors["populations"].read(), dtype=np.int64)
    first_rows = None
    if {"row_ids", "row_vectors"} <= tensors.keys():
        rows, vectors = tensors["row_ids"].read(), tensors["row_vectors"].read()
        order = np.argsort(rows, kind="stable")
        held, first = np.unique(vectors[order], return_index=True)
        if np.array_equal(held, np.arange(populations.size)):
            first_rows = np.asarray(rows[order][first], dtype=np.int64)
    pairs = folder / "pairs.safetensors"
    l_inf = np.asarray(read_tensors(pairs)["l_inf"].read()) if pairs.exists() else None
    if l_inf is not None and l_inf.shape != (populations.size, populations.size):
        raise SourceError(
            f"distances of shape {list(l_inf.shape)} for {populations.size:,} vectors",
            where=pairs,
            remedy="write both again with deadtokens measure --save",
        )
    return Cluster(populations, first_rows, l_inf, _cells(folder), _thresholds(folder))


def _cells(folder: Path) -> tuple[tuple[int, int, float, int], ...]:
    path = folder / "dimensions.csv"
    lines = _columns(path, ("dimension", "ordinal", "value", "n_rows"))
    return tuple(
        (
            int(known(line["dimension"], "dimension", path)),
            int(known(line["ordinal"], "ordinal", path)),
            known(line["value"], "value", path),
            int(known(line["n_rows"], "n_rows", path)),
        )
        for line in lines
    )


def _thresholds(folder: Path) -> tuple[tuple[float, int], ...]:
    path = folder / "thresholds.csv"
    lines = _columns(path, ("distance", "n_components"))
    return tuple(
        (
            known(line["distance"], "distance", path),
            int(known(line["n_components"], "n_components", path)),
        )
        for line in lines
    )
