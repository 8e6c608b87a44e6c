"""What kind of dead a row is: next to zero, as resizing left it, a copy, of a second cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from planted import matrix_of
from program import Program

import deadtokens as dt
from deadtokens.deadrows import EVIDENCE
from deadtokens.formats import BFLOAT16, FLOAT16, FLOAT32, Format
from deadtokens.inventory import Both, Inventory
from deadtokens.keep import keep_map
from deadtokens.near import look_around, nearest
from deadtokens.orderings import mean_and_norms, orderings
from deadtokens.stocktaking import take_inventory
from deadtokens.tokens import LABELS, Labels

Values: TypeAlias = npt.NDArray[np.float64]


def live(n: int = 1200, d: int = 48, seed: int = 2) -> Values:
    return np.random.default_rng(seed).normal(0, 0.02, (n, d))


def point(d: int = 48, seed: int = 5, height: float = 0.02) -> Values:
    return np.random.default_rng(seed).normal(0, height, d)


def noise(n: int, width: float, d: int = 48, seed: int = 6) -> Values:
    return np.random.default_rng(seed).normal(0, width, (n, d))


def evidence(taken: Inventory, name: str) -> list[int]:
    return np.flatnonzero(taken.dead_rows.evidence == EVIDENCE.index(name)).tolist()


def labelled(names: dict[int, str], n: int) -> Labels:
    """Labels as a tokenizer gives them: ordinary, but for some rows."""
    of_rows = [names.get(row, "ordinary") for row in range(n)]
    return Labels(
        texts=[f"t{row}" for row in range(n)],
        pieces=[f"t{row}" for row in range(n)],
        labels=np.array([LABELS.index(name) for name in of_rows], dtype=np.uint8),
        scripts=np.zeros(n, np.uint8),
        script_names=("Latin",),
        reachable=np.ones(n, np.int8),
    )


def taken_of(
    values: Values, fmt: Format = FLOAT32, names: dict[int, str] | None = None
) -> Inventory:
    labels = None if names is None else labelled(names, len(values))
    return take_inventory(matrix_of(values, fmt), labels=labels)


@pytest.mark.parametrize("given", ["built in", "a matrix of these rows"])
def test_where_all_rows_are_dead_none_was_copied_from(given: str) -> None:
    """Rows of a cluster coincide by chance; one that has a token of its own is no donor."""
    matrix = dt.open_matrix("builtin:whisper-tiny.en")
    if given != "built in":
        names = dict.fromkeys(range(0, 300, 2), "special")
        taken = take_inventory(
            dt.open_matrix(matrix.values().astype(np.float16)), labels=labelled(names, 300)
        )
        assert taken.search.alone
        assert taken.dead_rows.rows.sum() == 78, "those that equal another one"
    else:
        taken = take_inventory(matrix)
        assert taken.dead_rows.rows.all()
    assert taken.dead_rows.copies == ()
    assert not taken.mostly_dead


# --- few rows, next to zero or to the mean ---


@pytest.mark.parametrize("fmt", [FLOAT32, BFLOAT16, FLOAT16], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("n", [1, 2, 6, 7])
@pytest.mark.parametrize("zeros", [0, 73])
def test_few_rows_near_zero(fmt: Format, n: int, zeros: int) -> None:
    values = live()
    values[100 : 100 + zeros] = 0
    values[300 : 300 + n] = noise(n, 5e-5)
    taken = taken_of(values, fmt)
    assert evidence(taken, "near zero") == list(range(300, 300 + n))
    assert int(taken.dead_rows.rows.sum()) == n + zeros
    (words,) = taken.dead_rows.words
    assert words.startswith(f"{n} rows are near zero" if n > 1 else "1 row is near zero")


@pytest.mark.parametrize("fmt", [FLOAT32, BFLOAT16, FLOAT16], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize(("n", "width"), [(1, 0.0), (3, 0.0), (3, 1e-6), (5, 1e-5)])
def test_added_tokens_that_resizing_left_at_the_mean(fmt: Format, n: int, width: float) -> None:
    """As resize_token_embeddings draws them, or a script that averages the old rows writes them."""
    values = live() + 10 * point()
    values[-n:] = values[:-n].mean(axis=0) + noise(n, width)
    taken = taken_of(values, fmt)
    assert evidence(taken, "near the mean") == list(range(1200 - n, 1200))
    assert int(taken.dead_rows.rows.sum()) == n


@pytest.mark.parametrize("fmt", [FLOAT32, BFLOAT16], ids=lambda fmt: fmt.name)
def test_a_mean_next_to_zero_is_told_from_zero(fmt: Format) -> None:
    """Rows of no common direction have a mean that is next to zero, ten times as near as a row."""
    values = live()
    values[500:503] = values.mean(axis=0)
    values[600:604] = noise(4, 1e-6)
    taken = taken_of(values, fmt)
    assert evidence(taken, "near zero") == list(range(600, 604))
    assert evidence(taken, "near the mean") == list(range(500, 503))


def test_rows_of_a_cluster_are_not_counted_twice() -> None:
    values = live()
    values[50:90] = noise(40, 1e-6)  # a cluster that lies at zero
    taken = taken_of(values)
    assert evidence(taken, "cluster") == list(range(50, 90))
    assert not taken.dead_rows.near


@pytest.mark.parametrize("times", [1.0, 0.5, 0.2])
def test_rows_that_are_merely_short_are_alive(times: float) -> None:
    values = live()
    values[10:16] *= times
    assert not taken_of(values).dead_rows.rows.any()


@pytest.mark.parametrize("lengths", [(-3, 0), (-6, 2)], ids=["three decades", "eight decades"])
def test_lengths_over_decades_are_no_gap(lengths: tuple[int, int]) -> None:
    values = live() * 10 ** np.random.default_rng(1).uniform(*lengths, (1200, 1))
    assert not taken_of(values).dead_rows.near


def test_in_few_dimensions_one_row_is_next_to_zero_by_chance() -> None:
    """Of 2,000 draws of 60 rows in one dimension, some have a row ten times as near as the next."""
    rng = np.random.default_rng(3)
    rows = np.arange(60)
    wide = 0
    for _ in range(2000):
        distances = np.abs(rng.normal(size=60))
        ordered = np.sort(distances)
        wide += ordered[1] > 10 * ordered[0]
        assert nearest("near zero", distances, rows).rows.size == 0
    assert wide > 50  # so that the bits are what keeps them out


def test_a_gap_needs_rows_beyond_it() -> None:
    distances = np.array([1e-9, 1.0, 1.1, 1.2])
    assert nearest("near zero", distances, np.arange(4)).rows.size == 0


# --- copies ---

TAIL = dict.fromkeys(range(1160, 1200), "padding")


@pytest.mark.parametrize(
    ("rows", "donor", "names"),
    [
        (range(1160, 1200), 1159, TAIL),  # the last token, repeated as padding
        (range(1160, 1200), 17, TAIL),  # another token, repeated
        (range(1160, 1162), 17, {1160: "special", 1161: "added"}),  # began as another token
        ([1160], 17, {1160: "special"}),
        (range(1160, 1200), 1159, {**TAIL, 1159: "special"}),  # <|endoftext|> as padding
        ([40, 900], 17, {40: "added", 900: "added"}),
    ],
)
def test_the_donor_of_copies_is_not_dead(rows: Any, donor: int, names: dict[int, str]) -> None:
    values = live()
    values[list(rows)] = values[donor]
    taken = taken_of(values, BFLOAT16, names)
    assert np.flatnonzero(taken.dead_rows.rows).tolist() == list(rows)
    assert evidence(taken, "copy") == list(rows)
    (made,) = taken.dead_rows.copies
    assert (made.donor, made.certain) == (donor, True)
    assert f"row {donor:,}, which is trained" in made.words
    assert not taken.search.rows.any()
    assert keep_map(taken, Both()).old_to_new[donor] >= 0


def test_without_a_tokenizer_the_first_of_a_run_may_be_the_donor() -> None:
    values = live()
    values[1160:] = values[1159]
    taken = taken_of(values, BFLOAT16)
    (made,) = taken.dead_rows.copies
    assert (made.donor, made.certain) == (1159, False)
    assert "may be trained" in made.words
    assert keep_map(taken, Both()).old_to_new[1159] >= 0
    values[1159] = live(1, seed=9)
    values[1160:] = values[17]
    (made,) = taken_of(values, BFLOAT16).dead_rows.copies
    assert (made.donor, made.certain) == (17, True)


@pytest.mark.parametrize(
    ("rows", "height", "names"),
    [
        (range(1160, 1200), 0.002, TAIL),  # shorter than any live row
        (range(1160, 1200), 0.2, TAIL),  # longer
        (range(1160, 1200), 0.02, {**TAIL, 1160: "reserved"}),
        ([3, 1160, 1161], 0.02, {3: "reserved", 1160: "padding", 1161: "padding"}),
        ([3, 70, 1160], 0.02, {1160: "padding"}),  # two ordinary tokens: neither is the donor
        ([3, 70], 0.02, {}),
    ],
)
def test_equal_rows_that_are_no_copies_of_a_trained_one(
    rows: Any, height: float, names: dict[int, str]
) -> None:
    values = live()
    values[list(rows)] = point(height=height)
    taken = taken_of(values, BFLOAT16, names)
    assert not taken.dead_rows.copies
    assert np.flatnonzero(taken.dead_rows.rows).tolist() == list(rows)


# --- a second cluster ---


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("fmt", [FLOAT32, BFLOAT16], ids=lambda fmt: fmt.name)
def test_a_second_cluster_is_told(fmt: Format, equal: bool) -> None:
    values = live()
    values[100:220] = point(seed=5) + noise(120, 0 if equal else 1e-6)
    values[1000:1040] = point(seed=7) + noise(40, 1e-6, seed=8)
    taken = taken_of(values, fmt)
    assert np.flatnonzero(taken.search.rows).tolist() == list(range(100, 220))
    assert taken.search.second is not None
    assert np.flatnonzero(taken.search.second.rows).tolist() == list(range(1000, 1040))
    assert "40 rows inside" in taken.search.second.words
    assert "rows 1000, 1001, 1002, 1003, ..." in taken.search.second.words
    assert int(taken.dead_rows.rows.sum()) == 160


def test_one_cluster_has_no_second() -> None:
    values = live()
    values[100:220] = point() + noise(120, 1e-6)
    assert taken_of(values).search.second is None


# --- in words ---


def saved(folder: Path, values: Values) -> Path:
    np.save(folder / "rows.npy", values.astype(np.float32))
    return folder / "rows.npy"


def test_more_than_half_is_said_in_words(deadtokens: Program, tmp_path: Path) -> None:
    values = live()
    values[:700] = noise(700, 5e-7)
    result = deadtokens("census", saved(tmp_path, values), "-o", tmp_path / "out")
    assert "dead: 700 rows, more than half (700 in the cluster)" in result.out
    assert "700 of 1,200, more than half" in (tmp_path / "out" / "report.html").read_text()


def test_undecided_is_never_none(deadtokens: Program, tmp_path: Path) -> None:
    values = live()
    values[:8] = point() + noise(8, 0.0006)
    result = deadtokens("census", saved(tmp_path, values), "-o", tmp_path / "out")
    assert "dead: undecided: 8 rows inside" in result.out
    assert "dead: 0" not in result.out
    assert "Undecided." in (tmp_path / "out" / "report.html").read_text()
    equal = values.copy()
    equal[900] = equal[901]
    result = deadtokens("census", saved(tmp_path, equal))
    assert "dead: at least 2 rows, and whether others are is undecided: 8 rows" in result.out


def test_ordinary_rows_are_not_undecided(deadtokens: Program, tmp_path: Path) -> None:
    assert "dead: 0 rows (no cluster" in deadtokens("census", saved(tmp_path, live())).out


@pytest.mark.parametrize("direction", [0.0, 0.02, 1.0])
def test_few_candidates_are_as_good_as_all_rows(direction: float) -> None:
    """Of many rows only those whose norm is like the mean's are measured: none may be missed."""
    values = live(20_000, 16) + direction * point(16, height=1.0)
    values[700:703] = values.mean(axis=0) + noise(3, 1e-7, 16)
    matrix = matrix_of(values)
    every = np.ones(20_000, dtype=np.bool_)
    found = look_around(matrix, every, every)
    centre, norms = mean_and_norms(matrix, every)
    (exact,) = orderings(matrix, every, [centre])
    near = nearest("near the mean", exact.distances, np.arange(20_000))
    assert sorted(found.near[1].rows) == sorted(near.rows) == [700, 701, 702]
    assert found.near[1].outside == pytest.approx(near.outside)
    np.testing.assert_allclose(found.norms, np.linalg.norm(matrix.values(), axis=1), rtol=1e-6)
    assert np.array_equal(found.norms, norms)
