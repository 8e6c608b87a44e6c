"""HDF5 files: written with h5py, read here as bits, and compared with what h5py reads."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from containers import AnyArray
from hypothesis import given, settings
from hypothesis import strategies as st

from deadtokens.errors import SourceError
from deadtokens.files import PartedTensor, hdf5, load_array, read_tensors
from deadtokens.sources import inspect, open_matrix

STORED: dict[str, Any] = {
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
    "bfloat16": ml_dtypes.bfloat16,
}


def numbers(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> AnyArray:
    """Normal numbers, with NaN of an unusual pattern and -0.0 among them."""
    array = np.random.default_rng(seed).normal(0, 0.02, shape).astype(dtype)
    bits = array.view(f"u{array.itemsize}").reshape(-1)
    bits[0] = np.array([np.nan], dtype).view(bits.dtype)[0] | bits.dtype.type(1)
    bits[1] = bits.dtype.type(1 << (8 * array.itemsize - 1))
    return array


def bits(array: AnyArray) -> AnyArray:
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.h5"


def write(path: Path, **datasets: AnyArray) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in datasets.items():
            file[name.replace("__", "/")] = array
    return path


def write_true_bfloat16(file: h5py.File, name: str, array: AnyArray, **options: Any) -> None:
    """With HDF5's own 16-bit type of an 8-bit exponent, which h5py can only make by hand."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if "chunks" in options:
        plan.set_chunk(options["chunks"])
        plan.set_deflate(4)
    space = h5py.h5s.create_simple(array.shape)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, space, plan)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, array.view(np.uint16), kind)


# --- what is read ---


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("userblock", [0, 1024])
def test_in_one_piece_is_mapped(path: Path, name: str, userblock: int) -> None:
    array = numbers((7, 5), STORED[name])
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file["other"] = np.arange(9)
        file["a/b/c"] = array
    tensor = read_tensors(path)["a/b/c"]
    assert (tensor.dtype, tensor.shape, tensor.nbytes) == (name, (7, 5), array.nbytes)
    read = tensor.read()
    assert isinstance(read, np.memmap)
    assert not read.flags.writeable
    assert read.dtype == array.dtype
    assert np.array_equal(bits(read), bits(array))


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (3, 2)},
        {"chunks": (3, 2), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (7, 5), "compression": "lzf"},
        {"chunks": (2, 5), "maxshape": (None, 5)},
    ],
)
def test_in_chunks_is_read_in_parts(path: Path, name: str, options: dict[str, Any]) -> None:
    array = numbers((7, 5), STORED[name])
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=array, **options)
    tensor = read_tensors(path)["x"]
    assert isinstance(tensor, PartedTensor)
    assert tensor.dtype == name
    assert tensor.read().dtype == array.dtype
    assert np.array_equal(bits(tensor.read()), bits(array))
    for start, stop in itertools.combinations_with_replacement(range(8), 2):
        assert np.array_equal(bits(tensor.part(start, stop)), bits(array[start:stop]))


@pytest.mark.parametrize("options", [{}, {"chunks": (4, 3)}])
def test_the_bfloat16_of_hdf5_itself(path: Path, options: dict[str, Any]) -> None:
    """h5py calls it float32, which it is not: mapped as that it would be nonsense."""
    array = numbers((9, 6), ml_dtypes.bfloat16)
    with h5py.File(path, "w") as file:
        write_true_bfloat16(file, "x", array, **options)
        assert file["x"].dtype == np.float32
    tensor = read_tensors(path)["x"]
    assert (tensor.dtype, tensor.nbytes) == ("bfloat16", 108)
    assert np.array_equal(bits(tensor.read()), bits(array))


@pytest.mark.parametrize("integer", [np.uint16, np.int16])
def test_integers_are_bfloat16_only_if_the_file_says_so(path: Path, integer: Any) -> None:
    array = numbers((9, 6), ml_dtypes.bfloat16)
    with h5py.File(path, "w") as file:
        file["plain"] = array.view(integer)
        file["said"] = array.view(integer)
        file["said"].attrs["dtype"] = "bfloat16"
    tensors = read_tensors(path)
    assert tensors["said"].dtype == "bfloat16"
    assert np.array_equal(bits(tensors["said"].read()), bits(array))
    assert tensors["plain"].dtype == np.dtype(integer).name
    with pytest.raises(SourceError, match=r"holds 16-bit integers \(u?int16\), which may be"):
        open_matrix(path, "plain")


