"""A vocabulary: which tokens there are, how they are spelled, and what encodes them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from deadtokens.errors import plain
from deadtokens.tokens.spelling import Spelling, literal_bytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Kind: TypeAlias = Literal["reserved", "special", "added", "byte"]
_Result = TypeVar("_Result")

# Spellings that say so themselves, brackets and all: <|reserved_special_token_5|>, [unused12],
# <unused5>, <reserved_3>, <|placeholder|>, <dummy_7>, [UNUSED_TOKEN_141], >>UNUSED_0<<,
# <｜place▁holder▁no▁5｜> (bars and marks are made plain first); <|extra_0|>, <SPECIAL_12>,
# <|extratoken_1|>, <|extra0|>, [control_8], madeupword0001, <madeupword0>. Not <extra_id_0>, which
# T5 trains on.
_RESERVED = re.compile(
    r"(?:<\|?|\[|>>)(?:\w+_)?(?:reserved|unused|place_?holder|dummy)(?:_?\w+)?(?:\|?>|\]|<<)"
    r"|<\|?extra(?:_?token)?_?\d+(?:_token)?\|?>|<\|?special_\d+\|?>|\[control_\d+\]"
    r"|<?madeupword_?\d+>?",
    re.IGNORECASE,
)
_PLAINER = str.maketrans({"｜": "|", "▁": "_", "-": "_", " ": "_"})
_LONGEST_RESERVED = 200  # the pattern's work grows with the square of the length
_LAST = frozenset(">]<0123456789")  # characters such a spelling ends in: quicker than the pattern
_SPECIAL = re.compile(r"<\|.*\|>", re.DOTALL)


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that a tokenizer has.

    Attributes:
        pieces: Their spellings, by id.
        kinds: What the tokenizer says of those that are no plain vocabulary, by id.
        spelling: How the plain ones are spelled; special and reserved ones are literal, added
            ones but for the mark of a space.
        tokenizer: What encodes and decodes; None where that is not known.
        notes: What could not be told and why, a sentence each.
        of_rows: Whether the ids are row numbers rather than token ids.
        untestable: Ids under which the encoder knows another token, or none.
        complete: Whether all tokens are listed; some files leave special ones out.
    """

    pieces: Mapping[int, str]
    kinds: Mapping[int, Kind]
    spelling: Spelling
    tokenizer: Tokenizer | None = None
    notes: tuple[str, ...] = ()
    of_rows: bool = False
    untestable: frozenset[int] = frozenset()
    complete: bool = True

    @property
    def size(self) -> int:
        """One more than the highest id; 0 without tokens."""
        return max(self.pieces, default=-1) + 1

    def bytes_of(self, token: int) -> bytes:
        """The bytes that a token of the vocabulary stands for."""
        piece, kind = self.pieces[token], self.kinds.get(token)
        if kind is None or kind == "byte":
            return self.spelling.bytes_of(piece)
        return literal_bytes(self.spelling.with_spaces(piece) if kind == "added" else piece)


def looks_reserved(piece: str) -> bool:
    """Whether a spelling says that the token is kept for later use."""
    if len(piece) > _LONGEST_RESERVED or piece[-1:] not in _LAST:
        return False
    return bool(_RESERVED.fullmatch(piece.translate(_PLAINER)))


def looks_special(piece: str) -> bool:
    """Whether a spelling is in the brackets that only special tokens have."""
    return bool(_SPECIAL.fullmatch(piece))


class Failed(Exception):  # noqa: N818 - not an error yet: what it means is for the caller to say
    """The tokenizers package refused, in one line."""


def within(seconds: float, call: Callable[[], _Result]) -> _Result:
    """What a call returns that may never end: it is left to itself when the time is over.

    The tokenizers package cannot be interrupted; its thread ends with the process.

    Raises:
        Failed: The time is over.
    """
    answer: Future[_Result] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        raise Failed(f"it takes more than {seconds:g} s") from None


def attempt(call: Callable[[], _Result]) -> _Result:
    """What a call into the tokenizers package returns.

    Raises:
        Failed: It failed, or panicked, which is no Exception there.
    """
    try:
        return call()
    except Failed:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        words = plain(" ".join(str(error).split())) or type(error).__name__
        raise Failed(words[:200]) from None
