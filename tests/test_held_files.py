"""Files that people hold: numbers with scales, packed ones, other programs' files, other bits."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from program import Program

import deadtokens as dt
from deadtokens.errors import SourceError
from deadtokens.stocktaking import take_inventory
from deadtokens.writing import write_safetensors

F8, F8_E5M2, BF16 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.bfloat16
HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"


def rows(n: int = 300, d: int = 32, seed: int = 1, width: float = 0.02) -> Any:
    return np.random.default_rng(seed).normal(0, width, (n, d)).astype(np.float32)


def saved(folder: Path, tensors: Mapping[str, Any], config: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    write_safetensors(folder / "model.safetensors", dict(tensors), {})
    if config:
        (folder / "config.json").write_text(config)
    return folder


def refusal(source: object, tensor: str | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        dt.open_matrix(str(source), tensor)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- scales ---

CODES = (rows(width=1.0)).astype(F8)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("lm_head.weight_scale", (), "one scale"),
        ("lm_head.weight_scale", (1,), "one scale"),
        ("lm_head.weight_scale", (300,), "a scale per row"),
        ("lm_head.weight_scale", (300, 1), "a scale per row"),
        ("lm_head.weight_scale", (1, 32), "a scale per column"),
        ("lm_head.weight_scale_inv", (3, 1), "a scale per block of 128 x 128"),
        ("lm_head.weight_scale_inv", (5, 2), "a scale per block of 64 x 16"),
        ("lm_head.weight_scale", (300, 2), "a scale per block of 1 x 16"),
        ("lm_head.scales", (300, 1), "a scale per row"),
        ("lm_head.weight._scale", (300, 1), "a scale per row"),
    ],
)
def test_numbers_are_codes_times_scales(
    tmp_path: Path, name: str, shape: tuple[int, ...], words: str
) -> None:
    scales = np.random.default_rng(2).uniform(1e-3, 2e-3, shape).astype(np.float32)
    matrix = dt.open_matrix(saved(tmp_path, {HEAD: CODES, name: scales}))
    assert words in matrix.storage
    grid = np.atleast_2d(scales if len(shape) != 1 or shape == (1,) else scales[:, None])
    high = (
        -(-300 // grid.shape[0]) if grid.shape[0] not in (3, 5) else {3: 128, 5: 64}[grid.shape[0]]
    )
    wide = -(-32 // grid.shape[1])
    spread = np.repeat(np.repeat(grid, high, 0)[:300], wide, 1)[:, :32]
    wanted = CODES.astype(np.float32) * spread
    assert np.array_equal(matrix.values(), wanted)
    assert np.array_equal(matrix.values(np.array([7, 3])), wanted[[7, 3]])


def test_a_block_is_what_the_configuration_says(tmp_path: Path) -> None:
    tensors = {HEAD: CODES, "lm_head.weight_scale_inv": np.ones((3, 1), np.float32)}
    config = '{"quantization_config": {"quant_method": "fp8", "weight_block_size": [100, 128]}}'
    assert "100 x 128" in dt.open_matrix(saved(tmp_path, tensors, config)).storage


@pytest.mark.parametrize("dtype", [F8, F8_E5M2], ids=["e4m3fn", "e5m2"])
def test_equal_codes_of_different_scales_are_not_equal_rows(tmp_path: Path, dtype: Any) -> None:
    codes, scales = rows(width=1.0).astype(dtype), np.ones((300, 1), np.float32)
    codes[100:120] = codes[100]
    scales[100:120, 0] = np.arange(1, 21)
    codes[200:205] = codes[200]
    taken = take_inventory(
        dt.open_matrix(saved(tmp_path, {HEAD: codes, "lm_head.weight_scale": scales}))
    )
    assert taken.census.group_population.tolist() == [5]
    assert taken.raw is not None
    assert taken.raw.group_population.tolist() == [20, 5]


def test_int8_of_a_largest_value_per_row(tmp_path: Path) -> None:
    codes = np.random.default_rng(1).integers(-127, 128, (300, 32)).astype(np.int8)
    largest = np.linspace(0.1, 0.2, 300).astype(np.float32)
    matrix = dt.open_matrix(saved(tmp_path, {HEAD: codes, "lm_head.SCB": largest}))
    wanted = codes.astype(np.float32) * (largest / np.float32(127))[:, None]
    assert np.array_equal(matrix.values(), wanted)


def test_plain_fp8_is_read_as_it_is(tmp_path: Path) -> None:
    matrix = dt.open_matrix(saved(tmp_path, {HEAD: CODES, "lm_head.input_scale": np.ones(1)}))
    assert (matrix.storage, matrix.quantised) == ("float8_e4m3fn", None)


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"lm_head.weight_scale": np.ones((7, 9), np.float32)}, "fit tensor .* in no known way"),
        (
            {
                "lm_head.weight_scale": np.ones((300, 1), np.float32),
                "lm_head.weight_zero_point": np.zeros((300, 1), np.int8),
            },
            "has zero points",
        ),
    ],
)
def test_scales_that_are_not_understood_are_refused(
    tmp_path: Path, beside: dict[str, Any], message: str
) -> None:
    import re

    assert re.search(message, refusal(saved(tmp_path, {HEAD: CODES, **beside})))


def test_integers_without_scales(tmp_path: Path) -> None:
    line = refusal(saved(tmp_path, {HEAD: np.ones((300, 32), np.int8)}))
    assert "8-bit integers, and no scales stand beside it" in line


# --- packed ---


@pytest.mark.parametrize(
    ("beside", "kind"),
    [
        ({"lm_head.qweight": np.zeros((4, 300), np.int32),
          "lm_head.g_idx": np.zeros(32, np.int32)}, "GPTQ"),
        ({"lm_head.qweight": np.zeros((32, 38), np.int32),
          "lm_head.scales": np.ones((1, 300))}, "AWQ"),
        ({HEAD: np.zeros((4800, 1), np.uint8),
          "lm_head.weight.absmax": np.ones(150)}, "bitsandbytes"),
        ({HEAD: np.zeros((300, 4), np.uint32), "lm_head.scales": np.ones((300, 1)),
          "lm_head.biases": np.ones((300, 1))}, "MLX"),
        ({HEAD: np.zeros((300, 16), np.uint8), "lm_head.weight_scale": np.ones((300, 2), F8),
          "lm_head.weight_scale_2": np.ones(1, np.float32)}, "NVFP4"),
        ({"lm_head.weight_packed": np.zeros((300, 4), np.int32)}, "compressed-tensors"),
        ({"lm_head.W_q": np.zeros((300, 16), np.uint8)}, "HQQ"),
        ({"lm_head.q_weight": np.zeros((4, 300), np.int32)}, "EXL2"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("tied", ["", '{"tie_word_embeddings": false}'])
def test_a_packed_head_is_named_for_what_it_is(
    tmp_path: Path, beside: dict[str, Any], kind: str, tied: str
) -> None:
    line = refusal(saved(tmp_path, {EMBED: rows().astype(np.float16), **beside}, tied))
    assert "quantised" in line
    assert kind in line
    assert f"--tensor {EMBED}" in line
    assert "only the input matrix" not in line
    assert dt.open_matrix(tmp_path, EMBED).n_rows == 300


# --- bits in integers, other byte orders ---


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "h5"])
@pytest.mark.parametrize("fmt", ["bfloat16", "float16"])
def test_integers_that_hold_numbers(tmp_path: Path, kind: str, fmt: str) -> None:
    values = rows().astype({"bfloat16": BF16, "float16": np.float16}[fmt])
    bits = values.view(np.uint16)
    path = tmp_path / f"x.{kind}"
    if kind == "npy":
        np.save(path, bits)
    elif kind == "npz":
        np.savez(path, x=bits)
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["x"] = bits
    else:
        write_safetensors(path, {"x": bits}, {})
    if kind != "h5":
        line = refusal(path, "x")
        assert "as bfloat16 the first rows reach" in line
        assert "as float16 the first rows reach" in line
        assert "--format bfloat16 or --format float16" in line
    matrix = dt.open_matrix(path, "x", format=fmt)
    assert matrix.format.name == fmt
    assert np.array_equal(matrix.values(), values.astype(np.float32))


def test_the_option(deadtokens: Program, tmp_path: Path) -> None:
    values = rows().astype(BF16)
    values[50:60] = values[50]
    np.save(tmp_path / "E.npy", values.view(np.uint16))
    result = deadtokens("census", tmp_path / "E.npy", "--format", "bfloat16")
    assert "300 rows x 32 dimensions, bfloat16" in result.out
    assert "1 black hole with 10 rows" in result.out
    assert deadtokens("measure", tmp_path / "E.npy", "--format", "bfloat16").status == 0
    wrong = deadtokens("census", tmp_path / "E.npy", "--format", "bfloat17")
    assert wrong.status == 1
    assert "bfloat17" in wrong.message


def test_an_array_of_bits() -> None:
    values = rows().astype(BF16)
    matrix = dt.open_matrix(values.view(np.uint16), format="bfloat16")
    assert np.array_equal(matrix.values(), values.astype(np.float32))


def test_bits_of_float8(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", CODES.view(np.uint8))
    matrix = dt.open_matrix(tmp_path / "x.npy", format="float8_e4m3fn")
    assert np.array_equal(matrix.values(), CODES.astype(np.float32))


@pytest.mark.parametrize("dtype", [">f4", ">f2", ">f8"])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_big_endian_numbers(tmp_path: Path, dtype: str, kind: str) -> None:
    values = rows().astype(np.float16).astype(dtype)
    path = tmp_path / f"x.{kind}"
    np.save(path, values) if kind == "npy" else np.savez(path, x=values)
    assert np.array_equal(dt.open_matrix(path).values(), values.astype(np.float32))


# --- files that are something else ---

_LFS = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 4967215360\n"
)
_CT2 = struct.pack("<IH", 6, 12) + b"WhisperSpec\x00" + bytes(64)
_LLAMA2_C = struct.pack("<7i", 8, 16, 1, 2, 2, 32, 16) + bytes(4 * 8 * (32 + 48))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.safetensors", _LFS, "a Git LFS pointer, not the file itself; run git lfs pull"),
        ("a.gguf", _LFS, "git lfs pull"),
        ("a.bin", _LFS, "git lfs pull"),
        ("a.npy", _LFS, "git lfs pull"),
        ("a.h5", _LFS, "git lfs pull"),
        ("a.onnx", _LFS, "git lfs pull"),
        ("a.safetensors", b"<!DOCTYPE html><html><body>404", "a web page"),
        ("a.bin", b"\n <HTML>", "a web page"),
        ("ggml-tiny.bin", b"lmgg" + bytes(100), "a GGML file, of before GGUF"),
        ("model.bin", b"tjgg" + bytes(100), "ggjt"),
        ("model.bin", _CT2, "a CTranslate2 model"),
        ("stories.bin", _LLAMA2_C, "a llama2.c model"),
        ("model.bin", b"GGUF" + bytes(100), "a GGUF file; name it model.gguf"),
        ("model.pt", b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        ("model.bin", b"\x1f\x8b\x08" + bytes(100), "a gzip archive"),
        ("__0_0.distcp", bytes(100), "dcp_to_torch"),
        ("flax_model.msgpack", bytes(100), "a Flax checkpoint"),
        ("model.ckpt.data-00000-of-00001", bytes(100), "a TensorFlow checkpoint"),
        ("model.ckpt.index", bytes(100), "a TensorFlow checkpoint"),
        ("saved_model.pb", bytes(100), "a TensorFlow graph"),
        ("model.tflite", b"\x1c\x00\x00\x00TFL3" + bytes(50), "TensorFlow Lite"),
        ("model.pkl", b"\x80\x04", "a pickle, which may run code"),
        ("model.engine", bytes(100), "a TensorRT engine"),
        ("model.nemo", bytes(100), "a NeMo archive"),
        ("model.keras", b"PK", "a Keras archive"),
        ("model.txt", b"words", "'.txt' are not supported"),
        ("model.onnx", b"", "no ONNX model with weights"),
        ("model.onnx", b"\xff" * 50, "not a readable ONNX model"),
    ],
)
def test_other_files_are_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert words in refusal(tmp_path / name)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["__0_0.distcp", ".metadata"], "a distributed PyTorch checkpoint (.distcp)"),
        (["zero_pp_rank_0_mp_rank_00_model_states.pt"], "zero_to_fp32.py"),
        (["saved_model.pb"], "a TensorFlow SavedModel"),
        (["flax_model.msgpack", "config.json"], "a Flax checkpoint"),
        (["readme.md"], "no model file"),
    ],
)
def test_folders_of_other_kinds_are_named(tmp_path: Path, names: list[str], words: str) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"{}")
    assert words in refusal(tmp_path)


def test_a_bare_name_of_a_repository() -> None:
    assert "did you mean hf:someone/some-model" in refusal("someone/some-model")
    assert "did you mean" not in refusal("no/such/file")


# --- other containers ---

KERAS: dict[str, Callable[[h5py.File, Any], None]] = {
    "transformers": lambda file, values: file.create_dataset(
        "bert/bert/embeddings/word_embeddings/weight:0", data=values
    ),
    "keras 2": lambda file, values: file.create_dataset(
        "embedding/embedding/embeddings:0", data=values
    ),
    "keras 3": lambda file, values: file.create_dataset("layers/embedding/vars/0", data=values),
    "its example": lambda file, values: file.create_dataset(
        "token_and_position_embedding/token_and_position_embedding/embedding/embeddings:0",
        data=values,
    ),
}


@pytest.mark.parametrize("kind", KERAS)
def test_keras_and_tensorflow(tmp_path: Path, kind: str) -> None:
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        KERAS[kind](file, rows())
        file["encoder/layer_._0/attention/self/query/kernel:0"] = rows(32)
        file["embeddings/position_embeddings/embeddings:0"] = rows(64)
    matrix = dt.open_matrix(tmp_path)
    assert (matrix.n_rows, matrix.n_dimensions) == (300, 32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16], ids=["f4", "f2", "bf16"])
@pytest.mark.parametrize("beside", [False, True])
def test_onnx(tmp_path: Path, dtype: Any, beside: bool) -> None:
    onnx = pytest.importorskip("onnx")
    values = rows().astype(dtype)
    held = {EMBED: values, "onnx::MatMul_1": rows(32)}
    made = [onnx.numpy_helper.from_array(array, name) for name, array in held.items()]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], initializer=made))
    onnx.save(
        model, str(tmp_path / "model.onnx"), save_as_external_data=beside, size_threshold=0,
        location="weights.data",
    )  # fmt: skip
    matrix = dt.open_matrix(tmp_path)
    assert matrix.tensor == EMBED
    assert np.array_equal(matrix.values(), values.astype(np.float32))


def test_onnx_never_reads_outside_its_folder(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    (tmp_path / "secret").write_bytes(bytes(4 * 300 * 32))
    folder = tmp_path / "m"
    folder.mkdir()
    for location in ("../secret", str(tmp_path / "secret"), ""):
        tensor = onnx.TensorProto(name=EMBED, data_type=1, dims=[300, 32], data_location=1)
        tensor.external_data.add(key="location", value=location)
        graph = onnx.helper.make_graph([], "g", [], [], initializer=[tensor])
        (folder / "model.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
        assert "outside the model's folder" in refusal(folder)


def test_checkpoints_of_lightning(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    held = {"state_dict": {"model.lm_head.weight": torch.from_numpy(rows())}, "epoch": 3}
    torch.save(held, tmp_path / "last.ckpt")
    assert dt.open_matrix(tmp_path / "last.ckpt").n_rows == 300


def test_a_numpy_scalar_in_a_checkpoint_is_named(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    held = {"model": {HEAD: torch.from_numpy(rows())}, "best_loss": np.float64(2.0)}
    torch.save(held, tmp_path / "ckpt.pt")
    assert "a NumPy scalar (numpy.core.multiarray.scalar)" in refusal(tmp_path / "ckpt.pt")
