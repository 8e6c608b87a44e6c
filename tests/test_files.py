"""Arrays in files: what is read is what lies there, and what is written is whole or absent."""

from __future__ import annotations

import csv
import json
import os
import pickle
import re
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from containers import (
    SAFETENSORS_DTYPES,
    AnyArray,
    write_header,
    write_npy_header,
    write_tensors,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deadtokens.errors import OutputError, SourceError
from deadtokens.files import load_array, load_metadata, read_tensors
from deadtokens.writing import make_folder, replacing, write_csv, write_safetensors

NUMPY_FLOATS: list[Any] = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16]
every_numpy_float = pytest.mark.parametrize("dtype", NUMPY_FLOATS, ids=lambda d: np.dtype(d).name)


def random_array(dtype: Any, shape: tuple[int, ...] = (5, 3)) -> AnyArray:
    """Random bits of a type, NaN and infinities among them."""
    dtype = np.dtype(dtype)
    raw = np.random.default_rng(1).integers(0, 256, int(np.prod(shape)) * dtype.itemsize, np.uint8)
    array: AnyArray = (raw % 2 if dtype == np.bool_ else raw).view(dtype).reshape(shape)
    return array


def same_bits(a: AnyArray, b: AnyArray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def refusal(path: Path) -> str:
    """The line that reading everything in a file ends with."""

    def read_everything() -> None:
        for tensor in read_tensors(path).values():
            tensor.read()

    with pytest.raises(SourceError) as caught:
        read_everything()
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    assert len(line) < 400 + len(str(path))
    return line


def open_mappings(path: Path) -> int:
    """How many regions of this process's memory are that file."""
    return Path("/proc/self/maps").read_text().count(str(path))


# --- safetensors, well formed ---


@pytest.mark.parametrize("name", SAFETENSORS_DTYPES)
def test_safetensors_dtype_is_read_bit_for_bit(tmp_path: Path, name: str) -> None:
    array = random_array(SAFETENSORS_DTYPES[name])
    padding = np.arange(3, dtype=np.uint8)  # so that the tensor is not aligned in the file
    path = write_tensors(tmp_path / "a.safetensors", {"padding": padding, "x": array})
    tensor = read_tensors(path)["x"]
    assert (tensor.name, tensor.path, tensor.dtype) == ("x", path, name)
    assert (tensor.shape, tensor.nbytes) == (array.shape, array.nbytes)
    assert same_bits(tensor.read(), array)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3, 2), (0, 4), (3, 0), (0,)])
def test_safetensors_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = random_array(np.float32, shape)
    path = write_tensors(tmp_path / "a.safetensors", {"x": array})
    assert same_bits(read_tensors(path)["x"].read(), array)


def test_safetensors_order_metadata_and_padded_header(tmp_path: Path) -> None:
    entry = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    header = {"__metadata__": {"format": "np"}, "z": entry, "a": entry | {"data_offsets": [1, 2]}}
    path = write_header(
        tmp_path / "a.safetensors", json.dumps(header).encode() + b"   ", b"\x05\x06"
    )
    tensors = read_tensors(path)
    assert list(tensors) == ["z", "a"]
    assert [int(tensor.read()[0]) for tensor in tensors.values()] == [5, 6]


def test_a_file_of_the_safetensors_package_is_read(tmp_path: Path) -> None:
    arrays = {"b": random_array(np.float16), "a": random_array(ml_dtypes.bfloat16, (2, 2))}
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(arrays, path)
    tensors = read_tensors(path)
    assert tensors.keys() == arrays.keys()
    assert all(same_bits(tensors[name].read(), arrays[name]) for name in arrays)


@pytest.mark.parametrize("suffix", ["safetensors", "npy"])
def test_reading_maps_the_file_and_copies_nothing(tmp_path: Path, suffix: str) -> None:
    array = random_array(np.float32, (64, 64))
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(path, array)
    else:
        write_tensors(path, {"x": array})
    tensor = read_tensors(path)["x"]
    assert open_mappings(path) == 0  # reading headers maps nothing
    mapped = tensor.read()
    assert isinstance(mapped, np.memmap)
    assert open_mappings(path) == 1
    assert not mapped.flags.writeable
    # A change of the file shows through: these are its own pages.
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(np.float32(7).tobytes())
    assert mapped[-1, -1] == 7


