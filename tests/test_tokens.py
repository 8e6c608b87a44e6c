"""Labels of rows: small tokenizers of every kind with answers worked out by hand."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_files import ARRAY, INT32, STRING, strings, write_gguf
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_files import (
    BERT_NORMALIZER,
    BYTE_LEVEL,
    LLAMA_DECODER,
    LLAMA_NORMALIZER,
    METASPACE,
    WITH_REGEX,
    WORDPIECE_DECODER,
    bpe,
    gguf,
    numbered,
    wordpiece,
    write_tokenizer,
)

from deadtokens.errors import SourceError
from deadtokens.formats import FLOAT32
from deadtokens.sources import Matrix, open_matrix
from deadtokens.tokens import LABELS, Labels, label_rows, merge_pairs
from deadtokens.tokens.pretokenizers import SPLITTINGS
from deadtokens.tokens.scripts import script_of
from deadtokens.tokens.spelling import Spelling, occurs_in_text, shown
from deadtokens.tokens.vocabulary import looks_reserved


def matrix_of(n_rows: int, token_ids: list[int] | None = None, tokenizer: Any = None) -> Matrix:
    ids = None if token_ids is None else np.array(token_ids, dtype=np.int64)
    codes = np.zeros((n_rows, 1), np.uint32)
    return Matrix(codes, FLOAT32, "made", "made", "made", token_ids=ids, tokenizer=tokenizer)


def labels_of(tokenizer: Any, n_rows: int, token_ids: list[int] | None = None) -> Labels:
    found = label_rows(matrix_of(n_rows, token_ids), tokenizer)
    assert found is not None
    return found


def column(labels: Labels) -> list[str]:
    return [labels.label_of(row) for row in range(len(labels.texts))]


def refusal(tokenizer: Any) -> str:
    with pytest.raises(SourceError) as caught:
        label_rows(matrix_of(3), tokenizer)
    line = str(caught.value)
    assert "\n" not in line
    return line


# --- one tokenizer of each kind: (id's spelling, text, label, reachable) in order ---

Y, N, U = 1, 0, -1
Rows = list[tuple[str, str, str, int]]

# In UTF-8, é is C3 A9, « is C2 AB, я is D1 8F.
BYTE_LEVEL_ROWS: Rows = [
    ("<|end|>", "<|end|>", "special", Y),
    ("a", "a", "ordinary", Y),
    ("b", "b", "ordinary", Y),
    ("Ġ", " ", "ordinary", Y),
    ("Ã", "<0xC3>", "byte", U),
    ("©", "<0xA9>", "byte", U),
    ("À", "<0xC0>", "byte", N),  # which UTF-8 never has
    ("Ċ", "\n", "ordinary", Y),
    ("ab", "ab", "ordinary", Y),
    ("Ġab", " ab", "ordinary", Y),
    ("Ã©", "é", "ordinary", Y),
    ("ĠÃ", " <0xC3>", "partial UTF-8", U),
    ("©ÀÃ", "<0xA9><0xC0><0xC3>", "partial UTF-8", N),
    ("ba", "ba", "unreachable", N),  # no merge makes it
    ("[unused3]", "[unused3]", "reserved", N),
    ("Â", "<0xC2>", "byte", U),
    ("«", "<0xAB>", "byte", U),
    ("Â«", "«", "ordinary", Y),
    ("<|reserved_special_token_5|>", "<|reserved_special_token_5|>", "reserved", Y),
    ("<tool>", "<tool>", "added", Y),
    ("<|placeholder|>", "<|placeholder|>", "reserved", Y),
    ("", "", "padding", U),
    ("Ñı", "я", "ordinary", Y),
    ("Ñ", "<0xD1>", "byte", U),
    ("ı", "<0x8F>", "byte", U),
    ("", "", "padding", U),
]
BYTE_LEVEL_MERGES = ["a b", "Ġ ab", "Ã ©", "Â «", "Ñ ı", "Ġ Ã"]
BYTE_LEVEL_ADDED = [
    (0, "<|end|>", True),
    (18, "<|reserved_special_token_5|>", True),
    (19, "<tool>", False),
    (20, "<|placeholder|>", False),
]

WORDPIECE_ROWS: Rows = [
    ("[PAD]", "[PAD]", "special", Y),
    ("[unused0]", "[unused0]", "reserved", N),
    ("[UNK]", "[UNK]", "special", Y),
    ("«", "«", "ordinary", Y),
    ("a", "a", "ordinary", Y),
    ("##b", "b", "ordinary", Y),
    ("ab", "ab", "ordinary", Y),
    ("##ing", "ing", "ordinary", Y),
    ("ø", "ø", "ordinary", Y),
    ("Ab", "Ab", "unreachable", N),  # text is lower-cased
    ("##!", "!", "unreachable", N),  # punctuation never continues a word
    ("...", "...", "unreachable", N),  # nor is it joined
    ("é", "é", "unreachable", N),  # accents are stripped
    ("##ø", "ø", "ordinary", Y),
    ("中", "中", "ordinary", Y),
    ("##中", "中", "unreachable", N),  # ideographs stand alone
    ("", "", "padding", U),
]
WORDPIECE_ADDED = [(0, "[PAD]", True), (2, "[UNK]", True)]

# Pieces by falling score, as SentencePiece's trainer writes them; a newline is only <0x0A>.
SENTENCE_PIECE_ROWS: Rows = [
    ("<unk>", "<unk>", "special", Y),
    ("<s>", "<s>", "special", Y),
    ("<0x0A>", "<0x0A>", "byte", Y),
    ("<0x41>", "<0x41>", "byte", N),  # as "A" is a piece
    ("<0xE2>", "<0xE2>", "byte", U),
    ("<0xFF>", "<0xFF>", "byte", N),  # which UTF-8 never has
    ("▁t", " t", "ordinary", Y),
    ("he", "he", "ordinary", Y),
    ("▁the", " the", "ordinary", Y),
    ("th", "th", "ordinary", Y),
    ("tea", "tea", "unreachable", N),  # neither te nor ea is a piece
    ("▁", " ", "ordinary", Y),
    ("t", "t", "ordinary", Y),
    ("h", "h", "ordinary", Y),
    ("e", "e", "ordinary", Y),
    ("A", "A", "ordinary", Y),
    ("a", "a", "ordinary", Y),
    ("«", "«", "ordinary", Y),
    ("<unused7>", "<unused7>", "reserved", Y),
    ("", "", "padding", U),
]
SENTENCE_PIECE_TYPES = [2, 3, 6, 6, 6, 6, *[1] * 12, 3]
SENTENCE_PIECE_MERGES = ["▁ t", "h e", "▁t he", "t h"]
SENTENCE_PIECE_ADDED = [(0, "<unk>", True), (1, "<s>", True), (18, "<unused7>", True)]

UNIGRAM_ROWS: Rows = [
    ("<unk>", "<unk>", "special", Y),
    ("▁the", " the", "ordinary", Y),
    ("▁", " ", "ordinary", Y),
    ("t", "t", "ordinary", Y),
    ("h", "h", "ordinary", Y),
    ("e", "e", "ordinary", Y),
    ("the", "the", "ordinary", Y),
    ("he", "he", "unreachable", N),  # h and e together are likelier
    ("«", "«", "ordinary", Y),
    ("", "", "padding", U),
]
UNIGRAM_SCORES = [0.0, -1.0, -2.0, -3.0, -3.0, -3.0, -4.0, -10.0, -3.0]


def spellings(rows: Rows) -> dict[str, int]:
    """The vocabulary of all rows that are tokens."""
    return {row[0]: token for token, row in enumerate(rows) if row[2] != "padding"}


def byte_level_json(path: Path) -> Path:
    return write_tokenizer(
        path,
        bpe(spellings(BYTE_LEVEL_ROWS), BYTE_LEVEL_MERGES),
        added=BYTE_LEVEL_ADDED,
        pre_tokenizer=WITH_REGEX,
        decoder=WITH_REGEX,
    )


def wordpiece_json(path: Path) -> Path:
    return write_tokenizer(
        path,
        wordpiece(spellings(WORDPIECE_ROWS)),
        added=WORDPIECE_ADDED,
        normalizer=BERT_NORMALIZER,
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder=WORDPIECE_DECODER,
        truncation={"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0},
        padding={
            "strategy": {"Fixed": 9},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
    )


def sentence_piece_json(path: Path) -> Path:
    return write_tokenizer(
        path,
        bpe(
            spellings(SENTENCE_PIECE_ROWS),
            SENTENCE_PIECE_MERGES,
            fuse_unk=True,
            byte_fallback=True,
        )
        | {"unk_token": "<unk>"},
        added=SENTENCE_PIECE_ADDED,
        normalizer=LLAMA_NORMALIZER,
        decoder=LLAMA_DECODER,
    )


def unigram_json(path: Path) -> Path:
    pieces = list(spellings(UNIGRAM_ROWS))
    vocabulary = [list(pair) for pair in zip(pieces, UNIGRAM_SCORES, strict=True)]
    return write_tokenizer(
        path,
        {"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": False},
        added=[(0, "<unk>", True)],
        pre_tokenizer=METASPACE,
        decoder=METASPACE,
    )


KINDS = {
    "byte-level": (byte_level_json, BYTE_LEVEL_ROWS),
    "WordPiece": (wordpiece_json, WORDPIECE_ROWS),
    "SentencePiece": (sentence_piece_json, SENTENCE_PIECE_ROWS),
    "Unigram": (unigram_json, UNIGRAM_ROWS),
}


def check(found: Labels, rows: Rows) -> None:
    assert found.texts == [text for _, text, _, _ in rows]
    assert found.pieces == [piece for piece, _, _, _ in rows]
    assert column(found) == [label for _, _, label, _ in rows]
    assert found.reachable.tolist() == [reachable for _, _, _, reachable in rows]
    assert (found.labels.dtype.name, found.reachable.dtype.name) == ("uint8", "int8")


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_has_the_label_that_was_worked_out(kind: str, tmp_path: Path) -> None:
    write, rows = KINDS[kind]
    file = write(tmp_path / "tokenizer.json")
    check(labels_of(file, len(rows)), rows)
    check(labels_of(str(tmp_path), len(rows)), rows)


# --- GGUF metadata ---


def gguf_types(rows: Rows, **kinds: int) -> list[int]:
    """Control for special and reserved rows, user-defined for added ones, else normal."""
    of_label = {"special": 3, "reserved": 3, "added": 4} | kinds
    return [of_label.get(label, 1) for _, _, label, _ in rows]


def byte_level_gguf(**others: Any) -> dict[str, Any]:
    """The byte-level tokenizer as a converter writes it: ids that no token has get a filler."""
    rows = BYTE_LEVEL_ROWS
    tokens = [piece or f"[PAD{token}]" for token, (piece, *_) in enumerate(rows)]
    types = gguf_types(rows, padding=5)
    types[14] = 1  # [unused3] is of the plain vocabulary
    values = {"merges": BYTE_LEVEL_MERGES, "pre": "gpt-2"} | others
    found: dict[str, Any] = gguf(values.pop("model", "gpt2"), tokens, types, **values)
    return {key: value for key, value in found.items() if value is not None}


def sentence_piece_gguf(**others: Any) -> dict[str, Any]:
    rows = SENTENCE_PIECE_ROWS[:-1]
    scores = [-float(token) for token in range(len(rows))]
    values = {"scores": np.array(scores)} | others
    found: dict[str, Any] = gguf("llama", [row[0] for row in rows], SENTENCE_PIECE_TYPES, **values)
    return found


def wordpiece_gguf(**others: Any) -> dict[str, Any]:
    """The WordPiece vocabulary with the beginnings of words marked, without its one capital."""
    tokens = [marked(piece) for piece, *_ in WORDPIECE_ROWS[:-1] if piece != "Ab"]
    types = [3, 1, 3, *[1] * (len(tokens) - 3)]
    found: dict[str, Any] = gguf("bert", tokens, types, unknown_token_id=2, **others)
    return found


def marked(piece: str) -> str:
    if piece.startswith("##"):
        return piece[2:]
    return piece if piece.startswith("[") else "▁" + piece


def test_byte_level_gguf_says_what_tokenizer_json_says() -> None:
    check(labels_of(byte_level_gguf(), len(BYTE_LEVEL_ROWS)), BYTE_LEVEL_ROWS)


def test_a_gguf_file_named_as_the_tokenizer(tmp_path: Path) -> None:
    metadata = byte_level_gguf()
    entries: dict[str, tuple[int, Any]] = {
        key: (STRING, value) for key, value in metadata.items() if isinstance(value, str)
    }
    entries |= {key: strings(value) for key, value in metadata.items() if isinstance(value, list)}
    types = metadata["tokenizer.ggml.token_type"].tolist()
    entries["tokenizer.ggml.token_type"] = (ARRAY, (INT32, types))
    named = write_gguf(tmp_path / "vocabulary.gguf", {}, entries)
    check(labels_of(named, len(BYTE_LEVEL_ROWS)), BYTE_LEVEL_ROWS)
    assert merge_pairs(str(named)) == merge_pairs(metadata)
    bare = write_gguf(tmp_path / "bare.gguf", {}, {})
    assert refusal(bare) == f"{bare}: no tokenizer in this file; give a tokenizer.json"
    byte_level_json(tmp_path / "tokenizer.json")  # which the bare file then has beside it
    check(labels_of(bare, len(BYTE_LEVEL_ROWS)), BYTE_LEVEL_ROWS)


def test_metadata_may_be_bytes() -> None:
    metadata = byte_level_gguf()
    for key, value in metadata.items():
        if isinstance(value, str):
            metadata[key] = value.encode()
        if isinstance(value, list):
            metadata[key] = [one.encode() for one in value]
    check(labels_of(metadata, len(BYTE_LEVEL_ROWS)), BYTE_LEVEL_ROWS)


@pytest.mark.parametrize("listed", [False, True], ids=["scores", "merges"])
def test_sentence_piece_gguf_says_what_tokenizer_json_says(listed: bool) -> None:
    merges = {"merges": SENTENCE_PIECE_MERGES} if listed else {}
    metadata = sentence_piece_gguf(**merges)
    check(labels_of(metadata, len(SENTENCE_PIECE_ROWS)), SENTENCE_PIECE_ROWS)


def test_sentence_piece_without_a_space_before_text() -> None:
    """the now stays apart from ▁the; what a text begins with is no longer stripped."""
    rows = SENTENCE_PIECE_ROWS
    found = labels_of(sentence_piece_gguf(add_space_prefix=False), len(rows))
    assert column(found) == [label for _, _, label, _ in rows]
    assert found.reachable.tolist() == [reachable for *_, reachable in rows]


def test_wordpiece_gguf_says_what_tokenizer_json_says() -> None:
    rows = [row for row in WORDPIECE_ROWS if row[0] != "Ab"]
    found = labels_of(wordpiece_gguf(), len(rows))
    check(found, [(marked(piece) if piece else "", *others) for piece, *others in rows])  # type: ignore[misc]


def test_unigram_gguf_says_what_tokenizer_json_says() -> None:
    rows = UNIGRAM_ROWS
    tokens = [row[0] for row in rows[:-1]]
    metadata = gguf(
        "t5", tokens, gguf_types(rows[:-1]), scores=np.array(UNIGRAM_SCORES), unknown_token_id=0
    )
    check(labels_of(metadata, len(rows)), rows)


@pytest.mark.parametrize(("removed", "label"), [(False, "ordinary"), (True, "unreachable")])
def test_unigram_gguf_may_lose_spaces(removed: bool, label: str) -> None:
    """Where blanks at the ends are dropped and several are one, no text gives a blank alone."""
    scores = np.array([0.0, -2.0, -1.0, -1.0])
    metadata = gguf(
        "t5",
        ["<unk>", "\u2581", "a", "\u2581a"],
        [2, 1, 1, 1],
        scores=scores,
        unknown_token_id=0,
        remove_extra_whitespaces=removed,
    )
    assert column(labels_of(metadata, 4)) == ["special", label, "ordinary", "ordinary"]


def test_types_of_gguf_tokens() -> None:
    """Unused ones are reserved unless they fill a gap; user-defined ones are found with spaces."""
    tokens = ["<unk>", "a", "<0x09>", "▁▁", "spare", "[PAD5]", "[PAD9]"]
    metadata = gguf("llama", tokens, [2, 1, 6, 4, 5, 5, 1], scores=np.arange(7.0))
    found = labels_of(metadata, 7)
    expected = ["special", "ordinary", "byte", "added", "reserved", "padding", "unreachable"]
    assert column(found) == expected
    assert found.texts == ["<unk>", "a", "<0x09>", "  ", "spare", "", "[PAD9]"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pre": "nobody-knows"}, "'nobody-knows'"),
        ({"pre": "default"}, "'default'"),
        ({"pre": None}, "does not say how text is split"),
        ({"merges": []}, "no merges"),
        ({"merges": ["ab"]}, "no pair"),
        ({"merges": ["a nothing"]}, "cannot be rebuilt"),
        ({"merges": [7]}, "cannot be rebuilt"),
        ({"model": "rwkv"}, "kind 'rwkv'"),
    ],
)
def test_what_a_file_leaves_open_is_not_guessed(change: dict[str, Any], reason: str) -> None:
    """Labels stay but for unreachable, and a note says why."""
    metadata = byte_level_gguf(**change)
    found = labels_of(metadata, 15)
    assert any(reason in note for note in found.notes)
    assert set(found.reachable.tolist()) == ({-1, 0} if found.texts[4] == "<0xC3>" else {-1})
    assert found.label_of(13) == "ordinary"  # nobody tested ba
    assert [found.label_of(row) for row in (0, 14)] == ["special", "reserved"]
    assert found.carriers == ()


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (wordpiece_gguf() | {"tokenizer.ggml.model": "t5"}, "no scores"),
        (sentence_piece_gguf(scores=np.zeros(19)), "same score"),
        (sentence_piece_gguf(scores=np.zeros(3)), "one number for each"),
        (sentence_piece_gguf(scores=["x"] * 19), "cannot be rebuilt"),
        (gguf("llama", ["a", "b" * 600], [1, 1], scores=np.arange(2.0)), "600 characters"),
        (gguf("t5", ["a"], [1], scores=np.ones(1), treat_whitespace_as_suffix=True), "after words"),
        (gguf("t5", ["a"], [1], scores=np.ones(1), precompiled_charsmap=np.ones(3)), "of bytes"),
        (gguf("t5", ["a"], [1], scores=np.ones(1), precompiled_charsmap=[1, 2]), "rebuilt"),
        (gguf("bert", ["[UNK]", "a"], [3, 1], unknown_token_id=0), "where a word begins"),
        (gguf("bert", ["[UNK]", "▁A"], [3, 1], unknown_token_id=0), "lower-cased"),
        (gguf("bert", ["[UNK]", "▁a"], [3, 1]), "no unknown token"),
        (gguf("gpt2", ["a", b"\xff\xfe"], [1, 1]), "no valid UTF-8"),
    ],
)  # fmt: skip
def test_other_things_that_are_not_guessed(metadata: dict[str, Any], reason: str) -> None:
    found = labels_of(metadata, 2)
    assert any(reason in note for note in found.notes), found.notes
    assert -1 in found.reachable


def test_a_cased_wordpiece_gguf_that_says_so() -> None:
    tokens = ["[UNK]", "▁A", "▁b", "C"]
    options = {"unknown_token_id": 0, "normalizer__lowercase": False}
    found = labels_of(gguf("bert", tokens, [3, 1, 1, 1], **options), 4)
    assert column(found) == ["special", "ordinary", "ordinary", "ordinary"]
    assert found.texts == ["[UNK]", "A", "b", "C"]
    lowered = gguf("bert", tokens, [3, 1, 1, 1], **options | {"normalizer__lowercase": True})
    assert column(labels_of(lowered, 4)) == ["special", "unreachable", "ordinary", "unreachable"]


def test_bytes_that_are_no_text_in_a_gguf_vocabulary() -> None:
    found = labels_of(gguf("whatever", [b"a\xff", b"\xe2", b"\xe2\x82", "ok"], [1] * 4), 4)
    assert found.texts == found.pieces == ["a<0xFF>", "<0xE2>", "<0xE2><0x82>", "ok"]
    assert column(found) == ["partial UTF-8", "byte", "partial UTF-8", "ordinary"]
    assert found.reachable.tolist() == [0, -1, -1, -1]
    unseen = labels_of(gguf("whatever", ["\n", "ok"], [1] * 2), 2)
    assert column(unseen) == ["ordinary", "ordinary"]
    assert "is not known here" in unseen.notes[0]


@pytest.mark.parametrize(
    ("metadata", "line"),
    [
        (gguf("gpt2", ["a", "b"], [1]), "1 token types for 2 tokens"),
        (gguf("gpt2", ["a", "b"], []), "0 token types for 2 tokens"),
        ({"tokenizer.ggml.tokens": "abc"}, "no array of strings"),
        ({"tokenizer.ggml.tokens": np.arange(3)}, "no array of strings"),
        ({"tokenizer.ggml.tokens": ["a", 3]}, "no array of strings"),
        (
            {"tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.token_type": ["x"]},
            "token types are no numbers",
        ),
        (
            {"tokenizer.ggml.tokens": ["a", "b"], "tokenizer.ggml.token_type": [[1, 2], [1]]},
            "token types are no numbers",
        ),
    ],
)
def test_metadata_that_contradicts_itself_is_refused(metadata: Any, line: str) -> None:
    assert line in refusal(metadata)


def test_no_tokenizer_no_labels() -> None:
    assert label_rows(matrix_of(3)) is None
    assert label_rows(matrix_of(3), {"general.architecture": "llama"}) is None
    assert label_rows(open_matrix("builtin:qwen3-4b")) is None


def test_a_spelling_that_is_there_twice_is_reached_once() -> None:
    metadata = gguf("gpt2", ["a", "b", "a"], [1, 1, 1], merges=["a b"], pre="gpt-2")
    metadata["tokenizer.ggml.tokens"].append("ab")
    metadata["tokenizer.ggml.token_type"] = np.ones(4, np.int32)
    assert labels_of(metadata, 4).reachable.tolist() == [1, 1, 0, 1]


# --- the built-in, and lists of spellings ---


def test_labels_of_the_whisper_built_in() -> None:
    matrix = open_matrix("builtin:whisper-tiny.en")
    found = label_rows(matrix)
    assert found is not None
    assert found.label_counts() == {
        "special": 102, "byte": 15, "partial UTF-8": 5, "ordinary": 178
    }  # fmt: skip
    assert found.texts[found.pieces.index("ĠSolidGoldMagikarp")] == " SolidGoldMagikarp"
    assert found.texts[found.pieces.index("ĠãĤµãĥ¼ãĥĨãĤ£ãĥ¯ãĥ³")] == " サーティワン"
    assert found.script_of(found.pieces.index("ĠãĤµãĥ¼ãĥĨãĤ£ãĥ¯ãĥ³")) == "Katakana"
    special = [piece for row, piece in enumerate(found.pieces) if found.label_of(row) == "special"]
    assert special[0] == "<|en|>"
    assert special[-1] == "<|startoflm|>"
    # C0, C1 and F5 to FF, which no UTF-8 has; nothing else is told without the tokenizer.
    impossible = {bytes([byte]) for byte in (0xC0, 0xC1, *range(0xF5, 0x100))}
    assert {found.texts[row] for row in np.flatnonzero(found.reachable == 0)} == {
        f"<0x{byte.hex().upper()}>" for byte in impossible
    }
    assert set(found.reachable.tolist()) == {-1, 0}
    assert len(found.notes) == 1


def test_spellings_must_be_those_of_the_rows() -> None:
    assert "2 spellings for 3 rows" in refusal({"spellings": ["a", "b"]})


def test_another_tokenizer_than_the_matrix_brings(tmp_path: Path) -> None:
    matrix = matrix_of(2, tokenizer={"spellings": ["x", "y"]})
    found = label_rows(matrix, byte_level_json(tmp_path / "tokenizer.json"))
    assert found is not None
    assert found.texts == ["<|end|>", "a"]


# --- rows that are not the tokens from 0 up ---


def test_rows_are_labelled_by_their_token_ids(tmp_path: Path) -> None:
    file = byte_level_json(tmp_path / "tokenizer.json")
    ids = [13, -1, 8, 8, 999, 6]
    found = labels_of(file, 6, ids)
    assert found.texts == ["ba", "", "ab", "ab", "", "<0xC0>"]
    expected = ["unreachable", "unknown", "ordinary", "ordinary", "padding", "byte"]
    assert column(found) == expected
    assert found.reachable.tolist() == [0, -1, 1, 1, -1, 0]
    assert found.script_of(1) == found.script_of(4) == ""
    assert any("Of 1 rows the source does not say" in note for note in found.notes)


# --- counts ---


def test_counts_by_label_and_by_script(tmp_path: Path) -> None:
    found = labels_of(wordpiece_json(tmp_path / "tokenizer.json"), len(WORDPIECE_ROWS))
    expected = [label for _, _, label, _ in WORDPIECE_ROWS]
    assert found.label_counts() == {
        name: expected.count(name) for name in LABELS if name in expected
    }
    assert found.label_counts(np.array([0, 1, 2, 16])) == {
        "padding": 1, "reserved": 1, "special": 2
    }  # fmt: skip
    assert found.label_counts(slice(3, 5)) == {"ordinary": 2}
    mask = np.zeros(len(expected), bool)
    assert found.label_counts(mask) == found.script_counts(mask) == {}
    assert found.script_counts() == {"Latin": 11, "Common": 3, "Han": 2}
    assert repr(found).startswith("<Labels of 17 rows: 1 padding, 1 reserved, 2 special, ")
    assert found.script_counts(np.array([14, 3, 4, 16])) == {"Common": 1, "Han": 1, "Latin": 1}


# --- reserved spellings ---


@pytest.mark.parametrize(
    "piece",
    [
        "<|reserved_special_token_5|>", "[unused12]", "<unused5>", "<reserved_3>", "<|reserved_1|>",
        "<|placeholder|>", "<|placeholder3|>", "<|extra_0|>", "<dummy00012>", "<|dummy_87|>",
        "[UNUSED_TOKEN_141]", ">>UNUSED_0<<", "<｜place▁holder▁no▁5｜>", "<SPECIAL_12>",
        "[control_8]", "madeupword0001", "<|vision_reserved_special_token_7|>", "<|unused-3|>",
        "<extra_5>", "<|EXTRA_9_TOKEN|>",
    ],
)  # fmt: skip
def test_spellings_that_say_the_token_is_reserved(piece: str) -> None:
    assert looks_reserved(piece)


@pytest.mark.parametrize(
    "piece",
    [
        "", "<|im_start|>", "<s>", "[CLS]", "<extra_id_0>", "unused", "placeholder", "reserved>",
        "dummy", "<0x0A>", "[MASK]", "▁<unused5>", "<|endoftext|>", "<special>", "12345", ">>", "]",
        "<|fim_pad|>", "<pad>", "[undummied", "<a reserved b c>>",
    ],
)  # fmt: skip
def test_spellings_that_do_not(piece: str) -> None:
    assert not looks_reserved(piece)


# --- bytes ---


def test_byte_level_spellings_are_undone() -> None:
    """Against the alphabet as the tokenizers package writes it."""
    from tokenizers import pre_tokenizers

    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    spelling = Spelling(byte_level=True)
    met: set[tuple[str, int]] = set()
    for start in range(0, 0x3000, 7):
        text = "".join(map(chr, range(start, start + 7))) + chr(0x10000 + start)
        [(piece, _)] = spell.pre_tokenize_str(text)
        assert spelling.bytes_of(piece) == text.encode()
        met.update(zip(piece, text.encode(), strict=True))
    assert {character for character, _ in met} <= set(pre_tokenizers.ByteLevel.alphabet())
    for character in pre_tokenizers.ByteLevel.alphabet():
        assert len(spelling.bytes_of(character)) == 1
    bytes_of_alphabet = map(spelling.bytes_of, pre_tokenizers.ByteLevel.alphabet())
    assert set(bytes_of_alphabet) == {bytes([byte]) for byte in range(256)}


@pytest.mark.parametrize("piece", ["▁x", "a b", "日", "\n", "\x7f", "Ń\u0150", "\u00ad"])
def test_pieces_outside_the_alphabet_are_text(piece: str) -> None:
    assert Spelling(byte_level=True).bytes_of(piece) == piece.encode()


def test_which_bytes_occur_in_text() -> None:
    """All strings of one and two bytes, against the encodings of all characters."""
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    firsts, lasts = ({one.encode()[at] for one in every} for at in (0, -1))
    text = np.frombuffer("".join(every).encode(), np.uint8).astype(int)
    two_bytes = set((text[:-1] * 256 + text[1:]).tolist())
    two_bytes |= {last * 256 + first for last, first in itertools.product(lasts, firsts)}
    assert {byte for byte in range(256) if occurs_in_text(bytes([byte]))} == set(text.tolist())
    pairs = {pair for pair in range(1 << 16) if occurs_in_text(pair.to_bytes(2, "big"))}
    assert pairs == two_bytes


def test_longer_bytes_that_occur_in_text() -> None:
    """Pieces cut out of text do; four bytes that continue a character do not."""
    rng = np.random.default_rng(5)
    for _ in range(2000):
        text = "".join(rng.choice(list("Aé中😀ࠀ퟿𐀀")) for _ in range(6)).encode()
        start, length = rng.integers(len(text)), rng.integers(9)
        assert occurs_in_text(text[start : start + length])
    assert not occurs_in_text(b"\x80\x80\x80\x80")
    assert not occurs_in_text(b"a\x80")
    assert not occurs_in_text(b"\xf0\x80")
    for raw in (b"\xed\xa0", b"\xe0\x9f", b"\xf0\x8f\xbf", b"\xf4\x90", b"\xc3\xa9\xc1"):
        assert not occurs_in_text(raw)


def test_bytes_are_shown() -> None:
    assert shown(b"a\xc3\xa9 \xff\n") == "aé <0xFF>\n"


# --- scripts ---


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("", ""), (" ", "Common"), ("12!", "Common"), ("\u0301", "Common"), ("a1 ", "Latin"),
        ("é", "Latin"), ("привет", "Cyrillic"), ("中文", "Han"), ("のーカ", "Hiragana"),
        ("カの", "Katakana"), ("aж", "Latin"), ("жa", "Cyrillic"), ("aжж", "Cyrillic"),
        ("한국", "Hangul"), ("ไทย", "Thai"), ("\ue000", "Unknown"), ("🎉", "Common"),
        ("ᏣᎳᎩ", "Cherokee"), ("𐑀", "Deseret"), ("ᚠ", "Runic"), ("ᱛ", "Ol Chiki"),
    ],
)  # fmt: skip
def test_scripts(text: str, script: str) -> None:
    assert script_of(text) == script


def test_a_byte_has_no_script_and_part_of_a_character_does_not_count(tmp_path: Path) -> None:
    found = labels_of(byte_level_json(tmp_path / "tokenizer.json"), len(BYTE_LEVEL_ROWS))
    scripts = {piece: found.script_of(row) for row, piece in enumerate(found.pieces) if piece}
    assert scripts["Ã"] == scripts["À"] == scripts["©ÀÃ"] == ""
    assert scripts["ĠÃ"] == scripts["Ġ"] == scripts["Ċ"] == "Common"
    assert scripts["Ñı"] == "Cyrillic"
    assert scripts["Ã©"] == scripts["<tool>"] == "Latin"
    assert found.script_names[:2] == ("", "Common")


# --- carriers ---


def test_carriers_are_the_quote_and_letters_that_little_begins_with(tmp_path: Path) -> None:
    """x begins two longer tokens, ж one, ø and y none, 中 is an ideograph; ß does not stay."""
    pieces = ["x", "xa", "xb", "ж", "жa", "a", "b", "ø", "中", "y", "ß", "«", "##ß", "[UNK]"]
    model = wordpiece(numbered(*pieces))
    normalizer = {
        "type": "Sequence",
        "normalizers": [
            BERT_NORMALIZER,
            {"type": "Replace", "pattern": {"String": "ß"}, "content": "ss"},
        ],
    }
    file = write_tokenizer(
        tmp_path / "tokenizer.json",
        model,
        normalizer=normalizer,
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder=WORDPIECE_DECODER,
    )
    found = labels_of(file, len(pieces))
    assert [pieces[token] for token in found.carriers] == ["«", "a", "b", "ø"]
    assert any("« (11), a (5), b (6), ø (7)" in note for note in found.notes)


def test_without_carriers_nothing_is_said_of_what_does_not_come_back(tmp_path: Path) -> None:
    file = write_tokenizer(
        tmp_path / "tokenizer.json",
        wordpiece(numbered("[UNK]", "12", "##3", "4")),
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder=WORDPIECE_DECODER,
    )
    found = labels_of(file, 4)
    assert found.carriers == ()
    assert found.reachable.tolist() == [-1, 1, -1, 1]
    assert column(found) == ["ordinary"] * 4
    assert any("alone only" in note for note in found.notes)


# --- tokenizer.json as strangers write it ---


def test_settings_that_would_spoil_the_test_are_switched_off(tmp_path: Path) -> None:
    """Dropping merges at random; truncation and padding are set in the WordPiece file."""
    file = write_tokenizer(
        tmp_path / "tokenizer.json",
        bpe(numbered("a", "b", "c", "d", "ab", "cd", "abcd"), ["a b", "c d", "ab cd"], dropout=0.9),
    )
    assert labels_of(file, 7).reachable.tolist() == [1] * 7


def test_a_suffix_that_decoding_leaves_in_place(tmp_path: Path) -> None:
    """As CLIP has it: a word's last piece ends in </w>."""
    vocabulary = numbered("a", "a</w>", "b", "b</w>", "ab</w>", "ba</w>", "«", "«</w>")
    file = write_tokenizer(
        tmp_path / "tokenizer.json",
        bpe(vocabulary, ["a b</w>"], end_of_word_suffix="</w>"),
        pre_tokenizer=BYTE_LEVEL | {"use_regex": True},
        decoder=WITH_REGEX,
    )
    found = labels_of(file, 6)
    assert found.texts == ["a", "a", "b", "b", "ab", "ba"]
    # "aa" is a, a</w>, and "ba" is b, a</w>: no merge makes ba</w>.
    assert found.reachable.tolist()[:6] == [1, 1, 1, 1, 1, 0]