def test_small_ones_in_the_header_are_read(path: Path) -> None:
    array = numbers((3, 2), np.float32)
    with h5py.File(path, "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(array.shape)
        made = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, plan)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, array)
    assert np.array_equal(bits(read_tensors(path)["x"].read()), bits(array))


def test_masks_and_centroids_by_path(path: Path) -> None:
    mask = np.array([True, False, True])
    write(path, sel__mask=mask, sel__bytes=mask.astype(np.uint8), c=np.arange(3.0))
    for key in ("sel/mask", "sel/bytes"):
        assert np.array_equal(load_array(f"{path}:{key}", "mask"), mask)
    assert load_array(f"{path}:sel/mask", "mask").dtype == np.bool_
    assert load_array(f"{path}:c", "centroid").tolist() == [0.0, 1.0, 2.0]


def test_each_dataset_once_and_no_way_round(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a/x"] = np.zeros((2, 3), np.float32)
        file["a/y"] = file["a/x"]
        file["a/loop"] = file["/"]
        file["soft"] = h5py.SoftLink("/a/x")
        file["gone"] = h5py.SoftLink("/nowhere")
        file["nothing"] = h5py.Empty("f4")
        file["scalar"] = np.float32(3)
        file["none"] = np.zeros((0, 4), np.float32)
    tensors = read_tensors(path)
    assert {name: t.shape for name, t in tensors.items()} == {
        "a/x": (2, 3), "scalar": (), "none": (0, 4)
    }  # fmt: skip
    assert tensors["scalar"].read() == np.float32(3)
    assert tensors["none"].read().shape == (0, 4)


def test_a_matrix_in_chunks_is_opened(path: Path) -> None:
    array = numbers((40, 6), np.float16)[1:]
    with h5py.File(path, "w") as file:
        file.create_dataset("tokens", data=array, chunks=(8, 6), compression="gzip")
        file["ids"] = np.arange(39)
    matrix = open_matrix(path)
    assert (matrix.tensor, matrix.shape, matrix.format.name) == ("tokens", (39, 6), "float16")
    assert np.array_equal(matrix.codes[:], bits(array))
    assert np.array_equal(matrix.codes[np.array([3, 38, 4])], bits(array[[3, 38, 4]]))


def test_float64_in_chunks_is_narrowed_where_that_is_exact(path: Path) -> None:
    array = numbers((40, 6), np.float32)[1:]
    with h5py.File(path, "w") as file:
        file.create_dataset("tokens", data=array.astype(np.float64), chunks=(8, 6))
    matrix = open_matrix(path)
    assert (matrix.shape, matrix.format.name) == ((39, 6), "float32")
    assert np.array_equal(matrix.codes[:], bits(array))


def test_integers_the_other_way_round_are_no_bfloat16(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(4, dtype=">u2")
        file["x"].attrs["dtype"] = "bfloat16"
    assert read_tensors(path)["x"].dtype == ">u2"


# --- rows of a matrix in chunks ---


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_rows_are_those_of_the_array(data: st.DataObject, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("rows") / "x.h5"
    n, chunk = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 12))
    array = np.arange(n * 3, dtype=np.float32).reshape(n, 3)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=array, chunks=(min(chunk, n), 2))
    tensor = read_tensors(path)["x"]
    assert isinstance(tensor, PartedTensor)
    small = replace(tensor, step=chunk)
    for rows in (tensor.rows, small.rows):
        assert rows.shape == (n, 3)
        ends = st.integers(-n - 2, n + 2)
        part = slice(data.draw(ends), data.draw(ends), data.draw(st.sampled_from([None, 1, 2, -1])))
        assert np.array_equal(rows[part], array[part])
        chosen = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=30)), dtype=np.int64)
        assert np.array_equal(rows[chosen], array[chosen])
        mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
        assert np.array_equal(rows[mask], array[mask])


