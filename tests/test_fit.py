"""The fit: known clusters, planted columns, edges, invariances, and the command."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from containers import write_tensors
from program import Program
from scipy.special import ndtri
from scipy.stats import binom
from snowballs import snowball_from_values

import deadtokens as dt
from deadtokens import likelihood
from deadtokens.census import census, rows_nearby
from deadtokens.errors import SelectionError
from deadtokens.files import load_array, load_metadata
from deadtokens.fit import Fit, fit
from deadtokens.formats import (
    BFLOAT16,
    FLOAT8_E4M3FN,
    FLOAT8_E5M2,
    FLOAT16,
    FLOAT32,
    Format,
)
from deadtokens.selection import snowball_of
from deadtokens.snowball import Snowball

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

QWEN_SKIPPING = (2, 5, 9, 12)
# Of log sigma: the search ends within 1e-6 of the peak, and a flat top hides some more.
SAME = 1e-5


def builtin(name: str) -> Snowball:
    matrix = dt.open_matrix(f"builtin:{name}")
    return snowball_of(matrix, np.ones(matrix.n_rows, dtype=np.bool_))


def rows_of(snowball: Snowball) -> Float32:
    return snowball.values()[snowball.row_order()]


def noisy(fmt: Format, n: int, centre: Float64, sigma: float, seed: int = 0) -> Float32:
    """Rows by the literal method: centre plus noise in float32, rounded."""
    noise = np.random.default_rng(seed).normal(0, sigma, (n, centre.size))
    return fmt.values(fmt.round((centre + noise).astype(np.float32)))


def normal_centre(d: int, scale: float = 3e-3) -> Float64:
    return np.random.default_rng([d, 1]).normal(0, scale, d)


def fit_rows(rows: Float32, fmt: Format = BFLOAT16, *, varying_only: bool = False) -> Fit:
    return fit(snowball_from_values(rows, fmt), varying_only=varying_only)


@cache
def whisper() -> Fit:
    return fit(builtin("whisper-tiny.en"))


@cache
def qwen() -> Fit:
    return fit(builtin("qwen3-4b"), varying_only=True)


def standard_error(found: Fit) -> float:
    """Of log sigma, from the upper half of its interval."""
    return float(np.log(found.sigma_high / found.sigma) / 1.96)


# --- the built-ins ---


def test_whisper() -> None:
    found = whisper()
    assert found.sigma == pytest.approx(1.304e-8, rel=0.03)
    assert found.sigma_low == pytest.approx(1.204e-8, rel=0.01)
    assert found.sigma_high == pytest.approx(1.397e-8, rel=0.01)
    assert (found.n_tokens, found.n_dimensions, found.n_varying, found.n_zero) == (300, 384, 28, 0)
    assert found.expected_varying == pytest.approx(28, abs=6)
    assert found.without_skipping is None


def test_clusters_around_the_posterior_mean_look_like_the_real_one() -> None:
    """The mean of rounded rows sits in the middle of cells, and far fewer vectors come of it."""
    snowball, found = builtin("whisper-tiny.en"), whisper()
    means = {}
    for name, centre in {"fit": found.centre, "census": snowball.centroid()}.items():
        cloud = dt.Cloud(centre, found.sigma, format="float16")
        n_unique = [dt.sample(cloud, 300, trial=trial).n_unique for trial in range(250)]
        assert np.std(n_unique) / np.sqrt(250) < 0.6
        means[name] = np.mean(n_unique)
    assert snowball.n_unique == 253
    # Three standard errors of 250 trials, and what half a per cent of sigma does.
    assert means["fit"] == pytest.approx(257, abs=3)
    assert means["census"] == pytest.approx(24.5, abs=1.5)


def test_qwen_hangs_on_the_dimensions_that_skip_cells() -> None:
    found = qwen()
    assert found.sigma == pytest.approx(2.3e-6, rel=0.05)
    assert found.varying_only
    assert found.n_varying == found.n_dimensions == 20
    assert found.without_skipping is not None
    assert found.without_skipping.dimensions == QWEN_SKIPPING
    assert found.without_skipping.sigma == pytest.approx(2.9e-9, rel=0.05)
    assert found.without[0].dimensions == (2,)
    assert set(found.without[1].dimensions) <= set(QWEN_SKIPPING)


# --- leaving dimensions out ---


@pytest.mark.parametrize("name", ["whisper", "qwen"])
def test_leaving_out_equals_a_fit_of_the_others(name: str) -> None:
    found = whisper() if name == "whisper" else qwen()
    rows = rows_of(builtin("whisper-tiny.en" if name == "whisper" else "qwen3-4b"))
    fmt = FLOAT16 if name == "whisper" else BFLOAT16
    assert found.without
    for without in (*found.without, *filter(None, [found.without_skipping])):
        others = np.delete(rows, without.dimensions, axis=1)
        exact = fit_rows(others, fmt, varying_only=found.varying_only).sigma
        assert without.sigma == pytest.approx(exact, rel=SAME)


def test_influence_equals_a_fit_without_the_dimension() -> None:
    """A parabola through points 0.35 standard errors apart: within 0.02 standard errors."""
    rows, found = rows_of(builtin("whisper-tiny.en")), whisper()
    error = standard_error(found)
    by_influence = np.argsort(-np.abs(found.influence))
    for dimension in by_influence[[0, 1, 2, 5, 20, 27, 100, 380]].tolist():
        exact = fit_rows(np.delete(rows, dimension, axis=1), FLOAT16).sigma
        assert np.log(found.sigma_without[dimension] / exact) == pytest.approx(0, abs=0.02 * error)


def test_a_zero_column_is_left_out_and_counted() -> None:
    rows = noisy(BFLOAT16, 100, normal_centre(120), 1e-6)
    plain = fit_rows(rows)
    for zero in (0.0, -0.0):
        planted = fit_rows(np.insert(rows, 7, zero, axis=1))
        assert (planted.n_zero, planted.n_dimensions, planted.n_varying) == (
            1,
            121,
            plain.n_varying,
        )
        assert planted.sigma == pytest.approx(plain.sigma, rel=SAME)
        assert (planted.centre[7], planted.influence[7]) == (0, 0)
        np.testing.assert_allclose(np.delete(planted.influence, 7), plain.influence, atol=SAME)


@pytest.mark.parametrize("value", [1e-20, 1e-25, 9e-41])
def test_a_column_of_next_to_zero_counts_as_zero(value: float) -> None:
    rows = noisy(BFLOAT16, 100, normal_centre(120), 1e-6)
    plain = fit_rows(rows)
    planted = fit_rows(np.insert(rows, 7, np.float32(value), axis=1))
    assert planted.n_zero == 1
    assert planted.sigma == pytest.approx(plain.sigma, rel=SAME)


def test_a_small_constant_column_counts_as_one_without_noise() -> None:
    rows = noisy(BFLOAT16, 100, normal_centre(120), 1e-6)
    planted = fit_rows(np.insert(rows, 7, np.float32(1e-12), axis=1))
    # One of k dimensions that tell of sigma: the others' variance is k / (k - 1) times as large.
    assert planted.n_zero == 0
    assert -0.06 < planted.influence[7] < -1 / (2 * planted.n_varying)
    assert planted.sigma_without[7] == pytest.approx(fit_rows(rows).sigma, rel=1e-4)
    assert np.isfinite(planted.centre).all()


def outlying(steps: int) -> Fit:
    """A cluster in which one row lies so many lattice steps off in one dimension."""
    rows = noisy(BFLOAT16, 300, np.random.default_rng(3).uniform(1, 2, 200), 1e-5)
    rows[17, 5] += np.float32(steps * 2.0**-7)
    return fit_rows(rows)


def test_the_further_off_one_row_is_the_more_its_dimension_matters() -> None:
    found = [outlying(steps) for steps in (2, 10, 100)]
    influences = [float(fitted.influence[5]) for fitted in found]
    assert influences == sorted(influences)
    assert influences[0] > 1
    assert all(fitted.without[0].dimensions == (5,) for fitted in found)


def test_a_planted_column_that_skips_cells_is_found_first() -> None:
    rows = noisy(BFLOAT16, 200, normal_centre(120), 1e-6)
    clean = fit_rows(rows)
    assert clean.without_skipping is None or clean.n_varying > 20
    column = np.ones((200, 1), dtype=np.float32)
    column[:40] += 3 * 2.0**-7
    planted = fit_rows(np.hstack([rows, column]))
    assert planted.sigma > 100 * clean.sigma
    assert int(np.abs(planted.influence).argmax()) == 120
    assert planted.without[0].dimensions == (120,)
    assert planted.without[0].sigma == pytest.approx(clean.sigma, rel=SAME)


def test_without_those_that_skip_cells_the_estimate_is_clean() -> None:
    rows = noisy(BFLOAT16, 200, np.random.default_rng(0).uniform(1, 2, 150), 5e-4)
    clean = fit_rows(rows)
    assert clean.cells.skipped.max() == 0
    columns = np.ones((200, 2), dtype=np.float32)
    columns[:40, 0] += 3 * 2.0**-7
    columns[:2, 1] -= 2 * 2.0**-8
    planted = fit_rows(np.hstack([columns, rows]))
    assert planted.without_skipping is not None
    assert planted.without_skipping.dimensions == (0, 1)
    assert planted.without_skipping.sigma == pytest.approx(clean.sigma, rel=SAME)


# --- nothing varies ---


def unsplit(n: int, d: int) -> Fit:
    return fit_rows(np.full((n, d), 1.5, dtype=np.float32))


def test_where_nothing_varies_there_is_a_limit() -> None:
    found = unsplit(100, 30)
    assert (found.sigma, found.sigma_low, found.n_varying, found.n_zero) == (0, 0, 0, 0)
    assert 0 < found.sigma_high < 2.0**-7
    assert found.without == ()
    assert found.without_skipping is None
    assert not found.influence.any()
    np.testing.assert_allclose(found.centre, 1.5)
    # Posterior weights belong to sigmas up to beyond the limit.
    # The less there is to vary, the less it says.
    assert unsplit(100, 3).sigma_high > unsplit(100, 10).sigma_high > found.sigma_high
    assert unsplit(10, 30).sigma_high > found.sigma_high


@pytest.mark.parametrize(("n", "d"), [(100, 30), (5, 300), (2000, 4)])
def test_the_limit_is_one_of_95_per_cent(n: int, d: int) -> None:
    """At sigmas above it, rows vary in 95 % of all cases: no cluster is below its limit wrongly."""
    limit = unsplit(n, d).sigma_high
    chance = 0.05
    repeats = 400
    for factor, least in ((1.001, 1 - chance), (1.5, 1 - chance**1.4)):
        rng = np.random.default_rng([n, d])
        varying = 0
        for _ in range(repeats):
            centre = rng.uniform(1, 2, d)
            # Only the extremes of a column matter, and those of noise are drawn by their quantiles.
            top = rng.random(d) ** (1 / n)
            bottom = top * (1 - rng.random(d) ** (1 / (n - 1)))
            ends = centre + limit * factor * ndtri(np.array([bottom, top]))
            codes = BFLOAT16.round(ends.astype(np.float32))
            varying += bool((codes[0] != codes[1]).any())
        assert varying >= binom.ppf(1e-3, repeats, least)
        if factor < 1.01:
            assert varying <= binom.ppf(1 - 1e-3, repeats, least)


def test_dimensions_of_two_cells_alone_set_a_limit_only() -> None:
    """Where only those that vary are held, a split says nothing of how small sigma is."""
    rows = np.ones((5, 3), dtype=np.float32)
    rows[0] += 2.0**-7
    found = fit_rows(rows, varying_only=True)
    assert (found.sigma, found.sigma_low) == (0, 0)
    assert "The interval holds" not in found._repr_html_()
    assert 2.0**-9 < found.sigma_high < 2.0**-7
    told = fit_rows(rows)
    assert told.sigma > 0
    assert told.sigma_low > 0


# --- what a fit refuses ---


@pytest.mark.parametrize(
    ("rows", "varying_only", "texts"),
    [
        (np.ones((1, 4)), False, ("one row", "select more rows")),
        (np.zeros((5, 4)), False, ("zero in every row", "select rows")),
        (np.zeros((5, 4)) * -1, False, ("zero in every row", "select rows")),
        (np.array([[2.0, 1], [2, 3]]), True, ("dimension 0 does not vary", "varying_only")),
    ],
)
def test_errors_say_what_to_do(rows: Float64, varying_only: bool, texts: tuple[str, ...]) -> None:
    with pytest.raises(SelectionError) as raised:
        fit_rows(rows.astype(np.float32), varying_only=varying_only)
    for text in texts:
        assert text in str(raised.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite(value: float) -> None:
    codes = BFLOAT16.round(np.array([[1, 2], [1, value]], dtype=np.float32))
    with pytest.raises(SelectionError, match="NaN or an infinity; leave them out"):
        fit(Snowball(codes, np.array([3, 1]), BFLOAT16))


def test_no_rows() -> None:
    nothing = Snowball(np.zeros((0, 4), np.uint16), np.zeros(0, np.int64), BFLOAT16)
    with pytest.raises(SelectionError, match="no vectors"):
        fit(nothing)
    with pytest.raises(SelectionError, match="no vectors; select at least one row"):
        _ = nothing.extremes


# --- edges ---

EDGES = {
    "two rows": (BFLOAT16, 2, normal_centre(400), 1e-6),
    "huge sigma, few dimensions": (BFLOAT16, 400, np.zeros(3), 1.0),
    "huge values": (BFLOAT16, 400, np.zeros(3), 1e30),
    "float32 storage": (FLOAT32, 60, normal_centre(40), 1e-6),
    "float32, below its gap": (FLOAT32, 60, normal_centre(100), 3e-11),
    "float8_e4m3fn": (FLOAT8_E4M3FN, 60, normal_centre(100, 0.03), 1e-3),
    "float8_e5m2": (FLOAT8_E5M2, 60, normal_centre(100, 0.03), 1e-3),
    "subnormal numbers": (FLOAT16, 60, np.full(20, 3e-7), 1e-7),
    "around zero": (BFLOAT16, 300, np.zeros(4), 1e-3),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges(name: str) -> None:
    """Four standard errors, of the estimate, from the sigma that made the rows."""
    fmt, n, centre, sigma = EDGES[name]
    found = fit_rows(noisy(fmt, n, centre, sigma), fmt)
    assert found.sigma_low < found.sigma < found.sigma_high
    assert abs(np.log(found.sigma / sigma)) < 4 * standard_error(found)
    assert np.isfinite(found.centre).all()
    assert np.isfinite(found.influence).all()
    assert np.all((found.centre_low < found.centre) & (found.centre < found.centre_high))


def test_one_row_of_a_million_differs() -> None:
    codes = BFLOAT16.round(np.array([[1, 2], [1, 2 + 2.0**-6]], dtype=np.float32))
    found = fit(Snowball(codes, np.array([10**6, 1]), BFLOAT16))
    assert (found.n_tokens, found.n_varying) == (10**6 + 1, 1)
    assert 0 < found.sigma < 2.0**-7
    # The boundary is nearly five deviations from the centre.
    assert found.centre[1] == pytest.approx(2 + 2.0**-7 - 4.8 * found.sigma, abs=0.3 * found.sigma)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_two_rows_and_hardly_a_dimension(d: int) -> None:
    """Of narrow cells d (log sigma + gap^2 / 4 sigma^2): highest at gap / sqrt 2."""
    rows = np.ones((2, d), dtype=np.float32)
    rows[0] += 1
    found = fit_rows(rows, FLOAT16)

    def fallen(sigma: float) -> float:
        return float(d * (np.log(sigma) + 1 / (4 * sigma**2) + np.log(2) / 2 - 0.5))

    assert found.sigma == pytest.approx(np.sqrt(0.5), rel=1e-3)
    assert fallen(found.sigma_low) == pytest.approx(1.92, abs=0.01)
    assert fallen(found.sigma_high) == pytest.approx(1.92, abs=0.01)


# --- what must not matter ---


def cluster() -> Float32:
    return noisy(BFLOAT16, 100, normal_centre(120), 1e-6)


def test_the_order_of_dimensions_and_rows() -> None:
    rows = cluster()
    plain = fit_rows(rows)
    rng = np.random.default_rng(0)
    order = rng.permutation(120)
    other = fit_rows(rng.permutation(rows[:, order]))
    for name in ("sigma", "sigma_low", "sigma_high"):
        assert getattr(other, name) == pytest.approx(getattr(plain, name), rel=SAME)
    np.testing.assert_allclose(other.centre, plain.centre[order], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("power", [-20, 3, 40])
def test_powers_of_two(power: int) -> None:
    plain, other = fit_rows(cluster()), fit_rows(cluster() * np.float32(2.0**power))
    for name in ("sigma", "sigma_low", "sigma_high"):
        expected = getattr(plain, name) * 2.0**power
        assert getattr(other, name) == pytest.approx(expected, rel=SAME)
    np.testing.assert_allclose(other.centre, plain.centre * 2.0**power, rtol=1e-6)
    np.testing.assert_allclose(other.influence, plain.influence, atol=SAME)


def test_signs_and_populations() -> None:
    rows = cluster()
    plain = fit_rows(rows)
    mirrored = fit_rows(-rows)
    assert mirrored.sigma == pytest.approx(plain.sigma, rel=SAME)
    np.testing.assert_allclose(mirrored.centre, -plain.centre, rtol=1e-6)
    # A row each, or equal rows together.
    apart = Snowball(BFLOAT16.round(rows), np.ones(100, dtype=np.int64), BFLOAT16)
    assert fit(apart).sigma == plain.sigma


def test_smooth_dimensions_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheppard's correction against the cells: sigma within 2e-5 of itself, as documented."""
    rows = noisy(BFLOAT16, 200, normal_centre(40), 1.5e-4)
    smooth = fit_rows(rows)
    assert smooth.likelihood.smooth.sum() > 30
    monkeypatch.setattr(likelihood, "_SMOOTH", 0.0)
    exact = fit_rows(rows)
    assert not exact.likelihood.smooth.any()
    for name in ("sigma", "sigma_low", "sigma_high"):
        assert getattr(smooth, name) == pytest.approx(getattr(exact, name), rel=2e-5)
    # The centres: within two hundredths of their standard deviation, where cells change in width.
    deviation = exact.sigma / np.sqrt(200)
    for name in ("centre", "centre_low", "centre_high"):
        np.testing.assert_allclose(
            getattr(smooth, name), getattr(exact, name), atol=0.02 * deviation
        )