def test_unsupported_dtype_is_listed_and_refused_only_when_read(tmp_path: Path) -> None:
    header = {
        "odd": {"dtype": "F8_E8M0", "shape": [2, 2], "data_offsets": [0, 4]},
        "x": {"dtype": "U8", "shape": [1], "data_offsets": [4, 5]},
    }
    tensors = read_tensors(write_header(tmp_path / "a.safetensors", header, bytes(5)))
    assert (tensors["odd"].dtype, tensors["odd"].shape) == ("F8_E8M0", (2, 2))
    assert int(tensors["x"].read()[0]) == 0
    with pytest.raises(SourceError, match="'odd' has dtype F8_E8M0, which is not supported"):
        tensors["odd"].read()


# --- safetensors, damaged ---


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 30, 70, 71, 72, 80, 93])
def test_truncated_safetensors(tmp_path: Path, kept: int) -> None:
    path = write_tensors(tmp_path / "a.safetensors", {"x": np.arange(6, dtype=np.float32)})
    content = path.read_bytes()
    assert kept < len(content)
    path.write_bytes(content[:kept])
    assert "truncated" in refusal(path)


def entry(**changes: object) -> dict[str, object]:
    """The header of a file of 16 bytes of data, changed."""
    return {"x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changes}


LIES: dict[str, tuple[object, str]] = {
    "shape larger": (entry(shape=[2, 3]), "which is 24 bytes, but has 16"),
    "shape smaller": (entry(shape=[2, 1]), "which is 8 bytes, but has 16"),
    "shape negative": (entry(shape=[-2, -2]), "not a dtype, a shape and two offsets"),
    "shape overflowing": (entry(shape=[2**62, 2**62]), "but has 16"),
    "shape wrapping to 16 bytes": (entry(shape=[2**62 + 1, 4]), "but has 16"),
    "shape beyond int64": (entry(shape=[2**64, 0]), "not a dtype, a shape"),
    "shape of 65 axes": (entry(shape=[1] * 65), "malformed: 'x' has a shape of 65 axes, above 64"),
    "shape of 300 large axes": (
        entry(shape=[2**62] * 300, data_offsets=[0, 0]),
        "a shape of 300 axes",
    ),
    "shape of 64 large axes": (entry(shape=[2**62] * 64), "but has 16"),
    "shape of 65 axes, unknown dtype": (entry(shape=[1] * 65, dtype="F7"), "a shape of 65 axes"),
    "name of half a character": (
        b'{"\\ud800.lm_head.weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}',
        "malformed: a tensor is called '\\ud800.lm_head.weight', which is not text",
    ),
    "shape of floats": (entry(shape=[2.0, 2.0]), "not a dtype, a shape"),
    "shape of booleans": (entry(shape=[True, 4]), "not a dtype, a shape"),
    "shape of strings": (entry(shape=["2", "2"]), "not a dtype, a shape"),
    "shape a number": (entry(shape=4), "not a dtype, a shape"),
    "shape null": (entry(shape=None), "not a dtype, a shape"),
    "dtype narrower": (entry(dtype="BF16"), "which is 8 bytes, but has 16"),
    "dtype wider": (entry(dtype="F64"), "which is 32 bytes, but has 16"),
    "dtype unknown": (entry(dtype="F7"), "dtype F7, which is not supported"),
    "dtype a number": (entry(dtype=32), "not a dtype, a shape"),
    "offsets beyond the file": (entry(data_offsets=[16, 32]), "truncated"),
    "offsets far beyond": (entry(data_offsets=[2**62, 2**62 + 16]), "truncated"),
    "offsets backwards": (entry(data_offsets=[16, 0]), "not a dtype, a shape and two offsets"),
    "offsets negative": (entry(data_offsets=[-16, 0]), "not a dtype, a shape"),
    "offsets of three": (entry(data_offsets=[0, 16, 16]), "not a dtype, a shape"),
    "offsets of floats": (entry(data_offsets=[0.0, 16.0]), "not a dtype, a shape"),
    "offsets absent": ({"x": {"dtype": "F32", "shape": [4]}}, "not a dtype, a shape"),
    "data not described": ({}, "malformed: the header describes"),
    "entry a list": ({"x": [1]}, "not a dtype, a shape"),
    "entry null": ({"x": None}, "not a dtype, a shape"),
    "header a list": ([1], "header is not a JSON object"),
    "header not JSON": (b"{'x': 1}", "header is not a JSON object"),
    "header not text": (b"\xff\xfe\x00", "header is not a JSON object"),
    "header cut": (b'{"x": {', "header is not a JSON object"),
    "header empty": (b"", "header is not a JSON object"),
    "header nested": (b"[" * 100_000, "header is not a JSON object"),
    "objects nested": (b'{"x":' * 100_000, "header is not a JSON object"),
    "number of many digits": (b'{"x": ' + b"9" * 5000 + b"}", "header is not a JSON object"),
    "not a number": (b'{"x": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 16]}}', "shape"),
}


@pytest.mark.parametrize("lie", LIES)
def test_header_that_lies(tmp_path: Path, lie: str) -> None:
    header, expected = LIES[lie]
    path = write_header(tmp_path / "a.safetensors", header, bytes(16))
    assert expected in refusal(path)


def test_a_shape_of_many_axes_is_refused_at_once(tmp_path: Path) -> None:
    header = entry(shape=[2**62] * 80_000)
    start = time.process_time()
    path = write_header(tmp_path / "a.safetensors", header, bytes(16))
    assert "a shape of 80,000 axes" in refusal(path)
    assert time.process_time() - start < 3  # their product takes some 20 s


@pytest.mark.parametrize("character", ["\\ud83d\\ude00", "\\u0000", "\\u00e9"])
def test_names_that_are_text_are_taken(tmp_path: Path, character: str) -> None:
    header = json.dumps(entry()).replace("x", character).encode()
    path = write_header(tmp_path / "a.safetensors", header, bytes(16))
    assert list(read_tensors(path)) == [json.loads(f'"{character}"')]


@pytest.mark.parametrize("name", [b"\xff.weight", b"\xed\xa0\x80.weight"])
def test_hdf5_names_that_are_not_text(tmp_path: Path, name: bytes) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(name, data=np.ones((2, 2), np.float32))
    assert "not a readable HDF5 file" in refusal(tmp_path / "a.h5")


@pytest.mark.parametrize("length", [200, 2**31, 2**63, 2**64 - 1])
def test_header_length_beyond_the_file(tmp_path: Path, length: int) -> None:
    path = write_header(tmp_path / "a.safetensors", entry(), bytes(16), length=length)
    assert f"header of {length:,} bytes announced" in refusal(path)


def test_header_longer_than_the_format_allows_is_not_read(tmp_path: Path) -> None:
    path = write_header(tmp_path / "a.safetensors", entry(), length=100_000_001)
    os.truncate(path, 100_000_100)  # sparse, so that the length is true
    assert "safetensors allows 100,000,000" in refusal(path)


def test_bytes_after_the_last_tensor(tmp_path: Path) -> None:
    path = write_header(tmp_path / "a.safetensors", entry(), bytes(17))
    assert "malformed: the header describes" in refusal(path)


WELL_FORMED = json.dumps(
    {
        "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
        "b": {"dtype": "U8", "shape": [4], "data_offsets": [12, 16]},
    }
).encode()
fragments = st.one_of(
    st.binary(min_size=1, max_size=4),
    st.sampled_from(
        ["0", "-1", "99", "1e9", "null", "[", "]", "}", '"F32"', "\\ud800", "[[[["]
    ).map(str.encode),
)


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(WELL_FORMED)), st.integers(0, 4), fragments), max_size=3
    ),
    data_length=st.sampled_from([16, 16, 16, 0, 15, 17]),
    length_error=st.sampled_from([0, 0, 0, -1, 1, 8, -8]),
)
def test_mutated_header_is_refused_or_read_right(
    tmp_path: Path, edits: list[tuple[int, int, bytes]], data_length: int, length_error: int
) -> None:
    header = bytearray(WELL_FORMED)
    for start, removed, added in edits:
        header[start : start + removed] = added
    data = bytes(range(1, data_length + 1))
    path = tmp_path / "a.safetensors"
    write_header(path, bytes(header), data, length=len(header) + length_error)
    try:
        arrays = {name: tensor.read() for name, tensor in read_tensors(path).items()}
    except SourceError:
        return
    # What was accepted is what the header says, bytes cut out by hand.
    content = path.read_bytes()
    start = 8 + len(header) + length_error
    described = json.loads(content[8:start])
    described.pop("__metadata__", None)
    assert arrays.keys() == described.keys()
    for name, facts in described.items():
        begin, end = (start + offset for offset in facts["data_offsets"])
        assert end <= len(content)
        assert arrays[name].dtype == SAFETENSORS_DTYPES[facts["dtype"]]
        assert list(arrays[name].shape) == facts["shape"]
        assert arrays[name].tobytes() == content[begin:end]


