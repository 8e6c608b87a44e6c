"""How many tokens a tokenizer has, counted without loading it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deadtokens.errors import SourceError
from deadtokens.sources.describe import read_object


def tokenizer_size(path: Path) -> int | None:
    """One more than the highest id of a tokenizer.json; None where it cannot be told."""
    if not path.is_file():
        return None
    try:
        return max(_ids(read_object(path)), default=-1) + 1 or None
    except SourceError:
        return None


def _ids(tokenizer: dict[str, Any]) -> Iterator[int]:
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, list):  # of Unigram, in order
        yield len(vocabulary) - 1
    elif isinstance(vocabulary, dict):
        yield from (i for i in vocabulary.values() if isinstance(i, int))
    added = tokenizer.get("added_tokens")
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict) and isinstance(token.get("id"), int):
            yield token["id"]
