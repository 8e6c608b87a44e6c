"""From a tokenizer.json to its vocabulary, by the tokenizers package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deadtokens.errors import SourceError, shortened
from deadtokens.sources.tokenizer_files import CONVERT, TOKENIZER_JSON
from deadtokens.tokens.parts import growth, spelling_of
from deadtokens.tokens.vocabulary import Failed, Kind, Vocabulary, attempt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# The largest in use take some 35 MB.
_MAX_BYTES = 1 << 28
# By how much replacing may lengthen a text before nothing is encoded: some replace quotation marks
# by two characters, none that is in use chains replacements that grow.
_MAX_GROWTH = 1 << 10


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
                remedy=f"give a {TOKENIZER_JSON}",
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
            remedy=f"fetch the file again, or {CONVERT}",
        ) from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = False
    if getattr(tokenizer.model, "dropout", None):
        tokenizer.model.dropout = None
    return tokenizer


def of_tokenizer(tokenizer: Tokenizer, listed: Sequence[Mapping[str, Any]] = ()) -> Vocabulary:
    """The vocabulary of a tokenizer.

    Args:
        tokenizer: The tokenizer.
        listed: The added tokens that its file lists. The package numbers them on from the
            vocabulary where the file leaves gaps; the file's ids are the model's.
    """
    pieces: dict[int, str] = {}
    for piece, token in sorted(tokenizer.get_vocab(with_added_tokens=False).items()):
        pieces.setdefault(token, piece)
    package = tokenizer.get_added_tokens_decoder()
    added = {token: (one.content, one.special) for token, one in package.items()}
    if listed:
        added = {one["id"]: (one["content"], bool(one.get("special"))) for one in listed}
    pieces.update((token, content) for token, (content, _) in added.items())
    kinds: dict[int, Kind] = {
        token: "special" if special else "added" for token, (_, special) in added.items()
    }
    moved = {
        token for token, (content, _) in added.items() if tokenizer.token_to_id(content) != token
    }
    taken = {token for token, one in package.items() if added.get(token, ("",))[0] != one.content}
    notes = list(_moved(moved, added))
    encoder: Tokenizer | None = tokenizer
    if growth(tokenizer) > _MAX_GROWTH:
        encoder = None
        notes.append(
            "Whether text can produce a token is not tested: the tokenizer's replacements can "
            f"lengthen text more than {_MAX_GROWTH:,} times."
        )
    return Vocabulary(
        pieces,
        kinds,
        spelling_of(tokenizer),
        encoder,
        tuple(notes),
        untestable=frozenset(moved | taken),
    )


def _moved(moved: set[int], added: Mapping[int, tuple[str, bool]]) -> Iterator[str]:
    """A note if the package gives added tokens other ids than the file."""
    if moved:
        first = min(moved)
        yield (
            f"{len(moved):,} added tokens, the first of them {shortened(added[first][0], 80)!r} "
            f"({first:,}), have the ids that the file lists; the tokenizers package numbers them "
            "on from the vocabulary, so that whether text can produce them is not tested."
        )
