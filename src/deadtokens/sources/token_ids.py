"""Which token each row is, where what stands beside a matrix says that they are not 0, 1, 2, ...

Draft models hold some of a vocabulary, and say which (EAGLE-3: ``d2t``, how much a row's token is
ahead of the row, and ``t2d``, whether a token has a row). model2vec shares rows between tokens
(``mapping``, the row of each token).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deadtokens.errors import SourceError
from deadtokens.files import StoredTensor
from deadtokens.kernels.types import Int64Array

UNKNOWN = -1
_AHEAD, _HELD, _ROW_OF = "d2t", "t2d", "mapping"
_MOST = 1 << 24  # entries that such a list may have


@dataclass(frozen=True)
class RowTokens:
    """The tokens of rows.

    Attributes:
        ids: (V,) int64, `UNKNOWN` where it is not known; None if row i is token i.
        notes: Where they are from, a sentence each.
        warnings: Where what is said does not fit the matrix, a sentence each.
    """

    ids: Int64Array | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def row_tokens(tensors: Mapping[str, StoredTensor], matrix: StoredTensor) -> RowTokens:
    """The tokens of a matrix's rows, by what stands beside it.

    Args:
        tensors: What the source holds, by name.
        matrix: The tensor that was chosen.
    """
    n_rows = matrix.shape[0]
    beside = {name.rpartition(".")[2]: tensor for name, tensor in tensors.items()}
    ahead, held = _list(beside.get(_AHEAD)), _list(beside.get(_HELD))
    if ahead is not None or held is not None:
        return _of_a_draft(n_rows, ahead, held)
    rows = _list(beside.get(_ROW_OF))
    if rows is not None and rows.dtype != np.bool_:
        return _of_shared_rows(n_rows, rows.astype(np.int64))
    return RowTokens()


def _of_a_draft(n_rows: int, ahead: Int64Array | None, held: Int64Array | None) -> RowTokens:
    draft_rows = ahead.size if ahead is not None else None
    if held is not None and held.size == n_rows != draft_rows:
        return RowTokens()  # a matrix of the whole vocabulary beside the draft's own
    said = []
    if ahead is not None:
        said.append((_AHEAD, np.arange(ahead.size) + ahead.astype(np.int64)))
    if held is not None:
        said.append((_HELD, np.flatnonzero(held)))
    fitting = [(name, ids) for name, ids in said if ids.size == n_rows and _are_ids(ids)]
    if not fitting:
        return _unknown(n_rows, " and ".join(f"{name} names {ids.size:,}" for name, ids in said))
    name, ids = fitting[0]
    if any(not np.array_equal(ids, other) for _, other in fitting[1:]):
        return _unknown(n_rows, f"{_AHEAD} and {_HELD} name different ones")
    return RowTokens(ids, (f"its rows are {n_rows:,} tokens of a vocabulary, which {name} names",))


def _of_shared_rows(n_rows: int, row_of: Int64Array) -> RowTokens:
    known = row_of[row_of >= 0]
    if known.size == 0 or int(known.max()) >= n_rows:
        return _unknown(n_rows, f"{_ROW_OF} names rows up to {int(row_of.max(initial=-1)):,}")
    if np.array_equal(row_of, np.arange(n_rows)):
        return RowTokens()
    counts = np.bincount(known, minlength=n_rows)
    ids = np.full(n_rows, UNKNOWN, dtype=np.int64)
    tokens = np.flatnonzero(row_of >= 0)
    ids[row_of[tokens]] = tokens
    ids[counts != 1] = UNKNOWN
    note = f"{_ROW_OF} says which of {row_of.size:,} tokens each row is"
    if shared := int((counts > 1).sum()):
        note += f"; {shared:,} rows are shared by several tokens, and not named"
    return RowTokens(ids, (note,))


def _unknown(n_rows: int, why: str) -> RowTokens:
    warning = f"which tokens its {n_rows:,} rows are is not known: {why}"
    return RowTokens(np.full(n_rows, UNKNOWN, dtype=np.int64), warnings=(warning,))


def _are_ids(ids: Int64Array) -> bool:
    return bool((ids >= 0).all()) and np.unique(ids).size == ids.size


def _list(tensor: StoredTensor | None) -> Int64Array | None:
    """The numbers of a tensor of whole numbers or of truth values; None if it is no such list."""
    if tensor is None or len(tensor.shape) != 1 or not 0 < tensor.shape[0] <= _MOST:
        return None
    try:
        held = np.asarray(tensor.read())
    except SourceError:
        return None
    return held if held.dtype.kind in "iub" else None
