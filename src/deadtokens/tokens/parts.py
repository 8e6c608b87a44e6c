"""What the parts of a tokenizer say of how its vocabulary is spelled."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from deadtokens.tokens.spelling import Spelling

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def growth(tokenizer: Tokenizer) -> int:
    """How many times longer a text can become by replacements, at the most."""
    parts = [*_parts(tokenizer.normalizer), *_parts(tokenizer.decoder)]
    return math.prod(max(1, len(part["content"])) for part in parts if part["type"] == "Replace")


def spelling_of(tokenizer: Tokenizer) -> Spelling:
    """How a vocabulary is spelled, by the tokenizer's model and the parts that undo it."""
    model = tokenizer.model
    stated = json.loads(model.__getstate__())  # not every model has all of it as attributes
    decoding = list(_parts(tokenizer.decoder))
    parts = [*decoding, *_parts(tokenizer.pre_tokenizer), *_parts(tokenizer.normalizer)]
    kinds = {part["type"] for part in parts}
    prefixes = [part["prefix"] for part in decoding if part["type"] == "WordPiece"]
    suffixes = [part["suffix"] for part in decoding if part["type"] == "BPEDecoder"]
    return Spelling(
        byte_level="ByteLevel" in kinds,
        byte_fallback="ByteFallback" in kinds or bool(stated.get("byte_fallback")),
        space=next(_spaces(parts), ""),
        prefix=getattr(model, "continuing_subword_prefix", None) or next(iter(prefixes), ""),
        suffix=getattr(model, "end_of_word_suffix", None) or next(iter(suffixes), ""),
    )


def _parts(component: Any) -> Iterator[dict[str, Any]]:
    """What a normalizer, pre-tokenizer or decoder is made of, sequences taken apart."""
    waiting = [json.loads(component.__getstate__())] if component is not None else []
    while waiting:
        part = waiting.pop(0)
        yield part
        for key in ("normalizers", "pretokenizers", "decoders"):
            waiting += part.get(key, [])


def _spaces(parts: list[dict[str, Any]]) -> Iterator[str]:
    """What stands for a space."""
    for part in parts:
        if part["type"] == "Metaspace":
            yield part["replacement"]
        if part["type"] == "Replace":
            pattern, content = part["pattern"].get("String"), part["content"]
            if content == " " and pattern:
                yield pattern
            if pattern == " " and len(content) == 1:
                yield content
