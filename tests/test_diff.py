"""Two models compared: pairs made by hand for each kind of change, and an oracle."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections import defaultdict
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import typer
from containers import AnyArray, write_tensors
from gguf_files import quantised, write_gguf
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from deadtokens.cli import diffing
from deadtokens.diff import Diff, GroupChange, diff
from deadtokens.diff.blocks import distances, equal_once_rounded
from deadtokens.diff.files import write_diff
from deadtokens.errors import DeadtokensError, SelectionError, plain
from deadtokens.formats import BFLOAT16, FLOAT16, FLOAT32, Format
from deadtokens.rows import MadeRows
from deadtokens.sources import Matrix, Quantised
from deadtokens.writing import spreadsheet_safe, spreadsheet_text

NAN = float("nan")


def matrix(rows: Any, fmt: Format = FLOAT32, **more: Any) -> Matrix:
    """Numbers as a matrix; one number stands for a row of (it, 1, 2)."""
    values = np.array([row if isinstance(row, tuple) else (row, 1, 2) for row in rows], np.float32)
    return Matrix(fmt.round(values), fmt, "made", "x", "", **more)


def changes(a: Any, b: Any) -> list[str]:
    return [group.change for group in diff(matrix(a), matrix(b)).groups]


# --- each kind, by hand ---


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 1, 2], [1, 1, 2], ["unchanged"]),
        ([1, 1, 2], [1, 1, 9], ["unchanged"]),
        ([1, 1, 2], [7, 7, 2], ["moved"]),
        ([1, 1, 1, 2], [1, 1, 5, 2], ["split"]),
        ([1, 1, 1, 2], [3, 4, 5, 2], ["split"]),
        ([2, 1, 1, 1], [2, 1, 1], ["trimmed"]),
        ([2, 1, 1, 1], [2], ["trimmed"]),
        ([2, 1, 1, 1], [2, 1], ["trimmed"]),
        ([2, 1, 1, 1], [2, 8, 8], ["trimmed+moved"]),
        ([2, 1, 1, 1], [2, 8, 9], ["trimmed+split"]),
        ([1, 1, 1, 5, 5], [1, 1, 1, 1, 1], ["merged", "moved+merged"]),
        ([1, 1, 1, 5, 5], [8, 8, 8, 8, 8], ["moved+merged", "moved+merged"]),
        ([1, 1, 1, 5, 5], [1, 1, 5, 5, 5], ["split+merged", "merged"]),
        ([1, 1, 3], [1, 1, 1], ["grown"]),
        ([1, 1, 3], [1, 1, 3, 1], ["grown"]),
        ([1, 1, 3], [3, 3, 3], ["moved+grown"]),
        ([1, 1, NAN], [1, 1, 1], ["grown"]),
        ([1, 1, 1], [1, NAN, 1], ["not finite"]),
        ([1, 1, 1], [NAN, NAN, NAN], ["not finite"]),
        ([1, 1, 1], [1, NAN, 2], ["not finite+split"]),
        ([1, 1, 1], [math.inf, 3, 3], ["not finite+moved"]),
        (
            [1, 1, 1, 1, 5, 5, 7],
            [1, 3, NAN, 1, 1, 1][:6],
            ["not finite+split+merged", "moved+merged"],
        ),
        ([2, 2, 1, 1, 1, 9], [2, 2, 2, 9], ["trimmed+split+merged", "merged"]),
        ([1, 2, 3], [1, 3, 3], ["new"]),
        ([1, 2], [1, 2, 5, 5], ["new+added"]),
        ([1, 2], [1, 2, 2], ["new+added"]),
        ([1, 1, 2, 3], [1, 1, 3, 3], ["unchanged", "new"]),
        ([1, 2], [1, 3], []),
        ([0.0, -0.0], [-0.0, 0.0], ["unchanged"]),
    ],
)
def test_what_became_of_black_holes(a: list[float], b: list[float], expected: list[str]) -> None:
    assert changes(a, b) == expected


def test_a_split_and_merged_black_hole_in_full() -> None:
    a = matrix([1, 1, 1, 1, 1, 5, 5, 7, 8, 9])
    b = matrix([1, 1, 5, 5, 6, 5, 5, 5, 8])
    found = diff(a, b)
    assert found.groups == [
        GroupChange(
            group_a=0,
            change="split+merged+grown",
            first_row=0,
            population_a=5,
            rows_b=5,
            populations=(2, 2, 1),
            groups_b=(0, 1),
            merged_with=(1,),
            grown_by=1,
            moved_rows=3,
            distance=5.0,
            steps=found.groups[0].steps,
        ),
        GroupChange(
            group_a=1,
            change="merged+grown",
            first_row=5,
            population_a=2,
            rows_b=2,
            populations=(2,),
            groups_b=(0,),
            merged_with=(0,),
            grown_by=1,
            moved_rows=0,
            distance=0.0,
            steps=0,
        ),
    ]
    assert found.groups[0].vectors_b == 3
    rows = found.rows
    assert rows.row.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert rows.group_a.tolist() == [0, 0, 0, 0, 0, 1, 1, -1]
    assert rows.population_a.tolist() == [5, 5, 5, 5, 5, 2, 2, 1]
    assert rows.group_b.tolist() == [1, 1, 0, 0, -1, 0, 0, 0]
    assert rows.population_b.tolist() == [2, 2, 5, 5, 1, 5, 5, 5]
    assert rows.distance.tolist() == [0, 0, 4, 4, 5, 0, 0, 2]
    assert rows.change == ["unchanged"] * 2 + ["moved"] * 2 + ["left"] + ["unchanged"] * 2 + [
        "joined"
    ]
    assert rows.group_change == ["split+merged+grown"] * 5 + ["merged+grown"] * 2 + [
        "split+merged+grown"
    ]
    assert (found.n_common, found.n_compared, found.identical) == (9, 9, 5)
    assert found.tally == {"split+merged+grown": 1, "merged+grown": 1}
    assert repr(found) == "<Diff of made and made: 1 split+merged+grown, 1 merged+grown>"


def test_rows_that_only_one_has_or_that_are_not_finite() -> None:
    found = diff(matrix([1, 1, 1, NAN, 2, 2]), matrix([1, NAN, 1, 1]))
    rows = found.rows
    assert rows.row.tolist() == [0, 1, 2, 3, 4, 5]
    assert rows.change == ["unchanged", "not finite", "unchanged", "joined", "trimmed", "trimmed"]
    assert rows.population_a.tolist() == [3, 3, 3, -1, 2, 2]
    assert rows.population_b.tolist() == [3, -1, 3, 3, -1, -1]
    assert np.isnan(rows.distance).tolist() == [False, True, False, True, True, True]
    assert rows.steps.tolist() == [0, -1, 0, -1, -1, -1]
    assert found.n_compared == 2
    grown = diff(matrix([1, 2]), matrix([1, 2, 4, 4])).rows
    assert (grown.row.tolist(), grown.change) == ([2, 3], ["added", "added"])
    assert grown.population_a.tolist() == [-1, -1]


def test_new_black_holes_in_full() -> None:
    (new,) = diff(matrix([1, 2, 3, 4]), matrix([1, 3, 3, 4, 3])).groups
    assert new == GroupChange(
        group_a=None,
        change="new+added",
        first_row=1,
        population_a=0,
        rows_b=3,
        added=1,
        populations=(3,),
        groups_b=(0,),
        moved_rows=1,
        distance=1.0,
        steps=new.steps,
    )


# --- an oracle of plain dictionaries ---


def oracle_groups(rows: list[tuple[float, ...]]) -> list[list[int]]:
    """Rows that are equal, two at least, the most first, then by first row."""
    by_vector: dict[tuple[float, ...], list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if all(map(math.isfinite, row)):
            by_vector[row].append(number)
    return sorted(
        (members for members in by_vector.values() if len(members) > 1),
        key=lambda members: (-len(members), members[0]),
    )


def oracle_change(
    rows: list[int],
    in_holes_of_a: set[int],
    a: list[tuple[float, ...]],
    b: list[tuple[float, ...]],
) -> str:
    """The words for one black hole of A."""
    left = [row for row in rows if row < len(b)]
    kept = [row for row in left if all(map(math.isfinite, b[row]))]
    vectors = {b[row] for row in kept}
    companions = {row for row, vector in enumerate(b) if vector in vectors} - set(rows)
    words = []
    if len(left) < len(rows):
        words.append("trimmed")
    if len(kept) < len(left):
        words.append("not finite")
    if len(vectors) > 1:
        words.append("split")
    if len(vectors) == 1 and vectors != {a[rows[0]]}:
        words.append("moved")
    if companions & in_holes_of_a:
        words.append("merged")
    if companions - in_holes_of_a:
        words.append("grown")
    return "+".join(words) or "unchanged"


NUMBERS = st.sampled_from([0.0, -0.0, 1.0, 1.0, 1.0, 2.0, 2.5, NAN, math.inf])
ROWS = st.lists(st.tuples(NUMBERS, st.sampled_from([1.0, 1.0, 3.0])), min_size=1, max_size=14)


@settings(max_examples=300, deadline=None)
@given(rows_a=ROWS, rows_b=ROWS, same=st.integers(0, 14))
def test_against_plain_dictionaries(
    rows_a: list[tuple[float, ...]], rows_b: list[tuple[float, ...]], same: int
) -> None:
    rows_b = rows_a[:same] + rows_b  # so that not everything changes
    found = diff(matrix(rows_a), matrix(rows_b))
    groups_a, groups_b = oracle_groups(rows_a), oracle_groups(rows_b)
    dead_a = {row for rows in groups_a for row in rows}
    dead_b = {row for rows in groups_b for row in rows}
    expected = [oracle_change(rows, dead_a, rows_a, rows_b) for rows in groups_a]
    new = [rows for rows in groups_b if not dead_a & set(rows)]
    assert [g.change for g in found.groups] == expected + [
        "new+added" if max(rows) >= len(rows_a) else "new" for rows in new
    ]
    # Every dead row of either is there once, with its black holes.
    assert found.rows.row.tolist() == sorted(dead_a | dead_b)
    for groups, placed in ((groups_a, found.rows.group_a), (groups_b, found.rows.group_b)):
        number = {row: group for group, rows in enumerate(groups) for row in rows}
        assert placed.tolist() == [number.get(row, -1) for row in found.rows.row.tolist()]
    # Counts add up.
    for group, rows in zip(found.groups, groups_a, strict=False):
        assert group.first_row == rows[0]
        assert group.population_a == len(rows) == group.rows_b + group.trimmed + group.not_finite
        assert sum(group.populations) == group.rows_b
        for other in group.merged_with:
            assert group.group_a in found.groups[other].merged_with
    n = min(len(rows_a), len(rows_b))
    comparable = [i for i in range(n) if all(map(math.isfinite, (*rows_a[i], *rows_b[i])))]
    assert found.n_compared == len(comparable)
    assert found.identical == sum(rows_a[i] == rows_b[i] for i in comparable)
    assert found.dead.n_rows == len(dead_a & set(comparable))
    for row, distance in zip(found.rows.row.tolist(), found.rows.distance.tolist(), strict=True):
        if row in comparable:
            assert distance == pytest.approx(math.dist(rows_a[row], rows_b[row]))
        else:
            assert math.isnan(distance)


@settings(max_examples=100, deadline=None)
@given(rows=ROWS)
def test_a_model_against_itself(rows: list[tuple[float, ...]]) -> None:
    found = diff(matrix(rows), matrix(rows))
    assert {group.change for group in found.groups} <= {"unchanged"}
    assert set(found.rows.change) | set(found.rows.group_change) <= {"unchanged"}
    assert found.identical == found.n_compared
    assert len(found.groups) == found.census_a.n_black_holes


# --- distances, steps, formats ---


def test_distances_do_not_depend_on_blocks_or_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(0, 0.02, (500, 7)).astype(np.float32) for _ in "ab"]
    a, b = (Matrix(FLOAT32.round(v), FLOAT32, "m", "x", "") for v in values)
    expected = [math.dist(*pair) for pair in zip(*(v.tolist() for v in values), strict=True)]
    whole = distances(a, b)
    assert whole.tolist() == pytest.approx(expected, rel=1e-14)
    monkeypatch.setattr(import_module("deadtokens.diff.blocks"), "_BLOCK_NUMBERS", 50)
    for workers in (1, 3):
        assert np.array_equal(distances(a, b, workers), whole)
    assert diff(a, b, workers=3).others == diff(a, b, workers=1).others


def test_the_smallest_move_is_one() -> None:
    found = diff(matrix([(0, 0.1), (0, 0.1)]), matrix([(1.401298464324817e-45, 0.1), (0, 0.1)]))
    assert found.groups[0].moved_rows == 1
    assert found.rows.steps.tolist() == [1, 0]


def test_steps_on_a_common_lattice() -> None:
    """bfloat16 numbers kept as float32 lie on the lattice of bfloat16."""
    a = matrix([1.0, 1.0, 5.0], BFLOAT16)
    b = matrix([1.0078125, 0.9921875, 5.0])  # a bfloat16 step above 1, and two below
    found = diff(a, b)
    assert found.lattice is BFLOAT16
    assert found.rows.steps.tolist() == [1, 2]
    assert found.groups[0].steps == 2
    finer = diff(a, matrix([1.0078125, 1.0000001, 5.0]))
    assert finer.lattice is None
    assert finer.rows.steps.tolist() == [-1, -1]
    assert finer.groups[0].steps is None
    assert finer.groups[0].distance == 0.0078125
    assert diff(a, matrix([1, 1, 5], FLOAT16)).lattice is None
    # What lies beyond the rows compared does not matter.
    assert diff(a, matrix([1, 1, 1.0000001])).lattice is BFLOAT16


def test_rounding_that_merges_rows() -> None:
    """Rounded to bfloat16, rows 0, 1, 2 are equal and so are 3, 4; 5 and 6 are not."""
    a = matrix([1, 1.0001, 1.0002, 2, 2.0001, 3, 4, 8, 8])
    b = matrix([1, 1, 1, 2, 2, 3, 3, 8, 8], BFLOAT16)
    found = diff(a, b)
    assert [group.change for group in found.groups] == ["unchanged", "new", "new", "new"]
    (rounding,) = found.rounding
    assert (rounding.side, rounding.format) == ("A", BFLOAT16)
    assert (rounding.n_black_holes, rounding.arising) == (3, 2)
    assert (rounding.changed, rounding.explained) == (3, 2)
    assert (found.others.n_rows, found.others.still, found.others.still_once_rounded) == (7, 3, 6)
    assert found.evidence == (
        "All 2 rows in black holes of A did not move beyond rounding while 1 of 7 other rows did: "
        "evidence that they are untrained."
    )


def test_rounding_explains_no_rows_that_are_elsewhere() -> None:
    a, b = matrix([1, 1.0001, 5]), matrix([1, 1, 5, 1], BFLOAT16)
    (rounding,) = diff(a, b).rounding
    assert (rounding.changed, rounding.explained) == (1, 0)
    a = matrix([1, 1.0001, NAN])
    (rounding,) = diff(a, matrix([1, 1, 1], BFLOAT16)).rounding
    assert (rounding.changed, rounding.explained) == (1, 0)


def test_black_holes_that_only_coarse_storage_made() -> None:
    """The other way round: what splits in float32 was one vector in bfloat16 only."""
    a = matrix([1, 1, 2, 2, 7], BFLOAT16)
    b = matrix([1, 1.0001, 2, 2.5, 7.0001])
    found = diff(a, b)
    assert [group.change for group in found.groups] == ["split", "split"]
    (rounding,) = found.rounding
    assert (rounding.side, rounding.format) == ("B", BFLOAT16)
    assert (rounding.n_black_holes, rounding.arising) == (1, 1)
    assert (rounding.changed, rounding.explained) == (2, 1)
    assert found.dead.still_once_rounded == 3
    assert found.others.still_once_rounded == 1


def test_either_can_be_coarser_than_the_other() -> None:
    found = diff(matrix([1, 1], BFLOAT16), matrix([1, 1], FLOAT16))
    assert [rounding.side for rounding in found.rounding] == ["A", "B"]
    assert [r.format for r in found.rounding] == [FLOAT16, BFLOAT16]
    assert diff(matrix([1, 1], FLOAT16), matrix([1, 1], FLOAT16)).rounding == ()


def test_of_one_format_nothing_is_rounded() -> None:
    a, b = matrix([1, 2.0001], BFLOAT16), matrix([1, 3], BFLOAT16)
    assert equal_once_rounded(a, b).tolist() == [True, False]


def test_overflow_in_rounding_is_no_number() -> None:
    """70000 is beyond float16: rounded it is infinite, and equal to nothing."""
    found = diff(matrix([70000, 70001, 1]), matrix([5, 5, 1], FLOAT16))
    (rounding,) = found.rounding
    assert (rounding.n_black_holes, rounding.explained, rounding.changed) == (0, 0, 1)


def test_quantised_numbers_lie_on_no_lattice() -> None:
    quantised = matrix([1, 1], quantised=Quantised("Q8_0", np.zeros((2, 4), np.uint8)))
    for a, b in ((quantised, matrix([1, 1])), (matrix([1, 1], BFLOAT16), quantised)):
        found = diff(a, b)
        assert (found.lattice, found.rounding) == (None, ())


def test_dimensions_must_agree() -> None:
    with pytest.raises(SelectionError) as caught:
        diff(matrix([1, 2]), matrix([(1, 2), (3, 4)]))
    line = str(caught.value)
    assert "vectors of 3 dimensions against vectors of 2" in line
    assert "--tensor-b" in line


def test_rows_are_taken_in_blocks() -> None:
    """Never all of a matrix at once, whatever its rows are made from."""
    a = matrix(list(range(30_000)), BFLOAT16)
    most = 0

    def make(rows: Any) -> AnyArray:
        nonlocal most
        taken: AnyArray = a.codes[rows]
        most = max(most, len(taken))
        return taken

    made = replace(a, codes=MadeRows(a.shape, make))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("deadtokens.diff.blocks"), "_BLOCK_NUMBERS", 3 * 1000)
        distances(made, a)
    assert most == 1000


# --- evidence ---


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (
            [1, 1, 2, 3],
            [1, 1, 4, 3],
            "All 2 rows in black holes of A did not move while 1 of 2",
        ),
        ([1, 1, 2, 3], [1, 5, 4, 3], "1 of 2 rows in black holes of A did not move while 1 of 2"),
        ([1, 1, 2, 3], [6, 5, 4, 3], "All rows in black holes of A moved, and so did 1 of 2"),
        ([1, 1, 2, 3], [1, 1, 2, 3], "No other row moved, so that rows which stayed say nothing."),
        ([1, 1], [1, 1], "No other row moved"),
        ([1, 2, 3], [1, 2, 4], "No row of a black hole of A is in B"),
        ([3, 1, 1], [4], "No row of a black hole of A is in B"),
    ],
)
def test_what_movement_says(a: list[float], b: list[float], says: str) -> None:
    assert diff(matrix(a), matrix(b)).evidence.startswith(says)


def test_rows_that_moved_as_often_as_others_are_no_evidence() -> None:
    still = diff(matrix([1, 1, 2, 3]), matrix([1, 1, 4, 5])).evidence
    assert still.endswith("evidence that they are untrained.")
    assert "no evidence" not in still
    moved = diff(matrix([1, 1, 2, 3, 4, 5]), matrix([1, 6, 7, 3, 4, 5])).evidence
    assert "no less often than others, which is no evidence" in moved


def test_movement_of_dead_rows_and_of_others() -> None:
    found = diff(matrix([1, 1, 1, 10, 20, 30, 40]), matrix([1, 1, 4, 11, 25, 30, 40]))
    dead, others = found.dead, found.others
    assert (dead.n_rows, dead.still, dead.median, dead.largest) == (3, 2, 0.0, 3.0)
    assert (others.n_rows, others.still, others.median, others.largest) == (4, 2, 0.5, 5.0)
    none = diff(matrix([1, NAN]), matrix([NAN, 1]))
    assert (none.others.n_rows, none.others.median, none.others.largest) == (0, None, None)


# --- tokens ---


def tokenizer(path: Path, tokens: list[str]) -> Path:
    """A tokenizer.json of whole words."""
    vocabulary = {token: i for i, token in enumerate(tokens)}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": tokens[0]}
    path.write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    return path


def test_tokens_and_rows_that_stand_for_others(tmp_path: Path) -> None:
    one = tokenizer(tmp_path / "one.json", ["a", "b", "c"])
    two = tokenizer(tmp_path / "two.json", ["a", "x", "c", "d"])
    a = matrix([1, 1, 2], tokenizer=one)
    b = matrix([1, 1, 2, 2], tokenizer=two)
    found = diff(a, b)
    assert found.texts is not None
    assert list(found.texts) == ["a", "b", "c", "d"]
    assert found.other_tokens == 1
    assert diff(a, replace(b, tokenizer=None)).other_tokens is None
    only_b = diff(replace(a, tokenizer=None), b)
    assert (only_b.texts, only_b.other_tokens) == (["a", "x", "c", "d"], None)
    assert diff(a, a).other_tokens == 0
    unlabelled = diff(a, b, label=False)
    assert (unlabelled.texts, unlabelled.other_tokens) == (None, None)


def test_tokens_of_files_that_hold_the_vocabulary_themselves() -> None:
    """GGUF metadata: mappings of arrays, which are not compared as a whole."""

    def metadata(tokens: list[str]) -> dict[str, Any]:
        types = np.ones(len(tokens), np.int32)
        return {
            "tokenizer.ggml.model": "none",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": types,
        }

    a = matrix([1, 1, 2], tokenizer=metadata(["a", "b", "c"]))
    found = diff(a, matrix([1, 1, 2], tokenizer=metadata(["a", "x", "c"])))
    assert (found.texts, found.other_tokens) == (["a", "b", "c"], 1)
    assert diff(a, a).other_tokens == 0
    # Rows that are not the vocabulary from 0 up: the same tokenizer, other tokens.
    turned = replace(a, token_ids=np.array([1, 0, 2]))
    assert diff(a, turned).other_tokens == 2


# --- files ---


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_files(tmp_path: Path) -> None:
    names = ["=1+1", "@b", "-c", "+d", "\te", "f", "a\nb"]
    a = matrix([1, 1, 1, 5, 5, 6, 7], tokenizer=tokenizer(tmp_path / "t.json", names))
    b = matrix([1, 2, 2, 5, 5, 5], tokenizer=tokenizer(tmp_path / "u.json", names))
    written = write_diff(tmp_path, diff(a, b))
    assert [file.content for file in written] == ["6 rows x 10 columns", "2 rows x 17 columns"]
    rows = read(tmp_path / "diff.csv")
    assert list(rows[0]) == [
        "row", "group_a", "population_a", "group_b", "population_b", "moved", "steps", "change",
        "group_change", "token",
    ]  # fmt: skip
    assert [row["token"] for row in rows] == ["'=1+1", "'@b", "'-c", "'+d", "\\te", "f"]
    assert list(rows[0].values())[:9] == ["0", "0", "3", "", "1", "0.0", "0", "left", "split"]
    assert list(rows[5].values())[:5] == ["5", "", "1", "0", "3"]
    groups = read(tmp_path / "diff_groups.csv")
    assert [group["change"] for group in groups] == ["split", "grown"]
    assert (groups[0]["populations"], groups[0]["vectors_b"]) == ("2 1", "2")
    assert (groups[0]["token"], groups[1]["token"]) == ("'=1+1", "'+d")
    new = diff(matrix([1, 2]), matrix([1, 1]))
    write_diff(tmp_path, new)
    (group,) = read(tmp_path / "diff_groups.csv")
    assert "token" not in group
    assert (group["group_a"], group["change"], group["groups_b"]) == ("", "new", "0")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd()", "'=cmd()"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("\tx", "\\tx"),
        ("\r=x", "\\r=x"),
        ("\x1b[2J", "\\x1b[2J"),
        ("x=1", "x=1"),
        ("'=1", "''=1"),
        ("'s", "'s"),
        ("", ""),
        (" =1", " =1"),
    ],
)
def test_cells_that_a_spreadsheet_would_run(text: str, cell: str) -> None:
    assert spreadsheet_safe(text) == cell
    assert spreadsheet_text(cell) == plain(text)


# --- the command ---


@pytest.fixture
def run() -> Any:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(diffing.diff)

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


def model(folder: Path, values: npt.ArrayLike, tokens: list[str] | None = None) -> Path:
    folder.mkdir()
    array = np.array(values, np.float32)[:, None] * np.ones(4, np.float32)
    tensors = {"lm_head.weight": array.astype(ml_dtypes.bfloat16)}
    write_tensors(folder / "model.safetensors", tensors)
    if tokens is not None:
        tokenizer(folder / "tokenizer.json", tokens)
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    names = ["a", "b", "\x1b[31mred", "d", "=e", "f", "g"]
    a = model(tmp_path / "a", [1, 1, 1, 2, 2, 3, 4], names)
    b = model(tmp_path / "b", [1, 1, 5, 8, 8, 4, 4], [*names[:6], "other"])
    return a, b


def test_the_command_prints_and_writes(run: Any, pair: tuple[Path, Path], tmp_path: Path) -> None:
    result = run(*pair, "-o", tmp_path / "out")
    assert result.exit_code == 0
    out = result.stdout
    assert f"A: {pair[0]}: lm_head.weight, 7 rows x 4 dimensions, bfloat16; 2 black holes" in out
    assert "7 rows in both, of which 3 are identical and 4 moved" in out
    assert "WARNING: 1 of 7 rows stand for another token in B than in A" in out
    assert "2 of 5 rows in black holes of A did not move while 1 of 2 other rows did" in out
    assert "black holes: 1 split, 1 moved, 1 new" in out
    assert "\\x1b[31mred" in out
    assert "\x1b" not in out
    lines = [line.split() for line in out.splitlines()]
    assert ["0", "3", "split", "2,", "1", "0", "-", "-", "8", "288", "0", "'a'"] in lines
    assert ["2", "0", "3", "-", "1", "8", "left", "'\\x1b[31mred'"] in lines
    assert "wrote" in result.stderr
    assert [row["change"] for row in read(tmp_path / "out" / "diff.csv")] == [
        "unchanged", "unchanged", "left", "moved", "moved", "joined", "joined"
    ]  # fmt: skip
    assert len(read(tmp_path / "out" / "diff_groups.csv")) == 3


def test_the_command_as_json(run: Any, pair: tuple[Path, Path]) -> None:
    result = run(*pair, "--json")
    facts = json.loads(result.stdout)
    assert facts["tally"] == {"split": 1, "moved": 1, "new": 1}
    assert facts["a"]["black_hole_population"] == 5
    assert facts["movement"]["black_holes_of_a"]["still"] == 2
    assert facts["evidence"].startswith("2 of 5 rows in black holes of A did not move")
    assert facts["other_tokens"] == 1
    assert [group["change"] for group in facts["black_holes"]] == ["split", "moved", "new"]
    assert facts["black_holes"][0]["populations"] == [2, 1]
    assert [row["token"] for row in facts["rows"]][4] == "=e"
    assert facts["rows"][2]["group_b"] is None
    assert facts["lattice"] == "bfloat16"
    assert "nothing written" in result.stderr


def test_tensors_by_name(run: Any, tmp_path: Path) -> None:
    rows = np.array([[1, 2], [1, 2], [3, 4]], np.float32)
    write_tensors(tmp_path / "a.safetensors", {"x": rows, "y": rows[:, :1]})
    write_tensors(tmp_path / "b.safetensors", {"x": rows, "z": rows[::-1].copy()})
    files = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert json.loads(run(*files, "--tensor", "x", "--json").stdout)["tally"] == {"unchanged": 1}
    named = run(*files, "--tensor", "x", "--tensor-b", "z", "--json")
    assert json.loads(named.stdout)["tally"] == {"split+grown": 1}
    refused = run(*files, "--tensor", "y", "--tensor-b", "x")
    assert isinstance(refused.exception, DeadtokensError)


def test_nothing_that_is_read_is_lost(run: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    array = np.ones((3, 2), np.float32)
    write_tensors(tmp_path / "a.safetensors", {"x": array})
    (tmp_path / "out" / "diff.csv").hardlink_to(tmp_path / "a.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()
    result = run(tmp_path / "a.safetensors", tmp_path / "a.safetensors", "-o", tmp_path / "out")
    assert "it would be lost" in str(result.exception)
    assert (tmp_path / "a.safetensors").read_bytes() == before


def test_models_without_black_holes(run: Any, tmp_path: Path) -> None:
    a, b = model(tmp_path / "a", [1, 2, 3]), model(tmp_path / "b", [1, 2, 4])
    result = run(a, b)
    assert "neither has two rows that are equal" in result.stdout
    assert "token" not in result.stdout.split("nothing written")[0].replace("tokenizer", "")


def test_the_command_says_what_rounding_does(run: Any, tmp_path: Path) -> None:
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    rows = np.array([[1, 1], [1.0001, 1], [3, 4], [np.nan, 1]], np.float32)
    write_tensors(a, {"lm_head.weight": rows})
    write_tensors(b, {"lm_head.weight": rows.astype(ml_dtypes.bfloat16)})
    out = run(a, b).stdout
    assert "float32; 0 black holes with 0 rows; 1 rows hold NaN or an infinity, in no group" in out
    assert (
        "rounding alone can merge rows: A rounded to bfloat16 has 1 black holes, 1 of them from "
        "rows that differ before; it explains 1 of the 1 black holes of B that hold several "
        "vectors of A"
    ) in out
    assert "is quantised" not in out


def test_the_command_says_what_is_quantised(run: Any, tmp_path: Path) -> None:
    raw = np.zeros((3, 34), np.uint8)
    raw[:, 1], raw[2, 2:] = 0x3C, 5  # scale 1
    a = write_gguf(tmp_path / "a.gguf", {"output.weight": quantised("Q8_0", raw)})
    b = tmp_path / "b.safetensors"
    write_tensors(b, {"lm_head.weight": np.zeros((3, 32), np.float16)})
    out = run(a, b).stdout
    says = "is quantised (Q8_0), which by itself moves rows and can make them equal"
    assert f"A {says}" in out
    assert f"B {says}" not in out
    assert "steps" not in out


def test_long_lists_are_cut_and_say_so(run: Any, tmp_path: Path) -> None:
    base = np.repeat(np.arange(1, 61), 2)
    a, b = model(tmp_path / "a", base), model(tmp_path / "b", base + 100)
    out = run(a, b).stdout
    assert "and 20 more: all of them in diff_groups.csv" in out
    assert "and 100 more rows: all of them in diff.csv" in out


def test_the_package_offers_what_it_says() -> None:
    # The package's attribute is the function.
    diff_package = sys.modules["deadtokens.diff"]
    assert all(hasattr(diff_package, name) for name in diff_package.__all__)
    assert isinstance(diff(matrix([1]), matrix([1])), Diff)
