"""The vocabulary that a GGUF file's metadata holds (keys ``tokenizer.ggml...``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from deadtokens.errors import SourceError, shortened
from deadtokens.tokens.gguf_tokenizers import (
    BUILDERS,
    Parts,
    Unsure,
    byte_pairs,
    scored_pairs,
    whole_numbers,
)
from deadtokens.tokens.spelling import Spelling
from deadtokens.tokens.vocabulary import Failed, Kind, Vocabulary, attempt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_KEY = "tokenizer.ggml."
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_KINDS: dict[int, Kind] = {
    _UNKNOWN: "special",
    _CONTROL: "special",
    _USER_DEFINED: "added",
    _UNUSED: "reserved",
    _BYTE: "byte",
}
# What converters write for an id that no token has, so that every row has a spelling.
_FILLER = re.compile(r"\[PAD\d+\]")
_SENTENCE_PIECE = Spelling(byte_fallback=True, space="▁")
_SPELLINGS = {
    "gpt2": Spelling(byte_level=True),
    "llama": _SENTENCE_PIECE,
    "t5": _SENTENCE_PIECE,
    "gemma4": _SENTENCE_PIECE,
    "bert": Spelling(prefix="▁"),  # the beginning of a word has a mark, not its continuation
}


def gguf_vocabulary(metadata: Mapping[str, Any], where: object) -> Vocabulary | None:
    """The vocabulary in a GGUF file's metadata; None if it holds none.

    Tokens of type control and unknown are special, user-defined ones added, those of type unused
    reserved, but for ``[PAD123]``, which converters write for ids that no token has.

    Args:
        metadata: Strings as str (surrogates escape what is no UTF-8) or bytes.
        where: The file, for error lines.

    Raises:
        SourceError: The metadata contradicts itself.
    """
    parts = _read(metadata, where)
    if parts is None:
        return None
    tokenizer, notes = _tokenizer(parts)
    if parts.model not in _SPELLINGS:
        notes.append(
            f"How a tokenizer of kind {shortened(parts.model, 80)!r} spells its tokens is not "
            "known here: they are shown as spelled."
        )
    return Vocabulary(
        {token: piece for token, piece in enumerate(parts.pieces) if token not in parts.gaps},
        parts.kinds,
        _SPELLINGS.get(parts.model, Spelling()),
        tokenizer,
        tuple(notes),
    )


def gguf_merges(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The pairs of pieces that it merges, in the order of their ranks; none if it does not."""
    parts = _read(metadata, "metadata")
    if parts is None or parts.model not in ("gpt2", "llama", "gemma4"):
        return []
    try:
        return attempt(partial(byte_pairs if parts.has("merges") else scored_pairs, parts))
    except Failed:
        return []


def _tokenizer(parts: Parts) -> tuple[Tokenizer | None, list[str]]:
    """What encodes and decodes, or None and a note that says why not."""
    builder = BUILDERS.get(parts.model)
    reason = (
        f"how a tokenizer of kind {shortened(parts.model, 80)!r} encodes text is not known here"
    )
    if any(not piece.isprintable() and _has_surrogates(piece) for piece in parts.pieces):
        reason, builder = "some spellings are no valid UTF-8", None
    if builder is not None:
        try:
            return attempt(partial(builder, parts)), []
        except Unsure as unsure:
            reason = str(unsure)
        except Failed as failure:
            reason = f"the tokenizer cannot be rebuilt from the file ({failure})"
    return None, [f"Whether text can produce a token is not tested: {reason}."]


def _has_surrogates(piece: str) -> bool:
    try:
        piece.encode()
    except UnicodeEncodeError:
        return True
    return False


def _read(metadata: Mapping[str, Any], where: object) -> Parts | None:
    """The parts of the tokenizer, None if there is no vocabulary."""
    values = {
        key.removeprefix(_KEY): _decoded(value)
        for key, value in metadata.items()
        if key.startswith(_KEY)
    }
    pieces = values.get("tokens")
    if pieces is None:
        return None
    if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
        raise _contradiction("the vocabulary is no array of strings", where)
    kinds, gaps = _kinds(values.get("token_type"), pieces, where)
    return Parts(
        str(values.get("model", "")), pieces, kinds, gaps, _unknown(values, kinds, pieces), values
    )


def _kinds(types: Any, pieces: list[str], where: object) -> tuple[dict[int, Kind], frozenset[int]]:
    """What the types say of tokens that are no plain vocabulary, and ids that no token has."""
    if types is None:
        return {}, frozenset()
    numbers = whole_numbers(types)
    if numbers is None:
        raise _contradiction("the token types are no numbers", where)
    if numbers.shape != (len(pieces),):
        raise _contradiction(f"{numbers.size:,} token types for {len(pieces):,} tokens", where)
    kinds: dict[int, Kind] = {}
    gaps = set()
    for token, kind in enumerate(numbers.tolist()):
        if kind == _UNUSED and _FILLER.fullmatch(pieces[token]):
            gaps.add(token)
        elif kind in _KINDS:
            kinds[token] = _KINDS[kind]
    return kinds, frozenset(gaps)


def _unknown(values: Mapping[str, Any], kinds: Mapping[int, Kind], pieces: list[str]) -> int | None:
    """The id of the unknown token: the one the file names, or llama.cpp's default for the kind."""
    default = {"llama": 0, "bert": 100, "t5": 2}.get(str(values.get("model")))
    named = values.get("unknown_token_id", default)
    known = isinstance(named, int) and 0 <= named < len(pieces)
    return named if known and kinds.get(named) == "special" else None


def _decoded(value: Any) -> Any:
    """A value with text as str, however the reader of the file hands it over."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, list | tuple):
        return [_decoded(one) for one in value]
    return value


def _contradiction(what: str, where: object) -> SourceError:
    return SourceError(f"malformed: {what}", where=where, remedy="fetch the file again")