# --- .npy and .npz ---


@pytest.mark.parametrize("container", ["npy", "npz", "npz compressed"])
@every_numpy_float
def test_numpy_files_are_read_bit_for_bit(tmp_path: Path, container: str, dtype: Any) -> None:
    array = random_array(dtype)
    path = tmp_path / f"x.{container[:3]}"
    if container == "npy":
        np.save(path, array)
    else:
        (np.savez_compressed if "compressed" in container else np.savez)(path, x=array)
    tensor = read_tensors(path)["x"]
    assert (tensor.dtype, tensor.shape) == (np.dtype(dtype).name, array.shape)
    assert tensor.nbytes == array.nbytes
    assert same_bits(tensor.read(), array)


@pytest.mark.parametrize("container", ["npy", "npz"])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 2), (0, 4), (3, 0)])
def test_numpy_shapes(tmp_path: Path, container: str, shape: tuple[int, ...]) -> None:
    array = random_array(np.float32, shape)
    path = tmp_path / f"x.{container}"
    np.save(path, array) if container == "npy" else np.savez(path, x=array)
    assert same_bits(np.asarray(read_tensors(path)["x"].read()), array)


@every_numpy_float
def test_column_major_npy_keeps_its_values(tmp_path: Path, dtype: Any) -> None:
    array = np.asfortranarray(random_array(dtype))
    np.save(tmp_path / "x.npy", array)
    assert same_bits(read_tensors(tmp_path / "x.npy")["x"].read(), array)


