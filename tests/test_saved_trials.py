"""Saved trials: each measured as the literal reference measures it, and as the sweep did."""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from containers import AnyArray, write_tensors
from program import Program, in_a_terminal
from reference import reference_default_epsilon, reference_row, reference_ulp_distances

from deadtokens import geometry, saved_trials
from deadtokens.cloud import Cloud
from deadtokens.errors import SelectionError, SourceError
from deadtokens.files import StoredTensor
from deadtokens.listening import Listener, listen
from deadtokens.sampling import sample
from deadtokens.saved_trials import (
    MeasuredTrials,
    SavedTrials,
    measure_trials,
    open_trials,
    trials_of,
)
from deadtokens.sources import Model, open_matrix
from deadtokens.statistics import COLUMNS, FURTHER_COLUMNS, measure
from deadtokens.sweep import sweep

EPSILON = 2.0**-13


def some_trials(dtype: Any = ml_dtypes.bfloat16, n_trials: int = 6, seed: int = 3) -> AnyArray:
    """n_trials x 12 x 5: noise of the order of a bfloat16 step around one point, zeros in it."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.02, 5) + rng.normal(0, 1e-4, (n_trials, 12, 5))
    values[:, :, 3] = 0
    values[:, ::2, 3] = -0.0
    values[1] = values[1, 0]  # a trial of one vector
    return values.astype(np.float32).astype(ml_dtypes.bfloat16).astype(dtype)


@pytest.fixture(scope="module")
def trials() -> AnyArray:
    return some_trials()


@pytest.fixture
def path(tmp_path: Path, trials: AnyArray) -> Path:
    return write_tensors(tmp_path / "trials.safetensors", {"tokens": trials})


# --- statistics ---


@pytest.mark.parametrize("touching", [None, 3e-4])
def test_each_trial_is_as_the_literal_reference_says(
    trials: AnyArray, touching: float | None
) -> None:
    measured = measure_trials(trials, epsilon=EPSILON, touching=touching)
    assert len(measured.rows) == 6
    assert {row["n_unique"] for row in measured.rows} > {1}
    for i, row in enumerate(measured.rows):
        values = trials[i].astype(np.float32)
        expected = reference_row(values, EPSILON, touching, trial_id=i)
        assert {name: row[name] for name in COLUMNS} == pytest.approx(expected, rel=1e-12)
        steps = [row[name] for name in ("max_ulp", "mean_ulp", "median_ulp")]
        assert steps == pytest.approx(reference_ulp_distances(values, ml_dtypes.bfloat16))
        assert row["epsilon"] == EPSILON
        assert row["touching"] == (touching or 2 * EPSILON)
        assert row["format"] == "bfloat16"
    assert measured.epsilon_origin == "given"


@pytest.mark.parametrize("sampler", ["occupancy", "direct"])
def test_fifty_trials_are_those_of_the_sweep(tmp_path: Path, sampler: Any) -> None:
    """Every number of every row, as it is written in the run's trials.csv."""
    centroid = np.random.default_rng(1).uniform(0.016, 0.03, 30) * (-1.0) ** np.arange(30)
    cloud = Cloud(centroid, 1.5e-6, format="float16")
    drawn = [sample(cloud, 60, trial=i, sampler=sampler) for i in range(50)]
    saved = np.stack([s.codes[s.row_order()] for s in drawn]).view(np.float16)
    np.save(tmp_path / "trials.npy", saved)
    sweep(
        centroid,
        [1.5e-6],
        60,
        50,
        tmp_path / "run",
        format="float16",
        epsilon=2.0**-16,
        touching=2.0**-15,
        sampler=sampler,
    )
    with (tmp_path / "run" / "trials.csv").open(newline="") as file:
        swept = list(csv.DictReader(file))
    measured = measure_trials(tmp_path / "trials.npy", epsilon=2.0**-16, touching=2.0**-15)
    assert len(swept) == len(measured.rows) == 50
    assert len({row["n_unique"] for row in swept}) > 10
    for theirs, ours in zip(swept, measured.rows, strict=True):
        assert {c: float(theirs[c]) for c in COLUMNS} == {c: ours[c] for c in COLUMNS}
        assert theirs["format"] == ours["format"] == "float16"
        assert float(theirs["epsilon"]) == ours["epsilon"]


