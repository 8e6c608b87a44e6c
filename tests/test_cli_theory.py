"""The theory command as a user meets it: table, JSON, CSV, solving and errors."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from program import Program

import deadtokens as dt

COLUMNS = (
    "sigma,coinciding_pairs,n_unique,n_unique_se,n_singletons,n_singletons_se,n_black_holes,"
    "n_black_holes_se,black_hole_population,black_hole_population_se,touching_probability,"
    "touching_probability_se"
)
CENTROID = (np.random.default_rng(1).standard_t(4.5, 200) * 3e-3).astype(np.float32)
# Exact; estimated; no pair left; hardly any token touches.
SIGMAS = [1e-9, 3.5e-8, 1e-5, 1e-2]


@pytest.fixture
def theory(deadtokens: Program, tmp_path: Path) -> Program:
    """Runs the command on the centroid."""
    np.save(tmp_path / "centroid.npy", CENTROID)
    return partial(deadtokens, "theory", "--centroid", tmp_path / "centroid.npy")


SPEC = ("--tokens", 300, "--sigma", ",".join(map(str, SIGMAS)))


def test_the_table_labels_what_is_estimated(theory: Program) -> None:
    status, out, err = theory(*SPEC)
    lines = out.splitlines()
    assert status == 0
    assert "200 dimensions" in err
    assert lines[0].split() == [name for name in COLUMNS.split(",") if not name.endswith("_se")]
    assert [line.split()[0] for line in lines[1:5]] == ["1e-09", "3.5e-08", "1e-05", "0.01"]
    assert "+-" not in lines[1]
    assert "+-" in lines[2]
    assert lines[4].count("< 1e-300") == 2
    assert "touch up to" in lines[5]
    assert "+- a standard error" in lines[5]


def test_json_and_csv_hold_the_same_as_python(theory: Program, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "theory.csv"
    status, out, err = theory(*SPEC, "--json", "-o", path)
    assert status == 0
    assert f"wrote {path}: 4 rows x 12 columns" in err
    facts = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not strict JSON"))
    assert facts["touching"] == 2 * facts["epsilon"]
    expected = dt.theory(CENTROID, SIGMAS, 300)
    with path.open(newline="") as file:
        assert file.readline().strip() == COLUMNS
        file.seek(0)
        rows = list(csv.DictReader(file))
    assert len(rows) == len(facts["expectations"]) == len(expected)
    for row, found, wanted in zip(rows, facts["expectations"], expected, strict=True):
        for name in COLUMNS.split(","):
            value = getattr(wanted, name)
            exact = name.endswith("_se") and value == 0
            assert row[name] == ("" if exact else repr(value))
            assert found[name] == (None if exact else value)
    assert not rows[0]["n_unique_se"]
    assert rows[1]["n_unique_se"]


def test_options_reach_the_model(theory: Program) -> None:
    options = {"noise": "laplace", "format": "float16", "intermediate": "exact"}
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    status, out, _ = theory(
        "--tokens", 50, "--sigma", "1e-6", "--touching", "1e-5", "--json", *arguments
    )
    assert status == 0
    (wanted,) = dt.theory(CENTROID, 1e-6, 50, touching=1e-5, **options)  # type: ignore[arg-type]
    (found,) = json.loads(out)["expectations"]
    assert found["n_unique"] == wanted.n_unique
    assert 0 < found["touching_probability"] == wanted.touching_probability < 1


def test_solving_prints_sigma_and_the_range(theory: Program) -> None:
    status, out, _ = theory("--tokens", 300, "--solve", "n_unique=13")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("n_unique = 13 at sigma = ")
    assert lines[0].endswith("(exact)")
    assert lines[1].startswith("searched: sigma from ")
    sigma = float(lines[0].split()[-2])
    assert dt.theory(CENTROID, sigma, 300)[0].n_unique == pytest.approx(13, rel=1e-6)
    status, out, _ = theory("--tokens", 300, "--solve", "n_unique=290", "--json")
    assert status == 0
    (solution,) = json.loads(out)["solve"]["solutions"]
    assert 0 < solution["sigma_se"] < 0.01 * solution["sigma"]


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        ((), ("no sigma", "--solve")),
        (("--solve", "n_unique"), ("'n_unique'", "METRIC=VALUE")),
        (("--solve", "n_uniqe=3"), ("n_uniqe", "n_unique")),
        (("--solve", "n_unique=300"), ("no sigma", "above 1 and below 300")),
        (("--solve", "n_unique=20", "--sigma", "1e-12:1e-11:2"), ("not reached", "it is 1 at")),
        (("--solve", "n_unique=20", "--sigma", "1e-9"), ("range",)),
        (("--sigma", "1e-9", "--touching", "0"), ("touching", "positive")),
        (("--sigma", "1e-9", "--epsilon", "nan"), ("epsilon", "positive")),
        (("--sigma", "1e-9", "-o", "/dev/null"), ("/dev/null",)),
    ],
)
def test_errors_are_one_line_with_a_remedy(
    theory: Program, arguments: tuple[str, ...], texts: tuple[str, ...]
) -> None:
    result = theory("--tokens", 300, *arguments)
    assert result.status == 1
    assert result.out == ""
    assert "\n" not in result.message
    for text in texts:
        assert text in result.message
