"""From where a tokenizer is to its vocabulary: tokenizer.json, GGUF metadata, a list of spellings.

A tokenizer.json comes from strangers: whatever is wrong with it ends in one line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deadtokens.errors import SourceError
from deadtokens.sources import TokenizerSource, open_model
from deadtokens.sources.tokenizer_files import CONVERT, find_tokenizer, is_other
from deadtokens.tokens.added import with_added
from deadtokens.tokens.gguf_vocabulary import gguf_merges, gguf_vocabulary
from deadtokens.tokens.hugging_face import of_tokenizer, read_tokenizer
from deadtokens.tokens.other_files import of_other
from deadtokens.tokens.spelling import Spelling
from deadtokens.tokens.vocabulary import Kind, Vocabulary, looks_special

_FILE = "tokenizer.json"


def open_vocabulary(source: TokenizerSource | str, where: object) -> Vocabulary | None:
    """The vocabulary of a tokenizer.

    Args:
        source: A tokenizer.json or a folder that holds one; a .gguf file; GGUF metadata; or
            ``{"spellings": [...], "alphabet": "byte-level"}``, the spelling of each row.
        where: What an error line names if the source is no path.

    Returns:
        None if the metadata holds no tokenizer.

    Raises:
        SourceError: There is none there, it is damaged or of an unsupported kind.
    """
    held = _resolved(source)
    if isinstance(held, Mapping):
        return _of_mapping(held, where if held is source else source)
    file = _tokenizer_file(held)
    return with_added(_of_file(file), file)


def _of_file(file: Path) -> Vocabulary:
    if not is_other(file):
        tokenizer = read_tokenizer(file)
        return of_tokenizer(tokenizer, _checked(json.loads(file.read_bytes())))
    return of_other(file)


def _checked(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The added tokens of a tokenizer.json that the package has read."""
    return [one for one in content.get("added_tokens") or () if isinstance(one.get("id"), int)]


def merge_pairs(source: TokenizerSource | str | None) -> list[tuple[str, str]]:
    """The pairs of pieces that a byte-pair vocabulary merges, in the order of their ranks.

    Args:
        source: As for `open_vocabulary`.

    Returns:
        Nothing if there is no tokenizer, or it does not merge pairs.

    Raises:
        SourceError: As for `open_vocabulary`.
    """
    if source is None:
        return []
    held = _resolved(source)
    if isinstance(held, Mapping):
        return gguf_merges(held)
    path = _tokenizer_file(held)
    if is_other(path):
        return []
    read_tokenizer(path)  # checks what is taken for granted below
    merges = json.loads(path.read_bytes())["model"].get("merges") or []
    return [_pair(merge) for merge in merges]


def _resolved(source: TokenizerSource | str) -> Mapping[str, Any] | Path:
    """Metadata, or the path of a tokenizer.json: that of a .gguf file is what it brings."""
    if isinstance(source, Mapping):
        return source
    path = Path(source)
    if path.suffix.lower() != ".gguf":
        return path
    held = open_model(path).tokenizer
    if held is None:
        raise SourceError("no tokenizer in this file", where=path, remedy=f"give a {_FILE}")
    return held


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """A merge, of either of the two ways in which files have them."""
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right


def _of_mapping(source: Mapping[str, Any], where: object) -> Vocabulary | None:
    if "spellings" in source:
        return _of_spellings(source["spellings"], source.get("alphabet"))
    return gguf_vocabulary(source, where)


def _of_spellings(spellings: list[str], alphabet: str | None) -> Vocabulary:
    kinds: dict[int, Kind] = {
        row: "special" for row, piece in enumerate(spellings) if looks_special(piece)
    }
    return Vocabulary(
        dict(enumerate(spellings)),
        kinds,
        Spelling(byte_level=alphabet == "byte-level"),
        notes=(
            "The source brings the tokens' spellings, not the tokenizer: tokens spelled <|...|> "
            "are taken as special, and whether text can produce a token is only told of bytes that "
            "no text has.",
        ),
        of_rows=True,
    )


def _tokenizer_file(path: Path) -> Path:
    """The tokenizer.json that a path means."""
    file = find_tokenizer(path) if path.is_dir() else path
    if file is None:
        raise SourceError(f"no {_FILE} in this folder", where=path, remedy=CONVERT)
    if not file.exists():
        raise SourceError("no such file or folder", where=path, remedy="check the path")
    if not file.is_file():
        raise SourceError("not a regular file", where=path, remedy=f"give a {_FILE}")
    if file.suffix.lower() != ".json" and not is_other(file):
        raise SourceError(
            f"a tokenizer in a {file.suffix or 'nameless'} file is not supported",
            where=file,
            remedy=CONVERT,
        )
    return file
