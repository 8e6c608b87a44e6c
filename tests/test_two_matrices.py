"""Tied or not: numbers decide where both matrices are there; both are judged where they differ."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from containers import write_tensors
from made_models import ADDED, dead_matrix, tokenizer

import deadtokens as dt
from deadtokens.census_files import write_inventory
from deadtokens.diff import diff
from deadtokens.errors import SourceError
from deadtokens.inventory import Inventory, named_lines
from deadtokens.report.census_findings import gather_census
from deadtokens.report.census_page import census_page
from deadtokens.report.survey_page import survey_page
from deadtokens.sources import like_with_like, open_matrix, open_model, roles_compared
from deadtokens.stocktaking import take_both, take_inventory
from deadtokens.survey import survey
from deadtokens.survey_lines import write_survey

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
V, D = 272, 48
SPECIAL = [number for _, number, _ in ADDED]
Numbers = npt.NDArray[Any]


def live(seed: int = 1, rows: int = V) -> Numbers:
    return np.random.default_rng(seed).normal(0, 0.05, (rows, D)).astype(np.float16)


def dead(rows: list[int], seed: int = 2) -> Numbers:
    numbers = live(seed)
    numbers[rows] = numbers[rows[0]]
    return numbers


def model(folder: Path, config: object = None, tokens: object = None, **tensors: Numbers) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    names = {"read": EMBED, "written": HEAD}
    write_tensors(
        folder / "model.safetensors", {names.get(k, k): held for k, held in tensors.items()}
    )
    for name, content in (("config.json", config), ("tokenizer.json", tokens)):
        if content is not None:
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


# --- tied or not ---


@pytest.mark.parametrize("said", [True, False, None])
def test_two_matrices_that_differ_are_two_whatever_config_says(
    tmp_path: Path, said: bool | None
) -> None:
    config = None if said is None else {"tie_word_embeddings": said}
    source = model(tmp_path, config, read=dead([7, 8, 9]), written=live())
    opened = open_model(source)
    assert opened.equal is False
    assert opened.both_names() == (EMBED, HEAD)
    taken = take_inventory(opened.matrix())
    untied = take_both(taken).untied
    assert untied is not None
    assert untied.counts == {"input only": 3, "output only": 0, "both": 0}
    claims = [warning for warning in taken.warnings if "says that they are tied" in warning]
    assert len(claims) == (1 if said else 0)


@pytest.mark.parametrize("said", [True, False, None])
def test_two_matrices_that_are_equal_are_one_whatever_config_says(
    tmp_path: Path, said: bool | None
) -> None:
    config = None if said is None else {"tie_word_embeddings": said}
    source = model(tmp_path, config, read=dead([7, 8]), written=dead([7, 8]))
    opened = open_model(source)
    assert opened.equal is True
    assert opened.both_names() == ()
    taken = take_inventory(opened.matrix())
    assert take_both(taken).untied is None
    assert taken.warnings == ()
    (note,) = taken.matrix.notes
    assert "hold the same numbers" in note
    assert ("although config.json says that they are not tied" in note) is (said is False)
    (line,) = survey([str(source)])
    assert line.tied is True


@pytest.mark.parametrize("row", [0, V - 1])
def test_one_number_makes_them_two(tmp_path: Path, row: int) -> None:
    other = live()
    other[row, 5] += np.float16(1)
    assert open_model(model(tmp_path, read=live(), written=other)).equal is False


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (np.float16, np.float32, True),
        (ml_dtypes.bfloat16, np.float32, False),  # rounding moved it
        (np.float32, np.float64, True),
    ],
)
def test_formats_that_differ_are_compared_by_value(
    tmp_path: Path, left: Any, right: Any, equal: bool
) -> None:
    source = model(tmp_path, read=live().astype(left), written=live().astype(right))
    assert open_model(source).equal is equal


def test_padding_of_one_of_them_makes_them_two(tmp_path: Path) -> None:
    source = model(tmp_path, read=live(), written=np.vstack([live(), live(9, 16)]))
    opened = open_model(source)
    assert opened.equal is False
    assert opened.both_names() == (EMBED, HEAD)


@pytest.mark.parametrize(
    "config",
    [
        {"tie_word_embeddings": False, "text_config": {"tie_word_embeddings": True}},
        {"tie_word_embeddings": True, "text_config": {"tie_word_embeddings": False}},
    ],
)
def test_a_config_that_contradicts_itself(tmp_path: Path, config: object) -> None:
    matrix = open_matrix(model(tmp_path / "one", config, read=live()))
    assert matrix.tensor == EMBED
    assert "config.json contradicts itself" in matrix.warnings[0]
    both = model(tmp_path / "two", config, read=live(3), written=live())
    taken = take_inventory(open_matrix(both))
    assert "contradicts itself" in taken.warnings[0]


@pytest.mark.parametrize(
    "config",
    [{"weight_tying": False}, {"llm_config": {"tie_word_embeddings": False}},
     {"untie_embeddings_and_output_weights": True}, {"share_embeddings_and_output_weights": False}],
    ids=str,
)  # fmt: skip
def test_an_input_matrix_alone_of_an_untied_model_is_refused(
    tmp_path: Path, config: object
) -> None:
    with pytest.raises(SourceError, match=f"not tied.*--tensor {EMBED}"):
        open_matrix(model(tmp_path, config, read=live()))


@pytest.mark.parametrize("said", [True, None])
@pytest.mark.parametrize(
    "name", ["lm_head.qweight", "lm_head.weight.absmax", "lm_head.weight_packed", "lm_head.W_q"]
)
def test_a_quantised_output_matrix_is_there(tmp_path: Path, name: str, said: bool | None) -> None:
    """It cannot be read, which does not make the input matrix the output one."""
    config = None if said is None else {"tie_word_embeddings": said}
    packed = {name: np.zeros((4, V), np.int32)}
    source = model(tmp_path, config, None, read=live(), **packed)
    if said:
        assert "quantised" in open_matrix(source).warnings[0]
    else:
        with pytest.raises(SourceError, match=rf"quantised: {name}.*--tensor {EMBED}"):
            open_matrix(source)


# --- special tokens in both ---


@pytest.fixture
def specials(tmp_path: Path) -> tuple[Inventory, Path]:
    """All five added tokens are dead in the input, one of them in the output too."""
    written = live()
    written[[SPECIAL[0], 3]] = written[3]
    config = {"tie_word_embeddings": False}
    source = model(tmp_path / "m", config, tokenizer(), read=dead(SPECIAL), written=written)
    taken = take_inventory(open_matrix(source))
    (tmp_path / "census").mkdir()
    write_inventory(tmp_path / "census", taken, take_both(taken).untied)
    return taken, tmp_path / "census"


def test_special_tokens_are_untrained_in_either_matrix(specials: tuple[Inventory, Path]) -> None:
    taken, folder = specials
    named = named_lines(taken, take_both(taken).untied)
    assert [token.untrained for token in named] == [True] * len(SPECIAL)
    assert [token.dead_in for token in named] == ["both", *["input"] * (len(SPECIAL) - 1)]
    assert named[1].evidence.startswith("in the input: ")
    assert "; in the output: " in named[0].evidence
    untied = take_both(taken).untied
    assert untied is not None
    norms = np.linalg.norm(untied.read.matrix.values().astype(float), axis=1)
    assert named[1].norm == pytest.approx(norms[SPECIAL[1]])
    # By the matrix alone that was opened, only one of them is.
    assert [token.dead_in for token in named_lines(taken)] == ["only", "", "", "", ""]
    with (folder / "special.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["untrained"] for line in lines} == {"yes"}
    assert [line["dead_in"] for line in lines] == [token.dead_in for token in named]
    facts = json.loads((folder / "census.json").read_text())
    assert (facts["named"], facts["named_untrained"]) == (5, 5)


def test_the_page_says_in_which(specials: tuple[Inventory, Path]) -> None:
    findings = gather_census(specials[1])
    assert findings is not None
    table = next(table for table in census_page(findings).tables if table.name == "special")
    assert "dead in" in table.columns
    assert "in the input or the output matrix" in table.note


def test_a_page_of_a_census_written_before_both_were_judged(
    specials: tuple[Inventory, Path],
) -> None:
    path = specials[1] / "special.csv"
    lines = [line.rsplit(",", 1)[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    findings = gather_census(specials[1])
    assert findings is not None
    table = next(table for table in census_page(findings).tables if table.name == "special")
    assert "dead in" not in table.columns


def test_a_page_never_says_none_where_the_other_matrix_has_dead_rows(tmp_path: Path) -> None:
    source = model(tmp_path / "m", {"tie_word_embeddings": True}, read=dead([7, 8]), written=live())
    taken = take_inventory(open_matrix(source))
    (tmp_path / "census").mkdir()
    write_inventory(tmp_path / "census", taken, take_both(taken).untied)
    findings = gather_census(tmp_path / "census")
    assert findings is not None
    opening = census_page(findings).opening
    assert (opening.answer, opening.mood) == ("2 in the other matrix", "no")
    assert any("says that they are tied" in str(warning) for warning in opening.warnings)


def test_a_survey_counts_special_tokens_in_both(tmp_path: Path) -> None:
    config = {"tie_word_embeddings": False}
    source = model(tmp_path, config, tokenizer(), read=dead(SPECIAL), written=live())
    (line,) = survey([str(source)])
    assert (line.tied, line.dead, line.dead_input, line.dead_named) == (False, 0, 5, 5)


# --- like with like ---


def test_an_input_matrix_is_compared_with_an_input_matrix(tmp_path: Path) -> None:
    base = dead_matrix()
    child = base.copy()
    child[:100] += np.float16(0.01)
    one = open_matrix(model(tmp_path / "a", read=base))
    two = open_matrix(model(tmp_path / "b", read=child, written=live()))
    assert two.tensor == HEAD
    for a, b in (like_with_like(one, two), like_with_like(two, one)):
        assert (a.tensor, b.tensor, a.warnings) == (EMBED, EMBED, ())
        assert roles_compared(a, b) == "the input matrix of A with the input matrix of B"
    found = diff(*like_with_like(one, two))
    assert found.identical == V - 100
    assert found.tally == {"unchanged": len(found.groups)}


def test_output_matrices_are_compared_where_both_have_them(tmp_path: Path) -> None:
    one = open_matrix(model(tmp_path / "a", read=live(3), written=live(4)))
    two = open_matrix(model(tmp_path / "b", written=live(5)))
    a, b = like_with_like(one, two)
    assert (a.tensor, b.tensor) == (HEAD, HEAD)


@pytest.mark.parametrize("tied", [True, None])
def test_roles_that_have_to_differ_are_said_first(tmp_path: Path, tied: bool | None) -> None:
    """Of a model that says it is tied, the input matrix is the output matrix."""
    config = None if tied is None else {"tie_word_embeddings": tied}
    one = open_matrix(model(tmp_path / "a", config, read=live(3)))
    two = open_matrix(model(tmp_path / "b", written=live(4)))
    found = diff(*like_with_like(one, two))
    assert len(found.warnings) == (0 if tied else 1)
    if not tied:
        assert "the input matrix of A" in found.warnings[0]


def test_matrices_without_a_model_are_compared_as_they_are() -> None:
    a, b = (dt.open_matrix(live(seed)) for seed in (1, 2))
    assert like_with_like(a, b) == (a, b)
    assert roles_compared(a, b) == ""


def test_a_survey_says_where_the_evidence_conflicts(tmp_path: Path) -> None:
    source = model(tmp_path, {"tie_word_embeddings": True}, read=dead([7, 8]), written=live())
    (line,) = survey([str(source)])
    assert (line.tied, line.dead_input) == (False, 2)
    assert "says that they are tied" in line.warnings[0]
    write_survey(tmp_path / "survey.csv", [line])
    assert "says that they are tied" in (tmp_path / "survey.csv").read_text().splitlines()[1]
    assert str(source) in str(survey_page([line], {}).opening.warnings[0])
