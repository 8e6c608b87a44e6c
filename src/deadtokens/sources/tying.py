"""Whether the input and the output matrix of a model are one: their numbers decide."""

from __future__ import annotations

import numpy as np

from deadtokens.formats import Format
from deadtokens.rows import RowCodes

_BLOCK_BYTES = 1 << 24


def equal_codes(a: RowCodes, b: RowCodes, formats: tuple[Format, Format]) -> bool:
    """Whether two matrices hold the same numbers; read in blocks, up to the first difference.

    Bits are compared where both have one format, else the values that they stand for.

    Args:
        a: V x d bit patterns.
        b: Those of the other.
        formats: Their formats.
    """
    if a.shape != b.shape:
        return False
    n_rows, n_columns = a.shape
    step = max(1, _BLOCK_BYTES // (4 * n_columns))
    for start in range(0, n_rows, step):
        block = slice(start, start + step)
        mine, others = a[block], b[block]
        if formats[0] is not formats[1]:
            mine, others = formats[0].values(mine), formats[1].values(others)
            if not np.array_equal(mine, others, equal_nan=True):
                return False
        elif not np.array_equal(mine, others):
            return False
    return True
