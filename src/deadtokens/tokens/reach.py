"""Which tokens text can produce: decode a token, encode what comes out, see whether it comes back.

A token t is *reachable* (equation 17.1) if

    encode(decode([t])) == [t], or
    encode(decode([c, t])) == encode(decode([c])) + [t] for a carrier c, or
    encode(decode([t, f])) == [t, f] for a follower f,

encoding without the tokens that a tokenizer puts around a text, decoding with special ones. The
second line is for tokens that only continue a word (WordPiece's ``##ing``, SentencePiece's pieces
without the mark of a space) and for decoders that drop a leading space. The third is for
vocabularies that mark the ends of words (``</w>``), of whose other pieces none ends a text. A token
that needs another context than these counts as unreachable.

Carriers are tokens that stay themselves whatever follows, at most four: the token of ``«``, and
three whose text is one letter, of those that the fewest longer tokens begin with, by id; the space
that a token begins with does not count, nor do ideographs, which tokenizers set apart. All must end
what encoding their own text gives. Followers are such letters that end a word.
"""

from __future__ import annotations

import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deadtokens.tokens.scripts import script_of
from deadtokens.tokens.vocabulary import Failed, Vocabulary, within

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_QUOTE = "«"
_LETTERS = 3
# 262,144 tokens of up to ten letters take some 20 s on two cores.
MOST_SECONDS = 300.0
# Letters that are looked at before the search is given up.
_TRIED = 64
# Encodings that are held at a time.
_BATCH = 2048


@dataclass(frozen=True)
class Reach:
    """Which tokens are reachable.

    Attributes:
        reached: Those that are, of those tested.
        carriers: Tokens put before others, by id.
        followers: Tokens put behind others, by id; none where the ends of words are not marked.
    """

    reached: frozenset[int]
    carriers: tuple[int, ...]
    followers: tuple[int, ...] = ()


def tokens_reached(
    vocabulary: Vocabulary, tokenizer: Tokenizer, texts: Mapping[int, str], tokens: Sequence[int]
) -> Reach:
    """Test tokens, as the module says.

    Args:
        vocabulary: The tokenizer's.
        tokenizer: Encodes and decodes.
        texts: What tokens of the vocabulary stand for, by id, of those that stand for text.
        tokens: Ids of those to test.

    Raises:
        Failed: It takes longer than `MOST_SECONDS`: a pattern of the tokenizer may never end.
    """
    deadline = time.monotonic() + MOST_SECONDS
    return within(
        MOST_SECONDS, lambda: _tokens_reached(vocabulary, tokenizer, texts, tokens, deadline)
    )


def _tokens_reached(
    vocabulary: Vocabulary,
    tokenizer: Tokenizer,
    texts: Mapping[int, str],
    tokens: Sequence[int],
    deadline: float,
) -> Reach:
    codec = _Codec(tokenizer, vocabulary.spelling.suffix, deadline)
    plain = {token: text for token, text in texts.items() if token not in vocabulary.kinds}
    left = list(tokens)
    reached = set(codec.reached([], left))
    carriers = list(_carriers(codec, plain))
    for carrier in carriers:
        left = [token for token in left if token not in reached]
        reached.update(codec.reached([carrier], left))
    suffix = vocabulary.spelling.suffix
    followers = [one for one in carriers if suffix and vocabulary.pieces[one].endswith(suffix)]
    for follower in followers:
        left = [token for token in left if token not in reached]
        reached.update(codec.reached([], left, [follower]))
    return Reach(frozenset(reached), tuple(carriers), tuple(followers))


@dataclass(frozen=True)
class _Codec:
    """Decodes and encodes in batches.

    Attributes:
        tokenizer: What does it.
        suffix: The end of a word, as some decoders leave it in the text; "" for none.
        deadline: When nobody waits for it any more, on the monotonic clock.
    """

    tokenizer: Tokenizer
    suffix: str
    deadline: float

    def reached(
        self, before: list[int], tokens: Sequence[int], behind: Sequence[int] = ()
    ) -> Iterator[int]:
        """The tokens that come back where those ids stand before and behind them."""
        stem = next(self.round_trips([before])) if before else []
        for start in range(0, len(tokens), _BATCH):
            batch = tokens[start : start + _BATCH]
            trips = self.round_trips([[*before, token, *behind] for token in batch])
            for token, trip in zip(batch, trips, strict=True):
                if trip == [*stem, token, *behind]:
                    yield token

    def round_trips(self, ids: list[list[int]]) -> Iterator[list[int]]:
        """What comes out when ids are decoded and the text is encoded again."""
        if time.monotonic() > self.deadline:
            raise Failed(f"it takes more than {MOST_SECONDS:g} s")
        texts = self.tokenizer.decode_batch(ids, skip_special_tokens=False)
        if self.suffix:
            texts = [text.replace(self.suffix, " ").rstrip(" ") for text in texts]
        encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return (encoding.ids for encoding in encodings)

    def stays(self, token: int) -> bool:
        """Whether encoding a token's text ends in it."""
        return next(self.round_trips([[token]]))[-1:] == [token]


def _carriers(codec: _Codec, plain: Mapping[int, str]) -> Iterator[int]:
    """The carriers among the tokens of the plain vocabulary."""
    texts = {token: text.lstrip(" ") for token, text in sorted(plain.items())}
    quotes = [token for token, text in texts.items() if text == _QUOTE]
    yield from [token for token in quotes if codec.stays(token)][:1]
    longer = Counter(text[0] for text in set(texts.values()) if len(text) > 1)
    letters = [token for token, text in texts.items() if len(text) == 1 and _is_letter(text)]
    letters.sort(key=lambda token: (longer[texts[token]], token))
    taken: set[str] = set()
    for token in letters[:_TRIED]:
        if len(taken) < _LETTERS and texts[token] not in taken and codec.stays(token):
            taken.add(texts[token])
            yield token


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] == "L" and script_of(character) != "Han"
