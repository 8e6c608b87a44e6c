"""Trials drawn on a device: random words, noise, sums, ordinals.

The twin of `deadtokens.kernels.direct` in torch. Words, ziggurat and rounding are whole-number and
float64 operations that every device does alike, one operation at a time, so that nothing is
contracted into a fused multiply-add. Words are int64 here: bits are what counts, and the upper half
of a 64-bit product is right whatever its sign.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deadtokens.cloud import Cloud
from deadtokens.device.doubtful import settle
from deadtokens.formats import Format
from deadtokens.kernels import direct
from deadtokens.sampling import stream_key

_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW = 0xFFFFFFFF
_WORD_BITS = 2**52 - 1
_MAGNITUDE = 2**63 - 1
_SIGN = 0x100
_SQRT3 = 3.0**0.5


def philox_words(key: int, trials: range, n_tokens: int, width: int, where: torch.device) -> Tensor:
    """(trials, n_tokens, width) int64: the words that `kernels.random.fill_words` gives each token.

    Args:
        key: The stream key.
        trials: Numbers of the trials, below 2^64.
        n_tokens: Tokens of a trial.
        width: Words of a token.
        where: The device.
    """
    blocks = torch.arange((width + 1) // 2, device=where).view(1, 1, -1)
    tokens = torch.arange(n_tokens, device=where).view(1, -1, 1)
    low, high = (half.view(-1, 1, 1) for half in trial_halves(trials, where))
    return torch.cat(_philox(key, blocks, tokens, low, high), dim=-1)[..., :width]


def words_at(key: int, trials: range, n_tokens: int, width: int, positions: Tensor) -> Tensor:
    """(w,) int64: those of `philox_words` at (w,) int64 positions among all of them."""
    blocks = (width + 1) // 2
    row, dimension = positions // width, positions % width
    low, high = trial_halves(trials, positions.device)
    trial = row // n_tokens
    words = _philox(key, dimension % blocks, row % n_tokens, low[trial], high[trial])
    return torch.where(dimension < blocks, *words)


def trial_halves(trials: range, where: torch.device) -> tuple[Tensor, Tensor]:
    """The lower and upper 32 bits of numbers of trials, (trials,) int64 each."""
    numbers = np.array(trials, dtype=np.uint64)
    halves = numbers & np.uint64(_LOW), numbers >> np.uint64(32)
    low, high = (torch.from_numpy(half.astype(np.int64)).to(where) for half in halves)
    return low, high


def _philox(key: int, c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor) -> tuple[Tensor, Tensor]:
    """The two words of each block, given its counter in four 32-bit numbers held in int64."""
    k0, k1 = key & _LOW, key >> 32
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1 = ((p1 >> 32) & _LOW) ^ c1 ^ k0, p1 & _LOW
        c2, c3 = ((p0 >> 32) & _LOW) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0 | (c1 << 32), c2 | (c3 << 32)


def round_to_ordinal(x: Tensor, fmt: Format) -> Tensor:
    """int64 ordinals of float64 numbers rounded to nearest, ties to even (`kernels.direct`)."""
    bits = x.view(torch.int64)
    exponent = (((bits & _MAGNITUDE) >> 52) - 1023).clamp(min=fmt.min_exponent)
    scale = ((1023 + fmt.fraction_bits - exponent) << 52).view(torch.float64)
    rounder = float(direct._ROUNDER)
    quanta = (x.abs() * scale + rounder).view(torch.int64) - int(direct._ROUNDER_BITS)
    ordinal = quanta + ((exponent - fmt.min_exponent) << fmt.fraction_bits)
    return torch.where(bits < 0, -ordinal, ordinal)


@dataclass(frozen=True)
class Quick:
    """Trials as the ziggurat's quick test leaves them.

    Attributes:
        ordinals: (trials, n, a), int16, or int32 for float32; of no meaning where
            the word is in doubt.
        positions: (w,) int64, ascending, where in ``ordinals`` that is.
        words: (w,) int64, the words in doubt.
    """

    ordinals: Tensor
    positions: Tensor
    words: Tensor


class DeviceDraw:
    """The direct draw of trials of one cloud, on a device that has float64.

    Args:
        cloud: One with active dimensions, whose noise is gaussian or uniform.
        n_tokens: Tokens of a trial.
        seed: Below 2^64.
        device: Where to draw.
        pool: Threads of the host for words in doubt.
        threads: Their number.

    Attributes:
        key: The stream key.
        centroid: (a,) float64, on the device, as are
        sigma: (a,) float64, and
        widths: (256,) float64 widths of the ziggurat's layers / 2^52, and
        surely: (256,) int64, the bits below which a word is not in doubt.
    """

    def __init__(
        self,
        cloud: Cloud,
        n_tokens: int,
        seed: int,
        device: torch.device,
        pool: ThreadPoolExecutor,
        threads: int,
    ) -> None:
        self.cloud = cloud
        self.n_tokens = n_tokens
        self.device = device
        self.key = stream_key(seed, cloud.sigma)
        self.width = cloud.active.size
        self.dtype = torch.int32 if cloud.format.bits > 16 else torch.int16
        self.centroid = torch.from_numpy(cloud.centroid[cloud.active]).to(device)
        self.sigma = torch.from_numpy(cloud.sigma[cloud.active]).to(device)
        self.widths = torch.from_numpy(direct._WIDTH).to(device)
        self.surely = torch.from_numpy(direct._SURELY.astype(np.int64)).to(device)
        self._pool = pool
        self._threads = threads

    def uniform(self, trials: range) -> Tensor:
        """(trials, n, a) ordinals of trials with uniform noise, as `DirectSampler.draw` gives."""
        u = ((self._words(trials) >> 12) & _WORD_BITS).double().add_(0.5).mul_(2.0**-52)
        return self._ordinals((2.0 * u - 1.0) * _SQRT3, self.centroid, self.sigma)

    def quick(self, trials: range) -> Quick:
        """Trials with gaussian noise but for the words in doubt, which `settle` adds."""
        words = self._words(trials)
        layer = words & 0xFF
        bits = (words >> 12) & _WORD_BITS
        positions = (bits >= self.surely[layer]).view(-1).nonzero().view(-1)
        x = bits.double() * self.widths[layer]
        del layer, bits
        z = torch.where((words & _SIGN) != 0, -x, x)
        in_doubt = words.reshape(-1)[positions]
        del words, x
        return Quick(self._ordinals(z, self.centroid, self.sigma), positions, in_doubt)

    def settle(self, quick: Quick, first_trial: int) -> Tensor:
        """(trials, n, a) ordinals of trials with gaussian noise, as `DirectSampler.draw` gives.

        The words in doubt are settled on the host, and put in their places in ``quick.ordinals``.
        """
        z = settle(
            quick.words.cpu().numpy().view(np.uint64),
            quick.positions.cpu().numpy(),
            width=self.width,
            n_tokens=self.n_tokens,
            key=self.key,
            first_trial=first_trial,
            pool=self._pool,
            threads=self._threads,
        )
        dimension = quick.positions % self.width
        quick.ordinals.view(-1)[quick.positions] = self._ordinals(
            torch.from_numpy(z).to(self.device), self.centroid[dimension], self.sigma[dimension]
        )
        return quick.ordinals

    def _words(self, trials: range) -> Tensor:
        return philox_words(self.key, trials, self.n_tokens, self.width, self.device)

    def _ordinals(self, z: Tensor, centroid: Tensor, sigma: Tensor) -> Tensor:
        # Two operations, never addcmul: a fused multiply-add would round once where the CPU
        # rounds twice.
        x = sigma * z
        x += centroid
        if self.cloud.intermediate == "float32":
            x = x.float().double()
        return round_to_ordinal(x, self.cloud.format).to(self.dtype)
