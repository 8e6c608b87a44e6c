"""Which token a row is: sizes, lists of drafts and adapters, and the files tokenizers come in."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_models import byte_level, piece
from program import Program

import deadtokens as dt
from deadtokens.inventory import Inventory
from deadtokens.sources.tokenizer_files import find_tokenizer
from deadtokens.stocktaking import take_inventory
from deadtokens.tokens import Labels
from deadtokens.tokens.fitting import most_padding
from deadtokens.tokens.reading import open_vocabulary
from deadtokens.tokens.vocabulary import looks_reserved
from deadtokens.writing import write_safetensors

WORDS = {piece(chr(97 + i)): i for i in range(26)}


def rows(n: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).normal(0, 0.02, (n, 16)).astype(np.float32)


def model(
    folder: Path,
    n: int,
    tokens: int | None = None,
    tensors: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    added: list[tuple[str, int, bool]] | None = None,
) -> Path:
    """A folder with a matrix of n rows and a tokenizer of so many tokens."""
    folder.mkdir(exist_ok=True)
    held = {"lm_head.weight": rows(n)} if tensors is None else dict(tensors)
    write_safetensors(folder / "model.safetensors", held, {})
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if tokens is not None:
        vocabulary = {f"t{i}": i for i in range(tokens)}
        (folder / "tokenizer.json").write_text(json.dumps(byte_level(vocabulary, (), added or ())))
    return folder


def taken(folder: Path, tensor: str | None = None) -> Inventory:
    return take_inventory(dt.open_matrix(folder, tensor))


def labels(folder: Path) -> Labels:
    found = dt.label_rows(dt.open_matrix(folder))
    assert found is not None
    return found


# --- sizes ---


@pytest.mark.parametrize(
    ("n", "tokens", "padding"),
    [
        (600, 600, 0),
        (640, 600, 40),
        (64, 50, 14),
        (1024, 1000, 24),
        (151_936, 151_669, 267),  # Qwen3
        (51_200, 50_295, 905),  # Phi-2
        (256_000, 255_029, 971),  # Command R
        (32_128, 32_100, 28),  # T5
        (51_866, 51_865, 1),
    ],
)
def test_rows_beyond_the_tokenizer_that_round_up_are_padding(
    n: int, tokens: int, padding: int
) -> None:
    assert padding <= most_padding(n)
    assert n - tokens == padding


@pytest.mark.parametrize(
    ("n", "tokens"), [(600, 300), (151_936, 32_000), (4000, 100), (32_000, 30_000)]
)
def test_so_many_more_rows_are_no_padding(n: int, tokens: int) -> None:
    assert n - tokens > most_padding(n)


def test_padding_is_noted_with_both_numbers(tmp_path: Path) -> None:
    found = taken(model(tmp_path, 640, 600))
    assert found.warnings == ()
    assert found.labels is not None
    assert found.labels.label_counts()["padding"] == 40
    assert "The tokenizer has 600 tokens, the matrix 640 rows." in found.labels.notes


def test_a_tokenizer_of_another_size_is_a_warning_first(
    deadtokens: Program, tmp_path: Path
) -> None:
    folder = model(tmp_path / "m", 600)
    other = model(tmp_path / "other", 300, 300) / "tokenizer.json"
    result = deadtokens("census", folder, "--tokenizer", other)
    assert result.out.startswith("warning: the tokenizer has 300 tokens, the matrix 600 rows: 300")
    assert "padding" not in result.out.split("\n", 1)[1]
    assert "unknown" in result.out
    facts = json.loads(deadtokens("census", folder, "--tokenizer", other, "--json").out)
    assert len(facts["warnings"]) == 1
    assert facts["labels"]["unknown"] == 300


@pytest.mark.parametrize(
    ("n", "tokens", "without"), [(600, 612, 12), (600, 601, 1), (300, 5000, 4700)]
)
def test_tokens_without_a_row_are_counted(
    tmp_path: Path, n: int, tokens: int, without: int
) -> None:
    (warning,) = taken(model(tmp_path, n, tokens)).warnings
    assert f"the tokenizer has {tokens:,} tokens, the matrix {n:,} rows" in warning
    assert f"{without:,} token" in warning
    assert f"the first 't{n}' ({n:,})" in warning


# --- rows that are some of a vocabulary's ---


KEPT = np.r_[0:100, 400:600]


def draft(ahead: Any = None, held: Any = None) -> dict[str, Any]:
    tensors = {"lm_head.weight": rows(300), "embed_tokens.weight": rows(600, 2)}
    tensors |= {} if ahead is None else {"d2t": np.asarray(ahead)}
    return tensors | ({} if held is None else {"t2d": np.asarray(held)})


CONFIG = {"draft_vocab_size": 300, "vocab_size": 600, "tie_word_embeddings": False}
AHEAD, HELD = KEPT - np.arange(300), np.isin(np.arange(600), KEPT)


@pytest.mark.parametrize(
    ("ahead", "held", "known"),
    [
        (AHEAD, HELD, True),
        (AHEAD, None, True),
        (None, HELD, True),
        (AHEAD.astype(np.int32), HELD.astype(np.uint8), True),
        (AHEAD[:-1], None, False),
        (np.zeros(300, np.int64) - 5, None, False),
        (AHEAD, np.roll(HELD, 1), False),
        (np.r_[AHEAD[:-1], AHEAD[-1] - 1], None, False),  # a token twice
    ],
)
def test_a_draft_names_its_tokens(tmp_path: Path, ahead: Any, held: Any, known: bool) -> None:
    folder = model(tmp_path, 0, 600, draft(ahead, held), CONFIG)
    matrix = dt.open_matrix(folder, "lm_head.weight")
    assert matrix.token_ids is not None
    assert matrix.token_ids.tolist() == (KEPT.tolist() if known else [-1] * 300)
    assert any("is not known" in warning for warning in matrix.warnings) is not known
    found = dt.label_rows(matrix)
    assert found is not None
    assert found.texts[150] == ("t450" if known else "")


def test_the_whole_matrix_beside_a_draft_is_read_by_row(tmp_path: Path) -> None:
    folder = model(tmp_path, 0, 600, draft(AHEAD, HELD), CONFIG)
    assert dt.open_matrix(folder, "embed_tokens.weight").token_ids is None


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ([2, 1, 0, 3], [2, 1, 0, 3]),
        ([0, 0, 1, 2, 3], [-1, 2, 3, 4]),  # two tokens share row 0
        ([0, 1, 2, 3], None),
        ([0, 1, 2, 9], [-1] * 4),
        ([0, 1, -1, 2, 3], [0, 1, 3, 4]),  # a token without a row
    ],
)
def test_rows_that_tokens_share(tmp_path: Path, mapping: list[int], expected: Any) -> None:
    tensors = {"embeddings": rows(4), "mapping": np.array(mapping)}
    matrix = dt.open_matrix(model(tmp_path, 0, None, tensors), "embeddings")
    assert (matrix.token_ids if expected is None else matrix.token_ids.tolist()) == expected  # type: ignore[union-attr]


# --- tokens beside the tokenizer's file ---


def test_added_tokens_json(tmp_path: Path) -> None:
    folder = model(tmp_path, 602, 600)
    (folder / "added_tokens.json").write_text('{"<|im_start|>": 600, "plain": 601}')
    found = labels(folder)
    assert found.texts[600:] == ["<|im_start|>", "plain"]
    assert [found.label_of(row) for row in (600, 601)] == ["special", "added"]


def test_added_tokens_decoder(tmp_path: Path) -> None:
    folder = model(tmp_path, 602, 600)
    decoder = {"600": {"content": "<a>", "special": True}, "601": {"content": "b"}, "x": 3}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    found = labels(folder)
    assert found.texts[600:] == ["<a>", "b"]
    assert [found.label_of(row) for row in (600, 601)] == ["special", "added"]


def test_names_that_contradict_the_tokenizers_are_left_out_with_a_note(tmp_path: Path) -> None:
    folder = model(tmp_path, 600, 600)
    (folder / "added_tokens.json").write_text('{"<|other|>": 5}')
    found = labels(folder)
    assert found.texts[5] == "t5"
    assert any("names 1 tokens otherwise than tokenizer.json" in note for note in found.notes)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"<x>": "600"}', '{"<x>": -1}', '{"<x>": true}', ""]
)
def test_damaged_lists_change_nothing(tmp_path: Path, content: str) -> None:
    folder = model(tmp_path, 601, 600)
    (folder / "added_tokens.json").write_text(content)
    assert labels(folder).label_of(600) == "padding"


def test_ids_with_gaps_are_the_files(tmp_path: Path) -> None:
    """The tokenizers package would make them 600 to 602."""
    added = [("<|a|>", 600, True), ("<|tool|>", 620, True), ("[PAD]", 639, True)]
    found = labels(model(tmp_path, 640, 600, added=added))
    assert [found.texts[row] for row in (600, 601, 602, 620, 639)] == [
        "<|a|>",
        "",
        "",
        "<|tool|>",
        "[PAD]",
    ]
    assert found.label_of(601) == "padding"
    assert found.reachable[[620, 639]].tolist() == [-1, -1]


# --- other files ---


def test_vocab_txt(tmp_path: Path) -> None:
    tokens = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "the", "##ing", "go", "Caps", "a", "b"]
    folder = model(tmp_path, len(tokens))
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    found = labels(folder)
    assert found.pieces == tokens
    expected = ["special", "reserved", "special", "special", "ordinary", "ordinary", "ordinary"]
    assert [found.label_of(row) for row in range(7)] == expected
    assert found.label_of(7) == "unreachable"  # text is made lower case
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert labels(folder).label_of(7) == "ordinary"


def test_vocab_json_with_merges(tmp_path: Path) -> None:
    vocabulary = {"a": 0, "b": 1, "ab": 2, "ba": 3, "<|endoftext|>": 4, "Ġ": 5}
    folder = model(tmp_path, 6)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    found = labels(folder)
    assert found.texts[:3] == ["a", "b", "ab"]
    assert found.reachable.tolist() == [-1] * 6
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    found = labels(folder)
    assert found.reachable.tolist()[:4] == [1, 1, 1, 0]
    assert found.label_of(4) == "special"


@pytest.mark.parametrize("name", ["tokenizer.model", "qwen.tiktoken"])
def test_lists_of_ranks(tmp_path: Path, name: str) -> None:
    """tiktoken, as Llama 3 calls it too; special tokens are not in it."""
    folder = model(tmp_path, 5)
    held = [b"a", b" the", b"\xe2", b"\n"]
    lines = [f"{base64.b64encode(raw).decode()} {rank}" for rank, raw in enumerate(held)]
    (folder / name).write_text("\n".join(lines))
    found = labels(folder)
    assert found.texts == ["a", " the", "<0xE2>", "\n", ""]
    assert [found.label_of(row) for row in range(5)] == [
        "ordinary", "ordinary", "byte", "ordinary", "unknown",
    ]  # fmt: skip
    assert any("lists no special tokens" in note for note in found.notes)


def test_tekken(tmp_path: Path) -> None:
    folder = model(tmp_path, 6)
    content = {
        "config": {"default_num_special_tokens": 3, "default_vocab_size": 6},
        "special_tokens": [{"rank": 0, "token_str": "<unk>"}, {"rank": 1, "token_str": "[INST]"}],
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(raw).decode()}
            for rank, raw in enumerate((b"a", b"\xff", b"the", b"beyond"))
        ],
    }
    (folder / "tekken.json").write_text(json.dumps(content))
    found = labels(folder)
    assert found.texts == ["<unk>", "[INST]", "<SPECIAL_2>", "a", "<0xFF>", "the"]
    assert [found.label_of(row) for row in range(4)] == [
        "special",
        "special",
        "reserved",
        "ordinary",
    ]


def test_sentencepiece_model(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat and the dog sat on the log\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "made"), vocab_size=300, model_type="unigram",
        byte_fallback=True, hard_vocab_limit=False, user_defined_symbols=["<x>"], minloglevel=2,
    )  # fmt: skip
    content = (tmp_path / "made.model").read_bytes()
    size = sentencepiece.SentencePieceProcessor(model_proto=content).get_piece_size()
    folder = model(tmp_path / "m", size)
    (folder / "tokenizer.model").write_bytes(content)
    found = labels(folder)
    assert found.label_counts()["byte"] == 256
    assert found.texts[found.pieces.index("<0x20>")] == "<0x20>"
    assert found.label_of(found.pieces.index("<s>")) == "special"
    assert any(text.startswith(" ") for text in found.texts)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", '{"model": {"type": "HyperBPE"}}'),
        ("tokenizer.json", "{"),
        ("vocab.txt", ""),
        ("vocab.json", "{}"),
        ("vocab.json", '{"a": "b"}'),
        ("tekken.json", "{}"),
        ("tekken.json", '{"config": {}, "vocab": []}'),
        ("tokenizer.model", "x"),
        ("qwen.tiktoken", "YQ== 0\n??? 1\n"),
    ],
)
def test_an_own_tokenizer_that_cannot_be_read_is_a_note(
    deadtokens: Program, tmp_path: Path, name: str, content: str
) -> None:
    folder = model(tmp_path / "m", 40)
    (folder / name).write_text(content)
    result = deadtokens("census", folder)
    assert result.status == 0
    assert "note: tokens are not named: " in result.out
    assert name in result.out
    assert "brings no tokenizer" not in result.out
    # Given by hand, it is what the user asked for.
    other = model(tmp_path / "other", 40)
    refused = deadtokens("census", other, "--tokenizer", folder / name)
    assert (refused.status, refused.out) == (1, "")
    assert name in refused.message


def test_of_several_files_tokenizer_json_is_taken(tmp_path: Path) -> None:
    for name in ("vocab.txt", "vocab.json", "tekken.json", "tokenizer.model", "x.tiktoken"):
        (tmp_path / name).write_text("x")
    assert find_tokenizer(tmp_path) == tmp_path / "tokenizer.model"
    (tmp_path / "tokenizer.json").write_text("x")
    assert find_tokenizer(tmp_path) == tmp_path / "tokenizer.json"
    assert find_tokenizer(tmp_path / "nothing") is None


# --- spellings ---


@pytest.mark.parametrize(
    "spelling",
    [
        "<|extratoken_1|>", "<|extratoken_143|>", "<madeupword0>", "madeupword0001", "<|extra0|>",
        "<|extra_7|>", "<|reserved_special_token_250|>", "[unused99]", "<unused_5>", "<dummy00007>",
        "<SPECIAL_12>", "[control_8]", "<|placeholder1|>", "<reserved_106>", "<|dummy_id_4|>",
    ],
)  # fmt: skip
def test_reserved_spellings(spelling: str) -> None:
    assert looks_reserved(spelling)


@pytest.mark.parametrize(
    "spelling",
    [
        "<extra_id_0>", "<|fim_pad|>", "<|vision_pad|>", "<|endofprompt|>", "<0x00>", "extra",
        "<s>", "<|extra|>", "[MASK]", "unused", "<|tool_call|>", "<custom_token_3>", "<|audio_12|>",
    ],
)  # fmt: skip
def test_spellings_of_tokens_in_use(spelling: str) -> None:
    assert not looks_reserved(spelling)


def test_unigram_pieces_of_bytes(tmp_path: Path) -> None:
    scored = [["<unk>", 0.0], *[[f"<0x{byte:02X}>", -9.0] for byte in range(256)], ["▁", -1.0]]
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    content = json.loads(json.dumps(byte_level({})))
    content |= {"pre_tokenizer": space, "decoder": space}
    content["model"] = {"type": "Unigram", "unk_id": 0, "vocab": scored, "byte_fallback": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    vocabulary = open_vocabulary(tmp_path / "tokenizer.json", "x")
    assert vocabulary is not None
    assert vocabulary.bytes_of(1 + 0x20) == b" "
    model(tmp_path, 258)
    found = labels(tmp_path)
    assert found.label_counts()["byte"] == 256
    assert found.texts[1 + 0x20] == "<0x20>"