def test_npz_members_that_are_no_arrays_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.arange(3.0))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "hello")
    assert list(read_tensors(path)) == ["x"]


def write_objects(path: Path) -> None:
    objects = np.array([[1, None]], dtype=object)
    (np.savez(path, x=objects) if path.suffix == ".npz" else np.save(path, objects))


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps([1, 2]))


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.path, "sprung")


@pytest.mark.parametrize(
    ("name", "write", "expected"),
    [
        ("x.npy", write_objects, "Python objects, which are never loaded"),
        ("x.npz", write_objects, "Python objects, which are never loaded"),
        ("x.npy", write_pickle, "not a readable .npy array"),
        ("x.npz", write_pickle, "not a readable .npz archive"),
    ],
)
def test_pickles_are_refused(
    tmp_path: Path, name: str, write: Callable[[Path], None], expected: str
) -> None:
    write(tmp_path / name)
    assert expected in refusal(tmp_path / name)


@pytest.mark.parametrize("container", ["npy", "npz"])
def test_a_pickle_in_a_numpy_file_is_never_run(tmp_path: Path, container: str) -> None:
    sprung = tmp_path / "sprung"
    trap = np.array([_Trap(sprung)], dtype=object)
    path = tmp_path / f"x.{container}"
    np.save(path, trap) if container == "npy" else np.savez(path, x=trap)
    refusal(path)
    assert not sprung.exists()


