"""Tokens that stand beside a tokenizer's file: added_tokens.json, tokenizer_config.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deadtokens.errors import SourceError, shortened
from deadtokens.sources.describe import read_object
from deadtokens.sources.tokenizer_files import ADDED_TOKENS, TOKENIZER_CONFIG
from deadtokens.tokens.vocabulary import Kind, Vocabulary, looks_special

_MOST_ID = 1 << 24


def with_added(vocabulary: Vocabulary, file: Path) -> Vocabulary:
    """A vocabulary with the added tokens that files beside its own list.

    Where they contradict the vocabulary's own file, that one holds, and a note says so.
    """
    pieces, kinds = dict(vocabulary.pieces), dict(vocabulary.kinds)
    new: set[int] = set()
    notes = list(vocabulary.notes)
    for name in (ADDED_TOKENS, TOKENIZER_CONFIG):
        path = file.with_name(name)
        if path == file or not path.is_file():
            continue
        try:
            listed = list(_listed(read_object(path)) if name == ADDED_TOKENS
                          else _decoded(read_object(path)))  # fmt: skip
        except SourceError as error:
            notes.append(f"{name} is left out: {error.what}.")
            continue
        other = []
        for token, text, kind in listed:
            if pieces.get(token, text) != text:
                other.append((token, text))
                continue
            if token not in pieces:
                pieces[token] = text
                new.add(token)
            if kinds.get(token) in (None, "added"):
                kinds[token] = kind
        if other:
            token, text = other[0]
            notes.append(
                f"{name} names {len(other):,} tokens otherwise than {file.name}, whose names are "
                f"taken, the first of them {shortened(text, 80)!r} ({token:,})."
            )
    untestable = vocabulary.untestable | new
    return replace(
        vocabulary, pieces=pieces, kinds=kinds, notes=tuple(notes), untestable=untestable
    )


def _listed(content: Mapping[str, Any]) -> Iterator[tuple[int, str, Kind]]:
    """The tokens of added_tokens.json, an id by each text."""
    for text, token in content.items():
        if _is_id(token):
            yield token, text, "special" if looks_special(text) else "added"


def _decoded(content: Mapping[str, Any]) -> Iterator[tuple[int, str, Kind]]:
    """The tokens of tokenizer_config.json's added_tokens_decoder."""
    decoder = content.get("added_tokens_decoder")
    for token, one in decoder.items() if isinstance(decoder, dict) else ():
        if not (isinstance(one, dict) and isinstance(one.get("content"), str)):
            continue
        if token.isdecimal() and len(token) < 9 and _is_id(int(token)):
            yield int(token), one["content"], "special" if one.get("special") else "added"


def _is_id(token: object) -> bool:
    return isinstance(token, int) and not isinstance(token, bool) and 0 <= token < _MOST_ID
