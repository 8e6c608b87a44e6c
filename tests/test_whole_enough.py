"""Not all or nothing: shards, indexes, configurations with something missing; parts; adapters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from containers import write_index, write_tensors

from deadtokens.errors import SourceError
from deadtokens.sources import open_matrix, open_model
from deadtokens.tokens import label_rows

V, D = 96, 16
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
FIRST, SECOND, THIRD = (f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3))
Matrix32 = npt.NDArray[np.float32]


def live(seed: int = 0, rows: int = V, columns: int = D) -> Matrix32:
    return np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32)


def refusal(source: Path, tensor: str | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        open_matrix(source, tensor)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_shards(
    folder: Path,
    shards: Mapping[str, Mapping[str, Matrix32]],
    extra: Mapping[str, str] | None = None,
) -> Path:
    """Shards and their index; `extra` places tensors that are in none, or elsewhere."""
    places: dict[str, str] = {}
    for file, tensors in shards.items():
        write_tensors(folder / file, tensors)
        places |= dict.fromkeys(tensors, file)
    write_index(folder, places | dict(extra or {}))
    return folder


BOTH = {FIRST: {EMBED: live(1)}, SECOND: {HEAD: live(2)}}


# --- indexes ---


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"mtp.fc.weight": SECOND}, "names tensors that are not there: mtp.fc.weight"),
        ({"model.layers.0.w": THIRD}, f"{THIRD} was left out: No such file"),
        ({"model.layers.0.w": THIRD, "model.layers.1.w": THIRD}, f"{THIRD} was left out"),
        ({HEAD: FIRST}, f"other shards than those that hold them: {HEAD}"),
    ],
)
def test_what_is_missing_elsewhere_is_a_note(
    tmp_path: Path, extra: dict[str, str], said: str
) -> None:
    matrix = open_matrix(write_shards(tmp_path, BOTH, extra))
    assert np.array_equal(matrix.values(), live(2))
    assert matrix.warnings == ()
    assert said in " ".join(matrix.notes)


@pytest.mark.parametrize("content", [b"xx", b"version https://git-lfs.github.com/spec/v1\noid 1\n"])
def test_a_damaged_shard_of_layers_is_a_note(tmp_path: Path, content: bytes) -> None:
    write_shards(tmp_path, BOTH, {"model.layers.0.w": THIRD})
    (tmp_path / THIRD).write_bytes(content)
    matrix = open_matrix(tmp_path)
    assert np.array_equal(matrix.values(), live(2))
    assert f"{THIRD} was left out" in matrix.notes[0]


def test_where_the_output_matrix_is_missing_the_input_one_is_not_taken_for_it(
    tmp_path: Path,
) -> None:
    write_shards(tmp_path, BOTH)
    (tmp_path / SECOND).unlink()
    for tensor in (None, HEAD):
        line = refusal(tmp_path, tensor)
        assert SECOND in line
        assert f"the index places {HEAD!r} there" in line
    assert f"--tensor {EMBED}" in refusal(tmp_path)
    matrix = open_matrix(tmp_path, EMBED)
    assert np.array_equal(matrix.values(), live(1))
    assert SECOND in matrix.notes[0]


@pytest.mark.parametrize("shard", [FIRST, SECOND])
def test_an_index_that_forgets_the_output_matrix(tmp_path: Path, shard: str) -> None:
    """Be it in a shard that the index names for other tensors, or in one that it forgets too."""
    write_tensors(tmp_path / FIRST, {EMBED: live(1)} | ({HEAD: live(2)} if shard == FIRST else {}))
    write_tensors(tmp_path / SECOND, {"model.norm.weight": live(3)[0]}
                  | ({HEAD: live(2)} if shard == SECOND else {}))  # fmt: skip
    write_index(tmp_path, {EMBED: FIRST})
    matrix = open_matrix(tmp_path)
    assert np.array_equal(matrix.values(), live(2))
    assert "does not name tensors that its shards hold" in matrix.notes[0]


def test_shards_without_an_index(tmp_path: Path) -> None:
    write_shards(tmp_path, BOTH)
    (tmp_path / "model.safetensors.index.json").unlink()
    matrix = open_matrix(tmp_path)
    assert np.array_equal(matrix.values(), live(2))
    assert "no index there" in matrix.notes[0]
    (tmp_path / SECOND).unlink()
    assert "1 of 3 shards" in open_matrix(tmp_path).warnings[0]


def test_a_whole_file_goes_before_shards_without_an_index(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", {HEAD: live(5)})
    write_tensors(tmp_path / FIRST, {HEAD: live(6)})
    assert np.array_equal(open_matrix(tmp_path).values(), live(5))


def test_one_shard_given_by_its_name(tmp_path: Path) -> None:
    write_shards(tmp_path, BOTH)
    assert f"places {HEAD!r} in {SECOND}" in refusal(tmp_path / FIRST)
    assert open_matrix(tmp_path / SECOND).warnings == ()
    (tmp_path / "model.safetensors.index.json").unlink()
    assert "one of 3 shards" in open_matrix(tmp_path / FIRST).warnings[0]


@pytest.mark.parametrize("variant", ["fp16", "bf16", "non_ema"])
def test_the_index_of_a_variant(tmp_path: Path, variant: str) -> None:
    write_tensors(tmp_path / "a.safetensors", {EMBED: live(1)})
    write_tensors(tmp_path / "b.safetensors", {HEAD: live(2)})
    places = {EMBED: "a.safetensors", HEAD: "b.safetensors"}
    index = write_index(tmp_path, places, f"model.safetensors.index.{variant}.json")
    for source in (tmp_path, index):
        assert np.array_equal(open_matrix(source).values(), live(2))
    write_index(tmp_path, {EMBED: "a.safetensors"})  # the plain one goes first
    assert open_matrix(tmp_path).tensor == EMBED


# --- configurations ---


@pytest.mark.parametrize(
    "content", ['{"tie_word_embeddings": true,}', "// a comment", "[1]", "", "[" * 100_000]
)
def test_a_config_that_is_not_understood(tmp_path: Path, content: str) -> None:
    """Where the output matrix is there the answer does not hang on it; else it does."""
    write_tensors(tmp_path / "model.safetensors", {EMBED: live(1), HEAD: live(2)})
    (tmp_path / "config.json").write_text(content)
    matrix = open_matrix(tmp_path)
    assert (matrix.tensor, matrix.warnings) == (HEAD, ())
    assert "config.json is left out" in matrix.notes[0]
    write_tensors(tmp_path / "model.safetensors", {EMBED: live(1)})
    assert "could not be understood" in open_matrix(tmp_path).warnings[0]


def test_a_config_that_is_no_file(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", {HEAD: live(2)})
    (tmp_path / "config.json").mkdir()
    assert "not a regular file" in open_matrix(tmp_path).notes[0]


def test_sizes_in_the_file_that_training_code_writes(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", {HEAD: live(2, rows=50)})
    (tmp_path / "params.json").write_text('{"dim": 16, "vocab_size": 96}')
    assert "96 (vocab_size of params.json)" in open_matrix(tmp_path).warnings[0]


# --- parts ---


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("consolidated.{:02}.safetensors", "output.weight"),
        ("mp_rank_{:02}/model.safetensors", "model.language_model.output_layer.weight"),
        ("mp_rank_{:02}_000/model.safetensors", "embedding.word_embeddings.weight"),
        ("mp_rank_{:02}_model_states.safetensors", "module.lm_head.weight"),
        ("tp_rank_{:02}.safetensors", "lm_head.weight"),
        ("model{}-mp2.safetensors", "head.weight"),
    ],
)
def test_one_part_of_a_model_parallel_checkpoint(tmp_path: Path, place: str, name: str) -> None:
    files = [tmp_path / place.format(i) for i in range(2)]
    for i, file in enumerate(files):
        file.parent.mkdir(exist_ok=True)
        write_tensors(file, {name: live(i, rows=V // 2)})
    line = refusal(files[0])
    assert "one of 2 parts of a model-parallel checkpoint" in line
    assert "merge the parts" in line
    assert "parts of a model-parallel checkpoint" in refusal(files[0].parent)
    assert "one of 2 parts" in open_matrix(files[0], name).warnings[0]


def test_a_consolidated_file_alone_is_a_whole_model(tmp_path: Path) -> None:
    file = write_tensors(tmp_path / "consolidated.00.safetensors", {"output.weight": live()})
    assert open_matrix(file).warnings == open_matrix(tmp_path).warnings == ()


def test_a_part_is_known_by_its_shape_too(tmp_path: Path) -> None:
    shapes = {"tok_embeddings.weight": live(0, 96, 8), "output.weight": live(1, 48, 16)}
    write_tensors(tmp_path / "model.safetensors", shapes)
    (tmp_path / "config.json").write_text('{"vocab_size": 96, "hidden_size": 16}')
    assert "model-parallel" in open_matrix(tmp_path).warnings[0]
    assert "8 columns, and vectors have 16" in " ".join(
        open_matrix(tmp_path, "tok_embeddings.weight").warnings
    )


def test_matrices_that_zero_3_left_empty(tmp_path: Path) -> None:
    empty = np.zeros(0, np.float32)
    router = {"model.layers.0.mlp.gate.weight": live(0, 8)}
    write_tensors(tmp_path / "model.safetensors", {EMBED: empty, HEAD: empty} | router)
    line = refusal(tmp_path)
    assert f"{HEAD!r} is empty" in line
    assert "zero_to_fp32.py" in line
    write_tensors(tmp_path / "model.safetensors", {EMBED: live(), HEAD: empty})
    assert f"{HEAD!r} is empty" in refusal(tmp_path)
    assert open_matrix(tmp_path, EMBED).tensor == EMBED


# --- adapters ---

FACTORS = {f"base_model.model.model.layers.{i}.self_attn.q_proj.lora_{x}.weight": live(i, 4)
           for i in range(2) for x in "AB"}  # fmt: skip


@pytest.mark.parametrize(
    ("factors", "config"),
    [(FACTORS, {"peft_type": "LORA"}), (FACTORS, None),
     ({"transformer.h.0.attn.hada_w1_a": live()}, {"peft_type": "LOHA"}),
     ({"base_model.model.embed_tokens.lora_embedding_A": live(0, 4, 96)}, None)],
    ids=["lora", "lora without its config", "loha", "lora of the embedding"],
)  # fmt: skip
def test_an_adapter_without_token_matrices(
    tmp_path: Path, factors: Mapping[str, Matrix32], config: object
) -> None:
    write_tensors(tmp_path / "adapter_model.safetensors", factors)
    if config is not None:
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    line = refusal(tmp_path)
    assert "an adapter without token matrices" in line
    assert "base model" in line


def test_an_adapter_that_saved_a_matrix_is_read_and_named(tmp_path: Path) -> None:
    saved = {"base_model.model.model.embed_tokens.weight": live(3)}
    write_tensors(tmp_path / "adapter_model.safetensors", {**saved, **FACTORS})
    (tmp_path / "adapter_config.json").write_text('{"modules_to_save": ["embed_tokens"]}')
    matrix = open_matrix(tmp_path)
    assert np.array_equal(matrix.values(), live(3))
    assert "as an adapter holds it" in matrix.reason
    assert "this is an adapter" in matrix.notes[0]


@pytest.mark.parametrize("trained", [{"embed_tokens": [90, 91, 95]}, [90, 91, 95], None, [1, 2]])
def test_changes_of_single_tokens_are_not_the_first_tokens(tmp_path: Path, trained: object) -> None:
    name = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
    write_tensors(tmp_path / "adapter_model.safetensors", {name: live(0, 3)})
    config = {"trainable_token_indices": trained} if trained else {}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert "the changes of 3 single tokens" in refusal(tmp_path)
    matrix = open_matrix(tmp_path, name)
    known = trained not in (None, [1, 2])
    assert matrix.token_ids is not None
    assert matrix.token_ids.tolist() == ([90, 91, 95] if known else [-1, -1, -1])
    assert label_rows(matrix) is None


def test_opening_reads_no_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choosing needs headers and small JSON only."""
    write_shards(tmp_path, BOTH)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a tensor was mapped")

    monkeypatch.setattr(np, "memmap", fail)
    assert open_model(tmp_path).choose().tensor.name == HEAD