@pytest.mark.parametrize(("sigma", "n"), [(5e-4, 20), (3e-3, 20), (3e-2, 50)])
def test_centres_are_covered(sigma: float, n: int) -> None:
    """95 % of the intervals hold the mean: below the ULP (2^-7), near it, and above."""
    centre = np.random.default_rng(3).uniform(1, 2, 600)
    found = fit_rows(noisy(BFLOAT16, n, centre, sigma))
    covered = int(((found.centre_low <= centre) & (centre <= found.centre_high)).sum())
    assert binom.ppf(1e-3, 600, 0.95) <= covered <= binom.ppf(1 - 1e-3, 600, 0.95)
    # And no bias: of 600 errors, in units of their intervals.
    errors = (found.centre - centre) / (found.centre_high - found.centre_low)
    assert abs(errors.mean()) < 4 * errors.std() / np.sqrt(600)


# --- rows nearby, and the command ---


@cache
def planted() -> tuple[Float32, int]:
    """Whisper's cluster among 500 rows that have nothing to do with it; its other rows."""
    rows = rows_of(builtin("whisper-tiny.en"))
    rng = np.random.default_rng(0)
    others = rng.normal(0, 0.05, (500, rows.shape[1])).astype(np.float16).astype(np.float32)
    _, inverse, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    alone = int((counts[inverse] == 1).sum())
    return np.vstack([others[:200], rows, others[200:]]), alone


