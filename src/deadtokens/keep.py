"""The map from old to new ids that drops dead rows, and what dropping them would break."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deadtokens.errors import SelectionError
from deadtokens.inventory import Both, Inventory
from deadtokens.kernels.types import BoolArray, Int64Array
from deadtokens.sources import Matrix, MatrixLike
from deadtokens.stocktaking import take_both, take_inventory
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


def keep_map(taken: Inventory | MatrixLike, both: Both | None = None) -> Keep:
    """Drop the dead rows, and say what that means.

    Of untied matrices, only rows that are dead in both are dropped: an id that is never written may
    still be read (a start token, say), and the other way round.

    Args:
        taken: The inventory of the output matrix, or of the only one; or whatever `open_matrix`
            takes.
        both: What is known of the two matrices; by default that is found out.

    Raises:
        SelectionError: Rows are not ids, or the other of two matrices was not looked at.
    """
    if not isinstance(taken, Inventory):
        taken = take_inventory(taken)
    if both is None:
        both = take_both(taken)
    if taken.matrix.token_ids is not None:
        raise SelectionError(
            "its rows are some of a vocabulary's, so that no map of ids can be made",
            where=taken.matrix.source,
            remedy="give the whole model",
        )
    if both.unread:
        raise SelectionError(
            "an id may be dropped only if it is dead in both matrices of an untied model, and one "
            f"was not looked at ({both.unread})",
            where=taken.matrix.source,
            remedy="add --both, or give a model whose two matrices can be read",
        )
    dropped, matrices = taken.dead_rows.rows, [taken.matrix]
    if both.untied is not None:
        dropped = np.logical_and(*both.untied.dead_in)
        matrices = [both.untied.read.matrix, both.untied.written.matrix]
    kept = np.flatnonzero(~dropped)
    old_to_new = np.full(dropped.size, DROPPED, dtype=np.int64)
    old_to_new[kept] = np.arange(kept.size)
    saved = sum(int(dropped.sum()) * _row_bytes(matrix) for matrix in matrices)
    return Keep(old_to_new, kept, saved, tuple(_caveats(taken, dropped)))


def _row_bytes(matrix: Matrix) -> int:
    """Bytes of a row as it is stored."""
    if matrix.model is not None:
        return matrix.model.tensors[matrix.tensor].nbytes // matrix.n_rows
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
    known = dropped[: labels.labels.size]
    counts = dict.fromkeys(LABELS, 0) | labels.label_counts(np.flatnonzero(known))
    if named := counts["special"] + counts["added"]:
        yield (
            f"{named:,} special or added tokens are dropped: chat templates, generation settings "
            "and code that names them break, and the tokenizer must forget them."
        )
    if counts["reserved"]:
        there = labels.label_counts()["reserved"]
        yield f"{counts['reserved']:,} of {there:,} reserved tokens are dropped."
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
    reachable = int((known & (labels.reachable[: known.size] == 1)).sum())
    if reachable:
        yield (
            f"{reachable:,} dropped ids are still produced by the tokenizer, which has to lose "
            "them as well."
        )


def _merges(taken: Inventory, dropped: BoolArray) -> Iterator[str]:
    """Of byte-pair vocabularies: kept tokens that are built out of a dropped one."""
    pairs = merge_pairs(taken.matrix.tokenizer)
    if not pairs or taken.labels is None:
        return
    pieces = taken.labels.pieces
    known = dropped[: len(pieces)]
    gone = {pieces[row] for row in np.flatnonzero(known).tolist()}
    kept = {pieces[row] for row in np.flatnonzero(~known).tolist()}
    whole = {left + right for left, right in pairs if not gone & {left, right}}
    made = {left + right for left, right in pairs}
    cut = (made & kept) - whole
    if cut:
        yield (
            f"{len(cut):,} kept tokens are merged out of a dropped one: without other merges the "
            "tokenizer no longer produces them."
        )
