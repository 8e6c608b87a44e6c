"""Small tokenizers written out by hand, as tokenizer.json and as GGUF metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Added = Sequence[tuple[int, str, bool]]


def write_tokenizer(
    path: Path,
    model: Mapping[str, Any],
    *,
    added: Added = (),
    normalizer: Any = None,
    pre_tokenizer: Any = None,
    decoder: Any = None,
    **others: Any,
) -> Path:
    """A tokenizer.json of those parts; ``added`` is (id, content, special) each."""
    tokens = [
        {"id": token, "content": content, "special": special}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for token, content, special in added
    ]
    parts = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": tokens,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": dict(model),
    }
    path.write_text(json.dumps(parts | others), encoding="utf-8")
    return path


def numbered(*pieces: str) -> dict[str, int]:
    """A vocabulary whose ids count from 0."""
    return {piece: token for token, piece in enumerate(pieces)}


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
WITH_REGEX = {**BYTE_LEVEL, "use_regex": True}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
BERT_NORMALIZER = {
    "type": "BertNormalizer",
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": True,
}
WORDPIECE_DECODER = {"type": "WordPiece", "prefix": "##", "cleanup": True}
LLAMA_NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}
LLAMA_DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}


def bpe(vocabulary: Mapping[str, int], merges: Sequence[str], **others: Any) -> dict[str, Any]:
    """A byte-pair model."""
    return {"type": "BPE", "vocab": dict(vocabulary), "merges": list(merges), **others}


def wordpiece(vocabulary: Mapping[str, int]) -> dict[str, Any]:
    """A WordPiece model."""
    return {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": dict(vocabulary),
    }


def gguf(model: str, tokens: Sequence[str | bytes], types: Sequence[int], **others: Any) -> Any:
    """The tokenizer's part of a GGUF file's metadata."""
    keys = {"model": model, "tokens": list(tokens), "token_type": np.array(types, np.int32)}
    values = {key.replace("__", "."): value for key, value in others.items()}
    return {f"tokenizer.ggml.{key}": value for key, value in (keys | values).items()}
