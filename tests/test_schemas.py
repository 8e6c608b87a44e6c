"""What commands print as JSON is what their schemas say: no more, no less."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from made_models import tied_model, untied_model
from program import Program

import deadtokens as dt
from deadtokens.cli.app import app
from deadtokens.cli.schemas import SCHEMAS, schema_of

WHISPER, QWEN = "builtin:whisper-tiny.en", "builtin:qwen3-4b"


def strict(schema: Any) -> Any:
    """The schema, with nothing allowed that it does not name."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(part) for name, part in schema.items()}
    return closed | ({"additionalProperties": False} if "properties" in schema else {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, a run, a measured row and saved trials."""
    folder = tmp_path_factory.mktemp("schemas")
    tied_model(folder / "tied")
    untied_model(folder / "untied")
    rng = np.random.default_rng(1)
    np.save(folder / "plain.npy", rng.normal(0, 0.02, (60, 8)).astype(np.float32))
    np.save(folder / "equal.npy", np.ones((6, 4), np.float16))
    np.save(folder / "trials.npy", rng.normal(0, 1e-3, (3, 6, 4)).astype(np.float32))
    dt.sweep(dt.fit(WHISPER), [1e-8, 2e-8], trials=20, run=folder / "run")
    return folder


LINES = [
    f"inspect {WHISPER}",
    "inspect {}/untied",
    "inspect {}/tied",
    f"census {WHISPER}",
    f"census {QWEN}",
    "census {}/tied",
    "census {}/untied",
    "census {}/untied --export-keep {}/keep.safetensors",
    "census {}/plain.npy",
    "census {}/equal.npy",
    f"measure {WHISPER}",
    f"measure {QWEN}",
    "measure {}/equal.npy",
    "measure {}/trials.npy",
    f"independence {WHISPER}",
    "independence {}/equal.npy",
    f"fit {WHISPER}",
    f"fit {QWEN}",
    "fit {}/equal.npy",
    "theory --centroid {}/run/centroid.safetensors --tokens 300 --sigma 1e-8,2e-8",
    "theory --centroid {}/run/centroid.safetensors --tokens 300 --sigma 0",
    "theory --centroid {}/run/centroid.safetensors --tokens 300 --solve n_unique=250",
    "compare {}/run {}/measured.csv",
    f"survey {WHISPER} {{}}/untied {{}}/nothing",
    "diff {}/tied {}/tied",
    "diff {}/plain.npy {}/plain.npy",
    "diff {}/tied {}/untied",
]


@pytest.mark.parametrize("line", LINES)
def test_output_is_what_the_schema_says(line: str, folder: Path, deadtokens: Program) -> None:
    if "measured.csv" in line and not (folder / "measured.csv").exists():
        assert deadtokens("measure", WHISPER, "-o", folder / "measured.csv").status == 0
    words = line.replace("{}", str(folder)).split()
    done = deadtokens(*words, "--json")
    assert done.out, done.err
    facts = json.loads(done.out)
    assert facts["schema_version"] == 1
    errors = list(Draft202012Validator(strict(schema_of(words[0]))).iter_errors(facts))
    assert not errors, [f"{error.json_path}: {error.message}" for error in errors[:5]]


def test_a_field_that_is_missing_or_too_much_is_noticed(deadtokens: Program) -> None:
    facts = json.loads(deadtokens("census", WHISPER, "--json").out)
    validator = Draft202012Validator(strict(schema_of("census")))
    lacking = copy.deepcopy(facts)
    del lacking["n_dead"]
    assert not validator.is_valid(lacking)
    assert not validator.is_valid(facts | {"further": 1})
    assert not validator.is_valid(facts | {"n_dead": "many"})
    # What a reader is promised takes further fields.
    assert Draft202012Validator(schema_of("census")).is_valid(facts | {"further": 1})


def test_every_command_that_prints_json_has_a_schema(deadtokens: Program) -> None:
    names = {command.callback.__name__ for command in app.registered_commands if command.callback}
    printing = {name for name in names if "--json" in deadtokens(name, "--help").out}
    assert printing - {"schema"} == set(SCHEMAS)
    for name in SCHEMAS:
        printed = json.loads(deadtokens("schema", name).out)
        Draft202012Validator.check_schema(printed)
        assert printed == schema_of(name)


def test_a_command_without_json(deadtokens: Program) -> None:
    done = deadtokens("schema", "sweep")
    assert done.status == 1
    assert done.message.startswith("error: COMMAND: sweep prints no JSON; name one of inspect, cen")