def test_added_tokens_that_get_other_ids_than_the_file_lists(tmp_path: Path) -> None:
    file = write_tokenizer(
        tmp_path / "tokenizer.json", bpe(numbered("a", "b"), []), added=[(7, "<x>", True)]
    )
    found = labels_of(file, 9)
    expected = ["ordinary", "ordinary", *["padding"] * 5, "special", "padding"]
    assert column(found) == expected
    assert found.reachable.tolist()[7] == -1
    assert any("'<x>' (7), have the ids that the file lists" in note for note in found.notes)


def test_replacements_that_would_fill_the_memory_are_not_run(tmp_path: Path) -> None:
    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    file = write_tokenizer(
        tmp_path / "tokenizer.json",
        bpe(numbered("a", "b"), []),
        normalizer={"type": "Sequence", "normalizers": [double] * 60},
    )
    found = labels_of(file, 2)
    assert found.reachable.tolist() == [-1, -1]
    assert any("lengthen text" in note for note in found.notes)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{}", b"[]", b"null", b"\xff\xfe", b"{", b'{"model": {"type": "BPE"}}',
        b"[" * 100_000,
        b'{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 1e99}, "merges": []}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}',
        b'{"model": {"type": "Unigram", "unk_id": 9, "vocab": [["a", 0.0]]}}',
    ],
)  # fmt: skip
def test_files_that_are_no_tokenizer(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(content)
    line = refusal(file)
    assert line.startswith(f"{file}: not ")
    assert "save_pretrained" in line or "fetch the file again" in line
    assert len(line) < 600


def test_spaces_are_spelled_as_the_normalizer_does_where_no_decoder_says(tmp_path: Path) -> None:
    model = bpe({"a": 0, "\u2581a": 1}, [])
    file = write_tokenizer(tmp_path / "tokenizer.json", model, normalizer=LLAMA_NORMALIZER)
    assert labels_of(file, 2).texts == ["a", " a"]


def test_a_tokenizer_that_the_system_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(Path, "read_text", refused)
    assert "tokenizer.json: Permission denied; check the path" in refusal(tmp_path)


def test_where_there_is_no_tokenizer_json(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n", encoding="utf-8")
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x00")
    (tmp_path / "folder.json").mkdir()
    assert "tokenizer.model: not a SentencePiece model" in refusal(tmp_path)
    assert "no such file" in refusal(tmp_path / "nothing.json")
    assert "save_pretrained" in refusal(tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer.bin").write_bytes(b"x")
    line = refusal(tmp_path / "tokenizer.bin")
    assert ".bin file is not supported" in line
    assert "save_pretrained" in line
    assert "no tokenizer.json" in refusal(tmp_path / "folder.json")
    os.mkfifo(tmp_path / "pipe.json")
    assert "not a regular file; give a tokenizer.json" in refusal(tmp_path / "pipe.json")


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deadtokens.tokens.hugging_face._MAX_BYTES", 10)
    line = refusal(byte_level_json(tmp_path / "tokenizer.json"))
    assert "bytes, where 10 are the most" in line


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_end_in_one_line_or_labels(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    folder = tmp_path_factory.mktemp("damaged")
    file = KINDS[kind][0](folder / "tokenizer.json")
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    labels_or_a_line(file)


_KEYS = [
    *("model", "tokens", "token_type", "merges", "scores", "pre", "unknown_token_id"),
    *("add_space_prefix", "precompiled_charsmap", "normalizer.lowercase"),
]
_VALUES = st.one_of(
    st.none(),
    st.integers(-9, 9),
    st.text(max_size=3),
    st.booleans(),
    st.floats(),
    st.lists(st.text(max_size=3), max_size=20),
    st.lists(st.integers(-1, 9), max_size=20).map(np.array),
    st.lists(st.floats(), max_size=20).map(np.array),
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([byte_level_gguf, sentence_piece_gguf, wordpiece_gguf]),
    st.dictionaries(
        st.sampled_from(_KEYS),
        _VALUES | st.sampled_from(["gpt2", "llama", "bert", "t5", "qwen2", "llama-bpe"]),
        min_size=1,
    ),
)
def test_wrong_metadata_ends_in_one_line_or_labels(make: Any, changes: Mapping[str, Any]) -> None:
    labels_or_a_line(make() | {f"tokenizer.ggml.{key}": value for key, value in changes.items()})


def labels_or_a_line(tokenizer: Any) -> None:
    line, found = "", None
    try:
        found = label_rows(matrix_of(5), tokenizer)
    except SourceError as error:
        line = str(error)
    assert "\n" not in line
    assert found is None or len(found.texts) == len(found.labels) == 5


# --- merges ---


def test_merges_of_every_kind_of_source(tmp_path: Path) -> None:
    byte_level = [tuple(merge.split(" ")) for merge in BYTE_LEVEL_MERGES]
    assert merge_pairs(byte_level_json(tmp_path / "tokenizer.json")) == byte_level
    assert merge_pairs(str(tmp_path)) == byte_level
    assert merge_pairs(byte_level_gguf()) == byte_level
    # By falling score; of one piece, by the ids of its halves.
    assert merge_pairs(sentence_piece_gguf()) == [
        ("▁", "t"), ("h", "e"), ("▁t", "he"), ("t", "h")
    ]  # fmt: skip
    assert merge_pairs(wordpiece_json(tmp_path / "tokenizer.json")) == []
    assert merge_pairs(wordpiece_gguf()) == []
    assert merge_pairs(None) == merge_pairs({"spellings": ["a"]}) == []
    assert merge_pairs(byte_level_gguf(merges=["ab"])) == []


def test_merges_in_pairs(tmp_path: Path) -> None:
    """Newer files list two strings, which may have spaces in them."""
    model = bpe(numbered("a", " ", "a "), []) | {"merges": [["a", " "]]}
    assert merge_pairs(write_tokenizer(tmp_path / "tokenizer.json", model)) == [("a", " ")]


# --- how published byte-level vocabularies split text ---

TEXT = "It's 12345  OK, naïveWORD\n\n x"
SPLITS = {
    "gpt-2": "It|'s| 12345| | OK|,| naïveWORD|\n\n| x",
    "smollm": "It|'s| |1|2|3|4|5| | OK|,| naïveWORD|\n\n| x",
    "llama-bpe": "It|'s| |123|45| | OK|,| naïveWORD|\n\n| x",
    "qwen2": "It|'s| |1|2|3|4|5| | OK|,| naïveWORD|\n\n| x",
    "gpt-4o": "It's| |123|45| | OK|,| naïve|WORD|\n\n| x",
    "tekken": "It|'s| |1|2|3|4|5| | OK|,| naïve|WORD|\n\n| x",
    "deepseek-v3": "It|'s| |123|45| | OK|,| naïveWORD|\n\n| x",
}


@pytest.mark.parametrize("name", SPLITTINGS)
def test_splitting_loses_nothing(name: str) -> None:
    pieces = [piece for piece, _ in SPLITTINGS[name].pre_tokenizer().pre_tokenize_str(TEXT)]
    spelling = Spelling(byte_level=True)
    assert b"".join(map(spelling.bytes_of, pieces)).decode() == TEXT
    if name in SPLITS:
        assert [spelling.bytes_of(piece).decode() for piece in pieces] == SPLITS[name].split("|")


@pytest.mark.parametrize(("name", "reached"), [("gpt-2", 1), ("qwen2", 0), ("command-r", 0)])
def test_text_is_composed_first_where_the_published_tokenizer_does_it(
    name: str, reached: int
) -> None:
    """The angstrom sign (E2 84 AB) becomes the letter in composed form."""
    tokens = ["â", "Ħ", "«", "âĦ", "âĦ«", "x"]
    found = labels_of(gguf("gpt2", tokens, [1] * 6, merges=["â Ħ", "âĦ «"], pre=name), 6)
    assert found.texts[4] == "\u212b"
    assert found.reachable[4] == reached


@pytest.mark.parametrize(("name", "reached"), [("gpt-2", 0), ("llama-bpe", 1), ("tekken", 1)])
def test_a_whole_word_may_be_taken_without_merges(name: str, reached: int) -> None:
    found = labels_of(gguf("gpt2", ["a", "b", "ba"], [1] * 3, merges=[], pre=name), 3)
    assert -1 in found.reachable  # for want of merges
    metadata = gguf("gpt2", ["a", "b", "ba", "ab"], [1] * 4, merges=["a b"], pre=name)
    assert labels_of(metadata, 4).reachable.tolist() == [1, 1, reached, 1]
