"""Run folders for the tests of the report: a real sweep and measurement, the rest written by hand.

What is written by hand has the form of docs/files.md, with numbers computed here in the plainest
way that gives sensible ones.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

import deadtokens as dt
from deadtokens.exports import write_cluster, write_measurement
from deadtokens.montecarlo import FAMILY_LEVEL, Feature, feature, holm, tails, two_sided
from deadtokens.summaries import SigmaTotals
from deadtokens.theory import expectation
from deadtokens.trials import STATISTICS
from deadtokens.writing import make_folder, write_csv, write_safetensors

Float64 = npt.NDArray[np.float64]

SIGMA = {"builtin:qwen3-4b": 2.8e-9, "builtin:whisper-tiny.en": 1.3e-8}
MADE_UP = 999  # permutations and replicates: as few as let Holm's correction reject
COMPARISON = (
    "metric", "observed", "synthetic_mean", "synthetic_std", "synthetic_median", "synthetic_min",
    "synthetic_max", "z_score", "skewness", "kurtosis", "p_value", "p_holm", "percentile",
    "verdict", "sigma", "trials",
)  # fmt: skip
THEORY = (
    "sigma", "coinciding_pairs", "n_unique", "n_unique_se", "n_singletons", "n_singletons_se",
    "n_black_holes", "n_black_holes_se", "black_hole_population", "black_hole_population_se",
    "touching_probability", "touching_probability_se",
)  # fmt: skip
DIMENSIONS = (
    "dimension", "centre", "centre_low", "centre_high", "occupied", "skipped", "influence",
    "sigma_without",
)  # fmt: skip


def make_run(folder: Path, source: str, trials: int, sigmas: int) -> dict[str, Any]:
    """A study's run folder of a built-in; returns what study.json holds."""
    matrix = dt.open_matrix(source)
    snowball = dt.snowball_of(matrix, np.arange(matrix.n_rows))
    measurement = dt.measure(snowball)
    sigma = SIGMA[source]
    centre = _centre(snowball, sigma)
    factors = np.geomspace(1 / 8, 8, sigmas) if sigmas > 1 else np.ones(1)
    epsilon = float(measurement.row["epsilon"] or 0)
    totals = dt.sweep(
        centre,
        [float(f"{sigma * factor:.4g}") for factor in factors],
        snowball.n_tokens,
        trials,
        folder,
        format=snowball.format.name,
        epsilon=epsilon,
    )
    write_measurement(folder / "measured.csv", measurement)
    write_cluster(make_folder(folder / "cluster"), snowball, measurement)
    compared = [row for of_sigma in totals for row in _comparison(measurement.row, of_sigma)]
    write_csv(folder / "comparison.csv", COMPARISON, compared)
    _write_theory(folder / "theory.csv", centre, sigma, snowball)
    _write_fit(make_folder(folder / "fit"), centre, sigma, snowball)
    _write_tests(folder / "tests.json", snowball, sigma)
    study = {
        "source": source,
        "tensor": matrix.tensor,
        "rows": "all",
        "storage": matrix.format.name,
        "format": snowball.format.name,
        "n_rows": matrix.n_rows,
        "n_dimensions": matrix.n_dimensions,
        "note": matrix.note,
        "commands": [f"deadtokens study {source} -o study"],
        "versions": {"deadtokens": dt.__version__, "numpy": np.__version__},
        "python": "3.11.2",
        "machine": "Linux x86_64",
        "created": "2026-01-02T03:04:05+00:00",
        "seconds": {"census": 0.2, "fit": 3.1, "sweep": 12.5},
    }
    (folder / "study.json").write_text(json.dumps(study))
    return study


def _centre(snowball: dt.Snowball, sigma: float) -> Float64:
    """The mean, moved where a dimension splits to where the shares of its two fullest cells say."""
    centre = snowball.centroid()
    fmt = snowball.format
    for k in snowball.varying.tolist():
        ordinals = fmt.ordinals(snowball.codes[:, k])
        rows = np.array([snowball.populations[ordinals == o].sum() for o in np.unique(ordinals)])
        edges = fmt.boundaries(np.unique(ordinals)[:-1])
        below = np.cumsum(rows)[:-1] / snowball.n_tokens
        at = int(np.abs(below - 0.5).argmin())
        centre[k] = edges[at] - sigma * special.ndtri(below[at])
    return np.asarray(centre)


def _comparison(row: dict[str, Any], totals: SigmaTotals) -> list[list[Any]]:
    rows: list[list[Any]] = []
    p_values = []
    for name in STATISTICS[1:]:
        values, observed = totals.metric(name), float(row[name])
        std = 0.0 if values.min() == values.max() else float(values.std(ddof=1))
        z = (observed - values.mean()) / std if std else None
        p_lo, p_hi = tails(observed, values)
        p = two_sided(p_lo, p_hi)
        if std == 0:
            verdict = "exact" if observed == values[0] else "never seen"
        else:
            verdict = "consistent" if p >= 0.05 else "mild"
        p_values.append(p)
        rows.append(
            [
                *(name, observed, values.mean(), std, np.median(values), values.min()),
                *(values.max(), z, None, None, p, None, 100 * (values <= observed).mean()),
                *(verdict, totals.sigma, len(values)),
            ]
        )
    for line, adjusted in zip(rows, holm(p_values), strict=True):
        line[11] = adjusted
        if adjusted < 0.05 and line[13] == "mild":  # a lax level, for so few trials
            line[13] = "rejected"
    joint: list[Any] = ["joint", 41.2, 19.8, 6.4, 19.1, 4.0, 61.0, 3.3, 0.6, 0.5, 0.004, None, 99.8]
    return [*rows, [*joint, "mild", totals.sigma, len(totals.rows)]]