@pytest.mark.parametrize("kept", [0, 5, 6, 8, 9, 60, 127, 128, 129, 187])
def test_truncated_npy(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((5, 3), np.float32))
    content = path.read_bytes()
    assert kept < len(content) == 188
    path.write_bytes(content[:kept])
    assert re.search("truncated" if kept >= 128 else "not a readable .npy", refusal(path))


def test_bytes_after_a_npy_array(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((5, 3), np.float32))
    path.write_bytes(path.read_bytes() + b"\0")
    assert "malformed" in refusal(path)


@pytest.mark.parametrize("kept", [0, 1, 30, 100, 200, -60, -22, -1])
@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_npz(tmp_path: Path, kept: int, compressed: bool) -> None:
    path = tmp_path / "x.npz"
    array = np.random.default_rng(0).normal(size=(9, 9))
    (np.savez_compressed if compressed else np.savez)(path, x=array)
    path.write_bytes(path.read_bytes()[:kept])
    assert "not a readable .npz archive" in refusal(path)


def npy_header(descr: str = "'<f4'", shape: str = "(2, 2)", rest: str = "") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, {rest}}}\n"


@pytest.mark.parametrize(
    "header",
    [
        npy_header(shape="(2, 3)"),
        npy_header(shape="(-2, -2)"),
        npy_header(shape="(True, 4)"),
        npy_header(shape="(2.0, 2)"),
        npy_header(shape="(9999999999999999999, 4)"),
        npy_header(shape="(" + "9" * 5000 + ",)"),
        npy_header(shape="None"),
        npy_header(descr="'<f8'"),
        npy_header(descr="'<f0'"),
        npy_header(descr="'<f1'"),
        npy_header(descr="'|O'"),
        npy_header(descr="__import__('os').getcwd()"),
        npy_header(rest="'more': 1"),
        "{}\n",
        "[]\n",
        "(" * 2000 + "\n",
        "(" * 30_000 + "\n",
        "\0\n",
    ],
    ids=lambda header: header[:60].strip(),
)
def test_npy_header_that_lies(tmp_path: Path, header: str) -> None:
    refusal(write_npy_header(tmp_path / "x.npy", header, bytes(16)))


@pytest.mark.parametrize("shape", [f"({f'{2**62}, ' * 300})", f"({'0, ' * 65})"])
def test_npy_shape_of_many_axes(tmp_path: Path, shape: str) -> None:
    path = write_npy_header(tmp_path / "a.npy", npy_header(shape=shape) + "\n", b"")
    assert re.search(r"malformed: 'a' has a shape of (300|65) axes, above 64", refusal(path))


@pytest.mark.parametrize("container", ["npy", "npz"])
@pytest.mark.parametrize(
    "dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2], ids=["e4m3fn", "e5m2"]
)
def test_float8_in_a_numpy_file_is_never_given_out_as_something_else(
    tmp_path: Path, container: str, dtype: Any
) -> None:
    """NumPy loses which float8 it was; the bytes must not come back as another type."""
    path, array = tmp_path / f"x.{container}", random_array(dtype)
    np.save(path, array) if container == "npy" else np.savez(path, x=array)
    try:
        read = read_tensors(path)["x"].read()
    except SourceError:
        refusal(path)
    else:
        assert read.dtype.kind == "V"


def corrupt(path: Path, compression: int, *, flag: int = 0, method: int | None = None) -> None:
    """A .npz of that compression with damage inside the member's data, or in its headers."""
    plain = path.with_suffix(".npy")
    np.save(plain, np.random.default_rng(0).normal(size=(40, 40)))
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.write(plain, "x.npy")
    plain.unlink()
    content = bytearray(path.read_bytes())
    if not flag and method is None:
        middle = 60 if compression == zipfile.ZIP_LZMA else len(content) // 2
        content[middle : middle + 40] = b"\xff" * 40
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.rfind(signature)
        content[at + offset] |= flag
        if method is not None:
            content[at + offset + 2] = method
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        {"compression": zipfile.ZIP_STORED},
        {"compression": zipfile.ZIP_DEFLATED},
        {"compression": zipfile.ZIP_BZIP2},
        {"compression": zipfile.ZIP_LZMA},
        {"compression": zipfile.ZIP_STORED, "flag": 1},  # says that it is encrypted
        {"compression": zipfile.ZIP_STORED, "method": 99},
    ],
    ids=["stored", "deflated", "bzip2", "lzma", "encrypted", "unknown method"],
)
def test_corrupt_npz(tmp_path: Path, damage: dict[str, int]) -> None:
    corrupt(tmp_path / "x.npz", **damage)
    refusal(tmp_path / "x.npz")


