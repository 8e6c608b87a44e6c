"""Which tensor is taken: naming schemes of published checkpoints and frameworks, and shapes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from containers import AnyArray, write_tensors

from deadtokens.errors import SourceError
from deadtokens.files import StoredTensor
from deadtokens.sources import inspect, open_matrix
from deadtokens.sources.evidence import Told, fits, told_by
from deadtokens.sources.names import name_says
from deadtokens.sources.weighing import weigh

# Of each scheme: its tensors, its config.json, which tensor is right (null: a refusal is), and
# what a refusal or the warnings have to say; without such words there may be no warning.
SCHEMES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "naming_schemes.json").read_text(encoding="utf-8")
)
V, D = 96, 16
EMBED, HEAD, LAYER = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.up.weight"


def array(name: str, shape: list[int], seed: int) -> AnyArray:
    """Numbers of the type that tensors of that name have."""
    if name.endswith(("qweight", "weight_packed", "d2t", "t2d")) or shape == [768, 1]:
        return np.zeros(shape, np.int32 if shape != [768, 1] else np.uint8)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def write_model(
    folder: Path, shapes: Mapping[str, list[int]], config: object = None, seed: int = 0
) -> Path:
    arrays = {name: array(name, shape, seed + i) for i, (name, shape) in enumerate(shapes.items())}
    write_tensors(folder / "model.safetensors", arrays)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("scheme", SCHEMES)
def test_naming_schemes(tmp_path: Path, scheme: str) -> None:
    facts = SCHEMES[scheme]
    found = inspect(write_model(tmp_path, facts["tensors"], facts["config"]))
    used = found.choice.tensor.name if found.choice else None
    assert used in facts["used"], found.refusal
    warnings = found.choice.warnings if found.choice else ()
    if says := facts.get("says"):
        assert says in " ".join((found.refusal or "", *warnings))
    elif "says" in facts:
        assert warnings == ()
    if found.choice:
        shape = facts["tensors"][used]
        expected = shape[::-1] if found.choice.transposed else shape
        assert list(open_matrix(tmp_path).shape) == expected


@pytest.mark.parametrize(
    "wrapper", ["_orig_mod.", "module.", "state_dict.model.", "base_model.model.", "params/"]
)
@pytest.mark.parametrize("head", ["lm_head", "unembedding", "out_head", "to_logits", "embed_out"])
def test_what_frameworks_put_before_a_name_changes_nothing(wrapper: str, head: str) -> None:
    plain, wrapped = name_says(f"{head}.weight"), name_says(f"{wrapper}{head}.weight")
    assert plain == wrapped
    assert plain.role == "output"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.layers.3.self_attn.q_proj.lora_A.weight", "LoRA"),
        ("transformer.h.11.attn.c_attn.weight", "layer"),
        ("blocks.0.att.output.weight", "layer"),
        ("encoder.layer.0.output.dense.weight", "layer"),
        ("bert.embeddings.position_embeddings.weight", "positions"),
        ("model.embed_positions.weight", "positions"),
        ("wpe.weight", "positions"),
        ("gate.weight", "router"),
        ("score.weight", "classifier"),
        ("cls.output.weight", "classifier"),
        ("medusa_head.0.1.weight", "draft"),
        ("mtp.lm_head.weight", "draft"),
        ("talker.codec_head.weight", "audio"),
        ("visual.patch_embed.proj.weight", "image"),
        ("model.norm.weight", "normalisation"),
        ("embed_tokens.original_module.weight", "copy"),
    ],
)
def test_names_of_parts_without_a_vocabulary(name: str, kind: str) -> None:
    assert kind in name_says(name).kind


@pytest.mark.parametrize(
    "name",
    ["decomposition_head.weight", "vision_language_model.lm_head.weight", "xlm_head.weight",
     "lm_head.weight", "tok_embeddings.weight", "shared.weight", "model.wte.weight"],
)  # fmt: skip
def test_words_within_words_say_nothing(name: str) -> None:
    assert name_says(name).kind == ""


def test_a_thousand_experts_are_sorted_quickly() -> None:
    """Names differ by their numbers only, which are not looked at one by one."""
    shapes = {f"model.layers.{i}.mlp.experts.{j}.up.weight": (64, 16)
              for i in range(40) for j in range(250)}  # fmt: skip
    shapes |= {EMBED: (V, D), HEAD: (V, D)}
    tensors = {
        name: StoredTensor(name, Path("m"), "BF16", shape, 2, lambda: np.empty(0))
        for name, shape in shapes.items()
    }
    weighed = weigh(tensors)
    assert weighed.pair == (EMBED, HEAD)
    assert len(weighed.others) == 10_000


# --- shapes against names ---


def test_padding_is_no_conflict(tmp_path: Path) -> None:
    folder = write_model(tmp_path, {EMBED: [128, D], HEAD: [128, D]}, {"vocab_size": V})
    matrix = open_matrix(folder)
    assert (matrix.tensor, matrix.warnings) == (HEAD, ())
    assert "128 rows, a few more than 96 (vocab_size of config.json)" in matrix.notes


@pytest.mark.parametrize("rows", [40, 700])
def test_rows_that_config_contradicts_are_said_first(tmp_path: Path, rows: int) -> None:
    folder = write_model(tmp_path, {EMBED: [rows, D], HEAD: [rows, D]}, {"vocab_size": V})
    (warning,) = open_matrix(folder).warnings
    assert f"{HEAD} has {rows} rows, and the vocabulary 96 (vocab_size of config.json)" in warning


def test_the_evidence_of_each_candidate(tmp_path: Path) -> None:
    folder = write_model(
        tmp_path,
        {EMBED: [V, D], HEAD: [V, D], "head.weight": [D, D]},
        {"text_config": {"vocab_size": V, "hidden_size": D}},
    )
    said = {c.tensor.name: c.findings for c in inspect(folder).candidates}
    assert said[HEAD] == (
        "called like an output matrix",
        "its rows are the vocabulary: 96 (text_config.vocab_size of config.json)",
        "as many columns as text_config.hidden_size of config.json",
    )
    assert said["head.weight"][1] == (
        "16 rows against a vocabulary of 96 (text_config.vocab_size of config.json)"
    )


def test_the_tokenizer_decides_where_names_and_config_are_silent(tmp_path: Path) -> None:
    folder = write_model(tmp_path, {"a.table": [V, D], "b.table": [50, D], "c.table": [64, D]})
    with pytest.raises(SourceError, match="3 tensors could hold"):
        open_matrix(folder)
    vocabulary = {f"t{i}": i for i in range(V - 2)}
    added = [{"id": V - 1, "content": "<|end|>"}]
    (folder / "tokenizer.json").write_text(
        json.dumps({"model": {"vocab": vocabulary}, "added_tokens": added})
    )
    matrix = open_matrix(folder)
    assert matrix.tensor == "a.table"
    assert "96 (the tokenizer's tokens)" in matrix.reason


@pytest.mark.parametrize("name", ["lm_head.kernel", "decoder/logits_dense/kernel", "unembed.W_U"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_a_transposed_matrix_is_read_by_its_columns(tmp_path: Path, name: str, dtype: Any) -> None:
    rows = np.random.default_rng(0).standard_normal((V, D)).astype(np.float16).astype(dtype)
    write_tensors(tmp_path / "model.safetensors", {name: np.ascontiguousarray(rows.T)})
    matrix = open_matrix(tmp_path)
    assert matrix.shape == (V, D)
    assert "read transposed" in matrix.reason
    assert np.array_equal(matrix.values(), rows.astype(np.float32))
    assert np.array_equal(matrix.values(np.array([5, 3])), rows[[5, 3]].astype(np.float32))


def test_beside_an_input_matrix_a_transposed_one_is_said_and_looked_at(tmp_path: Path) -> None:
    write_model(tmp_path, {"embed.W_E": [V, D], "unembed.W_U": [D, V]})
    matrix = open_matrix(tmp_path)
    assert matrix.tensor == "embed.W_E"
    assert "unembed.W_U is stored transposed (16 x 96)" in matrix.warnings[0]
    assert matrix.model is not None
    assert matrix.model.both_names() == ("embed.W_E", "unembed.W_U")
    assert open_matrix(tmp_path, "unembed.W_U").shape == (V, D)


def test_a_lone_layer_is_read_with_a_warning_first(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m.safetensors", {LAYER: array("", [64, D], 0)})
    matrix = open_matrix(tmp_path)
    assert matrix.tensor == LAYER
    assert "called like a layer's" in matrix.warnings[0]


def test_a_layers_lora_factors_beside_the_matrix_are_said(tmp_path: Path) -> None:
    layer = "base_model.model.lm_head"
    write_model(
        tmp_path, {f"{layer}.base_layer.weight": [V, D], f"{layer}.lora_A.default.weight": [4, D]}
    )
    assert "LoRA factors" in open_matrix(tmp_path).warnings[0]


# --- what configurations say ---

TIED = """
    tie_word_embeddings weight_tying tie_embeddings tie_weights tied_embeddings tie_lm_head
    share_embeddings_and_output_weights share_input_output_embed share_decoder_input_output_embed
    tied-embeddings logits_via_embedding tie_input_output_embeddings share_decoder_embeddings
    use_tied_embeddings shared_embedding_and_softmax_weights trg_emb_prj_weight_sharing
    tie_embd_weights tied_word_embeddings tieWordEmbeddings
