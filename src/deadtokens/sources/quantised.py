"""What the bytes of quantised rows stand for, as float32, by the gguf package's own rules.

The package is loaded only when something quantised is looked at.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import numpy.typing as npt

from deadtokens.formats import Codes
from deadtokens.rows import MadeRows, RowChoice

# How GGML spells its quantisations; other containers spell nothing so.
_NAME = re.compile(r"[IT]?Q\d\w*|(MX|NV)FP\d\w*")
_BLOCK_NUMBERS = 1 << 18  # at a time, so that what is in the making is small beside the result


@cache
def can_dequantise(kind: str) -> bool:
    """Whether it is a quantisation, and one that the gguf package can undo."""
    if not is_quantisation(kind):
        return False
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    if kind not in GGMLQuantizationType.__members__:
        return False
    block = np.zeros((1, GGML_QUANT_SIZES[GGMLQuantizationType[kind]][1]), dtype=np.uint8)
    try:
        dequantize(block, GGMLQuantizationType[kind])
    except NotImplementedError:
        return False
    return True


def is_quantisation(kind: str) -> bool:
    """Whether a tensor's type is called as quantisations are."""
    return _NAME.fullmatch(kind) is not None


def dequantised_rows(raw: npt.NDArray[np.uint8], kind: str, n_columns: int) -> MadeRows:
    """The bit patterns of quantised rows as float32, made when they are asked for.

    Args:
        raw: V x bytes of a row.
        kind: A quantisation for which `can_dequantise` holds.
        n_columns: Numbers of a row, d.
    """
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    of_kind = GGMLQuantizationType[kind]
    numbers = np.arange(raw.shape[0])
    step = max(1, _BLOCK_NUMBERS // n_columns)

    def make(choice: RowChoice) -> Codes:
        chosen = np.atleast_1d(numbers[choice])
        values = np.empty((chosen.size, n_columns), dtype=np.float32)
        for start in range(0, chosen.size, step):
            rows = np.asarray(raw[chosen[start : start + step]])
            # A scale may be NaN or infinite, and infinity times 0 is NaN: such rows are not finite.
            with np.errstate(over="ignore", invalid="ignore"):
                values[start : start + step] = dequantize(rows, of_kind)
        codes: Codes = values.view(np.uint32)
        return codes

    return MadeRows((raw.shape[0], n_columns), make)