def duplicates(values: Float32) -> tuple[dt.Matrix, Snowball]:
    matrix = dt.open_matrix(values.astype(np.float16))
    return matrix, snowball_of(matrix, census(matrix).mask)


def test_rows_nearby_are_the_cluster_s_others() -> None:
    values, alone = planted()
    matrix, snowball = duplicates(values)
    assert snowball.n_tokens == 300 - alone == 78
    assert rows_nearby(matrix, snowball) == alone
    whole = snowball_of(matrix, np.arange(200, 500))
    assert rows_nearby(matrix, whole) == 0
    assert rows_nearby(matrix, replace(whole, row_ids=None)) == whole.n_tokens
    # One that is far away in its last dimension alone is none.
    values = values.copy()
    assert snowball.row_ids is not None
    lone = int(np.setdiff1d(np.arange(200, 500), snowball.row_ids)[0])
    values[lone, -1] += 1
    assert rows_nearby(*duplicates(values)) == alone - 1
    values[lone, -1] = np.nan
    assert rows_nearby(*duplicates(values)) == alone - 1


def strict(text: str) -> dict[str, object]:
    facts = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no strict JSON"))
    assert isinstance(facts, dict)
    return facts


def planted_file(folder: Path) -> Path:
    values, _ = planted()
    return write_tensors(folder / "model.safetensors", {"wte.weight": values.astype(np.float16)})