def test_few_rows_do_not_read_the_dataset(path: Path) -> None:
    array = np.zeros((100_000, 4), np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=array, chunks=(1000, 4))
    tensor = read_tensors(path)["x"]
    assert isinstance(tensor, PartedTensor)
    read = []

    def part(start: int, stop: int) -> AnyArray:
        read.append((start, stop))
        return array[start:stop]

    watched = replace(tensor, part=part, step=1000)
    assert watched.rows[np.array([70_500, 5, 70_100, 9])].shape == (4, 4)
    assert read == [(5, 10), (70_100, 70_501)]


# --- what is refused ---


def refused(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        [tensor.read() for tensor in read_tensors(path).values()]
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    return line


def test_links_to_other_files(path: Path, tmp_path: Path) -> None:
    write(tmp_path / "other.h5", x=np.zeros((2, 2), np.float32))
    with h5py.File(path, "w") as file:
        file["good"] = np.zeros((2, 2), np.float32)
        file["deep/x"] = h5py.ExternalLink("other.h5", "/x")
    assert "'deep/x' is a link to another file, and none but the one given is ever" in refused(path)


def test_numbers_in_other_files(path: Path, tmp_path: Path) -> None:
    write(tmp_path / "other.h5", x=np.zeros((2, 2), np.float32))
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((2, 2), np.float32)
        layout[:] = h5py.VirtualSource("other.h5", "x", (2, 2))
        file.create_virtual_dataset("g/v", layout)
    assert "the numbers of 'g/v' lie in another file" in refused(path)
    raw = tmp_path / "raw.bin"
    raw.write_bytes(bytes(16))
    with h5py.File(path, "w") as file:
        file.create_dataset("e", (2, 2), np.float32, external=[(str(raw), 0, 16)])
    assert "the numbers of 'e' lie in another file" in refused(path)


def _never(file: h5py.File) -> None:
    file.create_dataset("x", (3, 4), "f4")


def _never_in_chunks(file: h5py.File) -> None:
    file.create_dataset("x", (10**9, 10**6), "f4", chunks=(100, 100))


def _partly(file: h5py.File) -> None:
    file.create_dataset("x", (30, 4), "f4", chunks=(10, 4))[:10] = 1


def _large_chunks(file: h5py.File) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((1 << 15, 1 << 13))
    plan.set_deflate(1)
    space = h5py.h5s.create_simple((1 << 15, 1 << 13))
    made = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F64LE, space, plan)
    made.write_direct_chunk((0, 0), b"nothing")


def _strings(file: h5py.File) -> None:
    file["x"] = ["a", "bb"]


def _references(file: h5py.File) -> None:
    file["y"] = np.zeros(3, np.float32)
    file.create_dataset("x", (1,), dtype=h5py.ref_dtype)[0] = file["y"].ref


def _ragged(file: h5py.File) -> None:
    made = file.create_dataset("x", (2,), dtype=h5py.vlen_dtype(np.float32))
    made[0] = [1, 2]


def _records(file: h5py.File) -> None:
    file["x"] = np.zeros(3, [("a", "f4"), ("b", "f4")])


def _big_endian(file: h5py.File) -> None:
    file["x"] = np.zeros((3, 4), ">f4")


def _eight_bits(file: h5py.File) -> None:
    file["x"] = np.zeros((3, 4), ml_dtypes.float8_e4m3fn)


def _eight_bits_of_hdf5(file: h5py.File) -> None:
    kind = h5py.h5t.IEEE_F16LE.copy()
    kind.set_fields(7, 3, 4, 0, 3)
    kind.set_size(1)
    kind.set_ebias(7)
    made = h5py.h5d.create(file.id, b"x", kind, h5py.h5s.create_simple((3, 4)))
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros((3, 4), np.uint8), kind)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_never, "'x' holds float32 (nothing was written to it)"),
        (_never_in_chunks, "nothing was written to it"),
        (_partly, "incomplete: 1 of 3 chunks were written"),
        (_large_chunks, "chunks of 2,147,483,648 bytes, more than"),
        (_strings, "Python objects or references, which are never loaded"),
        (_references, "Python objects or references, which are never loaded"),
        (_ragged, "Python objects or references, which are never loaded"),
        (_records, "'x' holds [('a', '<f4'), ('b', '<f4')]"),
        (_big_endian, "'x' holds >f4"),
        (_eight_bits, "'x' holds |V1"),
        (_eight_bits_of_hdf5, "floating-point numbers of 8 bits, which NumPy has not"),
    ],
)
def test_what_cannot_be_read(path: Path, make: Callable[[h5py.File], None], says: str) -> None:
    with h5py.File(path, "w") as file:
        make(file)
    assert says in refused(path)
    assert inspect(path).choice is None  # and it is not offered as a matrix


