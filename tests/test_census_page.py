"""The census as files and as a page: what is in them, and that nothing in them runs."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_models import (
    NEAR,
    TWINS,
    ZEROS,
    byte_level,
    dead_matrix,
    piece,
    tied_model,
    untied_model,
    write_model,
)
from program import Program
from safetensors.numpy import load_file

import deadtokens as dt
from deadtokens.census_files import write_inventory
from deadtokens.errors import SelectionError, SourceError
from deadtokens.report.census_findings import gather_census
from deadtokens.report.census_page import census_page, write_census_page
from deadtokens.report.census_parts import census_charts, census_tables
from deadtokens.report.drawing import render_page
from deadtokens.stocktaking import take_both, take_inventory

DEAD = sorted((*TWINS, *NEAR, *ZEROS))
HOSTILE = ["<script>alert(1)</script>", "=cmd|' /C calc'!A0", "\u202egnp.exe", "a\x1b[2Jb", "x\ny"]


def census_of(model: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    taken = take_inventory(dt.open_matrix(model))
    write_inventory(folder, taken, take_both(taken).untied)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("census")
    return census_of(tied_model(place / "model"), place / "census")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- files ---


def test_tokens_csv_has_every_dead_row(folder: Path) -> None:
    lines = rows_of(folder / "tokens.csv")
    assert [int(line["row"]) for line in lines] == DEAD
    by_row = {int(line["row"]): line for line in lines}
    assert by_row[264]["token"] == "<|pad|>"
    assert by_row[264]["population"] == "5"
    assert by_row[263]["evidence"] == "zeros"


def test_masks_are_those_of_the_inventory(folder: Path) -> None:
    masks = load_file(folder / "mask.safetensors")
    assert masks.keys() == {"mask", "finite", "cluster", "zero", "dead"}
    assert np.flatnonzero(masks["dead"]).tolist() == DEAD
    assert np.flatnonzero(masks["cluster"]).tolist() == sorted((*TWINS, *NEAR))
    assert np.flatnonzero(masks["zero"]).tolist() == list(ZEROS)


def test_labels_csv_has_every_row(folder: Path) -> None:
    lines = rows_of(folder / "labels.csv")
    assert [int(line["row"]) for line in lines] == list(range(272))
    assert lines[257]["token"] == "abc"
    assert lines[258]["token"] == " a"
    assert lines[271]["label"] == "padding"
    assert lines[257]["script"] == "Latin"


def test_void_csv_is_in_order_of_distance(folder: Path) -> None:
    lines = rows_of(folder / "void.csv")
    distances = [float(line["distance"]) for line in lines]
    assert distances == sorted(distances)
    inside = {int(line["row"]) for line in lines if line["inside"] == "1"}
    assert inside == {*TWINS, *NEAR}
    assert not {int(line["row"]) for line in lines} & set(ZEROS)


def test_an_earlier_census_leaves_nothing_behind(tmp_path: Path) -> None:
    census_of(tied_model(tmp_path / "one"), tmp_path / "census")
    rows = np.random.default_rng(3).normal(0, 1, (40, 6)).astype(np.float32)
    plain = write_model(tmp_path / "two", {"lm_head.weight": rows}, tied=None)
    census_of(plain, tmp_path / "census")
    names = {path.name for path in (tmp_path / "census").iterdir()}
    assert not names & {"labels.csv", "special.csv", "centroid.safetensors"}
    assert rows_of(tmp_path / "census" / "tokens.csv") == []


# --- the page ---


def page_of(folder: Path) -> str:
    findings = gather_census(folder)
    assert findings is not None
    return render_page(census_page(findings))


def test_the_page_answers_above_the_fold(folder: Path) -> None:
    page = page_of(folder)
    hero = page[page.index("<header") : page.index("</header>")]
    assert "Which tokens are dead?" in hero
    assert "21 of 272" in hero
    assert "Untrained special tokens" in hero
    assert "Padding" in hero
    assert "Unreachable" in hero


def test_the_page_has_charts_and_tables(folder: Path) -> None:
    findings = gather_census(folder)
    assert findings is not None
    assert [chart.name for chart in census_charts(findings)] == ["void", "composition"]
    tables = {table.name: table for table in census_tables(findings)}
    assert list(tables) == ["special", "groups", "tokens", "labels"]
    assert len(tables["tokens"].rows) == len(DEAD)
    assert [cell.text for cell in tables["special"].rows[0]][3] == "untrained"
    labels = {row[0].text: (row[1].number, row[2].number) for row in tables["labels"].rows}
    assert labels["padding"] == (6, 5)
    assert sum(rows or 0 for rows, _ in labels.values()) == 272
    assert sum(dead or 0 for _, dead in labels.values()) == len(DEAD)


def test_the_numbers_on_the_page_are_those_in_the_files(folder: Path) -> None:
    facts = json.loads((folder / "census.json").read_text())
    labels = rows_of(folder / "labels.csv")
    assert facts["unreachable"] == sum(line["reachable"] == "no" for line in labels)
    for name, count in facts["labels"].items():
        assert sum(line["label"] == name for line in labels) == count
    assert facts["named_untrained"] == sum(
        line["untrained"] == "yes" for line in rows_of(folder / "special.csv")
    )


def test_two_matrices_stand_on_the_page(tmp_path: Path) -> None:
    page = page_of(census_of(untied_model(tmp_path / "m"), tmp_path / "census"))
    assert "Input and output matrix are two" in page
    assert "dead in" in page


def test_hostile_tokens_are_shown_and_do_nothing(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(0, 0.05, (60, 16)).astype(np.float16)
    rows[: len(HOSTILE)] = rows[0]
    vocabulary = {piece(text): i for i, text in enumerate(HOSTILE)}
    vocabulary |= {f"w{i}": i for i in range(len(HOSTILE), 60)}
    tokens = byte_level(vocabulary)
    folder = write_model(tmp_path / "m", {"lm_head.weight": rows}, tokens=tokens)
    census = census_of(folder, tmp_path / "census")
    page = page_of(census)
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    text = html.unescape(re.sub(r"<[^>]*>", " ", page))
    for shown in ("<script>alert(1)</script>", "\\u202egnp.exe", "a\\x1b[2Jb", "x\\ny"):
        assert shown in text
    for line in rows_of(census / "tokens.csv"):
        assert not line["token"].startswith(("=", "+", "-", "@", "\t", "\r"))


def test_a_folder_without_a_census_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"no census\.json there.*run deadtokens census"):
        write_census_page(tmp_path / "page.html", tmp_path)
    assert gather_census(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("census.json", "["),
        ("tokens.csv", "row\n1\n"),
        ("void.csv", "rank,row,distance,inside\n1,2,far,1\n"),
    ],
)
def test_damaged_files_are_named(folder: Path, tmp_path: Path, name: str, content: str) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=re.escape(name)):
        gather_census(tmp_path)


def test_a_page_of_less_than_there_is(folder: Path, tmp_path: Path) -> None:
    """As of a census.json that another version wrote."""
    facts = json.loads((folder / "census.json").read_text(encoding="utf-8"))
    assert "Dead here: " in page_of(folder)
    for name in ("cluster", "dead_by", "merging"):
        del facts[name]
    shutil.copy(folder / "tokens.csv", tmp_path)
    (tmp_path / "census.json").write_text(json.dumps(facts), encoding="utf-8")
    page = page_of(tmp_path)
    assert "Dead here: " not in page
    assert "A void sets a cluster apart" not in page
    assert "would equal another one" not in page
    assert "Black holes" in page


def test_the_page_is_made_again_from_the_files(
    folder: Path, tmp_path: Path, deadtokens: Program
) -> None:
    path = tmp_path / "new" / "page.html"
    result = deadtokens("report", folder, "-o", path)
    assert (result.status, result.out) == (0, "")
    assert result.err.startswith(f"wrote {path}: ")
    assert "Dead here: " in path.read_text(encoding="utf-8")


def test_dead_matrix_is_what_the_tests_take_it_for() -> None:
    rows = dead_matrix()
    assert len({bytes(rows[row]) for row in TWINS}) == 1
    assert not rows[list(ZEROS)].any()
