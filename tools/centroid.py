"""The benchmark's centroid: Student-t(4.5) draws scaled to the rms of Qwen3-4B's dead rows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from deadtokens.kernels.types import Float64Array
from deadtokens.writing import make_folder, write_safetensors

D = 2_560
RMS = 3.282e-3


def centroid() -> Float64Array:
    """(D,) float64."""
    draws = np.random.default_rng(0).standard_t(4.5, D)
    return np.asarray(draws * RMS / np.sqrt((draws**2).mean()))


if __name__ == "__main__":
    path = Path(sys.argv[1])
    make_folder(path.parent)
    write_safetensors(path, {"centroid": centroid().astype(np.float32)})
