"""The two clusters that come with the package: dead tokens of Qwen3-4B and of Whisper tiny.en."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources

import numpy as np

from deadtokens.errors import SourceError
from deadtokens.formats import BFLOAT16, FLOAT16
from deadtokens.sources.matrix import Matrix

PREFIX = "builtin:"


def open_builtin(source: str) -> Matrix:
    """The built-in of that name (``builtin:...``).

    Raises:
        SourceError: There is none of that name.
    """
    opener = BUILTINS.get(source)
    if opener is None:
        raise SourceError(
            "no such built-in", where=source, remedy=f"use one of {', '.join(BUILTINS)}"
        )
    return opener()


def _qwen3_4b() -> Matrix:
    file = resources.files("deadtokens") / "data" / "qwen3_4b_black_holes.json"
    facts = json.loads(file.read_text(encoding="utf-8"))
    vectors = np.array(
        [[int(code, 16) for code in vector] for vector in facts["bfloat16_bits"]], dtype=np.uint16
    )
    populations = np.array(facts["populations"])
    token_ids = np.full(int(populations.sum()), -1, dtype=np.int64)
    token_ids[np.cumsum(populations) - populations] = facts["first_token_ids"]
    return Matrix(
        codes=np.repeat(vectors, populations, axis=0),
        format=BFLOAT16,
        source=PREFIX + "qwen3-4b",
        tensor="lm_head.weight",
        reason="the built-in holds this matrix only",
        token_ids=token_ids,
        default_rows="all",
        varying_only=True,
        note=(
            f"{facts['model']}: its {int(populations.sum()):,} dead rows, rebuilt from published "
            f"figures in the {len(facts['dimensions'])} of {facts['hidden_size']:,} dimensions "
            "where they differ; of each group only the first token's id is published"
        ),
    )


def _whisper_tiny_en() -> Matrix:
    file = resources.files("deadtokens") / "data" / "whisper_tiny_en_dead_rows.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as facts:
        codes = facts["float16_bits"]
        token_ids = facts["token_ids"].astype(np.int64)
        spellings = facts["tokens"].tolist()
    return Matrix(
        codes=codes,
        format=FLOAT16,
        source=PREFIX + "whisper-tiny.en",
        tensor="model.decoder.embed_tokens.weight",
        reason="the built-in holds this matrix only",
        token_ids=token_ids,
        default_rows="all",
        note=(
            "OpenAI Whisper tiny.en: the 300 of 51,864 rows within one float16 step of row 40242 "
            "in every coordinate"
        ),
        tokenizer={"spellings": spellings, "alphabet": "byte-level"},
    )


BUILTINS: dict[str, Callable[[], Matrix]] = {
    PREFIX + "qwen3-4b": _qwen3_4b,
    PREFIX + "whisper-tiny.en": _whisper_tiny_en,
}