def test_files_that_are_none(path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        read_tensors(path)
    for content in (b"", b"PK\x03\x04" * 40, bytes(9000)):
        path.write_bytes(content)
        assert "not a readable HDF5 file" in refused(path)


def test_a_truncated_file(path: Path) -> None:
    write(path, x=np.zeros((100, 100), np.float32))
    path.write_bytes(path.read_bytes()[:-1000])
    assert "truncated file" in refused(path)


def test_too_many_objects(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, a=np.zeros(2), b=np.zeros(2), c=np.zeros(2))
    monkeypatch.setattr(hdf5, "_MOST_OBJECTS", 2)
    assert "more than 2 objects" in refused(path)


def test_one_that_would_not_fit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros((10, 10)), chunks=(5, 10))
    monkeypatch.setattr(hdf5, "_MOST_LOADED", 799)
    assert "'x' would take 800 bytes of memory at once" in refused(path)


def test_without_h5py(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, x=np.zeros((2, 2)))
    monkeypatch.setitem(sys.modules, "h5py", None)
    line = refused(path)
    assert "read by h5py, which is not installed" in line
    assert line.endswith("pip install 'deadtokens[hdf5]'")


# --- damage ---


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, AnyArray]]:
    path = tmp_path_factory.mktemp("sound") / "x.h5"
    arrays: dict[str, AnyArray] = {
        "a": numbers((2, 3, 4), np.float32),
        "g/b": numbers((20, 30), np.float16),
        "g/c": numbers((5, 3), ml_dtypes.bfloat16),
    }
    with h5py.File(path, "w") as file:
        file["a"] = arrays["a"]
        file.create_dataset(
            "g/b", data=arrays["g/b"], chunks=(3, 10), compression="gzip", shuffle=True
        )
        file["g/c"] = arrays["g/c"]
    return path.read_bytes(), arrays


def _read_all(path: Path) -> list[str]:
    """Reads what can be read; the errors."""
    errors = []
    try:
        tensors = read_tensors(path)
    except SourceError as error:
        return [str(error)]
    for tensor in tensors.values():
        try:
            assert tensor.read().shape == tensor.shape
        except SourceError as error:
            errors.append(str(error))
    return errors


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes(
    data: st.DataObject, sound: tuple[bytes, dict[str, AnyArray]], tmp_path_factory: Any
) -> None:
    """An error in one line, or arrays of the shapes announced; in no case anything else."""
    content = bytearray(sound[0])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.h5"
    path.write_bytes(content[: data.draw(st.sampled_from([None, len(content) // 2]))])
    for line in _read_all(path):
        assert "\n" not in line


def test_a_chunk_of_no_bytes(
    path: Path, sound: tuple[bytes, dict[str, AnyArray]], tmp_path: Path
) -> None:
    """HDF5 2.0 itself ends in a segmentation fault there."""
    content = bytearray(sound[0])
    whole = tmp_path / "whole.h5"
    whole.write_bytes(content)
    with h5py.File(whole) as file:
        chunk = file["g/b"].id.get_chunk_info(5)
    entry = chunk.size.to_bytes(4, "little") + bytes(4)  # size, filter mask, then the coordinates
    entry += b"".join(n.to_bytes(8, "little") for n in chunk.chunk_offset)
    place = content.index(entry)
    content[place : place + 4] = bytes(4)
    path.write_bytes(content)
    assert "'g/b' holds float16 (damaged: its index of chunks leads nowhere)" in refused(path)
