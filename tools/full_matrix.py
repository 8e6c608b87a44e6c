"""A full-size model file: Qwen3-4B's shape, distinct random rows, and its dead rows among them."""

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

import deadtokens as dt
from deadtokens.writing import write_safetensors

V, D = 151_936, 2_560
SEED = 1
_BLOCK = 8192


def write_full_matrix(model: Path, mask: Path) -> npt.NDArray[np.int64]:
    """Write the model (778 MB, bfloat16) and a mask of its dead rows; returns those rows.

    The 2,100 rows of the built-in stand at random places, in random order. In the 2,540 dimensions
    that it does not hold, all of them take the same random values.
    """
    rng = np.random.default_rng(SEED)
    fmt = dt.get_format("bfloat16")
    codes = np.empty((V, D), dtype=np.uint16)
    for start in range(0, V, _BLOCK):
        block = codes[start : start + _BLOCK]
        noise = rng.standard_normal(block.shape, dtype=np.float32) * np.float32(0.02)
        block[:] = fmt.round(noise)
    dead = dt.open_matrix("builtin:qwen3-4b")
    facts = resources.files("deadtokens") / "data" / "qwen3_4b_black_holes.json"
    dimensions = json.loads(facts.read_text())["dimensions"]
    rows = np.sort(rng.choice(V, dead.n_rows, replace=False))
    codes[rows] = codes[rows[0]]
    codes[np.ix_(rows, dimensions)] = dead.codes[rng.permutation(dead.n_rows)]
    write_safetensors(model, {"model.embed_tokens.weight": codes.view(fmt.float_dtype)})
    selected = np.zeros(V, dtype=np.bool_)
    selected[rows] = True
    write_safetensors(mask, {"mask": selected})
    return rows


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_full_matrix(folder / "full.safetensors", folder / "mask.safetensors")
