"""Comparisons: every column against pandas and scipy, p-values that are what they say, odd input.

All seeds are fixed. Calibration: for observations from the same model, P(p <= a) may pass a by at
most 3 standard errors. Negative controls put wrong p-values through that same criterion.
"""

from __future__ import annotations

import csv
import json
import math
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from program import Program, call
from scipy import stats

import deadtokens as dt
from deadtokens.cli import comparing
from deadtokens.compare import (
    JOINT,
    ROUNDING,
    Comparison,
    SigmaComparison,
    compare,
    compare_trials,
)
from deadtokens.errors import DeadtokensError, SelectionError, SourceError
from deadtokens.exports import write_comparison, write_measurement
from deadtokens.montecarlo import tails
from deadtokens.observed import observe
from deadtokens.runs import RunFolder
from deadtokens.sampling import sample
from deadtokens.specification import Sweep, plan
from deadtokens.statistics import COLUMNS, TOPOLOGY, Measurement, measure
from deadtokens.sweep import simulate, sweep
from deadtokens.trial_tables import INTEGER_COLUMNS
from deadtokens.trials import STATISTICS, Simulator

Rows = npt.NDArray[np.float64]

CENTROID = np.random.default_rng(0).standard_t(4.5, 60) * 2.5e-3
SIGMAS = [1e-8, 1e-7, 1e-4, 3e-3]
OWN = 1e-7  # of the observation that most tests compare
TRIALS = 300
N_TOKENS = 50
LEVELS = (0.01, 0.05, 0.1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    path = tmp_path_factory.mktemp("run")
    sweep(CENTROID, SIGMAS, N_TOKENS, TRIALS, path, seed=3)
    return RunFolder.open(path)


COMPARISON_COLUMNS = (
    "metric",
    "observed",
    "synthetic_mean",
    "synthetic_std",
    "synthetic_median",
    "synthetic_min",
    "synthetic_max",
    "z_score",
    "skewness",
    "kurtosis",
    "p_value",
    "p_holm",
    "percentile",
    "verdict",
    "sigma",
    "trials",
)


def observed_from(run: RunFolder, index: int, *, seed: int = 77) -> Measurement:
    """A fresh synthetic cluster, measured as a real one is, in the run's units."""
    planned = Sweep.from_run(run)
    snowball = sample(planned.cloud(index), N_TOKENS, trial=0, seed=seed)
    return measure(snowball, planned.spec.epsilon, planned.spec.touching)


@pytest.fixture(scope="module")
def measured(finished: RunFolder) -> Measurement:
    return observed_from(finished, 1)


@pytest.fixture
def file(measured: Measurement, tmp_path: Path) -> Path:
    path = tmp_path / "measured.csv"
    write_measurement(path, measured)
    return path


def table(comparison: Comparison, tmp_path: Path) -> pd.DataFrame:
    write_comparison(tmp_path / "comparison.csv", comparison)
    return pd.read_csv(tmp_path / "comparison.csv")


# --- every column, against others' implementations ---


def test_columns_are_those_of_pandas_and_scipy(
    finished: RunFolder, measured: Measurement, tmp_path: Path
) -> None:
    written = table(compare(finished, measured), tmp_path)
    assert tuple(written.columns) == COMPARISON_COLUMNS
    assert written["metric"].tolist() == [*STATISTICS, JOINT] * len(SIGMAS)
    assert written["sigma"].tolist() == [s for s in SIGMAS for _ in range(21)]
    assert set(written["trials"]) == {TRIALS}
    trials = pd.read_csv(finished.path / "trials.csv")
    kinds = set()
    for (sigma, name), lines in written.groupby(["sigma", "metric"], sort=False):
        line = lines.iloc[0]
        kinds.add(line["verdict"])
        if name == JOINT:
            continue
        values, value = trials.loc[trials["sigma"] == sigma, name], float(measured.row[name] or 0)
        expected = {
            "observed": value,
            "synthetic_mean": values.mean(),
            "synthetic_std": values.std(),
            "synthetic_median": values.median(),
            "synthetic_min": values.min(),
            "synthetic_max": values.max(),
            "percentile": stats.percentileofscore(values, value, kind="mean"),
        }
        blank = ["p_holm", "z_score", "skewness", "kurtosis"]
        if values.nunique() > 1:
            low, high = (values <= value).sum() + 1, (values >= value).sum() + 1
            blank = []
            expected |= {
                "z_score": (value - values.mean()) / values.std(),
                "skewness": stats.skew(values),
                "kurtosis": stats.kurtosis(values),
                "p_value": min(1.0, 2 * min(low, high) / (TRIALS + 1)),
            }
        else:
            same = values.iloc[0] == value
            expected["p_value"] = 1.0 if same else 1 / (TRIALS + 1)
            assert line["verdict"] == ("exact" if same else "never seen")
        for column, number in expected.items():
            assert line[column] == pytest.approx(number, rel=1e-9, abs=1e-12), (sigma, name, column)
        assert line[blank].isna().all()
    assert {"consistent", "exact", "never seen"} <= kinds


def test_holm_and_verdicts(finished: RunFolder, measured: Measurement, tmp_path: Path) -> None:
    for _, of_sigma in table(compare(finished, measured), tmp_path).groupby("sigma"):
        family = of_sigma[of_sigma["p_holm"].notna()].sort_values("p_value", kind="stable")
        adjusted, so_far = [], 0.0
        for i, p in enumerate(family["p_value"]):
            so_far = max(so_far, min(1.0, p * (len(family) - i)))
            adjusted.append(so_far)
        np.testing.assert_allclose(family["p_holm"], adjusted)
        for line in family.itertuples():
            word = "consistent" if line.p_value > 0.05 else "mild"
            assert line.verdict == ("rejected" if line.p_holm <= 0.01 else word)


def test_joint_distance_is_that_of_a_pseudo_inverse(
    finished: RunFolder, measured: Measurement, tmp_path: Path
) -> None:
    """Pooled mean and covariance, by another way than the code's: numpy's pinv."""
    comparison = compare(finished, measured)
    written = table(comparison, tmp_path)
    trials = pd.read_csv(finished.path / "trials.csv")
    row = [float(measured.row[name] or 0) for name in STATISTICS]
    for at in comparison.sigmas:
        own = trials.loc[trials["sigma"] == at.sigma, list(STATISTICS)].to_numpy(dtype=float)
        points = np.vstack([own, row])
        points = points[:, np.ptp(points, axis=0) > 0]
        points = (points - points.mean(axis=0)) / points.std(axis=0, ddof=1)
        correlations = np.cov(points.T)
        inverse = np.linalg.pinv(correlations, rcond=1e-10, hermitian=True)
        distances = np.einsum("ij,jk,ik->i", points, inverse, points)
        simulated, observed = distances[:-1], distances[-1]
        line = written[(written["sigma"] == at.sigma) & (written["metric"] == JOINT)].iloc[0]
        assert at.rank == np.linalg.matrix_rank(correlations, tol=1e-10 * len(correlations))
        expected = {
            "observed": observed,
            "synthetic_mean": simulated.mean(),
            "synthetic_std": simulated.std(ddof=1),
            "synthetic_median": np.median(simulated),
            "synthetic_min": simulated.min(),
            "synthetic_max": simulated.max(),
            "p_value": (1 + (simulated >= observed - 1e-6).sum()) / (TRIALS + 1),
        }
        for name, number in expected.items():
            assert line[name] == pytest.approx(number, rel=1e-5, abs=1e-6), (at.sigma, name)
        assert math.isnan(line["z_score"])
        assert math.isnan(line["p_holm"])


def test_ways_to_give_a_cluster(finished: RunFolder, measured: Measurement, file: Path) -> None:
    expected = compare(finished, measured)
    for run, given in (
        (finished.path, measured.row),
        (str(finished.path), file),
        (finished, str(file)),
    ):
        assert compare(run, given).sigmas == expected.sigmas
    assert dt.compare(finished.path, file).best.sigma == OWN
    assert compare(finished.path, pd.read_csv(file).iloc[0].to_dict()).sigmas == expected.sigmas
    with pytest.raises(SelectionError, match="type list"):
        compare(finished, [measured])  # type: ignore[arg-type]


def test_parts_count_not_the_csv(finished: RunFolder, file: Path) -> None:
    """trials.csv may be gone or edited; the parts are what was simulated."""
    trials = finished.path / "trials.csv"
    content = trials.read_bytes()
    trials.unlink()
    try:
        assert {at.trials for at in compare(finished, file).sigmas} == {TRIALS}
    finally:
        trials.write_bytes(content)


# --- p-values are what they say ---


def simulated(sigma: float, n_trials: int, seed: int) -> Rows:
    planned = plan(CENTROID, [sigma], N_TOKENS, seed=seed)
    return Simulator(planned.cloud(0), planned.spec, planned.samplers[0]).run(0, n_trials).rows


def p_values(at: SigmaComparison) -> dict[str, float]:
    return {m.metric: m.p_value or 0.0 for m in (*at.metrics, at.joint)}


def excess(p: npt.ArrayLike, more: float = 0.0) -> float:
    """How far P(p <= a) passes a, in standard errors, at the worst level; `more` adds variance."""
    p = np.asarray(p)
    at_worst = -math.inf
    for level in LEVELS:
        error = math.sqrt(level * (1 - level) * (1 / p.size + more))
        at_worst = max(at_worst, ((p <= level + 1e-12).mean() - level) / error)
    return at_worst


@pytest.mark.parametrize("sigma", [1e-8, OWN, 3e-3])
def test_fresh_observations_are_rejected_as_rarely_as_stated(sigma: float) -> None:
    """300 clusters from other streams than the run's; the run's own error counts as well."""
    n_trials = 2000
    trials, fresh = simulated(sigma, n_trials, 3), simulated(sigma, 300, 4)
    found = pd.DataFrame([p_values(compare_trials(sigma, trials, row)) for row in fresh])
    for name in found:
        assert excess(found[name], more=1 / n_trials) <= 3, name
    if sigma == 3e-3:  # where the mean distance is as good as continuous
        assert len(set(trials[:, STATISTICS.index("mean_l_inf")])) > 0.99 * n_trials
        assert stats.kstest(found["mean_l_inf"], "uniform").pvalue > 1e-3


@pytest.fixture(scope="module")
def sets() -> npt.NDArray[np.float64]:
    """(400, 100, 20): 400 sets of 99 trials and an observation, all independent."""
    return simulated(OWN, 40_000, 5).reshape(400, 100, 20)


def test_few_trials_reject_as_rarely_as_stated(sets: npt.NDArray[np.float64]) -> None:
    found = pd.DataFrame([p_values(compare_trials(OWN, rows[:-1], rows[-1])) for rows in sets])
    for name in found:
        assert excess(found[name]) <= 3, name
    # The joint test has no ties to speak of: it must not be conservative either.
    assert stats.kstest(found[JOINT], "uniform").pvalue > 1e-3


def one_tail(values: Rows, observed: float) -> float:
    return min(tails(observed, values))


def no_ties(values: Rows, observed: float) -> float:
    rarer = min((values < observed).sum(), (values > observed).sum())
    return min(1.0, 2 * (1 + float(rarer)) / (values.size + 1))


@pytest.mark.parametrize(
    ("wrong", "metric"), [(one_tail, "n_singletons"), (no_ties, "n_black_holes")]
)
def test_wrong_p_values_of_metrics_are_caught(
    sets: npt.NDArray[np.float64], wrong: Callable[[Rows, float], float], metric: str
) -> None:
    i = STATISTICS.index(metric)
    assert excess([wrong(rows[:-1, i], rows[-1, i]) for rows in sets]) > 3


def test_a_covariance_without_the_observation_is_caught(sets: npt.NDArray[np.float64]) -> None:
    """The observation lies further from others' mean than they do themselves."""

    def wrong(rows: Rows) -> float:
        trials = rows[:-1, np.ptp(rows[:-1], axis=0) > 0]
        row = rows[-1, np.ptp(rows[:-1], axis=0) > 0]
        centre, scale = trials.mean(axis=0), trials.std(axis=0, ddof=1)
        inverse = np.linalg.pinv(np.cov(((trials - centre) / scale).T), 1e-10, hermitian=True)
        deviations = (np.vstack([trials, row]) - centre) / scale
        distances = np.einsum("ij,jk,ik->i", deviations, inverse, deviations)
        return tails(float(distances[-1]), distances[:-1])[1]

    assert excess([wrong(rows) for rows in sets]) > 3


def test_another_sigma_is_rejected(finished: RunFolder) -> None:
    for index, sigma in enumerate(SIGMAS):
        comparison = compare(finished, observed_from(finished, index, seed=5))
        assert comparison.best.sigma == sigma
        assert comparison.best.joint.verdict == "consistent"
        for at in comparison.sigmas:
            if at.sigma != sigma:
                assert at.joint.verdict == "rejected"
                assert at.joint.p_value == 1 / (TRIALS + 1)


def test_more_trials_reject_single_metrics() -> None:
    trials, row = simulated(OWN, 5000, 3), simulated(2 * OWN, 1, 4)[0]
    at = compare_trials(OWN, trials, row)
    assert at.trials_to_reject < 5000
    assert "n_unique" in [m.metric for m in at.metrics if m.verdict == "rejected"]
    assert at.deviating()[0].z_score is not None


# --- constant metrics, rounding, little data ---


def rows_of(n: int, **columns: npt.ArrayLike) -> Rows:
    """n trials that are all ones, but for the columns given."""
    rows = np.ones((n, 20))
    for name, values in columns.items():
        rows[:, STATISTICS.index(name)] = values
    return rows


def metric_of(name: str, trials: npt.ArrayLike, observed: float, **options: bool) -> Any:
    trials = np.asarray(trials, dtype=float)
    row = rows_of(1, **{name: observed})[0]
    at = compare_trials(1.0, rows_of(trials.size, **{name: trials}), row, **options)
    return at.metrics[STATISTICS.index(name)]


def test_constant_metrics_are_exact_or_never_seen() -> None:
    exact = metric_of("n_unique", [13] * 9, 13)
    assert (exact.verdict, exact.p_value, exact.z_score) == ("exact", 1.0, None)
    assert (exact.synthetic_std, exact.percentile, exact.p_holm) == (0.0, 50.0, None)
    never = metric_of("n_unique", [13] * 9, 14)
    assert (never.verdict, never.p_value, never.z_score) == ("never seen", 0.1, None)
    assert (never.percentile, never.p_holm, never.skewness) == (100.0, None, None)


def test_rounding_is_no_variation() -> None:
    noisy = 0.3 * (1 + 2.0**-52 * np.arange(-4, 5))
    for observed in (0.3, noisy[0], noisy[-1] * (1 + 2.0**-52)):
        assert metric_of("mean_l_inf", noisy, observed).verdict == "exact"
        assert metric_of("mean_l_inf", noisy * 1e-9, observed * 1e-9).verdict == "exact"
    assert metric_of("mean_l_inf", noisy, 0.3 * (1 + 1e-12)).verdict == "never seen"
    varying = metric_of("mean_l_inf", 0.3 * (1 + 1e-12 * np.arange(9)), 0.3)
    assert varying.verdict == "consistent"
    # (m + 1)/m less itself: errors are relative to 1, not to the coefficient.
    gini = np.array([0.0, 2.2e-16, -2.2e-16])
    assert metric_of("gini_coefficient", gini, 4.4e-16).verdict == "exact"
    assert ROUNDING == 64 * 2.0**-52


def test_values_equal_up_to_rounding_are_ties() -> None:
    values = np.array([0.1, 0.3, 0.3, 0.3, 0.5])
    expected = metric_of("mean_l_inf", values, 0.3)
    for observed in (0.3 * (1 + 2.0**-52), 0.3 * (1 - 2.0**-52)):
        found = metric_of("mean_l_inf", values, observed)
        assert (found.p_value, found.percentile) == (expected.p_value, expected.percentile)
    single = float(np.float32(0.3))
    assert metric_of("mean_l_inf", values, single).percentile != 50
    assert metric_of("mean_l_inf", values, single, foreign=True).percentile == 50
    assert metric_of("n_unique", 3e7 + np.arange(5), 3e7, foreign=True).percentile == 10


def test_a_metric_never_seen_shows_in_the_joint_test() -> None:
    trials = rows_of(99, n_unique=np.random.default_rng(0).integers(10, 20, 99))
    row = rows_of(1, n_unique=15, n_components=2)[0]
    joint = compare_trials(1.0, trials, row).joint
    assert (joint.p_value, joint.verdict) == (0.01, "rejected")
    assert compare_trials(1.0, trials, row).separation == math.inf


def test_nothing_varies() -> None:
    at = compare_trials(1.0, rows_of(9), rows_of(1)[0])
    assert (at.joint.observed, at.joint.p_value, at.rank) == (0.0, 1.0, 0)
    assert (at.n_tested, at.tally.constant, at.trials_to_reject) == (0, 20, 0)
    assert at.separation == 0


def test_joint_distances_are_precise_beside_a_far_observation() -> None:
    """What trials vary by is then a small part of the variance; singular values keep it all."""
    rng = np.random.default_rng(0)
    odd = np.repeat([0, 1], [1997, 3])
    trials = rows_of(2000, n_singletons=odd, n_unique=rng.integers(0, 5, 2000))
    trials[:, STATISTICS.index("n_isolated")] = 4 * odd + rng.normal(0, 1e-2, 2000)
    row = rows_of(1, n_singletons=2e3, n_unique=2e3, n_isolated=7e3)[0]
    points = np.vstack([trials, row])[:, np.ptp(trials, axis=0) > 0]
    points = (points - points.mean(axis=0)) / points.std(axis=0, ddof=1)
    directions, sizes, _ = np.linalg.svd(points, full_matrices=False)
    assert sizes[-1] / sizes[0] < 1e-3
    distances = 2000 * (directions**2).sum(axis=1)
    joint = compare_trials(1.0, trials, row).joint
    assert joint.observed == pytest.approx(distances[-1], rel=1e-11)
    assert joint.synthetic_max == pytest.approx(distances[:-1].max(), rel=1e-11)
    assert joint.synthetic_mean == pytest.approx(distances[:-1].mean(), rel=1e-11)


def test_equal_points_have_equal_rank() -> None:
    """All but a few trials are the same point, and so is the observation: nothing is unusual."""
    trials = rows_of(999, n_unique=[3] * 990 + [4] * 9, mean_l_inf=[0.3] * 990 + [0.7] * 9)
    row = rows_of(1, n_unique=3, mean_l_inf=0.3)[0]
    assert compare_trials(1.0, trials, row).joint.p_value == 1.0
    absurd = rows_of(1, n_unique=1e300, mean_l_inf=0.3)[0]
    assert compare_trials(1.0, trials, absurd).joint.p_value == 1e-3


@pytest.mark.parametrize("n_trials", [1, 2, 5])
def test_few_trials(n_trials: int) -> None:
    at = compare_trials(OWN, simulated(OWN, n_trials, 3), simulated(OWN, 1, 4)[0])
    assert at.rank >= n_trials
    assert at.joint.p_value == 1.0  # too few for so many directions
    assert all((m.p_value or 0) >= 1 / (n_trials + 1) for m in at.metrics)
    if n_trials == 1:
        assert {m.synthetic_std for m in at.metrics} == {None}
    assert at.smallest_p == min(1.0, 2 / (n_trials + 1))


def test_one_unit_that_is_not_said_is_taken_from_the_run(
    finished: RunFolder, measured: Measurement
) -> None:
    row = {name: value for name, value in measured.row.items() if name != "touching"}
    _, notes = observe(row).for_run(finished.specification)
    (note,) = notes
    touching = finished.specification["touching"]
    assert note.endswith(f" does not say touching: assumed as in the run, touching = {touching}")


def test_blank_is_not_measured(finished: RunFolder, measured: Measurement) -> None:
    comparison = compare(finished, {**measured.row, **dict.fromkeys(TOPOLOGY)})
    at = comparison.sigmas[1]
    for metric in at.metrics[-5:]:
        assert (metric.verdict, metric.observed) == ("not measured", None)
        assert (metric.p_value, metric.z_score, metric.percentile) == (None, None, None)
        assert metric.synthetic_mean >= 0
    assert at.tally.not_measured == 5
    assert any("not measured, and in no test: n_components" in note for note in comparison.notes)
    without = compare_trials(
        OWN,
        np.concatenate([finished.read(part).rows for part in finished.parts(1)])[:, :15][
            :, [*range(15), *[0] * 5]
        ],
        np.array([float(measured.row[name] or 0) for name in STATISTICS[:15]])[
            [*range(15), *[0] * 5]
        ],
    )
    assert at.joint.observed == pytest.approx(without.joint.observed)


def test_many_trials_at_once() -> None:
    rng = np.random.default_rng(1)
    trials = rng.integers(0, 50, (30_000, 20)).astype(float)
    at = compare_trials(1.0, trials, trials[0])
    assert at.rank == 20
    assert at.joint.synthetic_mean == pytest.approx(20, rel=1e-2)


# --- another epsilon, touching, format, n; the bare columns ---


def converted(measured: Measurement, epsilon: float) -> dict[str, Any]:
    """The row as `measure` would give it in another unit and with the same touching distance."""
    own = float(measured.row["epsilon"] or 0)
    lengths = {
        name: float(measured.row[name] or 0) * own / epsilon
        for name in ("max_l_inf", "mean_l_inf", "median_l_inf")
    }
    return {**measured.row, **lengths, "epsilon": epsilon}


@pytest.mark.parametrize("epsilon", [6e-5, 1e-9, 0.7])
def test_another_epsilon_is_converted(
    finished: RunFolder, measured: Measurement, epsilon: float
) -> None:
    expected = compare(finished, measured)
    found = compare(finished, converted(measured, epsilon))
    assert any("converted to the run's" in note for note in found.notes)
    for ours, theirs in zip(found.sigmas, expected.sigmas, strict=True):
        assert p_values(ours) == p_values(theirs)
        for one, other in zip(ours.metrics, theirs.metrics, strict=True):
            assert one.verdict == other.verdict
            assert one.observed == pytest.approx(other.observed, rel=1e-12)


def test_another_touching_distance_is_refused(
    finished: RunFolder, measured: Measurement, tmp_path: Path
) -> None:
    epsilon = finished.specification["epsilon"]
    with pytest.raises(SelectionError, match=rf"3e-05.*measure \.\.\. --epsilon {epsilon}`"):
        compare(finished, {**measured.row, "touching": 3e-5})
    same = float(measured.row["touching"] or 0) * (1 + 1e-9)  # the same float32 number
    assert compare(finished, {**measured.row, "touching": same})
    planned = plan(CENTROID, [OWN], N_TOKENS, touching=1e-4)
    other = RunFolder.create(tmp_path / "run", planned.specification(), planned.centroid)
    simulate(planned, other, 2)
    with pytest.raises(SelectionError, match=r"--touching 0\.0001`"):
        compare(other, measured)


def test_the_bare_columns_are_enough(
    finished: RunFolder, measured: Measurement, tmp_path: Path
) -> None:
    file = tmp_path / "bare.csv"
    pd.DataFrame([{name: measured.row[name] for name in COLUMNS}]).to_csv(file, index=False)
    comparison = compare(finished, file)
    assert p_values(comparison.best) == p_values(compare(finished, measured).best)
    assert "does not say epsilon, touching and format: assumed as in" in comparison.notes[0]
    single = {
        name: measured.row[name]
        if name in INTEGER_COLUMNS
        else float(np.float32(measured.row[name]))
        for name in COLUMNS
    }
    assert p_values(compare(finished, single).best) == p_values(comparison.best)


def test_other_numbers_of_tokens_are_noted(finished: RunFolder, measured: Measurement) -> None:
    assert compare(finished, measured).notes == ()
    other = {**measured.row, "n_tokens": 300, "mean_l_inf_se": 0.1}
    notes = compare(finished, other).notes
    assert len(notes) == 2
    assert notes[0].startswith("WARNING: 300 rows were measured, but each trial has 50 tokens")
    assert "estimates from sampled pairs" in notes[1]


def test_another_lattice_is_refused(finished: RunFolder, measured: Measurement) -> None:
    with pytest.raises(SelectionError, match="numbers are float16, the trials' bfloat16"):
        compare(finished, {**measured.row, "format": "float16"})


# --- files that are no row of statistics ---


def lines_of(file: Path) -> list[list[str]]:
    return [line.split(",") for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n") + "\r\n\r\n",
        lambda text: "\n".join(",".join(reversed(s.split(","))) for s in text.splitlines()),
        lambda text: "\n".join(", ".join(f'"{c}"' for c in s.split(",")) for s in text.split("\n")),
        lambda text: "\n".join(f"row {i},{s}" for i, s in enumerate(text.splitlines())),
    ],
    ids=["bom", "crlf", "order", "quotes", "another column"],
)
def test_files_that_are_as_good(
    finished: RunFolder, file: Path, change: Callable[[str], str], request: Any
) -> None:
    expected = compare(finished, file).sigmas
    text = change(file.read_text())
    if "quotes" in request.node.name:
        text = text.replace(", ", ",").rstrip('"\n') + '"'
        text = text if text.count("\n") == 1 else text[: text.rindex("\n")]
    file.write_text(text, newline="")
    assert compare(finished, file).sigmas == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "an empty file"),
        ("\n\n", "an empty file"),
        ("trial_id,n_tokens\n", "no row"),
        ("trial_id;n_tokens\n1;2\n", "separated by semicolons"),
        ("trial_id\tn_tokens\n1\t2\n", "separated by tabs"),
        ("n_tokens,n_tokens\n1,2\n", "several columns are called n_tokens"),
        ("trial_id,n_tokens\n1\n", "2 names of columns, but 1 values"),
        ("trial_id,n_tokens\n1,2\n", "n_unique, .* and 14 more are missing"),
        ("\0\1\2", "not a row|not a CSV|no row"),
    ],
)
def test_other_files_are_refused(
    finished: RunFolder, tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "other.csv"
    path.write_text(content)
    with pytest.raises(DeadtokensError, match=message) as raised:
        compare(finished, path)
    assert raised.value.where is not None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("n_unique", "many", "n_unique is 'many', not a number"),
        ("n_unique", "inf", "n_unique is 'inf'"),
        ("epsilon", "-1", "not a length"),
        ("epsilon", "0", "not a length"),
        ("touching", "wide", "touching is 'wide'"),
    ],
)
def test_bad_numbers_are_refused(
    finished: RunFolder, file: Path, name: str, text: str, message: str
) -> None:
    header, row = lines_of(file)
    row[header.index(name)] = text
    file.write_text("\n".join([",".join(header), ",".join(row)]))
    with pytest.raises(SelectionError, match=message):
        compare(finished, file)