def test_a_trial_is_measured_as_a_matrix_is(trials: AnyArray, tmp_path: Path) -> None:
    """The same row, whichever way it is taken: all columns, those after the 21 too."""
    measured = measure_trials(trials)
    for i, row in enumerate(measured.rows):
        np.save(tmp_path / "one.npy", trials[i])
        matrix = open_matrix(tmp_path / "one.npy")
        alone = measure(saved_snowball(matrix), measured.rows[0]["epsilon"]).row  # type: ignore[arg-type]
        assert row == alone | {"trial_id": i}


def saved_snowball(matrix: Any) -> Any:
    from deadtokens.selection import snowball_of

    return snowball_of(matrix, np.ones(matrix.n_rows, np.bool_))


def test_epsilon_is_that_of_the_first_trial(trials: AnyArray) -> None:
    measured = measure_trials(trials)
    expected = reference_default_epsilon(trials[0].astype(np.float32), ml_dtypes.bfloat16)
    assert {row["epsilon"] for row in measured.rows} == {expected}
    assert {row["touching"] for row in measured.rows} == {2 * expected}
    assert measured.epsilon_origin.startswith("of trial 0: bfloat16 ULP of ")
    last = reference_default_epsilon(trials[5].astype(np.float32) * 64, ml_dtypes.bfloat16)
    turned = np.concatenate([trials[5:] * ml_dtypes.bfloat16(64), trials[:5]])
    assert measure_trials(turned).rows[3]["epsilon"] == last != expected


# --- the format of all ---


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bfloat16_kept_as_wider_numbers(trials: AnyArray, dtype: Any) -> None:
    measured = measure_trials(trials.astype(dtype))
    assert measured.format.name == "bfloat16"
    assert measured.rows == measure_trials(trials).rows


def test_one_trial_decides_for_all(trials: AnyArray) -> None:
    """Rows in steps of different lattices could not be compared."""
    mixed = trials.astype(np.float32)
    mixed[4, 7, 1] = np.float32(0.1)
    measured = measure_trials(mixed)
    assert {row["format"] for row in measured.rows} == {"float32"} == {measured.format.name}
    steps = [row["max_ulp"] for row in measured.rows]
    as_bfloat16 = [row["max_ulp"] for row in measure_trials(trials).rows]
    assert steps[0] == 65536 * as_bfloat16[0]  # type: ignore[operator]
    halves = trials.astype(np.float16).astype(np.float32)
    halves[2, 0, 0] = np.float32(np.float16(0.1))
    halves[0, 0, 0] = np.float32(2.0**-9)
    assert measure_trials(halves).format.name == "float16"


def test_tokens_left_out_do_not_decide(trials: AnyArray) -> None:
    mixed = trials.astype(np.float32)
    mixed[4, 7, 1] = np.float32(0.1)
    mask = np.arange(12) != 7
    assert measure_trials(mixed, mask=mask).format.name == "bfloat16"


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e5m2, np.float16])
def test_narrow_storage_is_its_own_format(dtype: Any, tmp_path: Path) -> None:
    saved = (some_trials() * ml_dtypes.bfloat16(64)).astype(dtype)
    path = write_tensors(tmp_path / "t.safetensors", {"x": saved})
    assert measure_trials(path).format.name == np.dtype(dtype).name


# --- files ---


def _npy(path: Path, trials: AnyArray) -> Path:
    np.save(path.with_suffix(".npy"), trials)
    return path.with_suffix(".npy")


def _columns_first(path: Path, trials: AnyArray) -> Path:
    return _npy(path, np.asfortranarray(trials))


def _npz(path: Path, trials: AnyArray) -> Path:
    np.savez(path.with_suffix(".npz"), a=trials, ids=np.arange(3))
    return path.with_suffix(".npz")


def _safetensors(path: Path, trials: AnyArray) -> Path:
    tensors = {"centre": np.zeros(5), "a": trials, "ids": np.zeros((2, 2, 2), np.int64)}
    return write_tensors(path.with_suffix(".safetensors"), tensors)


def _hdf5(path: Path, trials: AnyArray, **options: Any) -> Path:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file.create_dataset("run/trials", data=trials, **options)
        file["centre"] = np.zeros(5)
    return path.with_suffix(".h5")


def _hdf5_packed(path: Path, trials: AnyArray) -> Path:
    return _hdf5(path, trials, chunks=(2, 5, 5), compression="gzip")


@pytest.mark.parametrize("write", [_npy, _columns_first, _npz, _safetensors, _hdf5, _hdf5_packed])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32])
def test_the_rows_do_not_depend_on_the_file(
    tmp_path: Path, trials: AnyArray, write: Callable[[Path, AnyArray], Path], dtype: Any
) -> None:
    written = write(tmp_path / "trials", trials.astype(dtype))
    assert measure_trials(written).rows == measure_trials(trials).rows