# --- what is no file to read ---


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.safetensors", "x"])
def test_no_such_file(tmp_path: Path, name: str) -> None:
    assert re.search("no such file", refusal(tmp_path / name), re.IGNORECASE)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.safetensors"])
@pytest.mark.parametrize(
    "make", [Path.mkdir, Path.touch, os.mkfifo], ids=["folder", "empty", "pipe"]
)
def test_neither_array_nor_archive(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    """A named pipe must not be waited on."""
    make(tmp_path / name)
    if make is os.mkfifo:
        # A writer at the other end, so that a wrong program fails rather than hangs.
        descriptor = os.open(tmp_path / name, os.O_RDWR | os.O_NONBLOCK)
        os.write(descriptor, b"x" * 200)
    try:
        line = refusal(tmp_path / name)
    finally:
        if make is os.mkfifo:
            os.close(descriptor)
    if make is os.mkfifo:
        assert "not a regular file" in line


@pytest.mark.parametrize("name", ["x.xyz", "x"])
def test_other_kinds_of_file_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert "not supported; use one of .safetensors, .npy, .npz" in refusal(tmp_path / name)


# --- load_array ---


@pytest.fixture
def several(tmp_path: Path) -> Path:
    return write_tensors(
        tmp_path / "s.safetensors",
        {name: np.full(2, i) for i, name in enumerate(["a", "m", "b:c"])},
    )


@pytest.mark.parametrize(("key", "first"), [("", 1), (":", 1), (":a", 0), (":m", 1)])
def test_load_array_takes_the_key_or_the_default(several: Path, key: str, first: int) -> None:
    assert load_array(f"{several}{key}", "m").tolist() == [first, first]


def test_load_array_takes_the_only_tensor_whatever_its_name(tmp_path: Path) -> None:
    path = write_tensors(tmp_path / "s.safetensors", {"odd": np.arange(2)})
    assert load_array(str(path), "m").tolist() == [0, 1]


def test_load_array_prefers_a_file_whose_own_name_has_the_colon(tmp_path: Path) -> None:
    np.save(tmp_path / "a:b.npy", np.arange(2))
    assert load_array(str(tmp_path / "a:b.npy"), "m").tolist() == [0, 1]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [("s.safetensors:q", "no tensor 'q' there; name one as FILE:key, of: a, m, b:c"),
     ("none.safetensors", "no such file"), ("none.safetensors:a", "no such file")],
)  # fmt: skip
def test_load_array_refusals(several: Path, spec: str, expected: str) -> None:
    with pytest.raises(SourceError, match=f"(?i){re.escape(expected)}"):
        load_array(str(several.parent / spec), "m")


def test_load_array_names_what_there_is_without_the_default(several: Path) -> None:
    with pytest.raises(SourceError, match="no tensor 'mask' there; name one as FILE:key"):
        load_array(str(several), "mask")


# --- writing ---


def failing_rows() -> Iterator[tuple[int]]:
    yield (1,)
    raise ZeroDivisionError


@pytest.mark.parametrize("old", [None, b"old"], ids=["new file", "old file"])
def test_a_write_that_fails_half_way_changes_nothing(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "a.csv"
    if old is not None:
        path.write_bytes(old)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ZeroDivisionError):
        write_csv(path, ("n",), failing_rows())
    assert sorted(tmp_path.iterdir()) == before
    assert old is None or path.read_bytes() == old