"""
UNTIED = "untie_embeddings_and_output_weights untie_embeddings no_weight_tying untied_embeddings"
SILENT = """
    tie_encoder_decoder share_position_embeddings share_kv_layer tie_codebook_embeddings
    share_encoder_embeddings vocab_size
"""


@pytest.mark.parametrize("value", [True, False])
def test_spellings_of_tied(value: bool) -> None:
    for key in TIED.split():
        assert told_by({key: value}).tied is value, key
    for key in UNTIED.split():
        assert told_by({key: value}).tied is not value, key
    for key in SILENT.split():
        assert told_by({key: value}).tied is None, key
    assert told_by({"share_all_embeddings": value}).tied is (True if value else None)


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({"text_config": {"tie_word_embeddings": True}}, True),
        ({"llm_config": {"tie_word_embeddings": False}}, False),
        ({"language_config": {"tie_word_embeddings": False}}, False),
        ({"thinker_config": {"text_config": {"tie_word_embeddings": False}},
          "talker_config": {"tie_word_embeddings": True}}, False),
        ({"model": {"weight_tying": True}}, True),
        ({"vision_config": {"tie_word_embeddings": True}}, None),
        ({"tie_word_embeddings": None}, None),
        ({"tie_word_embeddings": "true"}, None),
    ],
    ids=str,
)  # fmt: skip
def test_nested_configurations(config: Mapping[str, Any], tied: bool | None) -> None:
    assert told_by(config).tied is tied


def test_sizes_of_olmo_and_of_albert() -> None:
    """The same key is padded rows in one, columns in the other."""
    olmo = told_by({"vocab_size": 50280, "embedding_size": 50304, "d_model": 2048})
    assert olmo.vocabulary == {"vocab_size": 50280, "embedding_size": 50304}
    albert = told_by({"vocab_size": 30000, "embedding_size": 128, "hidden_size": 768})
    assert albert.columns == {"embedding_size": 128, "hidden_size": 768}


@pytest.mark.parametrize(
    ("rows", "fit"), [(95, False), (96, True), (99, True), (112, True), (128, True), (130, False)]
)
def test_rows_that_padding_explains(rows: int, fit: bool) -> None:
    assert fits(rows, 96) is fit


def test_nothing_told_is_nothing_known() -> None:
    assert (Told().tied, Told().contradiction) == (None, "")