def test_a_file_that_holds_a_matrix_too(tmp_path: Path, trials: AnyArray) -> None:
    """Convolutions of models have three axes and are no trials, unless one is named."""
    tensors = {"conv.weight": trials, "embed_tokens.weight": trials[0]}
    path = write_tensors(tmp_path / "m.safetensors", tensors)
    with pytest.raises(SourceError, match="no trials there"):
        open_trials(path)
    assert open_trials(path, "conv.weight").shape == (6, 12, 5)
    with pytest.raises(SourceError, match="no trials there"):
        open_trials(path, "embed_tokens.weight")
    with pytest.raises(SourceError, match="no trials there"):
        open_trials("builtin:qwen3-4b")


def test_several_that_could_be(tmp_path: Path, trials: AnyArray) -> None:
    path = write_tensors(tmp_path / "m.safetensors", {"a": trials, "b": trials[:2]})
    with pytest.raises(SourceError, match="2 tensors could hold trials: a, b"):
        open_trials(path)
    opened = open_trials(path, "b")
    assert (opened.tensor, opened.shape, opened.reason) == ("b", (2, 12, 5), "named by --tensor")
    assert repr(opened) == f"<SavedTrials b, 2 x 12 x 5 bfloat16, of {path}>"


@pytest.mark.parametrize(
    "array",
    [np.zeros((3, 4)), np.zeros((0, 3, 4)), np.zeros((3, 4, 0)), np.zeros((2, 3, 4), np.int32)],
)
def test_arrays_that_hold_no_trials(array: AnyArray) -> None:
    with pytest.raises(SourceError, match="holds no trials"):
        open_trials(array)


def test_quantised_numbers_hold_no_trials(tmp_path: Path) -> None:
    stored = StoredTensor(
        "x", tmp_path, "Q8_0", (2, 3, 32), 204, lambda: np.zeros((6, 34), np.uint8)
    )
    model = Model("m", {"x": stored})
    assert trials_of(model) is None
    with pytest.raises(SourceError, match=r"tensor 'x' \(Q8_0, 2 x 3 x 32\) holds no trials"):
        trials_of(model, "x")


@pytest.mark.parametrize("name", ["t.npy", "t.h5"])
def test_one_trial_is_in_memory_at_a_time(tmp_path: Path, name: str) -> None:
    """Fifteen trials take what one takes."""
    saved = np.random.default_rng(0).integers(0, 3, (15, 200, 1000)).astype(np.float16)
    np.save(tmp_path / "t.npy", saved)
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_dataset("x", data=saved, chunks=(1, 200, 500), compression="lzf")
    measure_trials(saved[:1])  # compiled by now
    of_one = measuring_peak(open_trials(saved[:1]))
    assert of_one > 2 * saved[0].nbytes
    assert measuring_peak(open_trials(tmp_path / name)) < of_one + 2 * saved[0].nbytes


def measuring_peak(opened: SavedTrials) -> int:
    tracemalloc.start()
    try:
        measure_trials(opened)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# --- which rows ---


def test_masked_tokens(trials: AnyArray) -> None:
    mask = np.zeros(12, np.bool_)
    mask[[1, 2, 3, 8, 11]] = True
    measured = measure_trials(trials, mask=mask, epsilon=EPSILON)
    assert measured.rows == measure_trials(trials[:, mask], epsilon=EPSILON).rows
    for bad in (mask[:-1], np.zeros(12, np.bool_), mask.astype(np.uint8)):
        with pytest.raises(SelectionError, match="for trials of 12 tokens"):
            measure_trials(trials, mask=bad)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_trial_with_nan(trials: AnyArray, value: float) -> None:
    bad = trials.astype(np.float32)
    bad[4, [7, 9], 2] = value
    with pytest.raises(SelectionError) as caught:
        measure_trials(bad)
    assert "trial 4 holds NaN or an infinity in 2 of its rows (the first: row 7)" in str(
        caught.value
    )
    mask = ~np.isin(np.arange(12), [7, 9])
    assert measure_trials(bad, mask=mask).rows[4]["n_tokens"] == 10
    bad[4, 9, 2] = 0
    mask = np.arange(12) >= 6  # rows are counted in the trial, not among those chosen
    with pytest.raises(SelectionError, match=r"in 1 of its rows \(the first: row 7\)"):
        measure_trials(bad, mask=mask)


