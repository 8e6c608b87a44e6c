"""Sweeps and their run folders: the same bytes however they were made, or one clear refusal."""

from __future__ import annotations

import importlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from program import Program

from deadtokens import pictures, runs, writing
from deadtokens.centres import as_centre
from deadtokens.cli import sweeping
from deadtokens.curves import expected_along
from deadtokens.errors import (
    DeadtokensError,
    DeviceError,
    OutputError,
    SelectionError,
    SourceError,
)
from deadtokens.files import load_array
from deadtokens.runs import RunFolder
from deadtokens.sampling import sample
from deadtokens.specification import parse_sigmas, plan
from deadtokens.statistics import COLUMNS, measure
from deadtokens.summaries import sigma_totals
from deadtokens.sweep import estimate, finish, simulate, sweep
from deadtokens.trial_tables import SUMMARY_COLUMNS
from deadtokens.trials import STATISTICS
from deadtokens.writing import write_safetensors

CENTROID = np.random.default_rng(0).standard_t(4.5, 60) * 2.5e-3
SIGMAS = [1e-9, 1e-8, 1e-4]
OPTIONS: dict[str, Any] = {"n_tokens": 50, "seed": 3}


def run_into(path: Path, trials: int = 40, **options: Any) -> bytes:
    """The bytes of trials.csv of a sweep, made with the given workers and size of parts."""
    workers, part = options.pop("workers", 1), options.pop("part_trials", None)
    planned = plan(CENTROID, SIGMAS, **OPTIONS, **options)
    run = RunFolder.create(path, planned.specification(), planned.centroid)
    with run.locked():
        simulate(planned, run, trials, workers=workers, part_trials=part)
        finish(planned, run)
    return (path / "trials.csv").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_into(folder)
    return folder


# --- what is written ---


def test_trials_csv_is_the_contract(undisturbed: Path) -> None:
    table = pd.read_csv(undisturbed / "trials.csv")
    assert tuple(table.columns[:22]) == (*COLUMNS, "sigma")
    assert (undisturbed / "trials.csv").read_text().startswith("trial_id,n_tokens,")
    assert table["sigma"].tolist() == [sigma for sigma in SIGMAS for _ in range(40)]
    assert table["trial_id"].tolist() == [*range(40)] * 3
    assert set(table["format"]) == {"bfloat16"}


def test_each_row_is_its_trial_measured(undisturbed: Path) -> None:
    table = pd.read_csv(undisturbed / "trials.csv")
    planned = plan(CENTROID, SIGMAS, **OPTIONS)
    for index in (0, 2):
        for trial in (0, 17, 39):
            snowball = sample(
                planned.cloud(index), 50, trial=trial, seed=3, sampler=planned.samplers[index]
            )
            row = measure(snowball, planned.spec.epsilon, planned.spec.touching).row
            recorded = table.iloc[index * 40 + trial]
            for name in STATISTICS:
                assert recorded[name] == pytest.approx(row[name], rel=1e-12), name


def test_summary_is_that_of_pandas(undisturbed: Path) -> None:
    summary = pd.read_csv(undisturbed / "summary.csv")
    assert tuple(summary.columns) == SUMMARY_COLUMNS
    table = pd.read_csv(undisturbed / "trials.csv")
    for (sigma, metric), line in summary.set_index(["sigma", "metric"]).iterrows():
        described = table.loc[table["sigma"] == sigma, metric].describe()
        names = {"std": "std", "min": "min", "q25": "25%", "median": "50%", "q75": "75%"}
        for ours, theirs in {**names, "mean": "mean", "max": "max"}.items():
            assert line[ours] == pytest.approx(described[theirs], rel=1e-9, abs=1e-9)
    assert len(summary) == 3 * 20


def test_elements_are_pooled_over_every_token_and_dimension(undisturbed: Path) -> None:
    planned = plan(CENTROID, SIGMAS, **OPTIONS)
    with np.load(undisturbed / "elements.npz") as held:
        for index, sampler in enumerate(planned.samplers):
            deviations = np.concatenate(
                [
                    (
                        s.values()[s.row_order()].astype(np.float64)
                        - planned.centroid.astype(np.float32).astype(np.float64)
                    ).ravel()
                    for trial in range(40)
                    for s in [
                        sample(planned.cloud(index), 50, trial=trial, seed=3, sampler=sampler)
                    ]
                ]
            )
            assert held[f"count_{index}"].sum() == deviations.size == 50 * 60 * 40
            assert held["mean"][index] == pytest.approx(deviations.mean(), rel=1e-9)
            assert held["std"][index] == pytest.approx(deviations.std(), rel=1e-9)
            described = pd.Series(deviations)
            centred = described - described.mean()
            skewness = (centred**3).mean() / deviations.std() ** 3
            kurtosis = (centred**4).mean() / deviations.std() ** 4 - 3
            assert held["skewness"][index] == pytest.approx(skewness, rel=1e-6)
            assert held["excess_kurtosis"][index] == pytest.approx(kurtosis, rel=1e-6)
        assert planned.samplers[2] == "direct"
        assert "edges_2" in held
        assert "edges_0" not in held


