"""The map that drops dead rows, and the caveats that go with it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from made_models import NEAR, TWINS, ZEROS, tied_model, untied_model

import deadtokens as dt
from deadtokens.inventory import take_both, take_inventory
from deadtokens.keep import keep_map

DEAD = sorted((*TWINS, *NEAR, *ZEROS))


def test_the_map_drops_the_dead_and_keeps_the_order(tmp_path: Path) -> None:
    taken = take_inventory(dt.open_matrix(tied_model(tmp_path / "m")))
    kept = keep_map(taken)
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
    text = "\n".join(keep_map(taken).caveats)
    # Of 272 rows, those from the first dead one on that stay change their id.
    assert f"{sum(row not in DEAD for row in range(192, 272))} ids from 192 on change" in text
    assert "a multiple of 16" in text  # 272 is one, 251 is not
    assert "251 is none: 5 rows of padding" in text
    assert "2 special or added tokens are dropped" in text
    assert "1 reserved tokens are dropped" in text
    assert "13 byte tokens are dropped" in text
    assert "5 of the dropped rows have no token" in text
    assert re.search(r"\d+ dropped ids are still produced", text)


def test_kept_tokens_merged_out_of_dropped_ones_are_counted(tmp_path: Path) -> None:
    taken = take_inventory(dt.open_matrix(tied_model(tmp_path / "m")))
    assert "merged out of" not in "\n".join(keep_map(taken).caveats)
    # "ab" (256) is a part of "abc" (257); "x" (120) of "xy" (259), which goes too.
    rows = np.isin(np.arange(272), [256, 120, 259])
    gone = replace(taken, dead=replace(taken.dead, rows=rows))
    assert "1 kept tokens are merged out of a dropped one" in "\n".join(keep_map(gone).caveats)


def test_nothing_dead_nothing_dropped() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (50, 8)).astype(np.float32)
    kept = keep_map(take_inventory(dt.open_matrix(rows)))
    assert kept.kept.tolist() == kept.old_to_new.tolist() == list(range(50))
    assert kept.bytes_saved == 0
    assert kept.caveats == ("No row is dead, so that nothing is dropped and no id changes.",)


def test_without_a_tokenizer_it_says_what_is_not_known() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (50, 8)).astype(np.float32)
    rows[40:] = rows[0]
    text = "\n".join(keep_map(take_inventory(dt.open_matrix(rows))).caveats)
    assert "--tokenizer" in text
