"""GGUF: headers, every type of tensor, and what quantised rows can and cannot tell."""

from __future__ import annotations

import itertools
import json
import os
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import gguf_files as g
import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from gguf_files import GGML, Tensor, gguf_bytes, quantised, row_bytes, tensor_of, write_gguf
from program import Program

import deadtokens as dt
from deadtokens.census import raw_census
from deadtokens.errors import SelectionError, SourceError
from deadtokens.files import read_tensors
from deadtokens.files.gguf import Header, Incomplete, parse, read_header
from deadtokens.formats import FLOAT32, FORMATS
from deadtokens.selection import snowball_of
from deadtokens.snowball import Snowball
from deadtokens.sources import Matrix, inspect, open_model
from deadtokens.sources.quantised import can_dequantise

Raw = npt.NDArray[np.uint8]

# What the package dequantises by blocks, which is what quantised means here.
KINDS = [name for name in GGML if name not in g.SCALARS and name not in ("Q8_1", "Q8_K")]
QUANTISED_BY_PACKAGE = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4"]
every_kind = pytest.mark.parametrize("kind", KINDS)
WEIGHT = "output.weight"


def random_rows(kind: str, rows: int, numbers: int = 512, seed: int = 0) -> Raw:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (rows, row_bytes(kind, numbers)), dtype=np.uint8)


def dequantised(raw: Raw, kind: str) -> npt.NDArray[np.float32]:
    """By the package, all rows at once."""
    with np.errstate(all="ignore"):
        values: npt.NDArray[np.float32] = gguf.quants.dequantize(
            raw, gguf.GGMLQuantizationType[kind]
        )
    return values


def matrix_of(folder: Path, raw: Raw, kind: str) -> Matrix:
    path = folder / f"{len(list(folder.iterdir()))}.gguf"  # what is mapped must not be written over
    return dt.open_matrix(write_gguf(path, {WEIGHT: quantised(kind, raw)}))


def q8_0(scales: npt.ArrayLike, numbers: npt.ArrayLike) -> Raw:
    """Rows of Q8_0: a float16 scale per block, and 32 int8."""
    numbers = np.asarray(numbers, dtype=np.int8)
    blocks = numbers.reshape(numbers.shape[0], -1, 32).view(np.uint8)
    scales = np.asarray(scales, dtype=np.float16).reshape(numbers.shape[0], -1, 1).view(np.uint8)
    return np.concatenate([scales, blocks], axis=2).reshape(numbers.shape[0], -1)


# --- metadata ---


def scalars_of_all_types() -> dict[str, tuple[int, Any]]:
    return {
        "u8": (g.UINT8, 255),
        "i8": (g.INT8, -128),
        "u16": (g.UINT16, 65_535),
        "i16": (g.INT16, -32_768),
        "u32": (g.UINT32, 2**32 - 1),
        "i32": (g.INT32, -(2**31)),
        "f32": (g.FLOAT32, 0.5),
        "yes": (g.BOOL, True),
        "no": (g.BOOL, False),
        "u64": (g.UINT64, 2**64 - 1),
        "i64": (g.INT64, -(2**63)),
        "f64": (g.FLOAT64, 0.1),
        "text": (g.STRING, "Ġthe ▁"),
        "empty": (g.STRING, ""),
    }


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_metadata_of_all_types(tmp_path: Path, version: int, order: str) -> None:
    scalars = scalars_of_all_types()
    arrays: dict[str, tuple[int, Any]] = {
        f"array of {key}": (g.ARRAY, (kind, [content] * 3))
        for key, (kind, content) in scalars.items()
    }
    nested = (g.ARRAY, [(g.INT32, [1, 2]), (g.STRING, ["a"]), (g.FLOAT64, [])])
    arrays |= {"nested": (g.ARRAY, nested), "none": (g.ARRAY, (g.STRING, []))}
    path = write_gguf(tmp_path / "a.gguf", {}, scalars | arrays, version=version, order=order)
    found = read_header(path).metadata
    assert list(found) == [*scalars, *arrays]
    for key, (_, content) in scalars.items():
        assert found[key] == content
        assert type(found[key]) is type(content)
        array = found[f"array of {key}"]
        assert list(array) == [content] * 3
        assert isinstance(array, list if isinstance(content, str) else np.ndarray)
        if isinstance(array, np.ndarray):
            assert array.dtype.isnative
    assert [list(array) for array in found["nested"]] == [[1, 2], ["a"], []]
    assert found["none"] == []


def test_strings_keep_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    tokens = [b"\xff\xc3", b"ok", b"\x00\xed\xa0\x80"]
    path = write_gguf(tmp_path / "a.gguf", {}, {"tokens": g.strings(tokens)})
    found = read_header(path).metadata["tokens"]
    assert [token.encode("utf-8", "surrogateescape") for token in found] == tokens


def test_names_can_be_shown_whatever_their_bytes(tmp_path: Path) -> None:
    tensor = tensor_of(np.ones((2, 2), np.float32))
    names: list[Any] = [b"\xff", b"\xfe", "ü"]
    path = write_gguf(tmp_path / "a.gguf", [(name, tensor) for name in names])
    assert list(read_tensors(path)) == ["\\xff", "\\xfe", "ü"]