def test_the_old_file_stands_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files stands in for it; it lasts as long as the process."""
    program = """
        import resource, sys
        from pathlib import Path
        import numpy as np
        from deadtokens.errors import OutputError
        from deadtokens.writing import write_csv, write_safetensors
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        folder = Path(sys.argv[1])
        for name, write in {
            "a.csv": lambda path: write_csv(path, ("n",), ((i,) for i in range(100_000))),
            "b.csv": lambda path: write_csv(path, ("n",), ((i,) for i in range(1_500))),
            "a.safetensors": lambda path: write_safetensors(path, {"x": np.zeros(100_000)}),
        }.items():
            try:
                write(folder / name)
            except OutputError as error:
                print(error)
    """
    (tmp_path / "a.csv").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("cannot be written (File too large)" in line for line in lines)
    assert done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_bytes() == b"old"


def test_folder_without_permission(read_only_folder: Path) -> None:
    with pytest.raises(OutputError, match=r"this folder cannot be written \(Permission denied\)"):
        make_folder(read_only_folder)
    with pytest.raises(OutputError, match=r"cannot be written \(Permission denied\)"):
        make_folder(read_only_folder / "new")
    with pytest.raises(OutputError, match=r"a\.csv: cannot be written \(Permission denied\)"):
        write_csv(read_only_folder / "a.csv", ("n",), [])


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="choose another"):
            make_folder(folder)


def test_folder_is_made_with_its_parents_and_left_empty(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert make_folder(folder) == folder
    assert make_folder(folder) == folder
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("place", ["", ".", "..", "/", "missing/a.csv", "x" * 300])
def test_places_where_no_file_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="cannot be written") as caught:
        write_csv(Path(place), ("n",), [])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name_that_a_file_may_have(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    write_csv(path, ("n",), [])
    assert list(tmp_path.iterdir()) == [path]


def test_a_special_file_is_not_replaced(tmp_path: Path) -> None:
    """A device such as /dev/null must outlive being named as output; a pipe stands in for it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="regular file"):
        write_csv(pipe, ("n",), [])
    assert pipe.is_fifo()


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("target.csv")
    (tmp_path / "target.csv").write_text("old")
    write_csv(tmp_path / "link.csv", ("n",), [])
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "target.csv").read_text() == "n\n"


def test_csv_content(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    numbers = (np.int64(3), np.float64(0.1), 1e-300, None)
    write_csv(path, ("i", "x", "y", "z"), [numbers, (-1, float("inf"), 2.0, 'say "é", twice\n')])
    assert path.read_bytes().splitlines()[:2] == [b"i,x,y,z", b"3,0.1,1e-300,"]
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[2] == ["-1", "inf", "2.0", 'say "é", twice\n']
    assert b"\r" not in path.read_bytes()


def test_safetensors_written_are_read_by_the_package_and_by_us(tmp_path: Path) -> None:
    arrays = {
        "f": np.asfortranarray(random_array(np.float32)),
        "b": random_array(ml_dtypes.bfloat16)[::2],
        "e": random_array(ml_dtypes.float8_e4m3fn),
        "m": np.array([True, False]),
        "none": np.zeros((0, 3), np.int64),
    }
    path = tmp_path / "a.safetensors"
    write_safetensors(path, arrays, {"origin": "test"})
    for name, tensor in read_tensors(path).items():
        assert same_bits(tensor.read(), arrays[name])
    with safetensors.safe_open(path, "np") as file:
        assert set(file.keys()) == arrays.keys()
        assert file.metadata() == {"origin": "test", "written_by": "deadtokens"}
        for name in arrays.keys() - {"e"}:  # its NumPy reader knows no float8
            assert same_bits(file.get_tensor(name), arrays[name])
        assert file.get_slice("e").get_dtype() == "F8_E4M3"


def test_metadata_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    assert load_metadata(str(path)) == {}
    path.write_bytes(b"text")
    assert load_metadata(str(path)) == {}
    write_safetensors(path, {"x": np.ones(2)}, {"origin": "census"})
    assert load_metadata(f"{path}:x")["origin"] == "census"