def test_nan_is_blank_and_all_blank_is_nothing(finished: RunFolder, measured: Measurement) -> None:
    blank = compare(finished, {**measured.row, "n_isolated": math.nan})
    assert blank.best.metrics[STATISTICS.index("n_isolated")].verdict == "not measured"
    with pytest.raises(SelectionError, match="all statistics are blank"):
        compare(finished, dict.fromkeys(COLUMNS, math.nan))


def test_saved_trials_are_refused(finished: RunFolder) -> None:
    with pytest.raises(SourceError, match=r"trials\.csv: several rows"):
        compare(finished, finished.path / "trials.csv")


def test_places_that_are_no_files(
    finished: RunFolder, measured: Measurement, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        compare(finished, tmp_path)
    with pytest.raises(SourceError, match="cannot be read"):
        compare(finished, tmp_path / "nothing.csv")
    (tmp_path / "bits.csv").write_bytes(bytes(range(128, 256)))
    with pytest.raises(SourceError, match="not a CSV file"):
        compare(finished, tmp_path / "bits.csv")
    with pytest.raises(SourceError, match="not a run folder"):
        compare(tmp_path, measured)


# --- runs that are not finished ---


def test_unfinished_runs_name_the_command(
    measured: Measurement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan(CENTROID, SIGMAS[:3], N_TOKENS, seed=3)
    run = RunFolder.create(tmp_path / "a run", planned.specification(), planned.centroid)
    with pytest.raises(SelectionError, match=r"--trials 1000 ") as raised:
        compare(run, measured)
    batch = Simulator(planned.cloud(1), planned.spec, planned.samplers[1]).run(0, 30)
    run.write(1, batch)
    with pytest.raises(SelectionError, match=r"no trials yet for sigma 1e-08, 0.0001; finish"):
        compare(run, measured)
    command = str(raised.value.remedy).partition(": ")[2].replace("1000", "30")
    monkeypatch.setattr("deadtokens.pictures.write_figures", lambda *_: [])  # takes seconds
    program, *words = shlex.split(command)
    assert program == "deadtokens"
    assert call(*words) == 0
    assert [at.trials for at in compare(run, measured).sigmas] == [30, 30, 30]


def test_sigmas_may_differ_in_trials(measured: Measurement, tmp_path: Path) -> None:
    planned = plan(CENTROID, SIGMAS, N_TOKENS, seed=3)
    run = RunFolder.create(tmp_path, planned.specification(), planned.centroid)
    for index, count in enumerate((12, 600, 30, 10)):
        simulator = Simulator(planned.cloud(index), planned.spec, planned.samplers[index])
        run.write(index, simulator.run(0, count))
    comparison = compare(run, measured)
    assert [at.trials for at in comparison.sigmas] == [12, 600, 30, 10]
    assert comparison.best.sigma == OWN


def test_the_best_sigma_is_not_that_of_fewest_trials() -> None:
    """The joint statistic is at most T^2 / (T + 1), however far away few trials are."""
    rng = np.random.default_rng(0)
    row = rows_of(1, n_unique=4)[0]
    few = compare_trials(1.0, rows_of(12, n_unique=rng.normal(100, 1, 12)), row)
    many = compare_trials(2.0, rows_of(600, n_unique=rng.normal(0, 1, 600)), row)
    assert (few.joint.observed or 0) < 12 < (many.joint.observed or 0)
    assert many.separation < few.separation
    assert Comparison(Path(), "", (few, many), ()).best is many


def test_damaged_parts_are_named(measured: Measurement, tmp_path: Path) -> None:
    sweep(CENTROID, OWN, N_TOKENS, 20, tmp_path)
    part = next((tmp_path / "parts").iterdir())
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(SourceError, match="damaged"):
        compare(tmp_path, measured)


# --- the command ---


def test_tables(deadtokens: Program, finished: RunFolder, file: Path) -> None:
    status, out, err = deadtokens("compare", finished.path, file)
    assert status == 0
    assert "nothing written: add -o DIR" in err
    lines = out.splitlines()
    for name in STATISTICS:
        assert sum(line.startswith(f"  {name} ") for line in lines) == 1
    titles = ["Counts", "Topology", "Populations", "Extent, in units of the run's epsilon"]
    assert [line for line in lines if line in titles] == titles
    assert len([line for line in lines if line.lstrip().startswith(("1e-", "0.00"))]) == len(SIGMAS)
    assert "sigma 1e-07, 300 trials: the smallest joint statistic of all." in out
    assert "not corrected for that choice" in out
    assert "constant in simulation" in out
    assert "The smallest p that 300 trials can give is 0.00664" in out
    assert "No single metric can be rejected with so few" in out


@pytest.mark.parametrize("n_trials", [1, 5])
def test_few_trials_are_said_to_be(
    deadtokens: Program, tmp_path: Path, measured: Measurement, n_trials: int
) -> None:
    sweep(CENTROID, OWN, N_TOKENS, n_trials, tmp_path / "run")
    row = {**measured.row, **dict.fromkeys(TOPOLOGY)}
    write_measurement(tmp_path / "m.csv", Measurement(row, "", None, None))
    _, out, _ = deadtokens("compare", tmp_path / "run", tmp_path / "m.csv")
    assert f"{n_trials} trials are too few for the joint test: it takes more than " in out
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert lines["n_components"].split()[1] == "-"
    assert ("+-" in out or ", always" in out) == (n_trials > 1)


def test_what_mild_means_far_away_stands_beside_it() -> None:
    """With few trials no p-value is small, however far the observation lies."""
    spread = rows_of(100, n_unique=[10, 11] * 50)
    near = compare_trials(1.0, spread, rows_of(1, n_unique=[11])[0])
    far = compare_trials(1.0, spread, rows_of(1, n_unique=[94])[0])
    assert not any("mild" in text for text in comparing._reach(near))
    (said,) = (text for text in comparing._reach(far) if "mild" in text)
    assert "n_unique, which lies 166 standard deviations off" in said


def test_of_sigmas_that_are_all_as_far_as_can_be_none_is_called_nearest() -> None:
    spread = rows_of(100, n_unique=[10, 11] * 50)
    near = compare_trials(1.0, spread, rows_of(1, n_unique=[11])[0])
    far = compare_trials(1.0, spread, rows_of(1, n_components=[94])[0])
    assert comparing._why(near).startswith("the smallest joint statistic of all.")
    assert "No sigma is near" in comparing._why(far)


def test_many_trials_are_enough_for_a_metric() -> None:
    few, many = (
        compare_trials(1.0, rows_of(n, n_unique=[1, 2] * (n // 2)), rows_of(1)[0])
        for n in (100, 10_000)
    )
    assert few.trials_to_reject < 10_000
    assert len(comparing._reach(few)) == 2
    assert len(comparing._reach(many)) == 1


def test_never_seen_is_printed_as_a_bound(
    deadtokens: Program, tmp_path: Path, measured: Measurement
) -> None:
    sweep(CENTROID, OWN, N_TOKENS, 99, tmp_path / "run")
    write_measurement(
        tmp_path / "m.csv",
        Measurement({**measured.row, "n_components": 2}, "", None, None),
    )
    _, out, _ = deadtokens("compare", tmp_path / "run", tmp_path / "m.csv")
    line = next(line for line in out.splitlines() if line.startswith("  n_components"))
    assert " ".join(line.split()) == "n_components 2 1, always - <= 0.01 - 100 never seen"
    assert "rejected  never seen" not in out  # one sigma: no table of sigmas
    assert "smallest joint statistic" not in out


def test_json_holds_everything(deadtokens: Program, finished: RunFolder, file: Path) -> None:
    facts = json.loads(deadtokens("compare", finished.path, file, "--json")[1])
    comparison = compare(finished, file)
    assert facts["best_sigma"] == OWN
    for held, at in zip(facts["sigmas"], comparison.sigmas, strict=True):
        assert held["metrics"] == [asdict(metric) for metric in at.metrics]
        assert held["joint"] == {**asdict(at.joint), "rank": at.rank}
        assert held["tally"]["within_1"] <= held["tally"]["within_2"]
        assert sum(list(held["tally"].values())[1:]) == 20


def test_the_file_is_written_and_nothing_else_lost(
    deadtokens: Program, finished: RunFolder, file: Path, tmp_path: Path
) -> None:
    status, _, err = deadtokens("compare", finished.path, file, "-o", tmp_path / "new" / "out")
    assert status == 0
    assert "comparison.csv: 84 rows x 16 columns," in err
    with (tmp_path / "new" / "out" / "comparison.csv").open() as held:
        assert len(list(csv.reader(held))) == 85
    own = tmp_path / "comparison.csv"
    file.rename(own)
    content = own.read_bytes()
    result = deadtokens("compare", finished.path, own, "-o", tmp_path)
    assert "a file that is read" in result.message
    assert own.read_bytes() == content


def test_bad_input_ends_in_one_line(
    deadtokens: Program, finished: RunFolder, tmp_path: Path, file: Path
) -> None:
    for arguments in (
        (finished.path, tmp_path / "nothing.csv"),
        (tmp_path, file),
        (finished.path, finished.path / "trials.csv"),
    ):
        result = deadtokens("compare", *arguments)
        assert result.status == 1
        assert result.message
        assert "\n" not in result.message
        assert result.out == ""
