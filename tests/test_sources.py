"""Sources: which tensor is taken and why, and that what is opened is what lies in the file."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from containers import AnyArray, write_header, write_index, write_tensors

from deadtokens.errors import SourceError
from deadtokens.formats import BFLOAT16, FORMATS
from deadtokens.selection import snowball_of
from deadtokens.showing import ShownList
from deadtokens.sources import BUILTINS, inspect, open_matrix, open_model
from deadtokens.sources.describe import read_object

OUTPUT, INPUT = "lm_head.weight", "model.embed_tokens.weight"
SMALL: AnyArray = np.arange(6, dtype=np.float32).reshape(3, 2)


def refusal(source: Path | str, tensor: str | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        open_matrix(source, tensor)
    line = str(caught.value)
    assert "\n" not in line
    return line


def write_model(folder: Path, *names: str, config: object = None) -> Path:
    """A folder whose tensor i is `SMALL` + i."""
    arrays = {name: SMALL + np.float32(i) for i, name in enumerate(names)}
    write_tensors(folder / "model.safetensors", arrays)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_a_model_in_a_line(tmp_path: Path) -> None:
    path = write_model(tmp_path, INPUT, OUTPUT)
    model = open_model(path)
    assert repr(model) == f"<Model {path}: 2 tensors>"
    both = ShownList([model, model])._repr_html_()
    assert both.count("2 tensors") == 2
    assert both.count(OUTPUT) == both.count(INPUT) == 2


def test_what_the_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    write_model(tmp_path, OUTPUT, config={})
    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", refused)
        assert refusal(tmp_path) == f"{tmp_path}: Permission denied; check the path"
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refused)
        with pytest.raises(SourceError, match=r"config\.json: Permission denied; check the path"):
            read_object(tmp_path / "config.json")


# --- which tensor ---


@pytest.mark.parametrize(
    ("names", "used", "why"),
    [
        ([INPUT, OUTPUT, "model.norm.weight"], OUTPUT, "output"),
        ([INPUT, "a.b.lm_head.weight"], "a.b.lm_head.weight", "output"),
        (["gpt_neox.embed_in.weight", "embed_out.weight"], "embed_out.weight", "output"),
        (["tok_embeddings.weight", "output.weight"], "output.weight", "output"),
        (["layers.0.proj_in.weight", INPUT], INPUT, "taken as tied"),
        (["transformer.wte.weight", "h.0.attn.weight"], "transformer.wte.weight", "input"),
        (["h.0.attn.weight", "embeddings.word_embeddings.weight"],
         "embeddings.word_embeddings.weight", "input"),
        (["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"],
         "decoder.embed_tokens.weight", "input"),
        (["gamma"], "gamma", "the only matrix"),
        # The end of a longer word is not the name.
        (["xlm_head.weight", INPUT], INPUT, "input"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)  # fmt: skip
def test_tensor_taken_by_default(tmp_path: Path, names: list[str], used: str, why: str) -> None:
    folder = write_model(tmp_path, *names)
    for source in (folder, folder / "model.safetensors"):
        matrix = open_matrix(source)
        assert matrix.tensor == used
        assert why in matrix.reason
        assert matrix.values()[0, 0] == names.index(used)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"tie_word_embeddings": True}, "config.json says they are tied"),
        ({"text_config": {"tie_word_embeddings": True}}, "config.json says they are tied"),
        ({"tie_word_embeddings": True, "text_config": {"tie_word_embeddings": False}}, "are tied"),
        ({"tie_word_embeddings": "yes"}, "nothing says otherwise"),
        ({"text_config": None}, "nothing says otherwise"),
        ({}, "nothing says otherwise"),
        (None, "nothing says otherwise"),
    ],
)
def test_tied_input_matrix_is_taken(tmp_path: Path, config: object, why: str) -> None:
    matrix = open_matrix(write_model(tmp_path, INPUT, config=config))
    assert matrix.tensor == INPUT
    assert why in matrix.reason


@pytest.mark.parametrize(
    "config", [{"tie_word_embeddings": False}, {"text_config": {"tie_word_embeddings": False}}]
)
def test_untied_input_matrix_alone_is_refused(tmp_path: Path, config: object) -> None:
    folder = write_model(tmp_path, INPUT, config=config)
    assert f"add --tensor {INPUT}" in refusal(folder)
    assert f"add --tensor {INPUT}" in refusal(folder / "model.safetensors")
    assert open_matrix(folder, INPUT).reason == "named by --tensor"
    # Where the output matrix is there, being untied is no obstacle.
    assert open_matrix(write_model(tmp_path, INPUT, OUTPUT, config=config)).tensor == OUTPUT


@pytest.mark.parametrize("content", ["not json", "[1]", "[" * 100_000])
def test_broken_config(tmp_path: Path, content: str) -> None:
    """What it would have said is missing: a note, and a warning where the answer hangs on it."""
    write_model(tmp_path, INPUT)
    (tmp_path / "config.json").write_text(content)
    matrix = open_matrix(tmp_path)
    assert "could not be understood" in matrix.warnings[0]
    assert "config.json is left out" in matrix.notes[0]
    assert "not a JSON object" in matrix.notes[0]
    assert open_matrix(write_model(tmp_path, INPUT, OUTPUT)).warnings == ()


@pytest.mark.parametrize(
    "names",
    [["a", "b"], ["x.lm_head.weight", "y.lm_head.weight", INPUT], ["a.wte.weight", "wte.weight"]],
    ids="+".join,
)
def test_several_equally_good_tensors(tmp_path: Path, names: list[str]) -> None:
    write_model(tmp_path, *names)
    assert f"2 tensors could hold the token vectors: {names[0]}, {names[1]}" in refusal(tmp_path)
    matrix = open_matrix(tmp_path, names[1])
    assert (matrix.tensor, matrix.reason) == (names[1], "named by --tensor")
    assert matrix.values()[0, 0] == 1


def test_no_tensor_by_the_wanted_name(tmp_path: Path) -> None:
    write_model(tmp_path, *(f"t{i}" for i in range(10)))
    assert "no tensor 'q' there; name one of: t0, t1" in refusal(tmp_path, "q")
    assert "and 2 more" in refusal(tmp_path, "q")


@pytest.mark.parametrize("shape", [(6,), (1, 3, 2), (), (0, 2), (3, 0)], ids=str)
def test_tensor_that_is_no_matrix(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write_tensors(tmp_path / "a.safetensors", {OUTPUT: np.zeros(shape, np.float32)})
    if len(shape) != 2:
        assert "no 2-D floating-point tensor" in refusal(path)
    assert f"has shape {list(shape)}, not rows by columns" in refusal(path, OUTPUT)


def test_file_without_tensors(tmp_path: Path) -> None:
    assert "no 2-D floating-point tensor" in refusal(write_tensors(tmp_path / "a.safetensors", {}))


# --- dtypes ---


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
def test_every_format_is_opened_as_raw_bits(tmp_path: Path, fmt: Any) -> None:
    codes = np.random.default_rng(3).integers(0, 1 << 8, (4, 5)).astype(fmt.code_dtype)
    path = write_tensors(tmp_path / "a.safetensors", {"gamma": codes.view(fmt.float_dtype)})
    matrix = open_matrix(path)
    assert matrix.format is fmt
    assert matrix.codes[:].dtype == fmt.code_dtype
    assert np.array_equal(matrix.codes[:], codes)
    assert (matrix.n_rows, matrix.n_dimensions) == (4, 5)
    assert matrix.default_rows == "duplicates"
    assert matrix.token_ids is None
    # Opening costs no copy: the codes lie in the mapped file.
    assert str(path) in Path("/proc/self/maps").read_text()
    assert matrix.codes[:].base is not None
    assert not matrix.codes[:].flags.writeable


@pytest.mark.parametrize("dtype", ["I32", "BOOL", "F8_E8M0"])
def test_unsupported_dtype_of_the_output_matrix(tmp_path: Path, dtype: str) -> None:
    size = 4 if dtype == "I32" else 1
    header = {OUTPUT: {"dtype": dtype, "shape": [2, 2], "data_offsets": [0, 4 * size]}}
    path = write_header(tmp_path / "a.safetensors", header, bytes(4 * size))
    assert f"has dtype {dtype}, which is not supported; store it as one of" in refusal(path)


@pytest.mark.parametrize("container", ["npy", "npz"])
@pytest.mark.parametrize(
    ("dtype", "named"),
    [(np.int64, "int64"), (np.complex64, "complex64"),
     (ml_dtypes.float8_e4m3fn, "float8"), (ml_dtypes.float8_e5m2, "float8")],
    ids=["int64", "complex64", "e4m3fn", "e5m2"],
)  # fmt: skip
def test_the_only_array_has_another_dtype(
    tmp_path: Path, container: str, dtype: npt.DTypeLike, named: str
) -> None:
    """The line says which dtype is the trouble: there *is* a matrix, and someone stored it."""
    path, array = tmp_path / f"x.{container}", SMALL.astype(dtype)
    np.save(path, array) if container == "npy" else np.savez(path, x=array)
    assert named in refusal(path)


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors"])
def test_float64_that_float32_holds_exactly(tmp_path: Path, suffix: str) -> None:
    exact = np.array([[0.5, -0.0], [np.inf, np.nan], [2.0**-149, 3.5e38 * 0 + 1e-3]])
    exact[2, 1] = np.float32(1e-3)
    path = tmp_path / f"x.{suffix}"
    if suffix == "safetensors":
        write_tensors(path, {"x": exact})
    else:
        np.save(path, exact) if suffix == "npy" else np.savez(path, x=exact)
    matrix = open_matrix(path)
    assert matrix.format.name == "float32"
    read = matrix.values()
    assert np.array_equal(read, exact, equal_nan=True)
    assert np.signbit(read[0, 1])


@pytest.mark.parametrize("number", [0.1, 1e300, 1e-300, 2.0**-150, 1 + 2.0**-24])
def test_float64_that_float32_does_not_hold(tmp_path: Path, number: float) -> None:
    array = np.zeros((40, 3))
    array[37, 2] = number
    np.save(tmp_path / "x.npy", array)
    line = refusal(tmp_path / "x.npy")
    assert f"(row 37, column 2: {number!r})" in line
    assert "float32" in line


def test_column_major_file_gives_the_same_codes(tmp_path: Path, model: Path) -> None:
    np.save(tmp_path / "f.npy", np.asfortranarray(np.load(model)))
    assert np.array_equal(open_matrix(tmp_path / "f.npy").codes[:], open_matrix(model).codes[:])


@pytest.mark.parametrize("narrow", ["bfloat16", "float16", "float32"])
def test_effective_format_of_float32_storage(tmp_path: Path, narrow: str) -> None:
    fmt = FORMATS[narrow]
    rows = np.random.default_rng(5).normal(0, 0.02, (6, 4)).astype(np.float32)
    held = fmt.values(fmt.round(rows))
    held[5] = np.float32(np.pi)  # not among the rows measured, so without effect
    matrix = open_matrix(write_tensors(tmp_path / "g.safetensors", {"gamma": held}))
    assert (matrix.format.name, matrix.tensor) == ("float32", "gamma")
    snowball = snowball_of(matrix, np.arange(5))
    assert snowball.format is fmt
    assert np.array_equal(snowball.values(), held[:5])


# --- folders and indexes ---


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    write_tensors(tmp_path / "1.safetensors", {"model.norm.weight": SMALL[0], INPUT: SMALL})
    write_tensors(tmp_path / "2.safetensors", {OUTPUT: SMALL + np.float32(1)})
    write_index(
        tmp_path,
        {"model.norm.weight": "1.safetensors", INPUT: "1.safetensors", OUTPUT: "2.safetensors"},
    )
    return tmp_path


def test_shards_by_folder_and_by_index(sharded: Path) -> None:
    for source in (sharded, sharded / "model.safetensors.index.json", str(sharded)):
        matrix = open_matrix(source)
        assert matrix.tensor == OUTPUT
        assert np.array_equal(matrix.values(), SMALL + 1)
        assert np.array_equal(open_matrix(source, INPUT).codes[:].view(np.float32), SMALL)


def test_missing_shard(sharded: Path) -> None:
    (sharded / "2.safetensors").unlink()
    assert f"{sharded / '2.safetensors'}: " in refusal(sharded)


def test_truncated_shard(sharded: Path) -> None:
    shard = sharded / "2.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert f"{shard}: truncated" in refusal(sharded)


def test_tensor_that_is_not_in_its_shard(sharded: Path) -> None:
    write_index(sharded, {OUTPUT: "1.safetensors"})
    assert f"places tensor {OUTPUT!r} in 1.safetensors, which does not hold it" in refusal(sharded)


@pytest.mark.parametrize(
    "file",
    ["../outside.safetensors", "/{outside}", "./../outside.safetensors", "..", ".", "",
     "1.safetensors/../../outside.safetensors", "a\0.safetensors", 3, None, ["1.safetensors"]],
    ids=repr,
)  # fmt: skip
def test_index_that_points_elsewhere(sharded: Path, file: object) -> None:
    folder = sharded / "folder"
    folder.mkdir()
    outside = write_tensors(sharded / "outside.safetensors", {OUTPUT: SMALL})
    if isinstance(file, str):
        file = file.replace("/{outside}", str(outside))
    write_index(folder, {OUTPUT: file})
    assert "not an index of shards" in refusal(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": []}', "[" * 100_000, "\xff"])
def test_broken_index(tmp_path: Path, content: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_bytes(content.encode("latin-1"))
    assert str(path) in refusal(path)
    assert str(path) in refusal(tmp_path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], "no model file (.safetensors, .gguf, .bin, .pt) or index in this folder"),
        (["a.safetensors", "b.safetensors"], "several model files and no single index: a.safe"),
    ],
)
def test_folder_without_one_model(tmp_path: Path, files: list[str], expected: str) -> None:
    for file in files:
        write_tensors(tmp_path / file, {OUTPUT: SMALL})
    assert expected in refusal(tmp_path)


def test_no_such_source(tmp_path: Path) -> None:
    assert "no such file or folder; check the path" in refusal(tmp_path / "nothing")


# --- built-ins ---


@pytest.mark.parametrize(
    ("name", "shape", "fmt", "tokens"),
    [
        ("builtin:qwen3-4b", (2100, 20), "bfloat16", 13),
        ("builtin:whisper-tiny.en", (300, 384), "float16", 300),
    ],
)
def test_builtin(name: str, shape: tuple[int, int], fmt: str, tokens: int) -> None:
    assert name in BUILTINS
    matrix = open_matrix(name)
    assert (matrix.codes.shape, matrix.format.name, matrix.default_rows) == (shape, fmt, "all")
    assert matrix.token_ids is not None
    assert matrix.token_ids.shape == shape[:1]
    known = matrix.token_ids[matrix.token_ids >= 0]
    assert np.unique(known).size == known.size == tokens
    assert matrix.note
    assert np.array_equal(open_matrix(name, matrix.tensor).codes[:], matrix.codes[:])
    assert "no tensor 'q'" in refusal(name, "q")


def test_builtins_hold_the_published_rows() -> None:
    whisper = open_matrix("builtin:whisper-tiny.en")
    assert whisper.token_ids is not None
    magikarp, twin = (
        int(np.flatnonzero(whisper.token_ids == token)[0]) for token in (43453, 40242)
    )
    assert np.array_equal(whisper.codes[magikarp], whisper.codes[twin])
    qwen = open_matrix("builtin:qwen3-4b")
    populations = np.unique(qwen.codes[:], axis=0, return_counts=True)[1]
    assert np.sort(populations)[::-1][:2].tolist() == [814, 704]
    assert (populations.size, int(populations.min())) == (13, 2)


@pytest.mark.parametrize("name", ["builtin:", "builtin:gpt", "builtin:QWEN3-4B"])
def test_no_such_builtin(name: str) -> None:
    assert "use one of builtin:qwen3-4b, builtin:whisper-tiny.en" in refusal(name)


# --- inspect ---


def test_inspect_lists_candidates_best_first(tmp_path: Path) -> None:
    write_model(tmp_path, "norm.weight", INPUT, OUTPUT)
    found = inspect(tmp_path)
    listed = [(candidate.tensor.name, candidate.role) for candidate in found.candidates]
    assert listed == [(OUTPUT, "output"), (INPUT, "input")]
    assert [candidate.tensor.nbytes for candidate in found.candidates] == [SMALL.nbytes] * 2
    assert found.choice is not None
    assert (found.choice.tensor.name, found.refusal, found.n_tensors) == (OUTPUT, None, 3)


def test_inspect_shows_the_tensor_asked_for_though_its_name_says_nothing(tmp_path: Path) -> None:
    found = inspect(write_model(tmp_path, "norm.weight", OUTPUT), "norm.weight")
    assert [candidate.tensor.name for candidate in found.candidates] == [OUTPUT, "norm.weight"]
    assert found.choice is not None
    assert found.choice.tensor.name == "norm.weight"


def test_inspect_agrees_with_opening_on_refusals(tmp_path: Path) -> None:
    write_model(tmp_path, "a", "b")
    found = inspect(tmp_path)
    assert len(found.candidates) == 2
    assert found.choice is None
    assert found.refusal == refusal(tmp_path)


@pytest.mark.parametrize("name", sorted(BUILTINS))
def test_inspect_builtin(name: str) -> None:
    found = inspect(name)
    assert found.choice is not None
    assert found.choice.tensor.name == open_matrix(name).tensor
    assert len(found.candidates) == found.n_tensors == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["emb.weight", "head.weight", "blocks.0.att.output.weight"], "head.weight"),
        (
            ["model.embed_tokens.weight", "model.layers.0.self_attn.output.weight"],
            "model.embed_tokens.weight",
        ),
        (["rwkv.emb.weight", *(f"blocks.{i}.attention.output.weight" for i in range(3))], "rwkv"),
    ],
)
def test_matrices_of_numbered_layers_are_no_candidates(
    tmp_path: Path, names: list[str], expected: str
) -> None:
    """An attention's output matrix is called as some unembedding matrices are."""
    ones = np.ones((3, 2), np.float32)
    path = write_tensors(tmp_path / "m.safetensors", dict.fromkeys(names, ones))
    assert open_matrix(path).tensor.startswith(expected)


def test_an_array_is_a_matrix() -> None:
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    matrix = open_matrix(values.astype(ml_dtypes.bfloat16))
    assert matrix.shape == (3, 2)
    assert matrix.format is BFLOAT16
    assert np.array_equal(matrix.values(), values)
    assert "3 x 2 bfloat16" in repr(matrix)
    with pytest.raises(SourceError, match="int64"):
        open_matrix(np.zeros((2, 2), np.int64))
    with pytest.raises(SourceError, match="not rows by columns"):
        open_matrix(np.zeros(3))
