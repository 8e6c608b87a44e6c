"""The files that tokenizers come in, by their names."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

TOKENIZER_JSON = "tokenizer.json"
CONVERT = (
    "transformers writes a tokenizer.json: AutoTokenizer.from_pretrained(FOLDER).save_pretrained("
    "FOLDER)"
)
# Of several in a folder the first is taken.
_NAMES = (
    TOKENIZER_JSON,
    "tokenizer.model",
    "tekken.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "vocab.json",
)
_OTHER_SUFFIXES = (".model", ".txt", ".tiktoken")
_OTHER_NAMES = ("tekken.json", "vocab.json")
ADDED_TOKENS, TOKENIZER_CONFIG = "added_tokens.json", "tokenizer_config.json"
MERGES = "merges.txt"
# What stands beside a tokenizer's file and belongs to it.
COMPANIONS = (ADDED_TOKENS, TOKENIZER_CONFIG, MERGES)


def tokenizer_name(names: Collection[str]) -> str | None:
    """The file of a folder that holds the tokenizer, by the names of its files; None without."""
    listed = [name for name in _NAMES if name in names]
    ranks = sorted(name for name in names if name.endswith(".tiktoken"))
    return next(iter([*listed[:1], *ranks[:1]]), None)


def find_tokenizer(folder: Path) -> Path | None:
    """The file of a folder that holds the tokenizer; None without."""
    try:
        name = tokenizer_name({path.name for path in folder.iterdir() if path.is_file()})
    except OSError:
        return None
    return folder / name if name else None


def is_other(file: Path) -> bool:
    """Whether a file's name is that of a tokenizer in another kind of file than tokenizer.json."""
    name = file.name.lower()
    return name in _OTHER_NAMES or file.suffix.lower() in _OTHER_SUFFIXES