def test_the_package_reads_the_same_header(tmp_path: Path) -> None:
    raw = random_rows("Q4_K", 3)
    tensors = {"a.weight": quantised("Q4_K", raw), "b": tensor_of(np.arange(5, dtype=np.float32))}
    metadata = scalars_of_all_types() | {
        "general.alignment": (g.UINT32, 64),
        "tokens": g.strings(["a", "b"]),
        "scores": (g.ARRAY, (g.FLOAT32, [0.25, -1.0])),
    }
    path = write_gguf(tmp_path / "a.gguf", tensors, metadata, alignment=64)
    theirs, ours = gguf.GGUFReader(path), read_header(path)
    for key, content in ours.metadata.items():
        expected = theirs.fields[key].contents()
        assert np.array_equal(content, expected), key
    for tensor in theirs.tensors:
        region = ours.regions[tensor.name]
        assert (region.offset, region.nbytes) == (tensor.data_offset, tensor.n_bytes)
        assert region.shape == tuple(tensor.shape[::-1].tolist())
        assert region.dtype == tensor.tensor_type.name


def test_large_vocabularies_are_read_at_once() -> None:
    """A vocabulary as large as any model's: 151,936 tokens, as many merges."""
    tokens = [f"Ġtoken{i}" for i in range(151_936)]
    metadata = {
        "tokens": g.strings(tokens),
        "merges": g.strings([f"{token} x" for token in tokens]),
        "types": (g.ARRAY, (g.INT32, [1] * len(tokens))),
    }
    data = gguf_bytes({}, metadata)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        found = parse("test", data, len(data)).metadata
        seconds.append(time.process_time() - start)
    assert found["tokens"] == tokens
    assert min(seconds) < 0.5


# --- where tensors lie ---


