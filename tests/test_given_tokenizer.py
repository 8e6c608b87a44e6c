"""A tokenizer that is given by hand, to every command and function that names tokens."""

from __future__ import annotations

import csv
import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from made_models import byte_level, piece
from planted import planted
from program import Program
from short_studies import shorten_studies

import deadtokens as dt

VALUES, DEAD = planted(5, 300, 24, 20, 0.0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "rows.npy", VALUES.astype(np.float16))
    return tmp_path / "rows.npy"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    tokens = byte_level({piece(f"word {i}"): i for i in range(300)})
    path = tmp_path / "elsewhere" / "tokenizer.json"
    path.parent.mkdir()
    path.write_text(json.dumps(tokens))
    return path


def column(path: Path, name: str) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [line[name] for line in csv.DictReader(file)]


def test_census_and_diff(
    source: Path, tokenizer: Path, tmp_path: Path, deadtokens: Program
) -> None:
    options = ("--tokenizer", tokenizer)
    assert deadtokens("census", source, *options, "-o", tmp_path / "census").status == 0
    named = [f"word {row}" for row in DEAD.tolist()]
    assert column(tmp_path / "census" / "tokens.csv", "token") == named
    assert deadtokens("diff", source, source, *options, "-o", tmp_path / "diff").status == 0
    assert set(named) <= set(column(tmp_path / "diff" / "diff.csv", "token"))
    assert dt.diff(source, source, tokenizer=tokenizer).texts is not None
    assert dt.diff(source, source).texts is None


def test_survey_takes_it_and_a_changed_one_anew(
    source: Path, tokenizer: Path, tmp_path: Path, deadtokens: Program
) -> None:
    (without,) = dt.survey([str(source)], tmp_path / "out")
    assert without.named is None
    options = ("--tokenizer", tokenizer, "-o", tmp_path / "out")
    assert deadtokens("survey", source, *options).status == 0
    (line,) = dt.survey([str(source)], tmp_path / "out", tokenizer=tokenizer)
    assert (line.named, line.padding) == (0, 0)
    shorter = byte_level({piece(f"word {i}"): i for i in range(290)})
    tokenizer.write_text(json.dumps(shorter))
    (line,) = dt.survey([str(source)], tmp_path / "out", tokenizer=tokenizer)
    assert line.padding == 10


def test_study(
    source: Path,
    tokenizer: Path,
    tmp_path: Path,
    deadtokens: Program,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shorten_studies(monkeypatch)
    monkeypatch.setattr(import_module("deadtokens.study"), "write_figures", lambda *_: [])
    run = tmp_path / "run"
    result = deadtokens("study", source, "--tokenizer", tokenizer, "--trials", 2, "-o", run)
    assert result.status == 0, result.err
    assert column(run / "census" / "tokens.csv", "token")[0] == f"word {DEAD[0]}"
    (command,) = json.loads((run / "study.json").read_text())["commands"]
    assert f"--tokenizer {tokenizer}" in command


def test_a_tokenizer_that_is_none_is_named(
    source: Path, tmp_path: Path, deadtokens: Program
) -> None:
    for words in (["diff", source, source], ["study", source, "-o", tmp_path / "run"]):
        result = deadtokens(*words, "--tokenizer", tmp_path / "nothing.json")
        assert result.status == 1
        assert "nothing.json" in result.message