def test_manifest_says_what_was_run(undisturbed: Path) -> None:
    facts = json.loads((undisturbed / "manifest.json").read_text())
    assert facts["specification"]["sigmas"] == SIGMAS
    assert facts["specification"]["samplers"] == ["occupancy", "occupancy", "direct"]
    assert {"deadtokens", "numpy", "numba"} <= set(facts["versions"])
    held = load_array(str(undisturbed / "centroid.safetensors"), "centroid")
    assert np.array_equal(held, CENTROID)


# --- the same however it was made ---


@pytest.mark.parametrize(
    "how",
    [
        {"workers": 2},
        {"workers": 3, "part_trials": 1},
        {"workers": 2, "part_trials": 7},
        {"part_trials": 1000},
    ],
    ids=str,
)
def test_bytes_do_not_depend_on_workers_or_parts(
    undisturbed: Path, tmp_path: Path, how: dict[str, int]
) -> None:
    assert run_into(tmp_path, **how) == (undisturbed / "trials.csv").read_bytes()
    for name in ("summary.csv", "elements.npz"):
        assert (tmp_path / name).read_bytes() == (undisturbed / name).read_bytes()


def test_more_trials_extend_a_run(undisturbed: Path, tmp_path: Path) -> None:
    run_into(tmp_path, trials=15)
    parts = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    assert run_into(tmp_path, trials=40) == (undisturbed / "trials.csv").read_bytes()
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    assert parts.items() <= after.items()
    assert run_into(tmp_path, trials=10) == (undisturbed / "trials.csv").read_bytes()


def test_lost_parts_are_made_anew(undisturbed: Path, tmp_path: Path) -> None:
    run_into(tmp_path, part_trials=9)
    for path in sorted((tmp_path / "parts").iterdir())[::2]:
        path.unlink()
    (tmp_path / "parts" / ".00112233445566aa.tmp").write_bytes(b"left by a killed process")
    assert run_into(tmp_path, part_trials=4) == (undisturbed / "trials.csv").read_bytes()


def test_the_folder_is_looked_at_once_for_all_sigmas(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan(CENTROID, SIGMAS, **OPTIONS)
    run = RunFolder.open(undisturbed)
    looks: list[object] = []
    listdir = os.listdir

    def counted(path: Any) -> list[str]:
        looks.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counted)
    assert simulate(planned, run, 40) == 0
    assert looks == [undisturbed / "parts"] * 2  # before and after


def test_seed_sigma_and_trial_alone_decide(tmp_path: Path) -> None:
    """A sigma's trials are the same whatever other sigmas are swept."""
    alone = sweep(CENTROID, 1e-8, 50, 20, tmp_path / "alone", seed=3)
    among = sweep(CENTROID, [1e-8, 2e-8], 50, 20, tmp_path / "among", seed=3)
    other = sweep(CENTROID, 1e-8, 50, 20, tmp_path / "other", seed=4)
    assert np.array_equal(alone[0].rows, among[0].rows)
    assert not np.array_equal(alone[0].rows, other[0].rows)


# --- refused ---


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"seed": 4}, "seed"),
        ({"n_tokens": 51}, "n_tokens"),
        ({"epsilon": 1e-3}, "epsilon"),
        ({"noise": "laplace"}, "noise"),
        ({"intermediate": "exact"}, "intermediate"),
        ({"sampler": "direct"}, "samplers"),
    ],
)
def test_another_specification_is_refused(
    undisturbed: Path, change: dict[str, Any], field: str
) -> None:
    planned = plan(CENTROID, SIGMAS, **{**OPTIONS, **change})
    with pytest.raises(SelectionError, match=field):
        RunFolder.create(undisturbed, planned.specification(), planned.centroid)


def test_another_centroid_or_sigma_is_refused(undisturbed: Path) -> None:
    for centroid, sigmas, field in (
        (CENTROID * 2, SIGMAS, "centroid_sha256"),
        (CENTROID, SIGMAS[:2], "sigmas"),
    ):
        planned = plan(centroid, sigmas, **OPTIONS)
        with pytest.raises(SelectionError, match=field):
            RunFolder.create(undisturbed, planned.specification(), planned.centroid)


