"""From a matrix and its tokenizer to the labels of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from deadtokens.errors import SourceError
from deadtokens.sources import MatrixLike, TokenizerSource, as_matrix
from deadtokens.tokens.fitting import RowTokens, fit_rows
from deadtokens.tokens.labels import LABELS, Labels
from deadtokens.tokens.reach import Reach, tokens_reached
from deadtokens.tokens.reading import open_vocabulary
from deadtokens.tokens.scripts import COMMON, NO_TEXT, script_of
from deadtokens.tokens.spelling import occurs_in_text, shown, shown_piece, text_of
from deadtokens.tokens.vocabulary import Failed, Vocabulary, attempt, looks_reserved

_YES, _NO, _UNTESTED = 1, 0, -1
_PADDING, _RESERVED, _BYTE, _PARTIAL, _UNREACHABLE, _ORDINARY, _UNKNOWN = map(
    LABELS.index,
    ("padding", "reserved", "byte", "partial UTF-8", "unreachable", "ordinary", "unknown"),
)


def label_rows(matrix: MatrixLike, tokenizer: TokenizerSource | str | None = None) -> Labels | None:
    """Label the rows of a matrix by what its tokenizer says of their tokens.

    Row i is token i, or ``matrix.token_ids[i]``. A row has one label, by the first rule that holds:

    - *unknown*: the source does not say which token the row is (``token_ids`` is -1);
    - *padding*: no token has the row's id, because it is beyond the tokenizer, added tokens
      included, or was never given (GGUF: type unused, spelled ``[PAD123]``). Only where the sizes
      are those of one model: so many rows beyond that they are no rounding up are *unknown*
      (`deadtokens.tokens.fitting`);
    - *reserved*: the spelling says that it is kept for later use, like ``<|reserved_5|>``,
      ``[unused12]``, ``<|placeholder3|>``, ``<|extra_0|>``, ``<dummy7>``, be the token special,
      added or of the plain vocabulary; or GGUF type unused;
    - *special*: an added token that tokenizer.json marks special; GGUF type control or unknown;
    - *added*: another added token; GGUF type user-defined;
    - *byte*: it stands for one byte: all tokens of byte fallback (``<0x0A>``), and of byte-level
      vocabularies those of a byte from 80 on, which is no character by itself; GGUF type byte;
    - *partial UTF-8*: it stands for several bytes that are no valid UTF-8;
    - *unreachable*: decoding and encoding does not give it back (`deadtokens.tokens.reach` defines
      it);
    - *ordinary*: none of these.

    Whether a token is reachable is tested for all that have text, special, added and reserved ones
    included, which text produces where they stand in it literally. Tokens whose bytes are no valid
    UTF-8 are not tested, since decoding loses them; but those whose bytes no valid UTF-8 contains
    (C0, say, or F5) are not reachable.

    Args:
        matrix: The matrix, or whatever `open_matrix` takes. Its token_ids and, unless another is
            given, its tokenizer are used.
        tokenizer: A tokenizer.json or a folder that holds one, a .gguf file, or GGUF metadata.

    Returns:
        None if there is no tokenizer.

    Raises:
        SourceError: The tokenizer cannot be read.
    """
    matrix = as_matrix(matrix, "matrix")
    source = matrix.tokenizer if tokenizer is None else tokenizer
    vocabulary = None if source is None else open_vocabulary(source, matrix.source)
    if vocabulary is None:
        return None
    if vocabulary.of_rows and len(vocabulary.pieces) != matrix.n_rows:
        raise SourceError(
            f"{len(vocabulary.pieces):,} spellings for {matrix.n_rows:,} rows", where=matrix.source
        )
    fitted = fit_rows(matrix, vocabulary)
    tokens = _decoded(vocabulary)
    return _labels(tokens, fitted, _findings(tokens, set(fitted.ids) & tokens.raw.keys()))


@dataclass(frozen=True)
class _Tokens:
    """The tokens of a vocabulary and what they stand for.

    Attributes:
        vocabulary: The vocabulary.
        raw: Their bytes, by id.
        texts: Their texts, by id, of those whose bytes are valid UTF-8.
    """

    vocabulary: Vocabulary
    raw: Mapping[int, bytes]
    texts: Mapping[int, str]


def _decoded(vocabulary: Vocabulary) -> _Tokens:
    raw = {token: vocabulary.bytes_of(token) for token in vocabulary.pieces}
    texts = {token: text for token, held in raw.items() if (text := text_of(held)) is not None}
    return _Tokens(vocabulary, raw, texts)


@dataclass(frozen=True)
class _Findings:
    """What testing the tokens found.

    Attributes:
        reachable: 1 or 0, by id, for those of which it can be told.
        carriers: Ids of the tokens that stood before others.
        notes: What could not be told, a sentence each.
    """

    reachable: Mapping[int, int]
    carriers: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def _findings(tokens: _Tokens, chosen: set[int]) -> _Findings:
    """Test those of the chosen tokens that have text, and tell what can be told of the others."""
    vocabulary = tokens.vocabulary
    testable = sorted((chosen & tokens.texts.keys()) - vocabulary.untestable)
    without_text = chosen - tokens.texts.keys()
    impossible = {token: _NO for token in without_text if not occurs_in_text(tokens.raw[token])}
    if vocabulary.tokenizer is None:
        return _Findings(impossible)
    try:
        reach = attempt(
            partial(tokens_reached, vocabulary, vocabulary.tokenizer, tokens.texts, testable)
        )
    except Failed as failure:
        note = f"Whether text can produce a token is not tested: the tokenizer failed ({failure})."
        return _Findings(impossible, notes=(note,))
    # Without carriers nothing is known of tokens that only continue a word.
    otherwise = _NO if reach.carriers else _UNTESTED
    tested = {token: _YES if token in reach.reached else otherwise for token in testable}
    notes = [_how(vocabulary, reach)]
    if n_lost := len(without_text) - len(impossible):
        notes.append(
            f"{n_lost:,} tokens are not tested, because their bytes are no text by themselves."
        )
    return _Findings(impossible | tested, reach.carriers, tuple(notes))


def _how(vocabulary: Vocabulary, reach: Reach) -> str:
    if not reach.carriers:
        return (
            "Tokens were decoded and encoded alone only, since none serves to stand before others: "
            "of those that did not come back nothing is known."
        )
    where = f"after one of these tokens: {_named(vocabulary, reach.carriers)}"
    if reach.followers:
        where = f"before one of these tokens: {_named(vocabulary, reach.followers)}; nor {where}"
    return (
        "A token is unreachable if decoding and encoding does not give it back, neither alone nor "
        f"{where}."
    )


def _named(vocabulary: Vocabulary, tokens: Sequence[int]) -> str:
    return ", ".join(f"{shown(vocabulary.bytes_of(token)).strip()} ({token})" for token in tokens)


def _labels(tokens: _Tokens, fitted: RowTokens, findings: _Findings) -> Labels:
    """All that is known of tokens, row by row."""
    ids = fitted.ids
    pieces = tokens.vocabulary.pieces
    reachable = [findings.reachable.get(token, _UNTESTED) for token in ids]
    labels = [_label(tokens, token, one) for token, one in zip(ids, reachable, strict=True)]
    script_names, scripts = _scripts(tokens, ids)
    notes = [*fitted.notes, *tokens.vocabulary.notes, *findings.notes]
    if n_unknown := labels.count(_UNKNOWN):
        notes.append(f"Of {n_unknown:,} rows the source does not say what token they are.")
    return Labels(
        [_text(tokens, token) for token in ids],
        [shown_piece(pieces.get(token, "")) for token in ids],
        np.array(labels, dtype=np.uint8),
        scripts,
        script_names,
        np.array(reachable, dtype=np.int8),
        findings.carriers,
        tuple(notes),
        fitted.warnings,
    )


def _text(tokens: _Tokens, token: int) -> str:
    """A token as a person would read it; what stands for one byte by its spelling."""
    piece = tokens.vocabulary.pieces.get(token, "")
    byte = tokens.vocabulary.spelling.fallback_byte(piece)
    if byte is not None:
        return f"<0x{byte:02X}>"
    text = tokens.texts.get(token)
    return shown(tokens.raw.get(token, b"")) if text is None else text


def _label(tokens: _Tokens, token: int, reachable: int) -> int:
    """The label of a token, by the first rule that holds."""
    vocabulary = tokens.vocabulary
    piece, kind = vocabulary.pieces.get(token), vocabulary.kinds.get(token)
    if token < 0:
        return _UNKNOWN
    if piece is None:
        return _PADDING
    if kind == "reserved" or looks_reserved(piece):
        return _RESERVED
    if kind is not None:
        return LABELS.index(kind)
    if vocabulary.spelling.fallback_byte(piece) is not None:
        return _BYTE
    if token not in tokens.texts:
        return _BYTE if len(tokens.raw[token]) == 1 else _PARTIAL
    return _UNREACHABLE if reachable == _NO else _ORDINARY


def _scripts(tokens: _Tokens, ids: Sequence[int]) -> tuple[tuple[str, ...], npt.NDArray[np.uint8]]:
    """The names of the scripts that occur, and which of them each row has."""
    found = [script_of(_characters(tokens, token)) for token in ids]
    names = (NO_TEXT, COMMON, *sorted(set(found) - {NO_TEXT, COMMON}))
    index = {name: i for i, name in enumerate(names)}
    return names, np.array([index[name] for name in found], dtype=np.uint8)


def _characters(tokens: _Tokens, token: int) -> str:
    """The characters of a token, what is no valid UTF-8 left out."""
    text = tokens.texts.get(token)
    return tokens.raw.get(token, b"").decode("utf-8", "ignore") if text is None else text
