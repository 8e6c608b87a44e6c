"""Functions take what people have in hand, and say which argument is wrong where they cannot."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from containers import write_tensors
from made_models import tied_model
from planted import planted
from program import Program

import deadtokens as dt
from deadtokens.errors import DeadtokensError
from deadtokens.sources.given import given_array

VALUES, DEAD = planted(3, 400, 32, 24, 1e-6)
ROWS = VALUES.astype(np.float16)
HEAD = "lm_head.weight"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tensors(tmp_path / "m.safetensors", {HEAD: ROWS})


FORMS: dict[str, Callable[[Path], Any]] = {
    "a path": lambda path: path,
    "a str": str,
    "an array": lambda _: ROWS,
    "a state dict": lambda _: {HEAD: ROWS, "model.norm.weight": np.ones(32, np.float16)},
    "a module": lambda _: SimpleNamespace(state_dict=lambda: {HEAD: ROWS}),
    "a matrix": dt.open_matrix,
    "a result": dt.take_inventory,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same(path: Path, form: str) -> None:
    given = FORMS[form](path)
    dead = DEAD.tolist()
    assert dt.census(given).groups.tolist() == dt.census(dt.open_matrix(path)).groups.tolist()
    assert np.flatnonzero(dt.find_cluster(given).rows).tolist() == dead
    assert np.flatnonzero(dt.take_inventory(given).dead_rows.rows).tolist() == dead
    assert dt.snowball_of(given, DEAD).n_tokens == DEAD.size
    expected = dt.snowball_of(dt.open_matrix(path), DEAD)
    assert dt.measure(given).row == dt.measure(expected).row
    assert dt.fit(given).sigma == dt.fit(expected).sigma
    one, other = (dt.independence(x, permutations=99) for x in (given, expected))
    assert one.features == other.features
    assert dt.diff(given, path, label=False).identical == 400
    assert dt.label_rows(given) is None


def test_of_a_built_in_it_is_known_that_dimensions_were_left_out() -> None:
    assert dt.fit("builtin:qwen3-4b").sigma == pytest.approx(2.315e-6, rel=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float8_e4m3fn"])
def test_torch_tensors_are_taken_as_they_are_stored(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(VALUES.astype(np.float32)).to(getattr(torch, dtype))
    array = given_array(tensor)
    assert array is not None
    assert array.dtype == np.dtype(getattr(ml_dtypes, dtype, dtype))
    assert np.shares_memory(array.view(np.uint8), np.asarray(tensor.view(torch.uint8)))
    matrix = dt.open_matrix({HEAD: tensor})
    assert matrix.format.name == dtype
    assert np.array_equal(matrix.values(), tensor.to(torch.float32).numpy())


def study_of(source: object, folder: object = "x") -> None:
    dt.study(source, None, folder)  # type: ignore[arg-type]


untyped: Any = dt  # what a type checker would refuse
WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: untyped.census(3), "^matrix: a value of type int is no model; give a path"),
    (lambda: untyped.take_inventory([[1.0, 2.0]]), "^matrix: a value of type list is no model"),
    (lambda: untyped.label_rows(None), "^matrix: a value of type NoneType is no model"),
    (lambda: untyped.snowball_of(object(), [1]), "^matrix: a value of type object is no model"),
    (lambda: untyped.measure(3.5), "^snowball: a value of type float is no model"),
    (lambda: untyped.fit(()), "^snowball: a value of type tuple is no model"),
    (lambda: untyped.diff(ROWS, 3), "^b: a value of type int is no model"),
    (lambda: untyped.diff(3, ROWS), "^a: a value of type int is no model"),
    (lambda: untyped.open_matrix(3), "^source: a value of type int is no model"),
    (lambda: untyped.open_matrix({}), "state dict"),
    (lambda: study_of(3), "^matrix: a value of type int is no model"),
    (lambda: study_of(ROWS, 3), "^run: a value of type int is no folder; give a path"),
    (
        lambda: untyped.sweep(VALUES[0], 1e-3, 10, 2, "run", formt="float16"),
        "sweep has no argument 'formt'; did you mean format=",
    ),
    (lambda: untyped.sweep(VALUES[0], 1e-3, 10, 2, 7), "^run: a value of type int is no folder"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_wrong_arguments_are_named(
    call: Callable[[], object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeadtokensError, match=message):
        call()
    assert list(tmp_path.iterdir()) == []


def test_a_study_takes_a_source_and_a_folder_by_name(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("deadtokens.study")
    monkeypatch.setattr("deadtokens.curves.POINTS", 3)
    monkeypatch.setattr(module, "write_figures", lambda *_: [])
    monkeypatch.setattr(module, "write_report", lambda path, _: path.write_text("a page"))
    found = dt.study(str(path), None, str(tmp_path / "run"), trials=3)
    assert found.snowball.n_tokens == DEAD.size
    assert found.report == tmp_path / "run" / "report.html"
    assert dt.measure(found).row == dt.measure(found.snowball).row


# What is asked of a centre.


def test_a_fit_is_enough() -> None:
    fitted = dt.fit("builtin:whisper-tiny.en")
    (expected,) = dt.theory(fitted)
    assert expected.sigma == fitted.sigma
    assert expected == dt.theory(fitted.centre, fitted.sigma, 300, format="float16")[0]
    sigmas = np.array([1e-9, 1e-8], np.float64)
    assert [one.sigma for one in dt.theory(fitted, sigmas)] == [1e-9, 1e-8]
    assert dt.theory(fitted.centre, sigmas, 300) == dt.theory(fitted.centre, [1e-9, 1e-8], 300)
    (solved,) = dt.solve(fitted, "n_unique", 253)
    assert solved.expectation.n_unique == pytest.approx(253, rel=1e-3)
    drawn = dt.sample(fitted, trial=3)
    cloud = dt.Cloud(fitted.centre, fitted.sigma, format="float16")
    assert np.array_equal(drawn.codes, dt.sample(cloud, 300, trial=3).codes)


def test_a_file_that_fit_wrote_is_enough(tmp_path: Path, deadtokens: Program) -> None:
    assert deadtokens("fit", "builtin:whisper-tiny.en", "-o", tmp_path).status == 0
    centre = tmp_path / "centroid.safetensors"
    fitted = dt.fit("builtin:whisper-tiny.en")
    assert dt.theory(centre) == dt.theory(fitted)
    assert np.array_equal(dt.sample(centre).codes, dt.sample(fitted).codes)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: dt.theory([1e-3] * 4, [1e-8]), "nothing says how many tokens a trial has"),
        (lambda: dt.theory([1e-3] * 4, n_tokens=10), "no sigma is given"),
        (lambda: dt.theory([1e-3] * 4, [], 10), "give at least one"),
        (lambda: dt.sample(dt.Cloud([1e-3] * 4, 1e-6)), "sample: no n_tokens; give a cloud and n"),
        (lambda: dt.study(DEAD), "no run folder; name one: run=FOLDER"),
    ],
)
def test_what_is_missing_is_named(call: Callable[[], object], said: str) -> None:
    with pytest.raises(dt.DeadtokensError, match=said):
        call()


def test_defaults_of_what_takes_a_model(tmp_path: Path) -> None:
    path = tied_model(tmp_path / "model")
    assert dt.snowball_of(path).n_tokens == dt.measure(path).row["n_tokens"]
    assert dt.marginals(path).reason == dt.marginals(dt.fit(path)).reason
    kept = dt.keep_map(path)
    assert kept.kept.size == 272 - len(dt.dead_tokens(path))
    assert [line.source for line in dt.survey(path)] == [str(path)]
