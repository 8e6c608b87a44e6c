"""Results as tables: what programs get is what the files say."""

from __future__ import annotations

import builtins
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pytest
from made_models import untied_model
from program import Program

import deadtokens as dt
from deadtokens.inventory import DeadToken, NamedToken
from deadtokens.survey_lines import Surveyed
from deadtokens.tabular import Records, Tabular
from deadtokens.trials import STATISTICS

WHISPER = "builtin:whisper-tiny.en"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two sigmas, of 30 trials each."""
    path = tmp_path_factory.mktemp("tables") / "run"
    dt.sweep(dt.fit(WHISPER), [1e-8, 2e-8], trials=30, run=path)
    return path


def assert_is_the_file(result: Tabular, path: Path, names: list[str] | None = None) -> None:
    """The same columns, numbers and texts; empty fields are null."""
    held = result.table()
    options = arrow_csv.ConvertOptions(strings_can_be_null=True, null_values=[""])
    written = arrow_csv.read_csv(path, convert_options=options)
    assert held.column_names == written.column_names
    assert held.num_rows == written.num_rows > 0
    for name in names or held.column_names:
        ours, theirs = held[name].to_pylist(), written[name].to_pylist()
        if pa.types.is_boolean(held[name].type):
            ours = [None if truth is None else "yes" if truth else "no" for truth in ours]
        assert [None if one == "" else one for one in ours] == theirs, name


def test_trials_and_summary_are_the_files(run: Path) -> None:
    trials = dt.open_run(run).trials()
    assert_is_the_file(trials, run / "trials.csv")
    assert_is_the_file(trials.summary(), run / "summary.csv")
    assert repr(trials) == "<Trials: 60 of 2 sigmas>"
    frame = trials.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns[:2]) == ["trial_id", "n_tokens"]
    assert frame["n_unique"].dtype == np.int64
    assert frame.groupby("sigma").size().to_dict() == {1e-8: 30, 2e-8: 30}


def test_a_sweep_s_totals_are_its_summary(run: Path) -> None:
    totals = dt.sweep(dt.fit(WHISPER), [1e-8, 2e-8], trials=30, run=run)
    assert totals.table() == dt.open_run(run).trials().summary().table()
    assert len(totals) == 2


def test_trials_of_an_unfinished_run(run: Path, tmp_path: Path) -> None:
    """Of a sigma without any there are no lines; without any at all there is no table."""
    folder = tmp_path / "run"
    (folder / "parts").mkdir(parents=True)
    for name in ("manifest.json", "centroid.safetensors"):
        (folder / name).write_bytes((run / name).read_bytes())
    with pytest.raises(dt.DeadtokensError, match="parts are missing"):
        dt.open_run(folder).trials()
    for part in (run / "parts").glob("s0001-*"):
        (folder / "parts" / part.name).write_bytes(part.read_bytes())
    trials = dt.open_run(folder).trials()
    assert set(trials.to_frame()["sigma"]) == {2e-8}


def test_a_comparison_is_its_file(run: Path, tmp_path: Path, deadtokens: Program) -> None:
    measured = tmp_path / "measured.csv"
    assert deadtokens("measure", WHISPER, "-o", measured).status == 0
    assert deadtokens("compare", run, measured, "-o", tmp_path).status == 0
    comparison = dt.compare(run, measured)
    assert_is_the_file(comparison, tmp_path / "comparison.csv")
    assert comparison.table().num_rows == 2 * (len(STATISTICS) + 1)
    assert_is_the_file(dt.measure(WHISPER), measured)


@pytest.mark.parametrize("source", [WHISPER, "model"])
def test_dead_and_special_tokens_are_the_files(
    source: str, tmp_path: Path, deadtokens: Program
) -> None:
    if source == "model":
        source = str(untied_model(tmp_path / "model"))
    assert deadtokens("census", source, "-o", tmp_path / "census").status == 0
    dead = dt.dead_tokens(source)
    exact = [name for name in dead.table().column_names if name != "token"]  # which is made safe
    assert_is_the_file(dead, tmp_path / "census" / "tokens.csv", exact)
    taken = dt.take_inventory(source)
    assert len(taken.dead) == int(taken.dead_rows.rows.sum())
    assert np.flatnonzero(taken.dead.rows).tolist() == [token.row for token in taken.dead]
    if source == WHISPER:
        assert_is_the_file(taken.special, tmp_path / "census" / "special.csv")
        assert {token.untrained for token in taken.special} == {True}


def test_a_diff_is_its_file(tmp_path: Path, deadtokens: Program) -> None:
    rng = np.random.default_rng(3)
    before = rng.normal(0, 0.02, (300, 16)).astype(np.float32)
    before[20:40] = before[20]
    after = before.copy()
    after[25:30] += 0.01
    np.save(tmp_path / "a.npy", before)
    np.save(tmp_path / "b.npy", after[:290])
    found = dt.diff(tmp_path / "a.npy", tmp_path / "b.npy")
    line = "diff", tmp_path / "a.npy", tmp_path / "b.npy", "-o", tmp_path / "out"
    assert deadtokens(*line).status == 0
    assert_is_the_file(found, tmp_path / "out" / "diff.csv")
    assert found.to_frame()["change"].value_counts().sum() == 20


def test_theory_and_solutions() -> None:
    expected = dt.theory([0.01] * 8, [1e-6, 1e-5], 100)
    frame = expected.to_frame()
    assert frame["sigma"].tolist() == [1e-6, 1e-5]
    assert frame["n_unique"].tolist() == [one.n_unique for one in expected]
    solved = dt.solve([0.01] * 8, "n_unique", 50, 100)
    assert solved.to_frame()["sigma"].tolist() == [one.sigma for one in solved]
    assert solved.to_frame()["n_unique"][0] == pytest.approx(50)


def test_a_survey(tmp_path: Path) -> None:
    lines = dt.survey([WHISPER, str(tmp_path / "nothing")])
    table = lines.table()
    assert table["dead"].to_pylist() == [300, None]
    assert table["error"].to_pylist()[1]
    assert pa.types.is_list(table["populations"].type)


@pytest.mark.parametrize("kind", [DeadToken, NamedToken, Surveyed])
def test_no_lines_are_a_table_with_all_columns(kind: type[Any]) -> None:
    table = Records(kind).table()
    assert table.num_rows == 0
    assert table.column_names == list(kind.__dataclass_fields__)
    assert pa.null() not in table.schema.types


def test_measured_trials() -> None:
    rows = np.random.default_rng(0).normal(0, 1e-3, (3, 5, 4)).astype(np.float32)
    table = dt.measure_trials(rows).table()
    assert table["trial_id"].to_pylist() == [0, 1, 2]
    assert not any(math.isnan(value) for value in table["max_l_inf"].to_pylist())


def test_without_pandas_the_extra_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return load(name, *rest)

    trials = dt.open_run(run).trials()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(dt.DeadtokensError, match=r"pip install 'deadtokens\[pandas\]'"):
        trials.to_frame()
    assert trials.table().num_rows == 60
