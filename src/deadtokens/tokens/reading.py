"""From where a tokenizer is to its vocabulary: tokenizer.json, GGUF metadata, a list of spellings.

A tokenizer.json comes from strangers: whatever is wrong with it ends in one line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deadtokens.errors import SourceError, shortened
from deadtokens.sources import TokenizerSource, open_model
from deadtokens.tokens.gguf_vocabulary import gguf_merges, gguf_vocabulary
from deadtokens.tokens.spelling import Spelling
from deadtokens.tokens.vocabulary import Failed, Kind, Vocabulary, attempt, looks_special

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FILE = "tokenizer.json"
# The largest in use take some 35 MB.
_MAX_BYTES = 1 << 28
# By how much replacing may lengthen a text before nothing is encoded: some replace quotation marks
# by two characters, none that is in use chains replacements that grow.
_MAX_GROWTH = 1 << 10
_CONVERT = (
    "transformers writes a tokenizer.json: AutoTokenizer.from_pretrained(FOLDER).save_pretrained("
    "FOLDER)"
)


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
    tokenizer = read_tokenizer(file)
    return _of_tokenizer(tokenizer, json.loads(file.read_bytes()).get("added_tokens") or [])


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
    file = path / _FILE if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise SourceError(f"no {_FILE} in this folder", where=path, remedy=_CONVERT)
    if not file.exists():
        raise SourceError("no such file or folder", where=path, remedy="check the path")
    if not file.is_file():
        raise SourceError("not a regular file", where=path, remedy=f"give a {_FILE}")
    if file.suffix.lower() != ".json":
        raise SourceError(
            f"a tokenizer in a {file.suffix or 'nameless'} file is not supported",
            where=file,
            remedy=_CONVERT,
        )
    return file


def read_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer in a tokenizer.json, set to encode text as it is, whole, and always alike.

    Raises:
        SourceError: It cannot be read as one.
    """
    from tokenizers import Tokenizer

    try:
        size = file.stat().st_size
        if size > _MAX_BYTES:
            raise SourceError(
                f"{size:,} bytes, where {_MAX_BYTES:,} are the most a tokenizer may have",
                where=file,
                remedy=f"give a {_FILE}",
            )
        text = file.read_text(encoding="utf-8")
        tokenizer: Tokenizer = attempt(lambda: Tokenizer.from_str(text))
    except OSError as error:
        raise SourceError(
            error.strerror or str(error), where=file, remedy="check the path"
        ) from None
    except UnicodeDecodeError:
        raise SourceError("not UTF-8 text", where=file, remedy="fetch the file again") from None
    except Failed as failure:
        raise SourceError(
            f"not a tokenizer ({failure})",
            where=file,
            remedy=f"fetch the file again, or {_CONVERT}",
        ) from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = False
    if getattr(tokenizer.model, "dropout", None):
        tokenizer.model.dropout = None
    return tokenizer


def _of_tokenizer(tokenizer: Tokenizer, listed: list[dict[str, Any]]) -> Vocabulary:
    """The vocabulary of a tokenizer whose file lists those added tokens."""
    pieces: dict[int, str] = {}
    for piece, token in sorted(tokenizer.get_vocab(with_added_tokens=True).items()):
        pieces.setdefault(token, piece)
    added = tokenizer.get_added_tokens_decoder()
    pieces.update((token, one.content) for token, one in added.items())
    kinds: dict[int, Kind] = {
        token: "special" if one.special else "added" for token, one in added.items()
    }
    notes = list(_moved(listed, {one.content: token for token, one in added.items()}))
    encoder: Tokenizer | None = tokenizer
    if _growth(tokenizer) > _MAX_GROWTH:
        encoder = None
        notes.append(
            "Whether text can produce a token is not tested: the tokenizer's replacements can "
            f"lengthen text more than {_MAX_GROWTH:,} times."
        )
    return Vocabulary(pieces, kinds, spelling_of(tokenizer), encoder, tuple(notes))


def _moved(listed: list[dict[str, Any]], ids: Mapping[str, int]) -> Iterator[str]:
    """A note if added tokens have other ids than the file lists."""
    moved = [one for one in listed if ids.get(one["content"]) != one["id"]]
    if moved:
        yield (
            f"{len(moved):,} added tokens have other ids than the file lists, the first of them "
            f"{shortened(moved[0]['content'], 80)!r}: the tokenizers package numbers them on from "
            "the vocabulary."
        )


def _growth(tokenizer: Tokenizer) -> int:
    """How many times longer a text can become by replacements, at the most."""
    parts = [*_parts(tokenizer.normalizer), *_parts(tokenizer.decoder)]
    return math.prod(max(1, len(part["content"])) for part in parts if part["type"] == "Replace")


def spelling_of(tokenizer: Tokenizer) -> Spelling:
    """How a vocabulary is spelled, by the tokenizer's model and the parts that undo it."""
    model = tokenizer.model
    decoding = list(_parts(tokenizer.decoder))
    parts = [*decoding, *_parts(tokenizer.pre_tokenizer), *_parts(tokenizer.normalizer)]
    kinds = {part["type"] for part in parts}
    prefixes = [part["prefix"] for part in decoding if part["type"] == "WordPiece"]
    suffixes = [part["suffix"] for part in decoding if part["type"] == "BPEDecoder"]
    return Spelling(
        byte_level="ByteLevel" in kinds,
        byte_fallback="ByteFallback" in kinds or bool(getattr(model, "byte_fallback", False)),
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
