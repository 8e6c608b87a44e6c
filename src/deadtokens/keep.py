"""The map from old to new ids that drops dead rows, and what dropping them would break."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deadtokens.inventory import Inventory, Untied
from deadtokens.kernels.types import BoolArray, Int64Array
from deadtokens.tokens import LABELS, Labels, merge_pairs

DROPPED = -1
_ALIGNMENTS = (256, 128, 64, 32, 16, 8)


@dataclass(frozen=True)
class Keep:
    """Which rows stay, and under which id.

    Attributes:
        old_to_new: (V,) int64: the new id of each old one, -1 for a dropped one.
        kept: (K,) int64: the old ids, in the order of the new ones.
        bytes_saved: In the matrices, as they are stored.
        caveats: What a dropped id would break, a sentence each.
    """

    old_to_new: Int64Array
    kept: Int64Array
    bytes_saved: int
    caveats: tuple[str, ...]


def keep_map(taken: Inventory, untied: Untied | None = None) -> Keep:
    """Drop the dead rows, and say what that means.

    Of untied matrices, only rows that are dead in both are dropped: an id that is never written may
    still be read (a start token, say), and the other way round.
    """
    dropped = taken.dead.rows
    if untied is not None:
        read, written = untied.dead_in
        dropped = (read & written)[: taken.matrix.n_rows]
    kept = np.flatnonzero(~dropped)
    old_to_new = np.full(dropped.size, DROPPED, dtype=np.int64)
    old_to_new[kept] = np.arange(kept.size)
    matrices = [taken] if untied is None else [untied.read, untied.written]
    saved = sum(int(dropped.sum()) * _row_bytes(one) for one in matrices)
    return Keep(old_to_new, kept, saved, tuple(_caveats(taken, dropped)))


def _row_bytes(taken: Inventory) -> int:
    matrix = taken.matrix
    if matrix.quantised:
        return int(matrix.quantised.raw.shape[1])
    return matrix.n_dimensions * matrix.format.bits // 8


def _caveats(taken: Inventory, dropped: BoolArray) -> Iterator[str]:
    n_dropped = int(dropped.sum())
    if not n_dropped:
        yield "No row is dead, so that nothing is dropped and no id changes."
        return
    first = int(np.argmax(dropped))
    moved = int((~dropped[first:]).sum())
    if moved:
        yield (
            f"{moved:,} ids from {first:,} on change: data that is already tokenised, stored "
            "key-value caches, adapters that touch the embedding, and draft models that share the "
            "vocabulary go wrong unless they are mapped too."
        )
    yield from _alignment(dropped.size, dropped.size - n_dropped)
    if taken.labels is None:
        yield (
            "The tokenizer is not known here, so that nothing is said of what the dropped ids are: "
            "look before you drop them (--tokenizer FILE)."
        )
    else:
        yield from _by_label(taken.labels, dropped)
        yield from _merges(taken, dropped)
    yield (
        "A dead row is evidence that training did not touch the token, none that nobody will send "
        "it: text that encodes to a dropped id has to be encoded in another way."
    )


def _alignment(before: int, after: int) -> Iterator[str]:
    held = next((n for n in _ALIGNMENTS if before % n == 0), None)
    if held is not None and after % held:
        yield (
            f"The number of rows was a multiple of {held}, which kernels and parallel layouts may "
            f"count on; {after:,} is none: {held - after % held} rows of padding would mend that."
        )


def _by_label(labels: Labels, dropped: BoolArray) -> Iterator[str]:
    counts = dict.fromkeys(LABELS, 0) | labels.label_counts(dropped)
    if named := counts["special"] + counts["added"]:
        yield (
            f"{named:,} special or added tokens are dropped: chat templates, generation settings "
            "and code that names them break, and the tokenizer must forget them."
        )
    if counts["reserved"]:
        yield f"{counts['reserved']:,} reserved tokens are dropped: no room is left for those."
    if counts["byte"]:
        yield (
            f"{counts['byte']:,} byte tokens are dropped: text that needs these bytes can no "
            "longer be encoded."
        )
    if counts["partial UTF-8"]:
        yield (
            f"{counts['partial UTF-8']:,} pieces of characters are dropped: characters that were "
            "made of them fall apart into bytes."
        )
    if counts["padding"]:
        yield f"{counts['padding']:,} of the dropped rows have no token, and are safe to drop."
    reachable = int((dropped & (labels.reachable == 1)).sum())
    if reachable:
        yield (
            f"{reachable:,} dropped ids are still produced by the tokenizer, which has to lose "
            "them as well."
        )


def _merges(taken: Inventory, dropped: BoolArray) -> Iterator[str]:
    """Of byte-pair vocabularies: kept tokens that are built out of a dropped one."""
    pairs = merge_pairs(taken.matrix.tokenizer)
    if not pairs or taken.labels is None or taken.matrix.token_ids is not None:
        return
    pieces = taken.labels.pieces
    gone = {pieces[row] for row in np.flatnonzero(dropped).tolist()}
    kept = {pieces[row] for row in np.flatnonzero(~dropped).tolist()}
    cut = {
        left + right
        for left, right in pairs
        if left + right in kept and (left in gone or right in gone)
    }
    if cut:
        yield (
            f"{len(cut):,} kept tokens are merged out of a dropped one: without other merges the "
            "tokenizer no longer produces them."
        )
