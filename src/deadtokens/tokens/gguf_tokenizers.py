"""Tokenizers rebuilt from what a GGUF file keeps of them, as the published ones are made.

What is missing in the file is not guessed: `Unsure` says in words what is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deadtokens.errors import shortened
from deadtokens.tokens.pretokenizers import SPLITTINGS
from deadtokens.tokens.vocabulary import Failed, Kind

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.models import Model

_MARK = "▁"
_CONTINUES = "##"
_ALWAYS, _NEVER = "always", "never"
# Pieces have some 50 characters at most; how many ways there are to cut one grows with its length.
_LONGEST_PIECE = 512


class Unsure(Failed):
    """The file does not say enough to rebuild its tokenizer; the reason, a clause."""


@dataclass(frozen=True)
class Parts:
    """What the metadata says of the tokenizer.

    Attributes:
        model: Its kind, as the file names it.
        pieces: The tokens' spellings, by id.
        kinds: What the file says of those that are no plain vocabulary, by id.
        gaps: Ids that no token has, whose spelling is a filler.
        unknown: Id of the token for what cannot be encoded; None if there is none.
        values: The other values, by key without its ``tokenizer.ggml.``.
    """

    model: str
    pieces: list[str]
    kinds: Mapping[int, Kind]
    gaps: frozenset[int]
    unknown: int | None
    values: Mapping[str, Any]

    def has(self, key: str) -> bool:
        """Whether there is a value of that key, and not an empty array."""
        value = self.values.get(key)
        return value is not None and not (hasattr(value, "__len__") and len(value) == 0)

    def flag(self, key: str, default: bool) -> bool:
        """A yes or no."""
        return bool(self.values.get(key, default))

    def plain(self) -> dict[str, int]:
        """The plain vocabulary: spelling to id, the first where a spelling is there twice."""
        found: dict[str, int] = {}
        for token, piece in enumerate(self.pieces):
            if token not in self.kinds and token not in self.gaps:
                found.setdefault(piece, token)
        return found

    def all(self, spell: Callable[[int, str], str] = lambda _, piece: piece) -> dict[str, int]:
        """The whole vocabulary: spelling to id, the first where a spelling is there twice."""
        found: dict[str, int] = {}
        for token, piece in enumerate(self.pieces):
            found.setdefault(spell(token, piece), token)
        return found


def _byte_level(parts: Parts) -> Tokenizer:
    from tokenizers import decoders, models, normalizers

    name = parts.values.get("pre")
    splitting = SPLITTINGS.get(str(name))
    if splitting is None:
        said = (
            "does not say how" if name is None else f"says only {shortened(str(name), 80)!r} of how"
        )
        raise Unsure(f"the file {said} text is split, which is not known in full here")
    if not parts.has("merges"):
        raise Unsure("the file has no merges")
    tokenizer = _assembled(
        models.BPE(parts.all(), byte_pairs(parts), ignore_merges=splitting.ignore_merges), parts
    )
    if splitting.composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = splitting.pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentence_piece(parts: Parts) -> Tokenizer:
    from tokenizers import decoders, models, normalizers

    pairs = byte_pairs(parts) if parts.has("merges") else scored_pairs(parts)
    vocabulary = parts.all(lambda token, piece: _literal(parts, token, piece))
    unknown = None if parts.unknown is None else parts.pieces[parts.unknown]
    tokenizer = _assembled(
        models.BPE(vocabulary, pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True), parts
    )
    begins_with_space = parts.flag("add_space_prefix", default=True)
    spaces = normalizers.Replace(" ", _MARK)
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Prepend(_MARK), spaces]) if begins_with_space else spaces
    )
    steps = [decoders.Replace(_MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    strip = [decoders.Strip(" ", 1, 0)] if begins_with_space else []
    tokenizer.decoder = decoders.Sequence([*steps, *strip])
    return tokenizer


def _word_piece(parts: Parts) -> Tokenizer:
    """Converters mark the beginning of a word, where the published vocabulary marks the rest."""
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    plain = parts.plain()
    if not any(piece.startswith(_MARK) for piece in plain):
        raise Unsure("its pieces do not say where a word begins")
    lowercase = parts.values.get("normalizer.lowercase")
    if lowercase is None and any(piece != piece.lower() for piece in plain):
        raise Unsure("the file does not say whether text is lower-cased")
    if parts.unknown is None:
        raise Unsure("the file names no unknown token")
    strip_accents = parts.values.get("normalizer.strip_accents")
    vocabulary = parts.all(lambda token, piece: _published(parts, token, piece))
    tokenizer = _assembled(
        models.WordPiece(
            vocabulary, unk_token=parts.pieces[parts.unknown], max_input_chars_per_word=100
        ),
        parts,
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase is None or bool(lowercase),
        strip_accents=None if strip_accents is None else bool(strip_accents),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(_CONTINUES)
    return tokenizer


def _unigram(parts: Parts) -> Tokenizer:
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

    if parts.flag("treat_whitespace_as_suffix", default=False):
        raise Unsure("it marks spaces after words, which is not supported here")
    scores = _scores(parts)
    spelled = [_literal(parts, token, piece) for token, piece in enumerate(parts.pieces)]
    vocabulary = list(zip(spelled, scores.tolist(), strict=True))
    tokenizer = _assembled(models.Unigram(vocabulary, parts.unknown, byte_fallback=True), parts)
    steps: list[Any] = []
    if parts.has("precompiled_charsmap"):
        charsmap = whole_numbers(parts.values["precompiled_charsmap"])
        if charsmap is None:
            raise Unsure("its normalisation is no array of bytes")
        steps.append(normalizers.Precompiled(charsmap.astype(np.uint8).tobytes()))
    if parts.flag("remove_extra_whitespaces", default=False):
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    scheme = _ALWAYS if parts.flag("add_space_prefix", default=True) else _NEVER
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(_MARK, prepend_scheme=scheme)
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(_MARK, prepend_scheme=scheme)]
    )
    return tokenizer


BUILDERS: dict[str, Callable[[Parts], Tokenizer]] = {
    "gpt2": _byte_level,
    "llama": _sentence_piece,
    "bert": _word_piece,
    "t5": _unigram,
}


def byte_pairs(parts: Parts) -> list[tuple[str, str]]:
    """The merges that the file lists."""
    pairs = []
    for merge in parts.values["merges"]:
        left, space, right = merge[1:].partition(" ")  # a piece may begin with a space
        if not space:
            raise Unsure(f"merge {merge[:40]!r} is no pair")
        pairs.append((merge[:1] + left, right))
    return pairs


def scored_pairs(parts: Parts) -> list[tuple[str, str]]:
    """The merges that follow from scores: those that make the piece of the highest score first.

    Every way to cut a piece into two is a merge; those of one piece come by the ids of the two.
    """
    scores = _scores(parts)
    plain = parts.plain()
    if len({scores[token] for token in plain.values()}) < min(len(plain), 2):
        raise Unsure("its pieces all have the same score and the file has no merges")
    cuts: list[tuple[float, int, int, str, str]] = []
    for piece, token in plain.items():
        if len(piece) > _LONGEST_PIECE:
            raise Unsure(f"token {token} has {len(piece):,} characters")
        halves = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
        cuts += [
            (-float(scores[token]), plain[left], plain[right], left, right)
            for left, right in halves
            if left in plain and right in plain
        ]
    return [(left, right) for *_, left, right in sorted(cuts)]


def whole_numbers(values: Any) -> np.ndarray[Any, np.dtype[np.integer[Any]]] | None:
    """An array of whole numbers; None if those are none."""
    try:
        numbers = np.asarray(values)
    except ValueError:  # lists of several lengths
        return None
    if not numbers.size:
        return np.empty(0, dtype=np.int64)
    return numbers if numbers.dtype.kind in "iu" else None


def _scores(parts: Parts) -> np.ndarray[Any, np.dtype[np.float64]]:
    if not parts.has("scores"):
        raise Unsure("the file has no scores")
    scores = np.asarray(parts.values["scores"], dtype=np.float64)
    if scores.shape != (len(parts.pieces),) or not bool(np.isfinite(scores).all()):
        raise Unsure("its scores are not one number for each token")
    return scores


def _literal(parts: Parts, token: int, piece: str) -> str:
    """What text an added token is found by: converters leave the mark of a space in some."""
    return piece.replace(_MARK, " ") if parts.kinds.get(token) == "added" else piece


def _published(parts: Parts, token: int, piece: str) -> str:
    """A WordPiece as its vocabulary spells it: special ones and [unused5] keep their brackets."""
    bracketed = piece.startswith("[") and piece.endswith("]")
    if token in parts.kinds or token in parts.gaps or bracketed:
        return piece
    return piece[1:] if piece.startswith(_MARK) else _CONTINUES + piece


def _assembled(model: Model, parts: Parts) -> Tokenizer:
    """A tokenizer of that model, which finds special and added tokens in text as they are."""
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer(model)
    for kind, add in (("special", tokenizer.add_special_tokens), ("added", tokenizer.add_tokens)):
        add(
            [
                AddedToken(
                    _literal(parts, token, piece), normalized=False, special=kind == "special"
                )
                for token, piece in enumerate(parts.pieces)
                if parts.kinds.get(token) == kind and piece
            ]
        )
    return tokenizer
