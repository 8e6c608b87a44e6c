"""Equal rows of a trial's tokens, found on a device.

Rows of unequal hash are unequal. Rows of equal hash are compared value by value; where a hash has
two different rows, the host groups that trial. So a collision costs time and never merges rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from deadtokens.kernels.types import Int64Array
from deadtokens.sampling import distinct_rows


@dataclass(frozen=True)
class Groups:
    """A trial's distinct rows, in the order in which they first appear.

    Attributes:
        vectors: (m, a) ordinals, on the device.
        populations: (m,) int64.
    """

    vectors: torch.Tensor
    populations: Int64Array


def coefficients(width: int, device: torch.device) -> torch.Tensor:
    """(width,) odd int64 multipliers of the hash, always the same."""
    generator = np.random.default_rng(0)
    numbers = generator.integers(-(2**63), 2**63, width, dtype=np.int64) | 1
    return torch.from_numpy(numbers).to(device)


def group_rows(tokens: torch.Tensor, multipliers: torch.Tensor) -> list[Groups]:
    """Distinct rows of each trial.

    Args:
        tokens: (trials, n, a) ordinals.
        multipliers: `coefficients`.
    """
    hashes = (tokens * multipliers).sum(dim=-1)
    ordered = hashes.sort(dim=1).values
    all_differ = (ordered[:, 1:] != ordered[:, :-1]).all(dim=1).tolist()
    alone = np.ones(tokens.shape[1], dtype=np.int64)
    return [
        Groups(rows, alone) if differ else _group(rows, of_rows.cpu().numpy())
        for rows, of_rows, differ in zip(tokens, hashes, all_differ, strict=True)
    ]


def _group(rows: torch.Tensor, hashes: Int64Array) -> Groups:
    _, first, inverse, counts = np.unique(
        hashes, return_index=True, return_inverse=True, return_counts=True
    )
    representatives = torch.from_numpy(first[inverse]).to(rows.device)
    if not torch.equal(rows, rows[representatives]):
        vectors, populations, _ = distinct_rows(rows.cpu().numpy())
        return Groups(torch.from_numpy(vectors).to(rows.device), populations)
    order = np.argsort(first)
    return Groups(rows[torch.from_numpy(first[order]).to(rows.device)], counts[order])
