"""Matrices that quantisers packed in ways that are not read, named for what they are.

A packed matrix is told by the tensors beside each other under one layer's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from deadtokens.files import StoredTensor

_PACKED = re.compile(
    r"(?P<layer>.+)\.(qweight|q_weight|weight_packed|packed_weight|W_q|trellis|codes"
    r"|weight_blocks|weight\.(absmax|_data|quant_state\..*))"
)
# By the tensors beside each other: all of these, and what wrote them; the first that holds.
_KINDS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset(("qweight", "g_idx")), "GPTQ"),
    (frozenset(("qweight", "scales")), "GPTQ or AWQ"),
    (frozenset(("qweight",)), "packed integers"),
    (frozenset(("q_weight",)), "EXL2"),
    (frozenset(("trellis",)), "EXL3"),
    (frozenset(("W_q",)), "HQQ"),
    (frozenset(("codes", "codebooks")), "AQLM"),
    (frozenset(("weight_packed",)), "compressed-tensors, packed integers"),
    (frozenset(("packed_weight",)), "packed integers"),
    (frozenset(("weight_blocks",)), "MXFP4"),
    (frozenset(("weight", "weight.absmax")), "bitsandbytes, 4 bits"),
    (frozenset(("weight", "scales", "biases")), "MLX"),
    (frozenset(("weight", "weight_scale", "weight_scale_2")), "NVFP4"),
    (frozenset(("weight._data",)), "Quanto"),
)


def packing(tensors: Mapping[str, StoredTensor], layer: str) -> str:
    """How a layer's weights are packed, in words; "" if nothing beside them tells.

    Args:
        tensors: What the source holds, by name.
        layer: The layer's name: ``"lm_head"`` of ``"lm_head.weight"``.
    """
    beside = {name.removeprefix(f"{layer}.") for name in tensors if name.startswith(f"{layer}.")}
    return next((kind for needed, kind in _KINDS if needed <= beside), "")


def packed_layer(name: str) -> str:
    """The layer whose packed weights a tensor is, by its name alone; "" if it is none."""
    match = _PACKED.fullmatch(name)
    return match["layer"] if match else ""