def _write_theory(path: Path, centre: Float64, sigma: float, snowball: dt.Snowball) -> None:
    lines = []
    n = snowball.n_tokens
    for s in np.geomspace(sigma / 8, sigma * 8, 13).tolist():
        e = expectation(dt.Cloud(centre, s, format=snowball.format.name), n)
        lines.append(
            [
                *(s, e.coinciding_pairs, e.n_unique, e.n_unique_se, e.n_singletons),
                *(e.n_singletons_se, e.n_black_holes, e.n_black_holes_se, n - e.n_singletons),
                *(e.n_singletons_se, 1.0, 0.0),
            ]
        )
    write_csv(path, THEORY, lines)


def _write_fit(folder: Path, centre: Float64, sigma: float, snowball: dt.Snowball) -> None:
    facts = {
        "sigma": sigma,
        "sigma_low": sigma * 0.84,
        "sigma_high": sigma * 1.21,
        "format": snowball.format.name,
        "n_tokens": snowball.n_tokens,
        "n_dimensions": centre.size,
        "n_varying": int(snowball.varying.size),
        "n_zero": 0,
        "varying_only": bool(snowball.varying.size == centre.size),
        "intermediate": "float32",
        "notes": ["only dimensions that vary are held: the likelihood is conditioned on that"],
    }
    (folder / "fit.json").write_text(json.dumps(facts))
    lines = []
    for rank, k in enumerate(snowball.varying.tolist()):
        ordinals = np.unique(snowball.format.ordinals(snowball.codes[:, k]))
        skipped = int(ordinals[-1] - ordinals[0] + 1 - ordinals.size)
        influence = None if rank == 0 else 0.9 * 0.8**rank
        lines.append(
            [
                *(k, centre[k], centre[k] - sigma / 9, centre[k] + sigma / 9, ordinals.size),
                *(skipped, influence, sigma * 0.9),
            ]
        )
    write_csv(folder / "dimensions.csv", DIMENSIONS, lines)
    write_safetensors(folder / "centroid.safetensors", {"centroid": centre}, {"origin": "fit"})


def _write_tests(path: Path, snowball: dt.Snowball, sigma: float) -> None:
    """Independence by permutations, in the plainest way; marginals made up."""
    rows = snowball.format.ordinals(snowball.codes[snowball.row_order()][:, snowball.varying])
    rng = np.random.default_rng(0)
    observed = _joint(rows)
    permuted = [_joint(rng.permuted(rows, axis=0)) for _ in range(MADE_UP)]
    independence = [
        feature(name, observed[name], [simulated[name] for simulated in permuted])
        for name in observed
    ]
    skipped = float(sum(np.ptp(c) + 1 - np.unique(c).size for c in rows.T))
    marginals = [
        feature("skipped_cells", skipped, rng.poisson(0.4, MADE_UP)),
        feature("varying_dimensions", rows.shape[1], rng.poisson(rows.shape[1], MADE_UP)),
    ]
    fits = all(f.p_value > 0.01 for f in independence) and skipped < 3
    verdict = {
        "fits": bool(fits),
        "headline": (
            "The story fits: noise of one width around one point, rounded, makes such clusters."
            if fits
            else "One point plus noise of one width does not make this cluster."
        ),
        "sentences": [
            f"The real cluster has {observed['n_unique']:,} distinct vectors; shuffling each "
            f"dimension by itself gives {independence[0].mean:,.1f} +- {independence[0].std:.1f}.",
            f"Its rows skip {skipped:.0f} cells. The fitted sigma is {sigma:g}.",
        ],
    }
    facts = {
        "level": FAMILY_LEVEL,
        "independence": {"permutations": MADE_UP, "features": _features(independence)},
        "marginals": {"replicates": MADE_UP, "features": _features(marginals)},
        "verdict": verdict,
    }
    path.write_text(json.dumps(facts))


def _joint(rows: npt.NDArray[np.int64]) -> dict[str, float]:
    _, populations = np.unique(rows, axis=0, return_counts=True)
    return {
        "n_unique": float(populations.size),
        "n_singletons": float((populations == 1).sum()),
        "largest_bh": float(populations.max()),
        "coinciding_pairs": float((populations * (populations - 1) // 2).sum()),
    }


def _features(features: list[Feature]) -> list[dict[str, Any]]:
    adjusted = holm([f.p_value for f in features])
    return [
        asdict(f) | {"p_holm": p, "verdict": "rejected" if p < FAMILY_LEVEL else "consistent"}
        for f, p in zip(features, adjusted, strict=True)
    ]