def test_float64_that_float32_does_not_hold(trials: AnyArray) -> None:
    bad = trials.astype(np.float64)
    bad[2, 3, 4] = 0.1
    with pytest.raises(SourceError, match=r"\(trial 2, row 3, column 4: 0.1\)"):
        measure_trials(bad)


# --- summary ---


def test_the_summary_is_over_trials(trials: AnyArray) -> None:
    measured = measure_trials(trials, epsilon=EPSILON)
    summary = measured.summary()
    assert list(summary) == [*COLUMNS[1:], "max_ulp", "mean_ulp", "median_ulp"]
    for name, row in summary.items():
        values = np.array([r[name] for r in measured.rows], dtype=np.float64)
        assert row["trials"] == 6
        assert row["mean"] == pytest.approx(values.mean())
        assert row["std"] == pytest.approx(values.std(ddof=1))
        quartiles = np.quantile(values, [0.25, 0.5, 0.75])
        assert [row["q25"], row["median"], row["q75"]] == pytest.approx(quartiles)
        assert (row["min"], row["max"]) == (values.min(), values.max())


def test_blanks_are_left_out_of_the_summary(
    trials: AnyArray, monkeypatch: pytest.MonkeyPatch, deadtokens: Program, tmp_path: Path
) -> None:
    monkeypatch.setattr(saved_trials, "measure", functools.partial(measure, exact_limit=5))
    measured = measure_trials(trials, touching=1e-5)
    assert 0 < measured.estimated < 6
    blank = [row["n_components"] is None for row in measured.rows]
    assert measured.blank_reasons.keys() == {i for i, is_blank in enumerate(blank) if is_blank}
    assert measured.summary()["n_components"]["trials"] == 6 - sum(blank)
    none = MeasuredTrials([measured.rows[0] | {"max_l_inf": None}], measured.format, "given", {})
    assert set(none.summary()["max_l_inf"].values()) == {0, None}

    np.save(tmp_path / "t.npy", trials)
    result = deadtokens("measure", tmp_path / "t.npy", "--touching", 1e-5)
    assert f"Mean and median distances of {measured.estimated} trials are estimates" in result.out
    assert ("Topology of" in result.out) == any(blank)


def test_on_a_terminal_the_reading_is_announced(tmp_path: Path, trials: AnyArray) -> None:
    np.save(tmp_path / "t.npy", trials.astype(np.float32))
    status, shown = in_a_terminal("measure", tmp_path / "t.npy")
    assert status == 0
    assert "reading every number once: of which format are they?" in shown


def test_trials_that_take_too_long_are_blank(
    path: Path, monkeypatch: pytest.MonkeyPatch, deadtokens: Program
) -> None:
    monkeypatch.setattr(saved_trials, "measure", functools.partial(measure, exact_limit=1))
    monkeypatch.setattr(geometry, "_PAIR_VISITS", 0)
    measured = measure_trials(open_trials(path), touching=1e-5)
    assert measured.blank_reasons
    trial, reason = next(iter(measured.blank_reasons.items()))
    out = deadtokens("measure", path, "--touching", 1e-5).out
    blank = f"Topology of {len(measured.blank_reasons)} trials is blank (trial {trial}: {reason})."
    assert blank in " ".join(out.split())


# --- the command ---


def test_measure_writes_a_row_a_trial(deadtokens: Program, path: Path, trials: AnyArray) -> None:
    output = path.with_name("rows.csv")
    result = deadtokens("measure", path, "-o", output)
    assert result.status == 0
    measured = measure_trials(trials)
    with output.open(newline="") as file:
        header, *lines = list(csv.reader(file))
    assert header == [*COLUMNS, *FURTHER_COLUMNS]
    assert [line[0] for line in lines] == ["0", "1", "2", "3", "4", "5"]
    for line, row in zip(lines, measured.rows, strict=True):
        assert line == ["" if row[name] is None else str(row[name]) for name in header]
    printed = result.out.splitlines()
    assert printed[0].endswith("tokens, 6 trials x 12 tokens x 5 dimensions, bfloat16")
    assert "measured: all rows of each trial, as bfloat16" in result.out
    assert "of trial 0: bfloat16 ULP of" in result.out
    heads = ["mean", "std", "min", "q25", "median", "q75", "max"]
    assert heads in [line.split() for line in printed]
    (unique,) = (line.split() for line in printed if line.startswith("n_unique "))
    values = np.array([row["n_unique"] for row in measured.rows], dtype=np.float64)
    assert [float(cell) for cell in unique[1:]] == pytest.approx(
        [values.mean(), values.std(ddof=1), *np.quantile(values, [0, 0.25, 0.5, 0.75, 1])], rel=1e-4
    )
    assert "trials per s" in result.out
    assert f"wrote {output}: 6 rows x 31 columns" in result.err