@pytest.mark.parametrize("name", g.SCALARS)
def test_numbers_are_read_bit_for_bit(tmp_path: Path, name: str) -> None:
    dtype = np.dtype(g.SCALARS[name])
    raw = np.random.default_rng(1).integers(0, 256, 5 * 3 * dtype.itemsize, np.uint8)
    array = raw.view(dtype).reshape(5, 3)
    padding = tensor_of(np.arange(3, dtype=np.int8))
    path = write_gguf(tmp_path / "a.gguf", {"padding": padding, "x": tensor_of(array)})
    tensor = read_tensors(path)["x"]
    assert (tensor.name, tensor.path, tensor.dtype) == ("x", path, name)
    assert (tensor.shape, tensor.nbytes) == ((5, 3), array.nbytes)
    found = tensor.read()
    assert (found.dtype, found.shape, found.tobytes()) == (dtype, (5, 3), array.tobytes())
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 2), (1, 2, 3, 2), (0, 4), (3, 0)])
def test_shapes_are_reversed(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    path = write_gguf(tmp_path / "a.gguf", {"x": tensor_of(array)})
    tensor = read_tensors(path)["x"]
    assert tensor.shape == shape
    assert np.array_equal(tensor.read(), array)


@pytest.mark.parametrize("alignment", [1, 8, 32, 4096])
def test_alignment(tmp_path: Path, alignment: int) -> None:
    arrays = {name: np.full((3, 5), i, np.int8) for i, name in enumerate("abc")}
    path = write_gguf(
        tmp_path / "a.gguf",
        {name: tensor_of(array) for name, array in arrays.items()},
        {"general.alignment": (g.UINT32, alignment)},
        alignment=alignment,
    )
    tensors = read_tensors(path)
    assert all(np.array_equal(tensors[name].read(), array) for name, array in arrays.items())


def test_a_quantised_tensor_is_read_as_the_bytes_of_its_rows(tmp_path: Path) -> None:
    raw = random_rows("Q6_K", 4)
    tensor = read_tensors(write_gguf(tmp_path / "a.gguf", {"x": quantised("Q6_K", raw)}))["x"]
    assert (tensor.dtype, tensor.shape, tensor.nbytes) == ("Q6_K", (4, 512), raw.nbytes)
    assert np.array_equal(tensor.read(), raw)


def test_no_part_of_the_file_stays_open(tmp_path: Path) -> None:
    metadata = {"scores": (g.ARRAY, (g.FLOAT32, [1.0, 2.0])), "tokens": g.strings(["a"])}
    path = write_gguf(tmp_path / "a.gguf", {"x": tensor_of(np.ones((2, 2)))}, metadata)
    header = read_header(path)
    if Path("/proc/self/maps").exists():
        assert str(path) not in Path("/proc/self/maps").read_text()
    assert header.metadata["scores"].tolist() == [1.0, 2.0]


# --- a header that comes in pieces ---


def test_every_beginning_asks_for_more() -> None:
    metadata = scalars_of_all_types() | {
        "tokens": g.strings(["one", "two", ""]),
        "types": (g.ARRAY, (g.INT32, [1, 2, 3])),
        "nested": (g.ARRAY, (g.ARRAY, [(g.UINT8, [1]), (g.STRING, ["x"])])),
    }
    data = gguf_bytes({"x": tensor_of(np.ones((2, 3), np.float32))}, metadata)
    whole = parse("test", data, len(data))
    asked = complete = 0
    for length in range(len(data)):
        try:
            header = parse("test", memoryview(data)[:length], len(data))
        except Incomplete as more:
            asked += length < more.needed <= len(data)
        else:  # what is left is the tensor
            assert header.regions == whole.regions
            complete += 1
        if length < whole.regions["x"].offset + 24:
            with pytest.raises(SourceError):
                parse("test", data[:length], length)
    assert asked + complete == len(data)
    assert complete < 32 + 32 < asked


def test_growing_pieces_reach_the_end() -> None:
    data = gguf_bytes({}, {"tokens": g.strings(["token"] * 5000)}) + bytes(1000)
    length, pieces = 4, 1
    while True:
        try:
            header = parse("test", data[:length], len(data))
            break
        except Incomplete as more:
            length, pieces = max(2 * length, more.needed), pieces + 1
    assert len(header.metadata["tokens"]) == 5000
    assert pieces < 10


# --- headers that lie ---


def refusal(data: bytes) -> str:
    """The line that a file of these bytes is refused with, quickly and in little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(SourceError) as caught:
            parse("model.gguf", data, len(data))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    line = str(caught.value)
    assert line.startswith("model.gguf: ")
    assert "\n" not in line
    assert len(line) < 400
    return line


def with_entry(key: bytes, rest: bytes) -> bytes:
    """A header of one metadata entry, whose type and value are raw."""
    return gguf_bytes({}, raw_entries=g.string(key) + rest, counts=(0, 1)) + bytes(64)


def array_header(of: int, count: int) -> bytes:
    return struct.pack("<IIQ", g.ARRAY, of, count)


NUMBERS = tensor_of(np.ones((2, 3), np.float32))
BIG = (2**31, 2**32, 2**61, 2**63, 2**64 - 1)

LIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not a GGUF file"),
    "another kind": (b"PK\x03\x04" + bytes(100), "not a GGUF file"),
    "half a magic": (b"GG", "not a GGUF file"),
    "no version": (b"GGUF", "truncated"),
    "version 1": (gguf_bytes({}, version=1), "GGUF version 1.*convert"),
    "version 4": (gguf_bytes({}, version=4), "GGUF version 4"),
    "version 0": (gguf_bytes({}, version=0), "GGUF version 0"),
    "version 1, big-endian": (gguf_bytes({}, version=1, order=">"), "GGUF version 1,"),
    "type of value": (with_entry(b"k", struct.pack("<I", 13) + bytes(8)), "type 13"),
    "type of items": (with_entry(b"k", array_header(99, 2) + bytes(40)), "type 99"),
    "key twice": (
        gguf_bytes({}, raw_entries=g.metadata_entry("k", g.UINT8, 1) * 2, counts=(0, 2)),
        "metadata key 'k' is there twice",
    ),
    "long key": (with_entry(b"k" * 70_000, bytes(16)), "key of 70,000 bytes"),
    "tensor twice": (gguf_bytes([("x", NUMBERS), ("x", NUMBERS)]), "tensor 'x' is there twice"),
    "long name": (gguf_bytes([("x" * 200, NUMBERS)]), "name of 200 bytes"),
    "five dimensions": (
        gguf_bytes({"x": Tensor("F32", (1, 1, 1, 1, 1), bytes(4))}),
        "'x' has 5 dimensions",
    ),
    "rows of half a block": (
        gguf_bytes({"x": Tensor("Q4_K", (2, 300), bytes(288))}),
        "'x' has rows of 300 numbers, no multiple of the 256 that a block of Q4_K holds",
    ),
    "a quantised number": (gguf_bytes({"x": Tensor("Q8_0", (), bytes(34))}), "rows of 1 numbers"),
    "beyond the end": (
        gguf_bytes({"x": Tensor("F32", (2, 3), bytes(24), offset=64)}),
        "truncated: tensor 'x' ends at byte",
    ),
    "far beyond the end": (
        gguf_bytes({"x": Tensor("F32", (2, 3), bytes(24), offset=2**64 - 32)}),
        "truncated: tensor 'x' ends at byte",
    ),
    "too large": (gguf_bytes({"x": Tensor("F32", (2**40, 2**40), b"")}), "truncated: tensor"),
    "product beyond 64 bits": (
        gguf_bytes({"x": Tensor("F32", (2**32, 2**32, 1, 1), b"")}),
        "truncated: tensor 'x'",
    ),
    "negative size": (gguf_bytes({"x": Tensor("F32", (2**64 - 1, 1), b"")}), "truncated: tensor"),
    "overlap": (
        gguf_bytes({"a": NUMBERS, "b": Tensor("F32", (3, 4), bytes(48), offset=0)}),
        "begins within another",
    ),
    "not aligned": (
        gguf_bytes({"a": Tensor("F32", (2, 3), bytes(96), offset=8)}),
        "'a' is placed at 8, no multiple of the alignment, 32",
    ),
    "alignment 0": (gguf_bytes({}, {"general.alignment": (g.UINT32, 0)}), "alignment 0"),
    "alignment 24": (gguf_bytes({}, {"general.alignment": (g.UINT32, 24)}), "alignment 24"),
    "alignment in words": (
        gguf_bytes({}, {"general.alignment": (g.STRING, "3" * 99)}),
        "alignment 3333",
    ),
    "cut in the data": (gguf_bytes({"x": NUMBERS})[:-20], "truncated: tensor 'x'"),
    "deep": (
        with_entry(b"k", array_header(g.ARRAY, 1) + struct.pack("<IQ", g.ARRAY, 1) * 5000),
        "arrays within arrays",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies_ends_in_one_line(name: str) -> None:
    import re

    data, expected = LIES[name]
    assert re.search(expected, refusal(data)), refusal(data)


@pytest.mark.parametrize("count", BIG)
@pytest.mark.parametrize("of", [*g.LETTERS, g.STRING, g.ARRAY])
def test_giant_arrays(of: int, count: int) -> None:
    assert "truncated or malformed" in refusal(with_entry(b"k", array_header(of, count)))


def nested(*counts: int) -> bytes:
    """A header of one key for each count, of as many empty arrays in an array."""
    empty = struct.pack("<IQ", g.UINT8, 0)
    entries = [
        g.string(f"k{i}") + array_header(g.ARRAY, count) + empty * count
        for i, count in enumerate(counts)
    ]
    raw = b"".join(entries)
    return gguf_bytes({}, raw_entries=raw, counts=(0, len(counts))) + bytes(64)


@pytest.mark.parametrize("counts", [(100_001,), (1_000_000,), (60_000, 40_001)])
def test_arrays_of_many_empty_arrays(counts: tuple[int, ...]) -> None:
    data = nested(*counts)
    with pytest.raises(SourceError, match="malformed: more than 100,000 arrays within arrays"):
        parse("test", data, len(data))


def test_as_many_arrays_within_arrays_as_are_read() -> None:
    data = nested(60_000, 40_000)
    metadata = parse("test", data, len(data)).metadata
    assert [len(value) for value in metadata.values()] == [60_000, 40_000]


@pytest.mark.parametrize("name", [b"\xff.weight", b"\xed\xa0\x80.weight"])
def test_names_are_text_whatever_their_bytes(name: bytes) -> None:
    """Not UTF-8, and half a character as UTF-8 would spell it."""
    entry = struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, 0, 0, 0)
    data = gguf_bytes({}, raw_entries=entry, counts=(1, 0)) + bytes(64)
    (held,) = parse("test", data, len(data)).regions
    assert held.encode().endswith(b".weight")


@pytest.mark.parametrize("count", BIG)
def test_giant_counts_and_lengths(count: int) -> None:
    assert "truncated or malformed" in refusal(gguf_bytes({}, counts=(count, 0)))
    assert "truncated or malformed" in refusal(gguf_bytes({}, counts=(0, count)))
    length = struct.pack("<IQ", g.STRING, count)
    assert "truncated or malformed" in refusal(with_entry(b"k", length))
    one = array_header(g.STRING, 1) + struct.pack("<Q", count)
    assert "truncated or malformed" in refusal(with_entry(b"k", one))
    name = gguf_bytes({}, raw_entries=struct.pack("<Q", count) + bytes(64), counts=(1, 0))
    assert "name of" in refusal(name)
    dimensions = g.string("x") + struct.pack("<I", count % 2**32 or 5)
    assert "dimensions" in refusal(
        gguf_bytes({}, raw_entries=dimensions + bytes(64), counts=(1, 0))
    )


def test_a_giant_header_of_a_larger_file_is_not_fetched() -> None:
    """Of a file of terabytes no more is asked for than a header can have."""
    data = with_entry(b"k", array_header(g.UINT8, 2**39))
    with pytest.raises(SourceError, match="a header of"):
        parse("test", data, 2**40)
    with pytest.raises(Incomplete):
        parse("test", with_entry(b"k", array_header(g.UINT8, 2**26)), 2**40)


def test_an_empty_shape_too_large_for_numpy_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", {"x": Tensor("F64", (0, 2**62), b"")})
    with pytest.raises(SourceError, match="cannot be mapped"):
        read_tensors(path)["x"].read()


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty.gguf").write_bytes(b"")
    for name, match in (("empty", "not a GGUF file"), ("missing", "No such file")):
        for open_it in (dt.open_matrix, read_tensors):
            with pytest.raises(SourceError, match=match):
                open_it(tmp_path / f"{name}.gguf")
    fifo = tmp_path / "fifo.gguf"
    os.mkfifo(fifo)
    for open_it in (dt.open_matrix, read_tensors):
        with pytest.raises(SourceError, match="not a regular file"):
            open_it(fifo)


# --- types ---


def test_the_sizes_are_those_of_ggml() -> None:
    for name, (number, *sizes) in GGML.items():
        kind = gguf.GGMLQuantizationType(number)
        assert (kind.name, *sizes) == (name, *gguf.GGML_QUANT_SIZES[kind])


def test_every_type_that_the_package_dequantises_is_tried() -> None:
    known = set()
    for kind, (_, size) in gguf.GGML_QUANT_SIZES.items():
        try:
            gguf.quants.dequantize(np.zeros((1, size), np.uint8), kind)
            known.add(kind.name)
        except NotImplementedError:
            pass
    assert known == {*KINDS, "F32", "F16", "BF16"}


@every_kind
def test_rows_are_dequantised_as_the_package_does(tmp_path: Path, kind: str) -> None:
    """Random bytes, so that scales are NaN and infinite too."""
    raw = random_rows(kind, 90)
    expected = dequantised(raw, kind).view(np.uint32)
    matrix = matrix_of(tmp_path, raw, kind)
    assert (matrix.shape, matrix.format, matrix.storage) == ((90, 512), FLOAT32, kind)
    assert matrix.quantised is not None
    assert np.array_equal(matrix.quantised.raw, raw)
    assert isinstance(matrix.quantised.raw, np.memmap)
    rows = np.array([3, 89, 0, 3])
    mask = np.arange(90) % 7 == 2
    choices: list[Any] = [slice(None), slice(7, 50, 3), slice(-5, None), rows, mask, rows[:0], -2]
    for choice in choices:
        codes = matrix.codes[choice]
        assert codes.dtype == np.uint32
        if np.ndim(choice) == 0 and not isinstance(choice, slice):
            codes = codes[0]
        assert np.array_equal(codes, expected[choice])
    with pytest.raises(IndexError):
        matrix.codes[np.array([90])]


@pytest.mark.parametrize("kind", QUANTISED_BY_PACKAGE)
def test_what_the_package_quantised_comes_back(tmp_path: Path, kind: str) -> None:
    values = np.random.default_rng(3).normal(0, 0.02, (40, 512)).astype(np.float32)
    raw = gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])
    found = matrix_of(tmp_path, raw, kind).values()
    blocks = np.abs(values).reshape(40, -1, GGML[kind][1]).max(axis=2)
    worst = np.repeat(blocks, GGML[kind][1], axis=1)
    coarseness = {"Q8_0": 1 / 127, "Q5_0": 1 / 16, "Q5_1": 1 / 15, "Q4_0": 1 / 8, "Q4_1": 1 / 7}
    assert (np.abs(found - values) <= coarseness.get(kind, 0.6) * worst * 1.01).all()


def half(raw: bytes) -> float:
    return float(struct.unpack("<e", raw)[0])


def literal_q8_0(block: bytes) -> list[float]:
    return [half(block[:2]) * q for q in struct.unpack("<32b", block[2:])]


def literal_q4_0(block: bytes) -> list[float]:
    nibbles = [byte & 15 for byte in block[2:]] + [byte >> 4 for byte in block[2:]]
    return [half(block[:2]) * (q - 8) for q in nibbles]


def literal_q4_1(block: bytes) -> list[float]:
    nibbles = [byte & 15 for byte in block[4:]] + [byte >> 4 for byte in block[4:]]
    return [half(block[:2]) * q + half(block[2:4]) for q in nibbles]


def literal_q6_k(block: bytes) -> list[float]:
    low, high, scales, d = block[:128], block[128:192], block[192:208], half(block[208:])
    signed = struct.unpack("<16b", scales)
    numbers = []
    for i in range(256):
        half_of, place = divmod(i, 128)
        quarter, column = divmod(place, 32)
        byte = low[64 * half_of + (32 if quarter % 2 else 0) + column]
        nibble = byte >> 4 if quarter >= 2 else byte & 15
        bits = high[32 * half_of + column] >> (2 * quarter) & 3
        numbers.append(d * signed[i // 16] * ((nibble | bits << 4) - 32))
    return numbers


@pytest.mark.parametrize(
    ("kind", "literal"),
    [
        ("Q8_0", literal_q8_0),
        ("Q4_0", literal_q4_0),
        ("Q4_1", literal_q4_1),
        ("Q6_K", literal_q6_k),
    ],
)
def test_rows_equal_the_literal_ones(
    tmp_path: Path, kind: str, literal: Callable[[bytes], list[float]]
) -> None:
    """By ggml's definitions, number by number."""
    raw = random_rows(kind, 20, seed=5)
    size = GGML[kind][2]
    blocks = [row[i : i + size].tobytes() for row in raw for i in range(0, row.size, size)]
    with np.errstate(all="ignore"):
        expected = np.array([literal(block) for block in blocks]).reshape(20, -1).astype(np.float32)
    found = matrix_of(tmp_path, raw, kind).values()
    np.testing.assert_allclose(found, expected, rtol=3e-7, equal_nan=True)


@pytest.mark.parametrize("kind", ["Q8_1", "Q8_K"])
def test_types_that_the_package_does_not_dequantise(tmp_path: Path, kind: str) -> None:
    raw = random_rows(kind, 4)
    path = write_gguf(tmp_path / "a.gguf", {WEIGHT: quantised(kind, raw)})
    found = inspect(path)
    assert [c.tensor.dtype for c in found.candidates] == [kind]
    assert found.choice is None
    assert found.refusal is not None
    assert f"has dtype {kind}, which the gguf package cannot dequantise" in found.refusal
    with pytest.raises(SourceError, match="cannot dequantise"):
        dt.open_matrix(path)
    assert np.array_equal(read_tensors(path)[WEIGHT].read(), raw)


@pytest.mark.parametrize("number", [4, 31, 36, 99, 2**32 - 1])
def test_types_that_nobody_knows_hide_only_their_own_tensor(tmp_path: Path, number: int) -> None:
    """Sizes unknown, it is taken to reach to the next tensor."""
    numbers = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensors = {
        "a": tensor_of(numbers),
        WEIGHT: Tensor(number, (4, 32), bytes(96)),
        "token_embd.weight": tensor_of(numbers),
    }
    path = write_gguf(tmp_path / "a.gguf", tensors)
    found = read_tensors(path)
    assert (found[WEIGHT].dtype, found[WEIGHT].nbytes) == (f"GGML type {number}", 96)
    assert np.array_equal(found["token_embd.weight"].read(), numbers)
    for read in (found[WEIGHT].read, lambda: dt.open_matrix(path)):
        with pytest.raises(SourceError, match=f"has dtype GGML type {number}, which is not supp"):
            read()
    assert dt.open_matrix(path, "token_embd.weight").shape == (3, 4)


def test_big_endian_numbers_are_refused_plainly(tmp_path: Path) -> None:
    numbers = np.ones((3, 4), ">f4")
    tensor = Tensor("F32", (3, 4), numbers.tobytes())
    path = write_gguf(tmp_path / "a.gguf", {WEIGHT: tensor}, order=">")
    found = inspect(path)
    assert [c.tensor.dtype for c in found.candidates] == ["F32 (big-endian)"]
    with pytest.raises(SourceError, match=r"has dtype F32 \(big-endian\), which is not supported"):
        dt.open_matrix(path)


# --- models ---


def model_file(path: Path, *names: str, metadata: Any = None) -> Path:
    rows = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    tensors = {name: tensor_of(rows + i) for i, name in enumerate(names)}
    return write_gguf(path, tensors, metadata)


def test_tied_and_untied_models(tmp_path: Path) -> None:
    names = "token_embd.weight", "blk.0.attn_output.weight", "token_embd_norm.weight"
    tied = open_model(model_file(tmp_path / "tied.gguf", *names))
    assert tied.tied is True
    assert tied.both_names() == ()
    assert tied.choose().tensor.name == "token_embd.weight"
    assert "GGUF leaves it out where they are tied" in tied.choose().reason
    untied = open_model(model_file(tmp_path / "untied.gguf", *names, WEIGHT, "cls.output.weight"))
    assert untied.tied is False
    assert untied.choose().tensor.name == WEIGHT
    assert untied.both_names() == ("token_embd.weight", WEIGHT)
    other = open_model(model_file(tmp_path / "other.gguf", "v.patch_embd.weight"))
    assert other.tied is None


def test_the_vocabulary_in_the_file_is_the_tokenizer(tmp_path: Path) -> None:
    metadata = {"tokenizer.ggml.tokens": g.strings(["a", "b"])}
    path = model_file(tmp_path / "model.gguf", WEIGHT, metadata=metadata)
    beside = tmp_path / "tokenizer.json"
    beside.write_text("{}")
    tokenizer = open_model(path).tokenizer
    assert isinstance(tokenizer, dict)
    assert tokenizer["tokenizer.ggml.tokens"] == ["a", "b"]
    assert dt.open_matrix(tmp_path / "model.gguf").tokenizer == tokenizer
    assert open_model(model_file(path, WEIGHT)).tokenizer == beside
    beside.unlink()
    model = open_model(tmp_path)
    assert model.tokenizer is None
    assert path in model.files


def write_parts(folder: Path, *of_parts: tuple[str, ...], count: int | None = None) -> list[Path]:
    total = len(of_parts) if count is None else count
    paths = []
    for number, names in enumerate(of_parts, 1):
        metadata = {"split.no": (g.UINT16, number - 1), "split.count": (g.UINT16, total)}
        if number == 1:
            metadata["tokenizer.ggml.tokens"] = g.strings(["a"])
        path = folder / f"model-{number:05}-of-{total:05}.gguf"
        paths.append(model_file(path, *names, metadata=metadata))
    return paths


def test_a_model_in_parts_is_opened_whole(tmp_path: Path) -> None:
    """The output matrix lies in the last part: the first alone would look tied."""
    parts = write_parts(tmp_path, ("token_embd.weight",), ("blk.0.w",), (WEIGHT,))
    for source in (*parts, tmp_path):
        model = open_model(source)
        assert (model.tied, len(model.tensors)) == (False, 3)
        assert set(parts) < set(model.files)
        assert model.choose().tensor.path == parts[2]
        assert isinstance(model.tokenizer, dict)
        assert "tokenizer.ggml.tokens" in model.tokenizer
    parts[1].unlink()
    with pytest.raises(SourceError, match=r"00002-of-00003.gguf: No such file.*all parts"):
        open_model(parts[0])


def test_parts_that_do_not_belong_together(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, ("a",), ("a",))
    with pytest.raises(SourceError, match="'a' is also in another part"):
        open_model(parts[0])
    renamed = parts[0].rename(tmp_path / "renamed.gguf")
    with pytest.raises(SourceError, match="one of 2 parts of a model, but not named like one"):
        open_model(renamed)


# --- equal rows ---


def groups_by(keys: list[Any]) -> list[int]:
    """The first row with the same key, row by row; -1 where the key is None."""
    seen: dict[Any, int] = {}
    return [-1 if key is None else seen.setdefault(key, row) for row, key in enumerate(keys)]


@every_kind
def test_equal_rows_on_bytes_and_on_values(tmp_path: Path, kind: str) -> None:
    """Few different bytes, so that rows coincide in both ways; against dictionaries of rows."""
    by_bytes, by_values = 0, 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        blocks = rng.integers(0, 256, (4, GGML[kind][2]), dtype=np.uint8)
        blocks[1] = 0  # every scale 0
        blocks[2] = 0
        blocks[2, GGML[kind][2] // 2] = 0x11  # other bytes, the same zero scale, mostly
        # The last may hold a NaN as its scale.
        numbers = GGML[kind][1] * 2
        raw = blocks[rng.integers(0, 4, (60, 2))].reshape(60, -1)
        matrix = matrix_of(tmp_path, raw, kind)
        assert matrix.shape == (60, numbers)
        assert raw_census(matrix).first.tolist() == groups_by([row.tobytes() for row in raw])
        values = dequantised(raw, kind) + 0.0  # -0.0 + 0.0 is 0.0
        finite = np.isfinite(values).all(axis=1)
        keys = [row.tobytes() if ok else None for row, ok in zip(values, finite, strict=True)]
        found = dt.census(matrix)
        assert found.first.tolist() == groups_by(keys)
        dense = Matrix(dequantised(raw, kind).view(np.uint32), FLOAT32, "dense", "x", "")
        expected = dt.census(dense)
        for name in ("first", "group_first", "group_population"):
            assert np.array_equal(getattr(found, name), getattr(expected, name))
        by_bytes += raw_census(matrix).n_unique
        by_values += found.n_unique + int((~finite).sum() > 0)
    assert by_values <= by_bytes


def test_different_bytes_of_equal_values(tmp_path: Path) -> None:
    """A zero scale makes all numbers 0, a negative one -0.0; a NaN or infinite one, no number."""
    rng = np.random.default_rng(0)
    numbers = rng.integers(-127, 128, (9, 64))
    numbers[7] = numbers[8] = 2 * numbers[6].clip(-60, 60)
    numbers[6] = numbers[8] // 2
    scales = np.ones((9, 2))
    scales[:4] = [[0.0, 0.0], [-0.0, 0.0], [0.0, -0.0], [0.0, 0.0]]
    scales[4:6] = [[np.nan, 1.0], [1.0, np.inf]]
    scales[6] = 2
    raw = q8_0(scales, numbers)
    matrix = matrix_of(tmp_path, raw, "Q8_0")
    assert raw_census(matrix).first.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7]
    found = dt.census(matrix)
    assert found.first.tolist() == [0, 0, 0, 0, -1, -1, 6, 6, 6]
    assert found.group_population.tolist() == [4, 3]
    assert found.not_finite.tolist() == [4, 5]


def test_bytes_are_no_numbers(tmp_path: Path) -> None:
    """0x80 is not -0.0 and 0x7F.. not infinite where bytes are compared."""
    raw = np.zeros((6, 34), np.uint8)
    raw[1, 10] = raw[3, 10] = 0x80
    raw[2], raw[4], raw[5] = 0x7F, 0xFF, 0x7F
    found = raw_census(matrix_of(tmp_path, raw, "Q8_0"))
    assert found.first.tolist() == [0, 1, 2, 1, 4, 2]
    assert found.not_finite.size == 0


@pytest.mark.parametrize(
    ("scale", "says"), [(1.0, "the same"), (0.0, "5 distinct rows, 1 black holes")]
)
def test_the_command_counts_rows_as_stored(
    deadtokens: Program, tmp_path: Path, scale: float, says: str
) -> None:
    """Two rows of other bytes whose scale is zero are equal as numbers only."""
    numbers = np.random.default_rng(1).integers(-127, 128, (6, 32))
    numbers[1] = numbers[0]
    scales = [1.0, 1.0, scale, scale, 1.0, 1.0]
    path, out = tmp_path / "m.gguf", tmp_path / "out"
    write_gguf(path, {"token_embd.weight": quantised("Q8_0", q8_0(scales, numbers))})
    printed = deadtokens("census", path, "-o", out).out
    assert f"as stored, byte for byte: {says}" in printed
    facts = json.loads((out / "census.json").read_text(encoding="utf-8"))
    assert facts["equal_as_stored"] == {"n_unique": 5, "populations": [2]}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "5 distinct rows, black holes of 2 rows" in page


def test_names_like_those_of_quantisations_are_not_undone() -> None:
    assert can_dequantise("Q8_0")
    assert not can_dequantise("Q9_9")
    assert not can_dequantise("F32")


def test_raw_census_needs_quantised_rows(matrix: Matrix) -> None:
    with pytest.raises(SelectionError, match="no quantised bytes"):
        raw_census(matrix)


def test_rows_are_grouped_across_blocks(tmp_path: Path) -> None:
    """More rows than are made at a time; each vector returns 3,000 rows later, twice the bytes."""
    numbers = np.random.default_rng(1).integers(-60, 61, (3000, 32))
    numbers[:, 0] = 60  # so that no row is twice another
    raw = q8_0(
        np.repeat([2.0, 1.0, 1.0], 3000), np.concatenate([numbers, 2 * numbers, 2 * numbers])
    )
    matrix = matrix_of(tmp_path, raw, "Q8_0")
    assert np.array_equal(raw_census(matrix).first[6000:], raw_census(matrix).first[3000:6000])
    found = dt.census(matrix).first
    assert np.array_equal(found[3000:6000], found[:3000])
    assert np.array_equal(found[6000:], found[:3000])
    assert raw_census(matrix).n_unique == 2 * dt.census(matrix).n_unique


def test_the_matrix_is_never_held_as_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    raw = random_rows("Q4_0", 30_000, numbers=1024)
    matrix = matrix_of(tmp_path, raw, "Q4_0")
    dt.census(matrix_of(tmp_path, raw[:5], "Q4_0"))  # compiles
    tracemalloc.start()
    try:
        dt.census(matrix)
        raw_census(matrix)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        rows = matrix.codes[:4096]
        made = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < 40e6 < 4 * matrix.n_rows * matrix.n_dimensions / 3
    assert made < rows.nbytes + 6e6


# --- statistics ---


def cluster(kind: str = "Q8_0") -> Snowball:
    rng = np.random.default_rng(4)
    numbers = np.tile(rng.integers(-100, 100, 32), (40, 1))
    numbers[:, 3] += rng.integers(0, 6, 40)
    numbers[:, 9] += 2 * rng.integers(0, 2, 40)
    values = dequantised(q8_0(np.full(40, 0.25), numbers), "Q8_0")
    distinct, populations = np.unique(values, axis=0, return_counts=True)
    return Snowball(distinct.view(np.uint32), populations, FLOAT32, quantised=kind)


def test_statistics_of_quantised_rows_have_no_steps() -> None:
    snowball = cluster()
    found = dt.measure(snowball)
    epsilon = float(found.row["epsilon"] or 0)
    plain = dt.measure(Snowball(snowball.codes, snowball.populations, FLOAT32), epsilon)
    blank = {"max_ulp", "mean_ulp", "median_ulp", "mean_ulp_se", "median_ulp_se", "format"}
    assert {name for name, cell in found.row.items() if cell != plain.row[name]} == blank - {
        "mean_ulp_se",
        "median_ulp_se",
    }
    assert all(found.row[name] is None for name in blank - {"format"})
    assert found.row["format"] == "Q8_0"
    assert "max_ulp, mean_ulp and median_ulp are blank" in found.lacking
    assert "Q8_0 numbers lie on no fixed lattice" in found.lacking
    assert plain.lacking == ""
    assert list(found.row) == list(plain.row)


def test_sampled_statistics_of_quantised_rows_have_no_steps_either() -> None:
    found = dt.measure(cluster(), exact_limit=3).row
    assert found["mean_l_inf_se"] is not None
    assert found["mean_ulp"] is found["mean_ulp_se"] is None


def test_default_epsilon_of_quantised_rows() -> None:
    found = dt.measure(cluster())
    assert found.row["epsilon"] == 0.25  # of dimension 3; in dimension 9 it would be 0.5
    assert "in dimension 3 (of largest range), as Q8_0 numbers have no ULP" in found.epsilon_origin
    assert found.row["touching"] == 0.5

    def alone(value: float) -> tuple[Any, str]:
        codes = np.array([[0.5, value, -0.25]], np.float32).view(np.uint32)
        one = dt.measure(Snowball(codes, np.array([2]), FLOAT32, quantised="Q4_0"))
        return one.row["epsilon"], one.epsilon_origin

    assert alone(-3.0) == (3.0, "largest |value|, in dimension 1 (nothing varies)")
    codes = np.zeros((1, 3), np.uint32)
    zero = dt.measure(Snowball(codes, np.array([2]), FLOAT32, quantised="Q4_0"))
    assert zero.row["epsilon"] == 1.0
    assert zero.epsilon_origin == "1, as all values are 0 (nothing varies)"


def test_snowballs_of_quantised_rows_stay_float32(tmp_path: Path) -> None:
    """Multiples of a power of two are bfloat16 numbers, and on no bfloat16 lattice for that."""
    raw = q8_0(np.full(4, 0.5), np.random.default_rng(0).integers(-9, 9, (4, 32)))
    matrix = matrix_of(tmp_path, raw, "Q8_0")
    snowball = snowball_of(matrix, np.arange(4))
    assert (snowball.format, snowball.quantised, snowball.storage) == (FLOAT32, "Q8_0", "Q8_0")
    assert "Q8_0" in repr(snowball)
    dense = Matrix(matrix.codes[:], FLOAT32, "dense", "x", "")
    assert snowball_of(dense, np.arange(4)).format is FORMATS["bfloat16"]


def test_what_asks_about_rounding_is_refused(tmp_path: Path) -> None:
    numbers = np.tile(np.arange(32), (9, 1))
    numbers[:, 4] += np.arange(9) % 3
    matrix = matrix_of(tmp_path, q8_0(np.ones(9), numbers), "Q8_0")
    rows = np.ones(9, dtype=np.bool_)
    snowball = snowball_of(matrix, rows)
    run = tmp_path / "run"
    asked: list[Callable[[], object]] = [
        lambda: dt.fit(snowball),
        lambda: dt.independence(snowball),
        lambda: dt.study(matrix, rows, run),
    ]
    for ask in asked:
        with pytest.raises(SelectionError, match=r"Q8_0 numbers lie on no fixed.*use the file it"):
            ask()
    assert not run.exists()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_numbers_in_a_gguf_file_get_all_statistics(tmp_path: Path, dtype: Any) -> None:
    """As the same numbers in a .safetensors file do."""
    from containers import write_tensors

    rng = np.random.default_rng(2)
    rows = (rng.normal(0, 0.02, 48) + rng.normal(0, 3e-5, (30, 48))).astype(dtype)
    rows[20:] = rows[:10]
    ours = dt.open_matrix(write_gguf(tmp_path / "a.gguf", {"token_embd.weight": tensor_of(rows)}))
    theirs = dt.open_matrix(write_tensors(tmp_path / "a.safetensors", {"wte.weight": rows}))
    assert ours.quantised is None
    assert ours.format is theirs.format is FORMATS[np.dtype(dtype).name]
    assert np.array_equal(ours.codes[:], theirs.codes[:])
    found, expected = (dt.measure(snowball_of(matrix, np.arange(30))) for matrix in (ours, theirs))
    assert found.row == expected.row
    assert found.lacking == ""
    assert float(found.row["max_ulp"] or 0) > 0
    assert dt.fit(snowball_of(ours, np.arange(30))).sigma > 0


# --- the program ---


def test_measure_says_what_quantised_numbers_cannot_support(
    tmp_path: Path, deadtokens: Program
) -> None:
    raw = q8_0(np.ones(6), np.tile(np.arange(32), (6, 1)))
    path = write_gguf(tmp_path / "a.gguf", {WEIGHT: quantised("Q8_0", raw)})
    told = deadtokens("measure", path)
    assert told.status == 0, told.err
    assert "6 rows x 32 dimensions, Q8_0" in " ".join(told.out.split())
    assert "Q8_0 numbers lie on no fixed lattice" in " ".join(told.out.split())
    facts = json.loads(deadtokens("measure", path, "--json").out)
    assert facts["max_ulp"] is None
    assert (facts["storage"], facts["format"]) == ("Q8_0", "Q8_0")
    assert "no fixed lattice" in facts["lacking"]
    refused = deadtokens("fit", path)
    assert refused.status == 1
    assert "Traceback" not in refused.err


def test_the_package_is_loaded_without_warnings_and_only_when_needed(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, 4), np.float32))
    write_gguf(tmp_path / "a.gguf", {WEIGHT: quantised("Q4_0", random_rows("Q4_0", 2))})
    code = (
        "import sys, deadtokens as dt;"
        f"dt.open_matrix({str(tmp_path / 'a.npy')!r}); print('gguf' in sys.modules);"
        f"dt.open_matrix({str(tmp_path / 'a.gguf')!r}).values(); print('gguf' in sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True"]
    assert result.stderr == ""


def test_header_is_plain_data() -> None:
    header = parse("test", gguf_bytes({"x": NUMBERS}), 2**20)
    assert isinstance(header, Header)
    assert list(itertools.chain(header.metadata, header.regions)) == ["x"]
