"""Which tokens are dead: census, cluster and labels put together, in one matrix and in two."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_models import (
    ADDED,
    NEAR,
    TWINS,
    ZEROS,
    dead_matrix,
    tied_model,
    tokenizer,
    untied_model,
    write_model,
)

import deadtokens as dt
from deadtokens.inventory import Both, Inventory, composition, dead_lines, named_lines
from deadtokens.stocktaking import take_both, take_inventory


@pytest.fixture
def taken(tmp_path: Path) -> Inventory:
    return take_inventory(dt.open_matrix(tied_model(tmp_path / "model")))


def test_dead_rows_are_the_cluster_and_the_zeros(taken: Inventory) -> None:
    dead = np.flatnonzero(taken.dead_rows.rows).tolist()
    assert dead == sorted((*TWINS, *NEAR, *ZEROS))
    assert np.flatnonzero(taken.search.rows).tolist() == sorted((*TWINS, *NEAR))
    assert np.flatnonzero(taken.search.zero).tolist() == list(ZEROS)


def test_every_dead_token_comes_with_its_evidence(taken: Inventory) -> None:
    lines = {token.row: token for token in dead_lines(taken)}
    assert list(lines) == sorted(lines)
    rows = dead_matrix().astype(np.float64)
    for row, token in lines.items():
        assert token.evidence == ("zeros" if row in ZEROS else "cluster")
        assert token.norm == pytest.approx(np.linalg.norm(rows[row]))
        assert token.token_id == row
        assert token.dead_in == "only"
    sizes = Counter(map(bytes, dead_matrix()[list(lines)]))
    assert {row: token.population for row, token in lines.items()} == {
        row: sizes[bytes(dead_matrix()[row])] for row in lines
    }
    assert lines[262].label == "reserved"
    assert lines[264].label == "special"
    assert lines[263].label == "added"
    assert lines[192].label == lines[255].label == "byte"
    assert lines[266].label == "padding"
    assert lines[266].token == ""
    assert lines[264].token == "<|pad|>"


def test_named_tokens_say_which_are_untrained(taken: Inventory) -> None:
    named = {token.token: token for token in named_lines(taken)}
    assert set(named) == {content for content, _, _ in ADDED}
    assert {name for name, token in named.items() if token.untrained} == {
        "<|reserved_special_token_0|>", "<tool>", "<|pad|>"
    }  # fmt: skip
    assert "5 rows share its vector" in named["<|pad|>"].evidence
    assert "inside the void" in named["<|pad|>"].evidence
    assert named["<tool>"].evidence == "all its numbers are zero"
    assert "beyond the void" in named["<|end|>"].evidence


def test_a_named_token_whose_row_is_not_finite(tmp_path: Path) -> None:
    rows = dead_matrix()
    rows[261, 3] = np.inf
    tensors = {"lm_head.weight": rows}
    folder = write_model(tmp_path / "m", tensors, tokens=tokenizer())
    named = {token.row: token for token in named_lines(take_inventory(dt.open_matrix(folder)))}
    assert named[261].evidence == "its row holds NaN or an infinity"


def test_labels_are_shown_as_a_table(taken: Inventory) -> None:
    assert taken.labels is not None
    shown = taken.labels._repr_html_()
    assert "272 rows" in shown
    for label, count in taken.labels.label_counts().items():
        assert re.search(f">{label}</t.>.*>{count}</t.>", shown, re.DOTALL)


def test_a_census_without_groups_is_shown_in_a_line() -> None:
    shown = dt.census(dt.open_matrix(np.eye(4, dtype=np.float32)))._repr_html_()
    assert "4 rows, 4 distinct vectors, 0 black holes with 0 rows" in shown
    assert "<table" not in shown


def test_composition_counts_labels_and_scripts(taken: Inventory) -> None:
    of_twins = composition(taken.labels, np.array(TWINS))
    assert of_twins.n_rows == 5
    assert of_twins.labels == {"byte": 3, "reserved": 1, "special": 1}
    assert composition(None, np.array(TWINS)).labels == {}


def test_rows_that_would_merge_are_counted_in_the_coarser_format(taken: Inventory) -> None:
    """Against a plain count over the rounded values."""
    import ml_dtypes

    rounded = dead_matrix().astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float32) + 0.0
    counts = Counter(row.tobytes() for row in rounded)
    expected = sum(n for n in counts.values() if n > 1)
    assert taken.merging == {"bfloat16": expected}


def test_without_a_tokenizer_there_are_no_labels(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", {"lm_head.weight": dead_matrix()}, tied=None)
    taken = take_inventory(dt.open_matrix(folder))
    assert taken.labels is None
    assert named_lines(taken) == []
    assert {token.label for token in dead_lines(taken)} == {""}
    assert {token.reachable for token in dead_lines(taken)} == {None}


def test_untied_matrices_are_both_looked_at(tmp_path: Path) -> None:
    taken = take_inventory(dt.open_matrix(untied_model(tmp_path / "m")))
    assert taken.matrix.tensor == "lm_head.weight"
    untied = take_both(taken).untied
    assert untied is not None
    assert untied.written is taken
    assert untied.read.matrix.tensor == "model.embed_tokens.weight"
    assert np.flatnonzero(untied.read.dead_rows.rows).tolist() == sorted((*TWINS, 10))
    assert untied.counts == {
        "input only": 1, "output only": len(NEAR) + len(ZEROS), "both": len(TWINS)
    }  # fmt: skip
    where = {token.row: token.dead_in for token in dead_lines(taken, untied)}
    assert where == (
        dict.fromkeys(TWINS, "both") | dict.fromkeys((*NEAR, *ZEROS), "output") | {10: "input"}
    )


def test_tied_matrices_are_one(taken: Inventory) -> None:
    assert take_both(taken) == Both()
    assert take_both(take_inventory(dt.open_matrix("builtin:whisper-tiny.en"))) == Both()


def test_the_other_matrix_is_not_transferred_unasked(tmp_path: Path) -> None:
    """Of a remote model reading a tensor costs a transfer: none is made, and none is needed."""
    from dataclasses import replace

    matrix = dt.open_matrix(untied_model(tmp_path / "m"))
    assert matrix.model is not None

    def refuse() -> np.ndarray:
        raise AssertionError("transferred")

    tensors = {
        name: replace(tensor, read=refuse) if name == "model.embed_tokens.weight" else tensor
        for name, tensor in matrix.model.tensors.items()
    }
    remote = replace(matrix.model, tensors=tensors, remote=True)
    taken = take_inventory(replace(matrix, model=remote))
    assert "add --both" in take_both(taken).unread
    with pytest.raises(AssertionError, match="transferred"):
        take_both(taken, transfer=True)


def test_a_matrix_that_cannot_be_read_does_not_stop_the_other(tmp_path: Path) -> None:
    tensors = {
        "lm_head.weight": dead_matrix(),
        "model.embed_tokens.weight": np.zeros((272, 48), np.int8),
    }
    folder = write_model(tmp_path / "m", tensors, tied=False)
    both = take_both(take_inventory(dt.open_matrix(folder)))
    assert both.untied is None
    assert "holds 8-bit integers" in both.unread


def test_rows_beyond_the_shorter_matrix_are_listed(tmp_path: Path) -> None:
    """And what is told of a row is that of the matrix it is dead in."""
    read = np.random.default_rng(6).normal(0, 0.05, (300, 48)).astype(np.float16)
    read[280:] = read[3]
    tensors = {"model.embed_tokens.weight": read, "lm_head.weight": dead_matrix()}
    folder = write_model(tmp_path / "m", tensors, tied=False)
    taken = take_inventory(dt.open_matrix(folder))
    untied = take_both(taken).untied
    assert untied is not None
    lines = {token.row: token for token in dead_lines(taken, untied)}
    assert sorted(lines) == sorted({*range(280, 300), *TWINS, *NEAR, *ZEROS})
    assert len(lines) == sum(untied.counts.values())
    for row in (280, 299):
        assert (lines[row].dead_in, lines[row].population) == ("input", 21)
        assert lines[row].evidence == "copy"
        assert lines[row].norm == pytest.approx(float(np.linalg.norm(read[3].astype(float))))
