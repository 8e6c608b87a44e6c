"""Whether a tokenizer and a matrix are of one model: how many tokens, how many rows.

Models have more rows than tokens: up to a multiple that kernels like, or for tokens to come. Of
published ones most have up to 300 more, some 905 (Phi-2: 50,295 tokens, 51,200 rows) or 970. Rows
beyond the tokenizer are *padding* if they are no more than that; else nothing says what they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from deadtokens.errors import shortened
from deadtokens.sources import Matrix
from deadtokens.tokens.vocabulary import Vocabulary

_UNKNOWN = -1
MOST_PADDING = 1024
_SHARE = 8  # of a small vocabulary, an eighth may be padding, but no fewer than
_FEWEST = 64


@dataclass(frozen=True)
class RowTokens:
    """Which token each row is.

    Attributes:
        ids: The token's id, -1 where it is not known.
        notes: What the sizes say, a sentence each.
        warnings: Where they do not fit together, a sentence each.
    """

    ids: list[int]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def fit_rows(matrix: Matrix, vocabulary: Vocabulary) -> RowTokens:
    """Which token each row of a matrix is, by the sizes of both."""
    if vocabulary.of_rows:
        return RowTokens(list(range(matrix.n_rows)))
    if matrix.token_ids is not None:
        return _of_some(matrix.token_ids.tolist(), vocabulary)
    n_rows, size = matrix.n_rows, vocabulary.size
    ids = list(range(n_rows))
    both = f"the tokenizer has {size:,} tokens, the matrix {n_rows:,} rows"
    if size > n_rows:
        without = sorted(token for token in vocabulary.pieces if token >= n_rows)
        first = shortened(vocabulary.pieces[without[0]], 40)
        count = f"{len(without):,} tokens have" if len(without) > 1 else "1 token has"
        warning = f"{both}: {count} no row, the first {first!r} ({without[0]:,})"
        return RowTokens(ids, warnings=(warning,))
    beyond = n_rows - size
    if beyond == 0:
        return RowTokens(ids)
    if not vocabulary.complete:
        return RowTokens([*range(size), *[_UNKNOWN] * beyond])
    if beyond <= most_padding(n_rows):
        return RowTokens(ids, notes=(f"{both[:1].upper()}{both[1:]}.",))
    warning = (
        f"{both}: {beyond:,} more are no padding, so that it may be another model's. What these "
        "rows are is not known, and the others' names are as good as the tokenizer is"
    )
    return RowTokens([*range(size), *[_UNKNOWN] * beyond], warnings=(warning,))


def most_padding(n_rows: int) -> int:
    """Rows beyond the tokenizer that may be padding."""
    return min(MOST_PADDING, max(_FEWEST, n_rows // _SHARE))


def _of_some(ids: list[int], vocabulary: Vocabulary) -> RowTokens:
    """Rows that are some of a vocabulary's: all have to be tokens of it."""
    most = max(ids, default=0)
    if most >= vocabulary.size + most_padding(most + 1):
        warning = (
            f"rows are named as tokens up to {most:,}, and the tokenizer has "
            f"{vocabulary.size:,} tokens: it may be another model's"
        )
        return RowTokens(ids, warnings=(warning,))
    return RowTokens(ids)
