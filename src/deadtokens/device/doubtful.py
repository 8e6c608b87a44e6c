"""The words that the ziggurat's quick test leaves in doubt, settled on the host.

Some 1.5 % of a gaussian trial's words need a logarithm, an exponential or further words. These
functions differ between devices in their last bits, so such words are settled by the very code that
the CPU draws with (`deadtokens.kernels.direct`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from deadtokens.kernels import direct
from deadtokens.kernels.compiling import kernel
from deadtokens.kernels.random import (
    AHEAD,
    REJECTION_BLOCKS,
    STATE_SIZE,
    Words,
    start_stream,
)
from deadtokens.kernels.types import Float64Array, Int64Array

_normal_rejected = direct._normal_rejected


@kernel
def _settle_words(
    words: Words,
    positions: Int64Array,
    width: int,
    n_tokens: int,
    key: int,
    first_trial: int,
    z: Float64Array,
    state: Words,
    ahead: Words,
) -> None:
    # As `direct._fill_normals` does: one stream per token, its doubtful dimensions ascending.
    row = np.int64(-1)
    for i in range(positions.size):
        if positions[i] // width != row:
            row = positions[i] // width
            trial = np.uint64(first_trial) + np.uint64(row // n_tokens)
            start_stream(state, ahead, key, row % n_tokens, trial, REJECTION_BLOCKS)
        z[i] = _normal_rejected(words[i], state, ahead)


def settle(
    words: Words,
    positions: Int64Array,
    *,
    width: int,
    n_tokens: int,
    key: int,
    first_trial: int,
    pool: ThreadPoolExecutor,
    threads: int,
) -> Float64Array:
    """(w,) float64 noise of the words in doubt.

    Args:
        words: (w,) uint64.
        positions: (w,) int64, ascending: their places among (trials, n_tokens, width) words.
        width: Active dimensions.
        n_tokens: Tokens of a trial.
        key: The stream key.
        first_trial: Number of the first trial.
        pool: Does the work, in
        threads: pieces; the result does not depend on their number.
    """
    z = np.empty(words.size)
    rows = int(positions[-1]) // width + 1 if positions.size else 0
    starts = np.linspace(0, rows, threads + 1).astype(np.int64) * width
    cuts = np.searchsorted(positions, starts).tolist()

    def work(piece: int) -> None:
        part = slice(cuts[piece], cuts[piece + 1])
        state = np.zeros(STATE_SIZE, dtype=np.uint64)
        ahead = np.zeros(AHEAD, dtype=np.uint64)
        _settle_words(
            words[part], positions[part], width, n_tokens, np.uint64(key), np.uint64(first_trial),
            z[part], state, ahead,
        )  # fmt: skip

    for _ in pool.map(work, range(threads)):
        pass
    return z
