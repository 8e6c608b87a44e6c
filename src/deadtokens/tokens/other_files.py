"""Vocabularies in other files than tokenizer.json.

BERT's vocab.txt and GPT-2's vocab.json with merges.txt become tokenizers of the tokenizers package.
SentencePiece models are read by the sentencepiece package. Lists of ranks (tiktoken, tekken.json)
say which bytes each token stands for, and are taken as that.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deadtokens.errors import SourceError
from deadtokens.sources.describe import parse_object, read_object
from deadtokens.sources.tokenizer_files import CONVERT, MERGES, TOKENIZER_CONFIG
from deadtokens.tokens.hugging_face import of_tokenizer
from deadtokens.tokens.spelling import Spelling, byte_level_piece
from deadtokens.tokens.vocabulary import Failed, Kind, Vocabulary, attempt, looks_special

_MOST_BYTES = 1 << 28
_SUFFIX = "</w>"
_BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SPIECE_SPACE = "▁"
_UNTESTED = (
    "Whether text can produce a token is not tested: {} lists tokens, not how they are made."
)


def of_other(file: Path) -> Vocabulary:
    """The vocabulary in a file that is no tokenizer.json.

    Raises:
        SourceError: It cannot be read, and how it is converted.
    """
    reader: Callable[[Path], Vocabulary]
    name = file.name.lower()
    if name.endswith("tekken.json"):
        reader = _tekken
    elif name.endswith(".json"):
        reader = _vocab_json
    elif name.endswith(".txt"):
        reader = _vocab_txt
    else:
        reader = _ranks if _is_ranks(file) else _sentencepiece

    def read() -> Vocabulary | SourceError:
        try:
            return reader(file)
        except SourceError as error:
            return error

    try:
        found = attempt(read)
    except Failed as failure:
        raise SourceError(
            f"not a vocabulary ({failure})", where=file, remedy=f"fetch it again, or {CONVERT}"
        ) from None
    if isinstance(found, SourceError):
        raise found
    return found


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SourceError(
            error.strerror or str(error), where=file, remedy="check the path"
        ) from None
    if len(content) > _MOST_BYTES:
        raise SourceError(
            f"more than {_MOST_BYTES:,} bytes, the most a tokenizer may have", where=file
        )
    return content


def _vocab_txt(file: Path) -> Vocabulary:
    """WordPiece, a token a line."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    pieces = [line.rstrip("\r") for line in _content(file).decode("utf-8").split("\n")]
    while pieces and not pieces[-1]:
        pieces.pop()
    if not pieces:
        raise SourceError("an empty file", where=file, remedy="fetch it again")
    config = _config(file)
    lowercase = config.get("do_lower_case", True) is not False
    tokenizer = Tokenizer(
        models.WordPiece(dict(_first_of_each(pieces)), unk_token="[UNK]")  # noqa: S106
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    held = of_tokenizer(tokenizer)
    special: dict[int, Kind] = {i: "special" for i, p in enumerate(pieces) if p in _BERT_SPECIAL}
    return _with(held, dict(enumerate(pieces)), special)


def _first_of_each(pieces: Iterable[str]) -> Iterable[tuple[str, int]]:
    seen: dict[str, int] = {}
    for token, piece in enumerate(pieces):
        seen.setdefault(piece, token)
    return seen.items()


def _with(held: Vocabulary, pieces: Mapping[int, str], kinds: Mapping[int, Kind]) -> Vocabulary:
    twice = frozenset(pieces.keys() - held.pieces.keys())
    return replace(held, pieces=pieces, kinds={**held.kinds, **kinds}, untestable=twice)


def _vocab_json(file: Path) -> Vocabulary:
    """Byte pairs: an id by each token, and the merges beside it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    ids = read_object(file)
    if not ids or not all(isinstance(token, int) and token >= 0 for token in ids.values()):
        raise SourceError(
            "it names no tokens by their ids", where=file, remedy=f"fetch it again, or {CONVERT}"
        )
    kinds: dict[int, Kind] = {ids[piece]: "special" for piece in ids if _in_brackets(piece)}
    merges_file = file.with_name(MERGES)
    pieces = {token: piece for piece, token in ids.items()}
    suffix = _SUFFIX if any(piece.endswith(_SUFFIX) for piece in ids) else ""
    spelling = Spelling(byte_level="Ġ" in ids or bool(suffix), suffix=suffix)
    if not merges_file.is_file():
        return Vocabulary(pieces, kinds, spelling, notes=(_UNTESTED.format(file.name),))
    lines = _content(merges_file).decode("utf-8").split("\n")
    pairs = [tuple(line.split()) for line in lines if not line.startswith("#version")]
    merges = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]
    ending = {"end_of_word_suffix": suffix} if suffix else {}
    tokenizer = Tokenizer(models.BPE(ids, merges, **ending))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = level
    tokenizer.decoder = decoders.BPEDecoder(suffix=suffix) if suffix else decoders.ByteLevel()
    return _with(of_tokenizer(tokenizer), pieces, kinds)


def _in_brackets(piece: str) -> bool:
    """Whether a token is spelled as special ones are: <|endoftext|>, <s>, </s>, <pad>."""
    return looks_special(piece) or piece in ("<s>", "</s>", "<pad>", "<unk>", "<mask>")


def _sentencepiece(file: Path) -> Vocabulary:
    content = _content(file)
    try:
        import sentencepiece
    except ImportError:
        raise SourceError(
            "a SentencePiece model, which takes the sentencepiece package",
            where=file,
            remedy=f"pip install 'deadtokens[sentencepiece]', or {CONVERT}",
        ) from None
    try:
        model = sentencepiece.SentencePieceProcessor(model_proto=content)
        size = model.get_piece_size()
    except Exception as error:
        raise SourceError(
            f"not a SentencePiece model ({' '.join(str(error).split())[:100]})",
            where=file,
            remedy=f"fetch it again, or {CONVERT}",
        ) from None
    pieces = {token: model.id_to_piece(token) for token in range(size)}
    kinds: dict[int, Kind] = {}
    for token in range(size):
        if model.is_control(token) or model.is_unknown(token):
            kinds[token] = "special"
        elif model.is_unused(token):
            kinds[token] = "reserved"
    fallback = any(model.is_byte(token) for token in range(size))
    spelling = Spelling(byte_fallback=fallback, space=_SPIECE_SPACE)
    return Vocabulary(pieces, kinds, spelling, notes=(_UNTESTED.format(file.name),))


def _is_ranks(file: Path) -> bool:
    """Whether a file is a list of base64 and ranks, whatever its name says."""
    first = _content(file)[:4096].split(b"\n", 1)[0].split()
    if len(first) != 2 or not first[1].isdigit():
        return False
    try:
        base64.b64decode(first[0], validate=True)
    except binascii.Error:
        return False
    return True


def _ranks(file: Path) -> Vocabulary:
    """tiktoken: each token's bytes as base64, and its id."""
    pieces: dict[int, str] = {}
    for number, line in enumerate(_content(file).splitlines(), 1):
        parts = line.split()
        if not parts:
            continue
        try:
            encoded, rank = parts
            pieces[int(rank)] = byte_level_piece(base64.b64decode(encoded, validate=True))
        except (ValueError, binascii.Error):
            raise SourceError(
                f"line {number:,} is not base64 and a rank", where=file, remedy="fetch it again"
            ) from None
    note = f"{file.name} lists no special tokens: rows beyond its {len(pieces):,} are not named."
    return Vocabulary(
        pieces,
        {},
        Spelling(byte_level=True),
        notes=(_UNTESTED.format(file.name), note),
        complete=False,
    )


def _tekken(file: Path) -> Vocabulary:
    """Mistral's: special tokens first, then bytes by their ranks."""
    content = parse_object(_content(file), file)
    config, listed = content.get("config"), content.get("vocab")
    if not isinstance(config, dict) or not isinstance(listed, list):
        raise SourceError("no vocabulary in it", where=file, remedy=f"fetch it again, or {CONVERT}")
    try:
        n_special = int(config["default_num_special_tokens"])
        size = int(config["default_vocab_size"])
        pieces = {token: f"<SPECIAL_{token}>" for token in range(n_special)}
        for one in content.get("special_tokens") or ():
            pieces[int(one["rank"])] = str(one["token_str"])
        kinds: dict[int, Kind] = dict.fromkeys(range(n_special), "special")
        for one in listed[: size - n_special]:
            raw = base64.b64decode(one["token_bytes"], validate=True)
            pieces[n_special + int(one["rank"])] = byte_level_piece(raw)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise SourceError(
            "its vocabulary is damaged", where=file, remedy=f"fetch it again, or {CONVERT}"
        ) from None
    return Vocabulary(
        pieces, kinds, Spelling(byte_level=True), notes=(_UNTESTED.format(file.name),)
    )


def _config(file: Path) -> Mapping[str, Any]:
    """The tokenizer_config.json beside a file, as far as it can be read."""
    try:
        return read_object(file.with_name(TOKENIZER_CONFIG))
    except SourceError:
        return {}
