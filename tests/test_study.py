"""The study: everything in one folder, resumed to the same bytes, refused before harm is done."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import program
import pytest
from containers import write_tensors
from program import Program, Result, call
from safetensors.numpy import load
from short_studies import shorten_studies

import deadtokens as dt
from deadtokens import study_plan
from deadtokens.formats import FLOAT16
from deadtokens.listening import Listener, listen
from deadtokens.runs import RunFolder
from deadtokens.study import study

MODULE: ModuleType = sys.modules["deadtokens.study"]
FILES = {
    "manifest.json", "centroid.safetensors", "lock", "trials.csv", "summary.csv", "elements.npz",
    "measured.csv", "comparison.csv", "tests.json", "theory.csv", "study.json", "report.html",
    "census/census.csv", "census/mask.safetensors", "census/centroid.safetensors",
    "cluster/snowball.safetensors", "cluster/dimensions.csv", "cluster/pairs.safetensors",
    "cluster/thresholds.csv", "fit/fit.json", "fit/dimensions.csv", "fit/centroid.safetensors",
    "figures/sigma.svg", "figures/populations.svg", "figures/elements.svg",
}  # fmt: skip


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without figures and report, which take most of a short study's time."""
    shorten_studies(monkeypatch)
    monkeypatch.setattr(MODULE, "write_figures", lambda *_: [])
    monkeypatch.setattr(MODULE, "write_report", lambda path, _: path.write_text("a page"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def facts(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def assert_refused(result: Result, *expected: str) -> None:
    """Status 1 and one line that says what is wrong, after those that tell the stages."""
    assert result.status == 1
    assert "Traceback" not in result.err
    *stages, line = result.err.splitlines()
    assert line.startswith("error: ")
    assert not any(stage.startswith("error") for stage in stages)
    for text in expected:
        assert text in line


def cluster_file(path: Path, rows: npt.NDArray[Any] | None = None) -> Path:
    """A small cluster on the bfloat16 lattice, every row twice or more."""
    if rows is None:
        rng = np.random.default_rng(3)
        drawn = rng.normal(0, 3e-3, 30) + 2e-8 * rng.standard_normal((60, 30))
        rows = np.repeat(drawn, 2, axis=0)
    np.save(
        path,
        dt.get_format("bfloat16").values(dt.get_format("bfloat16").round(rows.astype(np.float32))),
    )
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return cluster_file(tmp_path / "model.npy")


# The built-ins, in full.


TRIALS = 4


@dataclass(frozen=True)
class Demo:
    """The demo's folder, and what it printed."""

    folder: Path
    result: Result


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The study of each built-in, of few trials."""
    folder = tmp_path_factory.mktemp("studied")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deadtokens.specification.TRIALS", TRIALS)
        shorten_studies(patch)
        return Demo(folder, program.deadtokens("demo", "-o", folder))


def test_demo(studied: Demo) -> None:
    folder, result = studied.folder, studied.result
    assert result.status == 0
    assert result.out.count("Does the simple story fit? ") == 2
    for name in ("qwen3-4b", "whisper-tiny.en"):
        command = f"deadtokens study builtin:{name} -o {folder / name}"
        assert command in result.out
        assert f"report: {folder / name / 'report.html'}" in result.out.splitlines()
        assert facts(folder / name / "study.json")["commands"] == [command]


@pytest.mark.parametrize(
    ("name", "fits", "word", "n_sigmas"),
    [("whisper-tiny.en", True, "Yes", 9), ("qwen3-4b", False, "No", 19)],
)
def test_study_of_a_builtin(studied: Demo, name: str, fits: bool, word: str, n_sigmas: int) -> None:
    folder = studied.folder / name
    assert set(contents(folder)) >= FILES
    assert all(content for path, content in contents(folder).items() if path != "lock")
    tests = facts(folder / "tests.json")
    assert tests["verdict"]["fits"] is fits
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert len(page) > 100_000
    assert word in page
    trials = pd.read_csv(folder / "trials.csv")
    assert trials["sigma"].nunique() == n_sigmas
    assert len(trials) == TRIALS * n_sigmas
    # The fitted sigma is among those simulated, and the centre is the fit's.
    fitted = facts(folder / "fit" / "fit.json")
    assert np.isclose(trials["sigma"].unique(), fitted["sigma"], rtol=1e-12).any()
    held = facts(folder / "study.json")
    assert held["source"] == f"builtin:{name}"
    assert {"census", "fit", "tests", "sweep"} <= held["seconds"].keys()
    sentences = tests["verdict"]["sentences"]
    assert any(text.startswith(f"{TRIALS} synthetic clusters at sigma ") for text in sentences)


@pytest.mark.usefixtures("light")
def test_recorded_command_does_it_again_and_draws_nothing(
    studied: Demo, deadtokens: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deadtokens.specification.TRIALS", TRIALS)
    folder = studied.folder / "whisper-tiny.en"
    before = contents(folder)
    times = {path: path.stat().st_mtime_ns for path in (folder / "parts").iterdir()}
    command = shlex.split(facts(folder / "study.json")["commands"][0])
    result = deadtokens(*command[1:])
    assert result.status == 0
    assert "Does the simple story fit? Yes." in result.out
    assert f"report: {folder / 'report.html'}" in result.out
    assert {path: path.stat().st_mtime_ns for path in (folder / "parts").iterdir()} == times
    after = contents(folder)
    (folder / "report.html").write_bytes(before["report.html"])
    same = FILES - {"report.html", "study.json", "theory.csv"}
    tensors = {name for name in same if name.endswith(".safetensors")}  # metadata in any order
    assert {name for name in same - tensors if before[name] != after[name]} == set()
    for name in tensors:
        old, new = load(before[name]), load(after[name])
        assert old.keys() == new.keys()
        assert all(np.array_equal(old[key], new[key]) for key in old), name


@pytest.mark.usefixtures("light")
def test_more_trials_extend_a_study(tmp_path: Path, source: Path) -> None:
    folder, fresh = tmp_path / "run", tmp_path / "fresh"
    assert call("study", source, "--trials", 6, "-o", folder) == 0
    assert call("study", source, "--trials", 15, "-o", folder) == 0
    assert call("study", source, "--trials", 15, "-o", fresh, "--workers", 1) == 0
    assert (folder / "trials.csv").read_bytes() == (fresh / "trials.csv").read_bytes()
    assert (folder / "tests.json").read_bytes() == (fresh / "tests.json").read_bytes()


@pytest.mark.usefixtures("light")
def test_in_python(tmp_path: Path, source: Path) -> None:
    matrix = dt.open_matrix(source)
    told: list[str] = []
    rows = np.ones(matrix.n_rows, dtype=np.bool_)
    listen(Listener(told.append))
    try:
        found = study(matrix, rows, tmp_path / "run", trials=5)
    finally:
        listen(None)
    assert found.report == tmp_path / "run" / "report.html"
    assert found.snowball.n_tokens == 120
    assert repr(found) == f"<Study of {matrix!r}: {found.verdict!r}, {found.report}>"
    assert told[0] == "census of 120 rows"
    shown = found._repr_html_()
    assert found.verdict.headline.split(".")[0] in shown
    assert f"report: {found.report}" in shown
    assert [written.path.exists() for written in found.written] == [True] * len(found.written)


@pytest.mark.usefixtures("light")
def test_a_matrix_that_cannot_be_read_is_told(tmp_path: Path, source: Path) -> None:
    rows = dt.open_matrix(source).values()
    tensors: dict[str, npt.NDArray[Any]] = {
        "lm_head.weight": rows, "model.embed_tokens.weight": np.zeros(rows.shape, np.int8)
    }  # fmt: skip
    write_tensors(tmp_path / "model.safetensors", tensors)
    (tmp_path / "config.json").write_text('{"tie_word_embeddings": false}')
    matrix = dt.open_matrix(tmp_path)
    told: list[str] = []
    listen(Listener(told.append))
    try:
        study(matrix, np.ones(matrix.n_rows, dtype=np.bool_), tmp_path / "run", trials=5)
    finally:
        listen(None)
    assert told[1].startswith("the other matrix was not looked at: ")


def test_noise_that_overflows_the_format_is_not_drawn() -> None:
    snowball = dt.Snowball(np.zeros((2, 3), np.uint16), np.array([5, 5]), FLOAT16)
    noise = study_plan.Noise(1.0, np.zeros(3))
    assert study_plan._drawn(noise, 1.0, snowball)
    assert not study_plan._drawn(noise, 1e5, snowball)


# Whose rows.


def whisper_in_a_model(folder: Path) -> tuple[Path, Path]:
    """Whisper's dead rows among 500 others, and the mask that finds them."""
    codes = dt.open_matrix("builtin:whisper-tiny.en").codes[:]
    others = np.random.default_rng(8).normal(0, 0.05, (500, codes.shape[1])).astype(np.float16)
    order = np.random.default_rng(9).permutation(800)
    matrix = np.concatenate([codes.view(np.float16), others])[order]
    path = write_tensors(folder / "model.safetensors", {"lm_head.weight": matrix})
    return path, write_tensors(folder / "mask.safetensors", {"mask": order < 300})


@pytest.mark.usefixtures("light")
def test_planted_cluster_is_that_of_the_builtin(deadtokens: Program, tmp_path: Path) -> None:
    path, mask = whisper_in_a_model(tmp_path)
    result = deadtokens("study", path, "--mask", mask, "--trials", 4, "-o", tmp_path / "run")
    assert result.status == 0
    assert "Does the simple story fit? Yes." in result.out
    assert "300 rows occupy two or more cells in 28 of 384 dimensions." in result.out
    assert "The width is 1.303e-08 " in result.out
    held = facts(tmp_path / "run" / "study.json")
    assert (held["rows"], held["n_rows"]) == (f"mask {mask}", 800)
    assert "coincide" not in held["note"]
    assert f"--mask {mask}" in held["commands"][0]


@pytest.mark.usefixtures("light")
def test_duplicates_are_said_to_be_chosen_because_they_coincide(
    deadtokens: Program, tmp_path: Path
) -> None:
    path, _ = whisper_in_a_model(tmp_path)
    options = ("--rows", "duplicates", "--trials", 4)
    result = deadtokens("study", path, *options, "-o", tmp_path / "run")
    assert result.status == 0
    held = facts(tmp_path / "run" / "study.json")
    assert held["rows"] == "duplicates"
    assert "the rows were chosen because they coincide" in held["note"]
    assert "222 other rows lie as close" in held["note"]


@pytest.mark.usefixtures("light")
def test_the_cluster_is_studied_where_there_is_one(deadtokens: Program, tmp_path: Path) -> None:
    """Without any option: no rows are left out, and the answer is the built-in's."""
    path, _ = whisper_in_a_model(tmp_path)
    result = deadtokens("study", path, "--trials", 4, "-o", tmp_path / "run")
    assert result.status == 0
    assert "studied: the dead cluster (300 rows inside, " in result.out
    assert "Does the simple story fit? Yes." in result.out
    assert "The width is 1.303e-08 " in result.out
    assert facts(tmp_path / "run" / "study.json")["rows"] == "cluster"


def test_one_vector_only_cannot_be_told(
    deadtokens: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_studies(monkeypatch)
    path = cluster_file(tmp_path / "model.npy", np.full((40, 5), 0.01))
    result = deadtokens("study", path, "--trials", 4, "-o", tmp_path / "run")
    assert result.status == 0
    assert "Does the simple story fit? Cannot tell." in result.out
    assert "Traceback" not in result.err
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Cannot tell" in page
    assert facts(tmp_path / "run" / "tests.json")["verdict"]["fits"] is None


# What is refused.


def test_no_two_rows_are_equal(deadtokens: Program, tmp_path: Path) -> None:
    np.save(tmp_path / "model.npy", np.arange(12, dtype=np.float32).reshape(4, 3))
    result = deadtokens("study", tmp_path / "model.npy", "-o", tmp_path / "run")
    assert_refused(result, "no two of the 4 rows are equal", "--rows all")
    assert result.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_rows_that_are_not_finite(deadtokens: Program, tmp_path: Path) -> None:
    rows = np.ones((6, 3), dtype=np.float32)
    rows[2, 1] = np.nan
    np.save(tmp_path / "model.npy", rows)
    np.save(tmp_path / "mask.npy", np.arange(6) < 4)
    arguments = ("study", tmp_path / "model.npy", "--mask", tmp_path / "mask.npy")
    result = deadtokens(*arguments, "-o", tmp_path / "run")
    assert_refused(result, "1 of the 4 rows measured hold NaN", "row 2")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arguments", [["builtin:nothing"], ["nothing.npy"]])
def test_unknown_source(deadtokens: Program, tmp_path: Path, arguments: list[str]) -> None:
    result = deadtokens("study", *arguments, "-o", tmp_path / "run")
    assert_refused(result, *arguments)
    assert result.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_mask_and_rows(deadtokens: Program, tmp_path: Path, source: Path) -> None:
    arguments = ("study", source, "--mask", source, "--rows", "all", "-o", tmp_path / "run")
    assert_refused(deadtokens(*arguments), "both --mask and --rows")


@pytest.mark.usefixtures("light")
def test_another_specification_leaves_the_folder_as_it_was(
    deadtokens: Program, tmp_path: Path, source: Path
) -> None:
    folder = tmp_path / "run"
    assert call("study", source, "--trials", 5, "-o", folder) == 0
    before = contents(folder)
    other = deadtokens("study", source, "--trials", 5, "--seed", 7, "-o", folder)
    assert_refused(other, str(folder), "another specification: seed differs")
    changed = deadtokens("study", "builtin:whisper-tiny.en", "--trials", 5, "-o", folder)
    assert_refused(changed, str(folder), "n_tokens differs")
    for refused in (other, changed):
        assert "census of" not in refused.err, "before any work"
    assert contents(folder) == before


def test_output_that_is_a_file(deadtokens: Program, source: Path) -> None:
    before = source.read_bytes()
    assert_refused(deadtokens("study", source, "-o", source), str(source), "cannot be written")
    assert source.read_bytes() == before


def test_read_only_folder(deadtokens: Program, read_only_folder: Path) -> None:
    arguments = ("study", "builtin:qwen3-4b", "--trials", 4, "-o", read_only_folder / "run")
    assert_refused(deadtokens(*arguments), "cannot be written", "Permission denied")


@pytest.mark.usefixtures("light")
def test_files_of_others_are_not_replaced(
    deadtokens: Program, tmp_path: Path, source: Path
) -> None:
    foreign = tmp_path / "run" / "fit" / "centroid.safetensors"
    foreign.parent.mkdir(parents=True)
    write_tensors(foreign, {"centroid": np.zeros(3, np.float32)})
    before = foreign.read_bytes()
    result = deadtokens("study", source, "--trials", 4, "-o", tmp_path / "run")
    assert_refused(result, str(foreign), "not a result of this program")
    assert foreign.read_bytes() == before


@pytest.mark.usefixtures("light")
def test_another_process_writes_there(deadtokens: Program, tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "run"
    assert call("study", source, "--trials", 4, "-o", folder) == 0
    before = contents(folder)
    with RunFolder.open(folder).locked():
        result = deadtokens("study", source, "--trials", 9, "-o", folder)
    assert_refused(result, str(folder), "another process is writing this run")
    assert contents(folder) == before


# Stopped and resumed.


def wait_for_parts(process: subprocess.Popen[Any], folder: Path) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if (folder / "parts").exists() and any((folder / "parts").glob("*.parquet")):
            return
        time.sleep(0.01)
    raise AssertionError("no part was written")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.usefixtures("light")
def test_stopped_and_resumed(tmp_path: Path, source: Path, how: signal.Signals) -> None:
    folder, fresh = tmp_path / "run", tmp_path / "fresh"
    words = ["study", str(source), "--trials", "2000000", "-o", str(folder)]
    with subprocess.Popen(
        [sys.executable, "-m", "deadtokens", *words], stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for_parts(process, folder)
        process.send_signal(how)
        _, stderr = process.communicate(timeout=120)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert stderr.splitlines()[-1] == (
            "interrupted; finished trials are kept. To go on: " + shlex.join(["deadtokens", *words])
        )
    assert "Traceback" not in stderr
    assert not (folder / "trials.csv").exists()
    # The first part alone is more than is compared here.
    kept = {path: path.stat().st_mtime_ns for path in (folder / "parts").glob("*.parquet")}
    assert kept
    assert call("study", source, "--trials", 8, "-o", folder) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert call("study", source, "--trials", 8, "-o", fresh) == 0
    resumed, undisturbed = (pd.read_csv(path / "trials.csv") for path in (folder, fresh))
    resumed = resumed[resumed["trial_id"] < 8].reset_index(drop=True)
    pd.testing.assert_frame_equal(resumed, undisturbed)
    assert set(contents(folder)) >= {"report.html", "study.json", "comparison.csv"}