def test_two_processes_cannot_write_one_run(undisturbed: Path) -> None:
    held = RunFolder.open(undisturbed)
    with held.locked(), pytest.raises(OutputError, match="another process"), held.locked():
        pass
    with held.locked():
        pass


def test_a_run_that_another_process_makes_meanwhile(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look at the folder and the lock."""
    specification = RunFolder.open(undisturbed).specification
    other = dict(specification, seed=4)
    real = writing.locked

    @contextmanager
    def late(path: Path, what: str) -> Iterator[None]:
        monkeypatch.setattr(runs, "locked", real)
        RunFolder.create(tmp_path, other, CENTROID)
        with real(path, what):
            yield

    monkeypatch.setattr(runs, "locked", late)
    with pytest.raises(SelectionError, match="seed differs"):
        RunFolder.create(tmp_path, specification, CENTROID)
    assert RunFolder.open(tmp_path).specification == other


# --- what is in the folder ---


def test_parts_without_a_manifest(undisturbed: Path, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "s0000-t000000000000-n000002.parquet").touch()
    with pytest.raises(OutputError, match=r"parts of a run but no manifest\.json; choose another"):
        RunFolder.create(tmp_path, RunFolder.open(undisturbed).specification, CENTROID)
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"specification": {}}'])
def test_manifests_that_are_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(SourceError, match=r"manifest\.json: not a run's manifest"):
        RunFolder.open(tmp_path)


def test_an_edited_manifest(undisturbed: Path, tmp_path: Path) -> None:
    facts = json.loads((undisturbed / "manifest.json").read_text())
    facts["specification"]["seed"] += 1
    (tmp_path / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(SourceError, match="does not match its digest: it was edited; restore it"):
        RunFolder.open(tmp_path)


def test_parts_that_never_arrived_are_swept_up(tmp_path: Path) -> None:
    run_into(tmp_path, 2)
    run = RunFolder.open(tmp_path)
    (tmp_path / "parts" / "incoming-0" / "deep").mkdir(parents=True)
    with run.locked():
        assert not list((tmp_path / "parts").glob("incoming-*"))


def test_a_part_that_a_worker_wrote_elsewhere(tmp_path: Path) -> None:
    run_into(tmp_path, 2)
    run = RunFolder.open(tmp_path)
    with run.incoming() as incoming:
        part = incoming / "s0000-t000000000002-n000002.parquet"
        with pytest.raises(OutputError, match=r"cannot be moved \(No such file.*made anew"):
            run.adopt(part)
        part.touch()
        run.adopt(part)
    assert [(part.first, part.count) for part in run.parts(0)] == [(0, 2), (2, 2)]


def test_parts_that_are_not_where_they_belong(tmp_path: Path) -> None:
    """Each holds the trials of its sigma that its name says, and those between are not skipped."""
    run_into(tmp_path, 6, part_trials=2)
    run = RunFolder.open(tmp_path)
    first, second, third = run.parts(1)
    copy = first.path.with_name("s0001-t000000000001-n000002.parquet")
    copy.write_bytes(first.path.read_bytes())
    with pytest.raises(SourceError, match=f"holds trials that {first.path.name} holds too"):
        run.parts(1)
    copy.unlink()

    content = second.path.read_bytes()
    second.path.write_bytes(first.path.read_bytes())
    with pytest.raises(SourceError, match="it holds other trials than its name says"):
        run.read(second)
    second.path.write_bytes(run.parts(0)[1].path.read_bytes())
    with pytest.raises(SourceError, match="another run's or another sigma's"):
        run.read(second)
    second.path.write_bytes(content)
    assert run.read(second).first == 2

    second.path.unlink()
    assert run.leading(1) == [first]
    assert third in run.parts(1)
    assert run.missing(1, 6) == [(2, 2)]


def test_parts_that_vanish_while_others_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan(CENTROID, SIGMAS, **OPTIONS)
    run = RunFolder.create(tmp_path, planned.specification(), planned.centroid)
    monkeypatch.setattr(run, "write", lambda *_: None)
    with pytest.raises(SourceError, match="parts are missing; run the same command again"):
        simulate(planned, run, 2, workers=1)
    with pytest.raises(SourceError, match="parts are missing"):
        sigma_totals(run, 0, planned.cloud(0), planned.spec, planned.samplers[0])


def test_a_device_is_looked_for_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise DeviceError("torch finds no such device", where=name)

    monkeypatch.setattr(importlib.import_module("deadtokens.sweep"), "choose_device", absent)
    with pytest.raises(DeviceError, match="cuda: torch finds no such device"):
        sweep(CENTROID, SIGMAS, 50, 2, tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()


def test_figures_of_one_sigma_and_of_none_at_all(tmp_path: Path) -> None:
    totals = sweep(CENTROID, [0.0, 1e-8], 50, 3, tmp_path / "run")
    planned = plan(CENTROID, [0.0, 1e-8], 50)
    for curve in pictures._curves(totals, expected_along(planned)):
        assert (curve.expected_sigmas[0], curve.expected_sigmas[-1]) == (0.0, 1e-8)
        assert np.isfinite(curve.expected).all()
    written = pictures.write_figures(tmp_path / "figures", planned, totals[1:])
    assert {path.stem for path in written} == {"elements", "populations"}


def test_no_trials(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="0 trials; give at least one"):
        sweep(CENTROID, SIGMAS, 50, 0, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_workers_and_a_scheduler_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="both workers and a scheduler; give one of them"):
        sweep(CENTROID, SIGMAS, 50, 2, tmp_path / "run", workers=2, scheduler="tcp://host:1")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigmas": []}, "no sigma"),
        ({"sigmas": [1e-9, 1e-9]}, "twice"),
        ({"sigmas": [-1.0]}, "standard deviation"),
        ({"sigmas": [float("nan")]}, "standard deviation"),
        ({"n_tokens": 0}, "0 tokens"),
        ({"centroid": [1.0, float("nan")]}, "not finite"),
        ({"centroid": [[1.0]]}, "shape"),
        ({"centroid": []}, "shape"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"touching": float("inf")}, "touching"),
        ({"format": "fp4"}, "unknown storage format"),
        ({"format": "float8_e4m3fn", "centroid": [440.0], "sigmas": [10.0]}, "overflow"),
        ({"sigmas": [1e-2], "sampler": "occupancy", "format": "float32"}, "direct"),
        ({"seed": -1}, "seed"),
    ],
    ids=str,
)
def test_what_cannot_be_swept(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arguments = {"centroid": CENTROID, "sigmas": SIGMAS, **OPTIONS, **change}
    with pytest.raises(DeadtokensError, match=message):
        sweep(**arguments, trials=2, run=tmp_path / "run")
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.5e-9", [1.5e-9]),
        ("1e-9,2e-9, 0", [1e-9, 2e-9, 0.0]),
        ("1:2:3", [1, 1.5, 2]),
        ("1e-10:1e-8:3:log", [1e-10, 1e-9, 1e-8]),
        ("3:3:1", [3]),
        ("2:1:2", [2, 1]),
    ],
)
def test_sigma_specifications(text: str, expected: list[float]) -> None:
    assert parse_sigmas(text) == pytest.approx(expected, rel=1e-15)
    first, last = parse_sigmas(text)[0], parse_sigmas(text)[-1]
    assert (first, last) == (expected[0], expected[-1])  # ends exactly as given


@pytest.mark.parametrize(
    "text", ["", "a", "1:2", "1:2:0", "1:2:1", "1:2:3:lin", "1:2:x", "1,,2", "1:nan:3"]
)
def test_sigma_specifications_that_are_none(text: str) -> None:
    with pytest.raises(SelectionError, match="A:B:N"):
        parse_sigmas(text)


@pytest.mark.parametrize("text", ["0:1e-8:5:log", "1:-1:3:log"])
def test_a_logarithmic_range_that_reaches_zero(text: str) -> None:
    with pytest.raises(SelectionError, match=r"begins and ends above 0; begin at a small number"):
        parse_sigmas(text)


def test_estimate_is_of_the_right_size() -> None:
    planned = plan(CENTROID, SIGMAS, **OPTIONS)
    found = estimate(planned, [1000] * len(SIGMAS))
    assert 0 < found.seconds < 600
    assert found.peak_bytes > 1000


# --- as a program ---


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    centroid = tmp_path / "centroid.safetensors"
    write_safetensors(centroid, {"centroid": CENTROID.astype(np.float32)}, {"origin": "census"})
    return [
        *("sweep", "--centroid", str(centroid)),
        *("--sigma", "1e-8,1e-3", "--tokens", "400", "--trials", "60000", "--seed", "3"),
    ]


def test_output_of_the_command(
    command: list[str], tmp_path: Path, deadtokens: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deadtokens.curves.POINTS", 3)
    small = [*command[: command.index("--trials")], "--trials", "30"]
    result = deadtokens(*small, "-o", tmp_path / "run")
    assert "60 dimensions, norm" in result.err
    assert "mean of rounded rows" in result.err  # the census centroid's warning
    assert "60 of 60 trials to do" in result.err
    assert "trials           60 held, 60 of them new" in result.out
    assert "the embeddings would have taken 2.9 MB" in result.out
    again = deadtokens(*small, "-o", tmp_path / "run")
    assert "trials to do" not in again.err
    assert "trials           60 held, 0 of them new" in again.out
    figures = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert figures == {
        f"{name}.{kind}" for name in ("elements", "populations", "sigma") for kind in ("png", "svg")
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--sigma", "-1"], "standard deviation"),
        (["--sigma", "x"], "A:B:N"),
        (["--trials", "0"], "0 trials"),
        (["--tokens", "0"], "0 tokens"),
        (["--format", "fp4"], "unknown storage format"),
        (["--centroid", "nothing.npy"], "No such file"),
    ],
)
def test_bad_options_end_in_one_line(
    command: list[str], tmp_path: Path, change: list[str], message: str, deadtokens: Program
) -> None:
    result = deadtokens(*command, *change, "-o", tmp_path / "run")
    errors = [line for line in result.err.splitlines() if line.startswith("error:")]
    assert result.status == 1
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in result.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("array", [np.ones((2, 3)), np.ones(3, np.int64), np.ones(0)], ids=str)
def test_centroids_that_are_none(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / "c.npy", array)
    with pytest.raises(SelectionError, match="give one floating-point number per dimension"):
        as_centre(tmp_path / "c.npy")


@pytest.mark.parametrize("kind", ["sweep", "survey"])
def test_workers_with_a_scheduler_are_wrong_usage(
    command: list[str], tmp_path: Path, kind: str, deadtokens: Program
) -> None:
    words = command if kind == "sweep" else ["survey", "builtin:qwen3-4b"]
    more = ["--workers", "2", "--scheduler", "tcp://127.0.0.1:9", "-o", tmp_path / "out"]
    result = deadtokens(*words, *more)
    assert result.status == 2
    assert "Invalid value for --workers: the scheduler's workers" in result.err
    assert not (tmp_path / "out").exists()


def test_bytes_of_a_folder_whose_files_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "one").write_bytes(b"12345")
    (tmp_path / "two").write_bytes(b"123")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")  # listed, and not there
    assert sweeping._bytes_in(tmp_path) == 8


def test_sample_writes_the_trial_that_the_sweep_recorded(
    command: list[str], tmp_path: Path, deadtokens: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is drawn of them takes seconds, and is seen to in test_output_of_the_command.
    monkeypatch.setattr(pictures, "write_figures", lambda *_: [])
    small = [*command[: command.index("--trials")], "--trials", "5", "--epsilon", "1e-5"]
    assert deadtokens(*small, "--seed", "3", "-o", tmp_path / "run").status == 0
    table = pd.read_csv(tmp_path / "run" / "trials.csv")
    centroid = command[command.index("--centroid") + 1]
    for line, sigma in ((3, "1e-8"), (8, "1e-3")):
        file = tmp_path / f"{line}.safetensors"
        options = ["--tokens", "400", "--trial", "3", "--seed", "3", "-o", file]
        draw = deadtokens("sample", "--centroid", centroid, "--sigma", sigma, *options)
        assert draw.status == 0
        measured = json.loads(
            deadtokens("measure", file, "--rows", "all", "--epsilon", "1e-5", "--json").out
        )
        for name in STATISTICS:
            assert measured[name] == pytest.approx(table.iloc[line][name], rel=1e-12), name


def test_unwritable_folder(command: list[str], tmp_path: Path, deadtokens: Program) -> None:
    (tmp_path / "file").write_text("")
    result = deadtokens(*command, "-o", tmp_path / "file")
    assert result.status == 1
    assert "cannot be written" in result.err


def test_threads_report_their_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk met by a worker ends the sweep with that error, and stops the others."""
    planned = plan(CENTROID, SIGMAS, **OPTIONS)
    run = RunFolder.create(tmp_path, planned.specification(), planned.centroid)

    def full(*_: object) -> None:
        raise OutputError("cannot be written (no space)", where=tmp_path)

    monkeypatch.setattr(run, "write", full)
    before = threading.active_count()
    with pytest.raises(OutputError, match="no space"):
        simulate(planned, run, 40, workers=2, part_trials=2)
    assert threading.active_count() == before
    assert os.listdir(tmp_path / "parts") == []  # noqa: PTH208
