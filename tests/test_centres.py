"""What comes with a centre, and the four steps that fit together with their defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from program import Program

import deadtokens as dt
from deadtokens.centres import Centre, Terms, as_centre, settle
from deadtokens.errors import SelectionError, SourceError
from deadtokens.formats import BFLOAT16, FLOAT16, Format
from deadtokens.listening import Listener, listen
from deadtokens.observed import observe
from deadtokens.snowball import Snowball
from deadtokens.writing import write_safetensors

FITTED = Terms("float16", 300, 2.0**-17, 2.0**-16, 1.3e-8)


def centre(terms: Terms = FITTED) -> Centre:
    return Centre(np.array([0.01, -0.02]), "c.safetensors", terms)


def all_rows(name: str = "builtin:whisper-tiny.en") -> Snowball:
    matrix = dt.open_matrix(name)
    return dt.snowball_of(matrix, np.ones(matrix.n_rows, dtype=np.bool_))


@pytest.fixture(scope="module")
def cluster() -> Snowball:
    return all_rows()


@pytest.fixture(scope="module")
def fitted(cluster: Snowball) -> dt.Fit:
    return dt.fit(cluster)


def test_everything_comes_with_the_centre() -> None:
    found = settle(centre(), Terms())
    assert (found.format, found.n_tokens, found.sigma) == ("float16", 300, 1.3e-8)
    assert (found.epsilon, found.touching) == (2.0**-17, 2.0**-16)
    assert found.said == (
        "sigma 1.3e-08, 300 tokens, float16, epsilon 7.629394531e-06, touching 1.525878906e-05 "
        "from c.safetensors"
    )


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (Terms(format="bfloat16"), "format is bfloat16 by what is asked for, but float16 by c."),
        (Terms(n_tokens=299), "n_tokens is 299 by what is asked for, but 300 by c.safetensors"),
    ],
)
def test_a_contradiction_is_refused(given: Terms, named: str) -> None:
    with pytest.raises(SelectionError, match=named):
        settle(centre(), given)


def test_a_mean_of_rounded_rows_may_be_of_fewer_than_the_cluster() -> None:
    mean = Centre(np.array([0.01, -0.02]), "c.safetensors", FITTED, of_rounded_rows=True)
    assert settle(mean, Terms(n_tokens=2100)).n_tokens == 2100
    assert settle(mean, Terms()).n_tokens == 300
    with pytest.raises(SelectionError, match="format is bfloat16"):
        settle(mean, Terms(format="bfloat16"))


def test_lengths_may_be_chosen_anew() -> None:
    found = settle(centre(), Terms(epsilon=6e-5))
    assert (found.epsilon, found.touching) == (6e-5, None)
    found = settle(centre(), Terms(touching=1e-4))
    assert (found.epsilon, found.touching) == (2.0**-17, 1e-4)


def test_another_sigma_may_be_tried() -> None:
    assert settle(centre(), Terms(sigma=5e-9)).sigma == 5e-9
    assert "sigma" not in settle(centre(), Terms(sigma=5e-9)).said


@pytest.mark.parametrize(
    ("terms", "message"),
    [(Terms(n_tokens=5), "no sigma is given"), (Terms(sigma=1e-9), "how many tokens")],
)
def test_what_nothing_says_has_to_be_given(terms: Terms, message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        settle(centre(Terms()), terms)


def test_a_bare_array_says_nothing() -> None:
    found = settle(as_centre([0.5, 0.25]), Terms(n_tokens=7, sigma=1e-3))
    assert (found.format, found.epsilon, found.touching, found.said) == ("bfloat16", None, None, "")


def test_a_measured_row_says_as_much(cluster: Snowball) -> None:
    row = observe(dt.measure(cluster))
    found = settle(centre(Terms()), Terms(sigma=1e-9), row)
    assert (found.format, found.n_tokens) == ("float16", 300)
    assert found.said.endswith("from the measured row")
    with pytest.raises(SelectionError, match=r"epsilon is 0\.5 by what is asked for"):
        settle(centre(Terms()), Terms(sigma=1e-9, epsilon=0.5), row)
    with pytest.raises(SelectionError, match=r"n_tokens is 300 by the measured row, but 5 by c\."):
        settle(centre(Terms(n_tokens=5)), Terms(sigma=1e-9), row)


def test_touching_distances_that_float32_does_not_tell_apart_agree(cluster: Snowball) -> None:
    row = observe(dt.measure(cluster))
    assert row.touching is not None
    asked = Terms(sigma=1e-9, touching=row.touching * (1 + 1e-12))
    assert settle(centre(Terms()), asked, row).touching == asked.touching


@pytest.mark.parametrize("name", ["n_tokens", "epsilon", "touching", "sigma"])
def test_damaged_metadata_is_one_line(tmp_path: Path, name: str) -> None:
    file = tmp_path / "c.safetensors"
    write_safetensors(file, {"centroid": np.ones(2)}, {name: "many"})
    with pytest.raises(SourceError, match=f"its {name} is 'many', not a number"):
        as_centre(file)


def test_a_fits_file_says_what_the_fit_says(fitted: dt.Fit, tmp_path: Path) -> None:
    from deadtokens.exports import write_fit

    write_fit(tmp_path, fitted, dt.open_matrix("builtin:whisper-tiny.en"))
    read, held = as_centre(tmp_path / "centroid.safetensors"), as_centre(fitted)
    assert read.terms == held.terms
    assert np.array_equal(read.values, held.values)
    assert held.terms.epsilon == dt.measure(all_rows()).row["epsilon"]


# --- the four steps with defaults, on files of two formats and a built-in ---


def saved(folder: Path, fmt: Format) -> Path:
    """80 dead rows of one width among 400 live ones."""
    rng = np.random.default_rng(8)
    values = rng.normal(0, 0.02, (400, 48))
    values[100:180] = rng.normal(0, 0.004, 48) + rng.normal(0, 2e-7, (80, 48))
    file = folder / "model.safetensors"
    codes = fmt.round(values.astype(np.float32)).view(fmt.float_dtype)
    write_safetensors(file, {"lm_head.weight": codes}, {})
    return file


@pytest.mark.parametrize("source", ["builtin", FLOAT16, BFLOAT16], ids=str)
def test_the_four_commands_without_options(
    deadtokens: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Any
) -> None:
    monkeypatch.setattr("deadtokens.specification.TRIALS", 60)
    name, rows = "builtin:whisper-tiny.en", []
    if source != "builtin":
        name, rows = str(saved(tmp_path, source)), ["--rows", "cluster"]
    assert deadtokens("fit", name, *rows, "-o", tmp_path / "fit").status == 0
    assert deadtokens("measure", name, *rows, "-o", tmp_path / "m.csv").status == 0
    centroid = tmp_path / "fit" / "centroid.safetensors"
    swept = deadtokens("sweep", "--centroid", centroid, "-o", tmp_path / "run")
    assert swept.status == 0
    assert "taken: sigma " in swept.err
    compared = deadtokens("compare", tmp_path / "run", tmp_path / "m.csv", "--json")
    assert compared.status == 0
    facts = json.loads(compared.out)
    assert facts["notes"] == []
    (at,) = facts["sigmas"]
    assert at["trials"] == 60
    assert at["joint"]["verdict"] in ("consistent", "mild")


def test_the_four_calls_without_options(
    cluster: Snowball, fitted: dt.Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deadtokens.specification.TRIALS", 200)
    said: list[str] = []
    listen(Listener(message=said.append))
    try:
        (totals,) = dt.sweep(fitted, run=tmp_path / "run")
    finally:
        listen(None)
    assert any(line.startswith("taken: sigma 1.303e-08, 300 tokens, float16") for line in said)
    assert totals.sigma == fitted.sigma
    best = dt.compare(tmp_path / "run", dt.measure(cluster)).best
    assert best.joint.verdict == "consistent"
    unique = next(metric for metric in best.metrics if metric.metric == "n_unique")
    assert abs(unique.synthetic_mean - 257) < 3


def test_like_a_measured_row(cluster: Snowball, fitted: dt.Fit, tmp_path: Path) -> None:
    measured = dt.measure(cluster, epsilon=6e-5)
    dt.sweep(fitted.centre, 1.3e-8, trials=30, run=tmp_path / "run", like=measured)
    assert dt.compare(tmp_path / "run", measured).notes == ()


def test_a_run_folder_has_to_be_named(fitted: dt.Fit) -> None:
    with pytest.raises(SelectionError, match="no run folder"):
        dt.sweep(fitted)