def test_duplicates_of_a_larger_cluster_are_warned_of(deadtokens: Program, tmp_path: Path) -> None:
    path = planted_file(tmp_path)
    status, out, err = deadtokens("fit", path, "--json", "--rows", "duplicates")
    assert status == 0
    assert "warning: these rows were chosen because they coincide" in err
    assert "222 other rows lie as close. Choose all of them with --mask" in err
    assert strict(out)["sigma"] == pytest.approx(6.0e-9, rel=0.05)
    mask = np.zeros(800, dtype=np.bool_)
    mask[200:500] = True
    np.save(tmp_path / "mask.npy", mask)
    status, out, err = deadtokens("fit", path, "--json", "--mask", tmp_path / "mask.npy")
    assert status == 0
    assert "warning" not in err
    assert strict(out)["sigma"] == pytest.approx(whisper().sigma, rel=SAME)


def test_json_and_files(deadtokens: Program, tmp_path: Path) -> None:
    status, out, err = deadtokens(
        "fit", "builtin:whisper-tiny.en", "--json", "-o", tmp_path / "fit"
    )
    assert status == 0
    facts, found = strict(out), whisper()
    assert list(facts)[:4] == ["schema_version", "sigma", "sigma_low", "sigma_high"]
    assert [facts[name] for name in list(facts)[1:4]] == [
        found.sigma, found.sigma_low, found.sigma_high
    ]  # fmt: skip
    assert facts["n_varying"] == 28
    folder = tmp_path / "fit"
    names = {"fit.json", "dimensions.csv", "centroid.safetensors", "tests.json"}
    assert {path.name for path in folder.iterdir()} == names
    for name in names:
        assert f"wrote {folder / name}" in err
    saved = strict((folder / "fit.json").read_text())
    assert saved == {name: facts[name] for name in saved}
    tested = strict((folder / "tests.json").read_text())
    assert tested.pop("schema_version") == 1
    assert tested == facts["tests"]

    centroid = load_array(str(folder / "centroid.safetensors"), "centroid")
    assert np.array_equal(centroid, found.centre)
    single = load_array(f"{folder / 'centroid.safetensors'}:centroid_float32", "centroid")
    assert single.dtype == np.float32
    assert np.array_equal(single, found.centre.astype(np.float32))
    metadata = load_metadata(str(folder / "centroid.safetensors"))
    assert (metadata["origin"], metadata["format"]) == ("fit", "float16")
    assert float(metadata["sigma"]) == found.sigma

    with (folder / "dimensions.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 384
    for name in ("centre", "centre_low", "centre_high", "influence", "sigma_without"):
        assert [float(line[name]) for line in lines] == getattr(found, name).tolist()
    assert sum(int(line["occupied"]) > 1 for line in lines) == 28
    # Once more over its own files.
    assert deadtokens("fit", "builtin:whisper-tiny.en", "--json", "-o", folder)[0] == 0


def test_foreign_files_are_not_lost(deadtokens: Program, tmp_path: Path) -> None:
    place = tmp_path / "centroid.safetensors"
    write_tensors(place, {"centroid": np.ones(3, dtype=np.float32)})
    before = place.read_bytes()
    result = deadtokens("fit", "builtin:whisper-tiny.en", "-o", tmp_path)
    assert result.status == 1
    assert result.out == ""
    assert "not a result of this program" in result.message
    assert place.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["centroid.safetensors"]


def test_where_nothing_varies_the_command_gives_the_limit(
    deadtokens: Program, tmp_path: Path
) -> None:
    rows = np.tile(normal_centre(30), (50, 1)).astype(ml_dtypes.bfloat16)
    path = write_tensors(tmp_path / "model.safetensors", {"wte.weight": rows})
    status, out, _ = deadtokens("fit", path, "--rows", "all")
    assert status == 0
    found = fit_rows(rows.astype(np.float32))
    assert f"0, and below {found.sigma_high:.4g} (95 % limit)" in out
    status, out, _ = deadtokens("fit", path, "--rows", "all", "--json", "-o", tmp_path / "fit")
    assert status == 0
    facts = strict(out)
    assert (facts["sigma"], facts["sigma_low"]) == (0, 0)
    assert facts["sigma_high"] == found.sigma_high


def test_the_table_names_what_sigma_hangs_on(deadtokens: Program) -> None:
    status, out, err = deadtokens("fit", "builtin:qwen3-4b")
    assert status == 0
    assert "interval         none, because the model is rejected" in out
    assert "without all that skip cells, 2, 5, 9, 12: sigma 2.9" in out
    assert "20 of 20 vary, and only such are held" in out
    assert "nothing written" in err
    assert "warning" not in err


def test_errors_are_one_line(deadtokens: Program, tmp_path: Path) -> None:
    path = write_tensors(
        tmp_path / "model.safetensors", {"wte.weight": np.zeros((50, 8), dtype=np.float16)}
    )
    result = deadtokens("fit", path, "--rows", "all")
    assert result.status == 1
    assert result.out == ""
    assert "\n" not in result.message
    assert "zero in every row" in result.message
