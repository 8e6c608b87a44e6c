"""The answer of a census in plain sentences, and the tables and lists below it in 80 columns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf_files import quantised, write_gguf
from made_models import byte_level, piece, write_model
from program import Program, in_a_terminal
from rich.text import Text
from test_dead_kinds import live, noise, point, taken_of
from test_gguf import q8_0

import deadtokens as dt
from deadtokens.answers import dead_sentence, in_families, named_sentence
from deadtokens.cli import display
from deadtokens.formats import FLOAT16, FLOAT32
from deadtokens.stocktaking import take_both, take_inventory


def test_the_cluster_is_said_without_jargon() -> None:
    values = live(1000)
    values[100:140] = point() + noise(40, 1e-6)
    said = dead_sentence(taken_of(values, FLOAT16), None)
    assert said == (
        "40 of 1,000 rows are dead: in a tight cluster, with a gap around it that chance does not "
        "make."
    )


def test_each_kind_of_evidence_has_its_number() -> None:
    values = live(1200)
    values[100:140] = point() + noise(40, 1e-6)
    values[3] = values[9]
    values[700:705] = 0
    said = dead_sentence(taken_of(values, FLOAT32), None)
    assert said.startswith("47 of 1,200 rows are dead: 40 in a tight cluster, ")
    assert "; 5 of zeros only; 2 equal to another row in every number, " in said


def test_none_and_one() -> None:
    values = live(900)
    assert dead_sentence(taken_of(values), None) == "No dead rows were found among 900."
    values[5] = 0
    assert dead_sentence(taken_of(values), None) == "1 of 900 rows is dead: of zeros only."


def test_what_is_undecided_is_no_number() -> None:
    values = live(900)
    taken = taken_of(values)
    taken = replace(taken, search=replace(taken.search, undecided="two measures differ"))
    assert dead_sentence(taken, None) == (
        "It is undecided whether any of the 900 rows are dead: two measures differ."
    )
    values[:3] = values[0]
    found = taken_of(values)
    found = replace(found, search=replace(found.search, undecided="two measures differ"))
    said = dead_sentence(found, None)
    assert said.startswith("At least 3 of 900 rows are dead: equal to another row ")
    assert said.endswith(" Whether others are is undecided: two measures differ.")


def test_the_other_matrix_is_part_of_the_answer(tmp_path: Path) -> None:
    rows = live(600).astype(np.float16)
    other = live(600, seed=9).astype(np.float16)
    other[10:30] = other[10]
    tensors = {"lm_head.weight": rows, "model.embed_tokens.weight": other}
    taken = take_inventory(dt.open_matrix(write_model(tmp_path / "m", tensors, tied=False)))
    untied = take_both(taken).untied
    said = dead_sentence(taken, untied)
    assert said == "No dead rows were found among 600. In the input matrix, 20 are dead."
    assert untied is not None
    assert dead_sentence(untied.read, untied).startswith("20 of 600 rows are dead: ")


def test_names_that_differ_in_a_number_are_a_family() -> None:
    names = ["<pad>", *(f"<extra_{i}>" for i in range(100)), "<a1>", "<a2>", "x" * 99]
    shown = in_families(names)
    assert shown[:4] == ["'<pad>'", "'<extra_0>' to '<extra_99>' (100)", "'<a1>'", "'<a2>'"]
    assert len(shown[4]) < 70
    assert in_families([]) == []


@pytest.mark.parametrize(
    ("untrained", "named", "said"),
    [
        (0, 0, "No special, reserved or added tokens are known."),
        (0, 7, "None of the 7 special, reserved and added tokens is shown to be untrained."),
        (3, 7, "3 of 7 special, reserved and added tokens are untrained:"),
        (7, 7, "All 7 special, reserved and added tokens are untrained:"),
    ],
)
def test_how_many_names(untrained: int, named: int, said: str) -> None:
    assert named_sentence(untrained, named) == said


def model(folder: Path) -> Path:
    """Fifty untrained tokens with names, of which some are long, and groups of equal rows."""
    rows = live(400).astype(np.float16)
    rows[:50] = rows[0]
    rows[50:53] = rows[50]
    texts = [f"word{chr(97 + i % 26)}{'x' * i}" for i in range(350)]
    tokens = byte_level({piece(text): 50 + i for i, text in enumerate(texts)})
    names = [f"<|{chr(97 + i % 26)}_{'long_' * (i % 4)}{chr(97 + i // 26)}|>" for i in range(50)]
    tokens["added_tokens"] = [
        {"id": i, "content": name, "special": True, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False}
        for i, name in enumerate(names)
    ]  # fmt: skip
    return write_model(folder / "m", {"lm_head.weight": rows}, tokens=tokens)


def test_the_answer_and_the_names_come_first(tmp_path: Path, deadtokens: Program) -> None:
    source = model(tmp_path)
    lines = deadtokens("census", source).out.splitlines()
    assert lines[0].startswith("53 of 400 tokens are dead: ")
    assert lines[1] == "All 50 special, reserved and added tokens are untrained:"
    named = ", ".join(lines[2 : lines.index("How this was found:")])
    facts = json.loads(deadtokens("census", source, "--json").out)
    assert facts["answer"] == lines[0]
    tokens = [token["token"] for token in facts["untrained"]]
    assert len(tokens) == facts["named_untrained"] == 50
    shown = [token for token in tokens if f"'{token}'" in named]
    assert f"and {50 - len(shown)} more: all of them in special.csv" in named
    assert all(len(line) <= 80 for line in lines[1:10])
    assert tokens[: len(shown)] == shown


def test_tables_fit_80_columns_and_no_token_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    status, shown = in_a_terminal("census", model(tmp_path))
    assert status == 0
    table = shown.replace("\r", "").split("\ngroup")[1].split("\nlabel")[0]
    assert "'<|b_long_a|>'" in table
    for line in table.splitlines():
        assert len(line) <= 80
        assert line.count("'") % 2 == 0


def test_numbers_are_aligned_on_the_right() -> None:
    table = display.new_table("n", "name")
    table.add_row("1,200", "a")
    table.add_row(Text("7"), "2b")
    table.add_row("3e-05", "")
    with display.recorded():
        display.print_table(table)
    assert [column.justify for column in table.columns] == ["right", "left"]


def test_lines_are_packed_without_breaking() -> None:
    assert display.packed(["aa", "bb", "cccccccccc", "d"], 8) == [
        ["aa", "bb"],
        ["cccccccccc"],
        ["d"],
    ]
    assert display.packed([], 8) == []


@pytest.mark.parametrize("rows", ["numbers", "quantised"])
def test_no_command_is_advised_that_would_be_refused(
    tmp_path: Path, deadtokens: Program, rows: str
) -> None:
    if rows == "numbers":
        values = live(400).astype(np.float16)
        values[3:9] = values[3]
        source = write_model(tmp_path / "m", {"lm_head.weight": values})
    else:
        raw = q8_0(np.ones(6), np.tile(np.arange(32), (6, 1)))
        source = write_gguf(tmp_path / "a.gguf", {"token_embd.weight": quantised("Q8_0", raw)})
    out = deadtokens("census", source).out
    assert f"Next: deadtokens census {source} -o DIR" in out
    assert (f"deadtokens study {source} -o DIR" in out) == (rows == "numbers")