def test_measure_json(deadtokens: Program, path: Path, trials: AnyArray) -> None:
    result = deadtokens("measure", path, "--json", "--epsilon", EPSILON)
    facts = json.loads(result.out)
    measured = measure_trials(trials, epsilon=EPSILON)
    assert facts["trials"] == measured.rows
    assert facts["summary"] == measured.summary()
    assert facts["shape"] == [6, 12, 5]
    assert (facts["epsilon"], facts["touching"]) == (EPSILON, 2 * EPSILON)
    assert (facts["format"], facts["storage"]) == ("bfloat16", "bfloat16")
    assert facts["epsilon_origin"] == "given"


def test_measure_takes_a_mask_over_tokens(
    deadtokens: Program, path: Path, trials: AnyArray, tmp_path: Path
) -> None:
    mask = np.arange(12) < 5
    np.save(tmp_path / "mask.npy", mask)
    result = deadtokens("measure", path, "--mask", tmp_path / "mask.npy", "--json")
    assert json.loads(result.out)["trials"] == measure_trials(trials, mask=mask).rows
    np.save(tmp_path / "mask.npy", mask[:4])
    result = deadtokens("measure", path, "--mask", tmp_path / "mask.npy")
    assert result.status == 1
    assert "a mask of shape [4] for a matrix of 12 rows" in result.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--rows", "duplicates"], "error: --rows duplicates with saved trials"),
        (["--rows", "cluster"], "error: --rows cluster with saved trials"),
        (["--save", "there"], "error: --save writes one cluster, and this file holds trials"),
        (["--tensor", "nothing"], "no tensor 'nothing' there"),
        (["--epsilon", "-1"], "epsilon -1.0"),
    ],
)
def test_what_measure_refuses_for_trials(
    deadtokens: Program,
    path: Path,
    options: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = deadtokens("measure", path, *options)
    assert (result.status, result.out) == (1, "")
    assert says in result.err
    assert result.err.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["trials.safetensors"]


def test_all_rows_may_be_asked_for(deadtokens: Program, path: Path, trials: AnyArray) -> None:
    result = deadtokens("measure", path, "--rows", "all", "--json")
    assert json.loads(result.out)["trials"] == measure_trials(trials).rows


def test_a_bad_trial_leaves_an_earlier_result_alone(
    deadtokens: Program, tmp_path: Path, trials: AnyArray
) -> None:
    bad = np.array(trials)
    bad[5, 0, 0] = np.nan
    np.save(tmp_path / "t.npy", bad)
    (tmp_path / "rows.csv").write_text("earlier\n")
    result = deadtokens("measure", tmp_path / "t.npy", "-o", tmp_path / "rows.csv")
    assert (result.status, result.out) == (1, "")
    assert "trial 5 holds NaN or an infinity in 1 of its rows (the first: row 0)" in result.err
    assert (tmp_path / "rows.csv").read_text() == "earlier\n"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["rows.csv", "t.npy"]


def test_results_never_replace_the_trials(deadtokens: Program, path: Path) -> None:
    link = path.with_name("link.csv")
    link.hardlink_to(path)
    before = path.read_bytes()
    result = deadtokens("measure", path, "-o", link)
    assert result.status == 1
    assert "it would be lost" in result.err
    assert path.read_bytes() == before


def test_the_listener_is_told_of_each_trial(trials: AnyArray) -> None:
    told: list[tuple[str, int, int]] = []

    @contextlib.contextmanager
    def work(what: str, total: int) -> Iterator[Callable[[int], None]]:
        yield lambda done: told.append((what, total, done))

    listen(Listener(work=work))
    try:
        measure_trials(trials)
    finally:
        listen(None)
    assert [done for what, total, done in told if (what, total) == ("trials", 6)] == [*range(1, 7)]


def test_a_trial_as_a_matrix(trials: AnyArray) -> None:
    opened = open_trials(trials)
    assert isinstance(opened, SavedTrials)
    matrix = opened.matrix(2)
    assert (matrix.tensor, matrix.shape) == ("array[2]", (12, 5))
    assert np.array_equal(matrix.values(), trials[2].astype(np.float32))
