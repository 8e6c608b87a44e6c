"""Small models with tokenizers, made for the tests: which rows are dead is known beforehand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from containers import AnyArray, write_tensors

# The alphabet of byte-level BPE, from its definition: visible Latin-1 characters stand for
# themselves, the other bytes for the characters from 256 up, in order.
_VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTE_CHARACTERS = {byte: chr(byte) for byte in _VISIBLE}
BYTE_CHARACTERS |= {
    byte: chr(256 + i) for i, byte in enumerate(b for b in range(256) if b not in _VISIBLE)
}


def piece(text: str | bytes) -> str:
    """A text or bytes in the spelling of byte-level BPE."""
    content = text.encode() if isinstance(text, str) else text
    return "".join(BYTE_CHARACTERS[byte] for byte in content)


def byte_level(
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]] = (),
    added: Sequence[tuple[str, int, bool]] = (),
) -> dict[str, Any]:
    """A byte-level BPE tokenizer.json; ``added`` has (content, id, whether special)."""
    byte_level_step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    byte_level_step["use_regex"] = True
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(*token) for token in added],
        "normalizer": None,
        "pre_tokenizer": byte_level_step,
        "post_processor": None,
        "decoder": byte_level_step,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": dict(vocabulary),
            "merges": [list(pair) for pair in merges],
        },
    }


def _added(content: str, number: int, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, "special": special, **flags}


N_TOKENS = 266  # 256 bytes, 5 merged, 5 added
MERGES = [("a", "b"), ("ab", "c"), ("Ġ", "a"), ("x", "y"), ("q", "z")]
ADDED = [
    ("<|end|>", 261, True),
    ("<|reserved_special_token_0|>", 262, True),
    ("<tool>", 263, False),
    ("<|pad|>", 264, True),
    ("<|start|>", 265, True),
]


def tokenizer() -> dict[str, Any]:
    """266 tokens: the 256 bytes by value, ab, abc, " a", xy, qz, and five added ones."""
    vocabulary = {BYTE_CHARACTERS[byte]: byte for byte in range(256)}
    vocabulary |= {left + right: 256 + i for i, (left, right) in enumerate(MERGES)}
    return byte_level(vocabulary, MERGES, ADDED)


# Rows of `dead_matrix` by what makes them dead.
TWINS = (192, 193, 245, 262, 264)  # equal: bytes that UTF-8 never has, reserved, padding token
NEAR = (246, 247, 248, 249, 250, 251, 252, 253, 254, 255, 266, 267, 268, 269)  # close to them
ZEROS = (263, 271)
N_ROWS, N_DIMENSIONS = 272, 48


def dead_matrix(seed: int = 5) -> AnyArray:
    """272 x 48 float16, six rows beyond the tokenizer: five equal rows, 14 about them, two zero."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 0.05, (N_ROWS, N_DIMENSIONS)).astype(np.float16)
    centre = rng.normal(0, 0.02, N_DIMENSIONS).astype(np.float16)
    rows[list(TWINS)] = centre
    noise = rng.normal(0, 1e-5, (len(NEAR), N_DIMENSIONS))
    rows[list(NEAR)] = (centre + noise).astype(np.float16)
    rows[list(ZEROS)] = 0
    return rows


def write_model(
    folder: Path,
    tensors: Mapping[str, AnyArray],
    *,
    tied: bool | None = True,
    tokens: Mapping[str, Any] | None = None,
) -> Path:
    """A model's folder: weights, config.json, tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", tensors)
    if tied is not None:
        (folder / "config.json").write_text(json.dumps({"tie_word_embeddings": tied}))
    if tokens is not None:
        (folder / "tokenizer.json").write_text(json.dumps(tokens), encoding="utf-8")
    return folder


def tied_model(folder: Path) -> Path:
    """A tied model of `dead_matrix` with `tokenizer`."""
    tensors = {"model.embed_tokens.weight": dead_matrix()}
    return write_model(folder, tensors, tokens=tokenizer())


def untied_model(folder: Path) -> Path:
    """The output matrix is `dead_matrix`; in the input one only its twins are dead, and row 10."""
    read = np.random.default_rng(6).normal(0, 0.05, (N_ROWS, N_DIMENSIONS)).astype(np.float16)
    read[[*TWINS, 10]] = read[10]
    tensors = {"model.embed_tokens.weight": read, "lm_head.weight": dead_matrix()}
    return write_model(folder, tensors, tied=False, tokens=tokenizer())
