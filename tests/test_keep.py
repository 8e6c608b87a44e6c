"""The map that drops dead rows, and the caveats that go with it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_models import NEAR, TWINS, ZEROS, tied_model, tokenizer, untied_model
from program import Program
from safetensors import safe_open
from safetensors.numpy import load_file

import deadtokens as dt
from deadtokens.errors import SelectionError
from deadtokens.inventory import Both
from deadtokens.keep import keep_map
from deadtokens.stocktaking import take_both, take_inventory

DEAD = sorted((*TWINS, *NEAR, *ZEROS))


def test_the_map_drops_the_dead_and_keeps_the_order(tmp_path: Path) -> None:
    taken = take_inventory(dt.open_matrix(tied_model(tmp_path / "m")))
    kept = keep_map(taken, Both())
    old = [row for row in range(272) if row not in DEAD]
    assert kept.kept.tolist() == old
    assert np.flatnonzero(kept.old_to_new < 0).tolist() == DEAD
    assert (kept.old_to_new[kept.kept] == np.arange(len(old))).all()
    assert kept.bytes_saved == len(DEAD) * 48 * 2


def test_of_untied_matrices_only_what_is_dead_in_both_is_dropped(tmp_path: Path) -> None:
    taken = take_inventory(dt.open_matrix(untied_model(tmp_path / "m")))
    kept = keep_map(taken, take_both(taken))
    assert np.flatnonzero(kept.old_to_new < 0).tolist() == sorted(TWINS)
    assert kept.bytes_saved == len(TWINS) * 48 * 2 * 2  # in either matrix


def test_caveats_say_what_breaks(tmp_path: Path) -> None:
    taken = take_inventory(dt.open_matrix(tied_model(tmp_path / "m")))
    text = "\n".join(keep_map(taken, Both()).caveats)
    # Of 272 rows, those from the first dead one on that stay change their id.
    assert f"{sum(row not in DEAD for row in range(192, 272))} ids from 192 on change" in text
    assert "a multiple of 16" in text  # 272 is one, 251 is not
    assert "251 is none: 5 rows of padding" in text
    assert "2 special or added tokens are dropped" in text
    assert "1 of 1 reserved tokens are dropped" in text
    assert "13 byte tokens are dropped" in text
    assert "5 of the dropped rows have no token" in text
    assert re.search(r"\d+ dropped ids are still produced", text)


def test_kept_tokens_merged_out_of_dropped_ones_are_counted(tmp_path: Path) -> None:
    taken = take_inventory(dt.open_matrix(tied_model(tmp_path / "m")))
    assert "merged out of" not in "\n".join(keep_map(taken, Both()).caveats)
    # "ab" (256) is a part of "abc" (257); "x" (120) of "xy" (259), which goes too.
    rows = np.isin(np.arange(272), [256, 120, 259])
    gone = replace(taken, dead_rows=replace(taken.dead_rows, rows=rows))
    assert "1 kept tokens are merged out of a dropped one" in "\n".join(
        keep_map(gone, Both()).caveats
    )


def test_nothing_dead_nothing_dropped() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (50, 8)).astype(np.float32)
    kept = keep_map(take_inventory(dt.open_matrix(rows)), Both())
    assert kept.kept.tolist() == kept.old_to_new.tolist() == list(range(50))
    assert kept.bytes_saved == 0
    assert kept.caveats == ("No row is dead, so that nothing is dropped and no id changes.",)


def test_without_a_tokenizer_it_says_what_is_not_known() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (50, 8)).astype(np.float32)
    rows[40:] = rows[0]
    text = "\n".join(keep_map(take_inventory(dt.open_matrix(rows)), Both()).caveats)
    assert "--tokenizer" in text


def test_a_token_with_another_way_is_not_cut(tmp_path: Path) -> None:
    """As score-based vocabularies list every way: "abc" is still made of "ab" and "c"."""
    folder = tied_model(tmp_path / "m")
    facts = tokenizer()
    facts["model"]["merges"] += [["b", "c"], ["a", "bc"]]
    facts["model"]["vocab"]["bc"] = facts["model"]["vocab"].pop("qz")
    facts["model"]["merges"].remove(["q", "z"])
    (folder / "tokenizer.json").write_text(json.dumps(facts))
    taken = take_inventory(dt.open_matrix(folder))
    gone = replace(taken, dead_rows=replace(taken.dead_rows, rows=np.arange(272) == 260))  # "bc"
    assert "merged out of" not in "\n".join(keep_map(gone, Both()).caveats)


def test_bytes_saved_are_those_stored(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(0, 1, (50, 8)).astype(np.float32).astype(np.float64)
    rows[40:] = rows[0]
    np.save(tmp_path / "rows.npy", rows)
    kept = keep_map(take_inventory(dt.open_matrix(tmp_path / "rows.npy")), Both())
    assert kept.bytes_saved == 10 * 8 * 8  # row 0 is what the others were copied from


def test_no_map_where_one_matrix_was_not_looked_at_or_rows_are_no_ids(tmp_path: Path) -> None:
    taken = take_inventory(dt.open_matrix(tied_model(tmp_path / "m")))
    with pytest.raises(SelectionError, match=r"dead in both matrices.*add --both"):
        keep_map(taken, Both(unread="lm_head.weight was not transferred"))
    whisper = take_inventory(dt.open_matrix("builtin:whisper-tiny.en"))
    with pytest.raises(SelectionError, match="give the whole model"):
        keep_map(whisper, Both())


def test_dropped_padding_at_the_end_moves_no_id(tmp_path: Path) -> None:
    taken = take_inventory(dt.open_matrix(tied_model(tmp_path / "m")))
    padding = replace(taken, dead_rows=replace(taken.dead_rows, rows=np.arange(272) >= 266))
    text = "\n".join(keep_map(padding, Both()).caveats)
    assert "6 of the dropped rows have no token, and are safe to drop" in text
    assert "on change" not in text
    assert "still produced" not in text


def test_pieces_of_characters_and_no_merges(tmp_path: Path) -> None:
    folder = tied_model(tmp_path / "m")
    facts = tokenizer()
    facts["model"]["merges"] = []
    facts["model"]["vocab"]["\u00e2\u0124"] = facts["model"]["vocab"].pop("qz")  # bytes e2 82
    (folder / "tokenizer.json").write_text(json.dumps(facts), encoding="utf-8")
    taken = take_inventory(dt.open_matrix(folder))
    gone = replace(taken, dead_rows=replace(taken.dead_rows, rows=np.arange(272) == 260))
    text = "\n".join(keep_map(gone, Both()).caveats)
    assert "1 pieces of characters are dropped" in text
    assert "merged out of" not in text


# --- the command ---


def test_the_command_writes_the_map(deadtokens: Program, tmp_path: Path) -> None:
    folder = tied_model(tmp_path / "m")
    kept = keep_map(take_inventory(dt.open_matrix(folder)), Both())
    path = tmp_path / "new" / "keep.safetensors"
    result = deadtokens("census", folder, "--export-keep", path)
    assert result.status == 0
    assert "keep: 251 of 272 ids, " in result.out
    for caveat in kept.caveats:
        assert f"- {caveat}" in " ".join(result.out.split())
    arrays = load_file(path)
    assert sorted(arrays) == ["kept", "old_to_new"]
    assert np.array_equal(arrays["kept"], kept.kept)
    assert np.array_equal(arrays["old_to_new"], kept.old_to_new)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    assert metadata["source"] == str(folder)
    assert metadata["tensor"] == dt.open_matrix(folder).tensor
    assert metadata["bytes_saved"] == str(kept.bytes_saved)
    assert all(caveat in metadata["caveats"] for caveat in kept.caveats)
    printed = deadtokens("census", folder, "--export-keep", path, "--json").out
    assert json.loads(printed)["keep"] == {
        "kept": 251, "bytes_saved": kept.bytes_saved, "caveats": list(kept.caveats)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("out/keep.npz", "not a .safetensors file; name one with --export-keep FILE.safetensors"),
        ("out/mask.safetensors", "the census writes there too; choose another name"),
        ("m/model.safetensors", ""),
    ],
)
def test_places_where_the_map_cannot_go(
    deadtokens: Program, tmp_path: Path, name: str, says: str
) -> None:
    folder = tied_model(tmp_path / "m")
    before = (folder / "model.safetensors").read_bytes()
    out, keep = tmp_path / "out", tmp_path / name
    result = deadtokens("census", folder, "-o", out, "--export-keep", keep)
    assert result.status == 1
    assert f"{keep}: {says}" in result.message
    assert not list(out.iterdir())
    assert (folder / "model.safetensors").read_bytes() == before
