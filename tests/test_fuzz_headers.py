"""Damaged model files end in one clear line or in a right answer: no crash, no hang, no blow-up.

Valid small files are damaged at random (Hypothesis, derandomised, so that runs repeat), and files
are made up of parts that lie. What is accepted must be what an independent reader finds there.
"""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import gguf_files as g
import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import safetensors
from containers import SAFETENSORS_DTYPES
from gguf_files import GGML, Tensor, gguf_bytes, quantised, tensor_of
from hypothesis import given, settings
from hypothesis import strategies as st

import deadtokens as dt
from deadtokens.errors import SourceError
from deadtokens.files import read_tensors
from deadtokens.files.gguf import Incomplete, parse
from deadtokens.sources import Matrix

Arrays = dict[str, npt.NDArray[Any]]

EXAMPLES = 400
repeatable = settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=5000)
MOST_BYTES = 4 << 20  # that one file of some thousand bytes may take
FEW = [0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 31, 32, 33, 64, 255, 256, 65_535, 65_536]
MANY = [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


# --- valid files ---


def rows(dtype: Any, n: int, d: int) -> npt.NDArray[Any]:
    """Numbers of a type; each row is there about twice."""
    values = np.random.default_rng(n).normal(size=(n, d)).astype(dtype)
    return values[np.random.default_rng(d).integers(0, n, n)]


def safetensors_bytes(header: object, data: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    announced = len(text) if length is None else length % 2**64
    return announced.to_bytes(8, "little") + text + data


def valid_safetensors() -> tuple[dict[str, Any], bytes]:
    header: dict[str, Any] = {"__metadata__": {"format": "np"}}
    data = b""
    arrays = {
        "model.embed_tokens.weight": rows(np.float32, 8, 6),
        "lm_head.weight": rows(ml_dtypes.bfloat16, 8, 6),
        "ids": np.arange(7, dtype=np.int64),
    }
    names = {"float32": "F32", "bfloat16": "BF16", "int64": "I64"}
    for name, array in arrays.items():
        place = [len(data), len(data) + array.nbytes]
        header[name] = {
            "dtype": names[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": place,
        }
        data += array.tobytes()
    return header, data


def valid_gguf(**options: Any) -> bytes:
    raw = np.random.default_rng(1).integers(0, 256, (3, 68), dtype=np.uint8)
    raw[:, [1, 35]] = 0x2C  # scales that are finite
    tensors = {
        "token_embd.weight": tensor_of(rows(np.float16, 8, 6)),
        "blk.0.ffn_norm.weight": tensor_of(np.ones(6, np.float32)),
        "output.weight": quantised("Q8_0", raw[[0, 1, 0, 2, 2, 0]]),
    }
    metadata: dict[str, tuple[int, Any]] = {
        "general.architecture": (g.STRING, "llama"),
        "general.alignment": (g.UINT32, 32),
        "llama.rope.freq_base": (g.FLOAT32, 1e5),
        "tokenizer.ggml.tokens": g.strings(["<s>", "a", "Ġb", ""]),
        "tokenizer.ggml.token_type": (g.ARRAY, (g.INT32, [3, 1, 1, 1])),
        "nested": (g.ARRAY, (g.ARRAY, [(g.UINT8, [1, 2]), (g.STRING, ["x"])])),
    }
    return gguf_bytes(tensors, metadata, **options)


SAFETENSORS = safetensors_bytes(*valid_safetensors())
GGUF = valid_gguf()


# --- damage ---


@st.composite
def damaged(draw: st.DrawFn, whole: bytes, header: int) -> bytes:
    """A file with one to four changes; what stands after its first so many bytes only changes."""
    data = bytearray(whole)
    for _ in range(draw(st.sampled_from([1, 1, 2, 4]))):
        in_header = draw(st.booleans()) or len(data) <= header
        place = draw(st.integers(0, header) if in_header else st.integers(header, len(data) - 1))
        changes = ["bit", "byte", "number", "cut", "drop", "double", "insert"]
        change = draw(st.sampled_from(changes if in_header else changes[:2]))
        if change == "bit" and place < len(data):
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif change == "byte" and place < len(data):
            data[place] = draw(st.integers(0, 255))
        elif change == "number":
            size = draw(st.sampled_from([4, 8]))
            number = draw(st.sampled_from([*FEW, *MANY, len(data), len(data) + 1]))
            raw = (number % 2 ** (8 * size)).to_bytes(
                size, draw(st.sampled_from(["little", "big"]))
            )
            data[place : place + size] = raw
        elif change == "cut":
            del data[place:]
        elif change == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=24))
        elif change in ("drop", "double"):
            length = draw(st.integers(1, 64))
            data[place : place + length] = data[place : place + length] * (2 * (change == "double"))
    return bytes(data)


# --- what must hold ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for files, with everything loaded and compiled that is not to be counted."""
    place = tmp_path_factory.mktemp("fuzz")
    assert look(write(place, SAFETENSORS, "safetensors"))
    assert look(write(place, GGUF, "gguf"))
    assert look(write(place, valid_gguf(order=">"), "gguf")) == {}  # of which none can be read
    for codes in (np.uint8, np.uint16, np.uint32):
        size = np.dtype(codes).itemsize
        fmt = next(fmt for fmt in dt.FORMATS.values() if fmt.code_dtype.itemsize == size)
        held = np.zeros((2, 3), codes)
        held.flags.writeable = False
        dt.census(Matrix(held, fmt, "warm", "", ""))
    return place


def write(folder: Path, data: bytes, suffix: str) -> Path:
    path = folder / f"model.{suffix}"
    path.unlink(missing_ok=True)  # what is still mapped stays as it is
    path.write_bytes(data)
    return path


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES


def one_line(error: SourceError) -> None:
    line = str(error)
    assert line
    assert "\n" not in line
    assert len(line) < 2000


def look(path: Path) -> Arrays | None:
    """The arrays that can be read; None if the file is refused. Then the census of its matrix."""
    try:
        tensors = read_tensors(path)
    except SourceError as error:
        one_line(error)
        return None
    arrays: Arrays = {}
    for name, tensor in tensors.items():
        try:
            arrays[name] = tensor.read()
        except SourceError as error:
            one_line(error)
        else:
            assert arrays[name].nbytes == tensor.nbytes
    try:
        matrix = dt.open_matrix(path)
    except SourceError as error:
        one_line(error)
        return arrays
    found = dt.census(matrix)
    values = as_float32(arrays[matrix.tensor], tensors[matrix.tensor].dtype)
    assert values.shape == matrix.shape
    assert found.first.tolist() == literal_groups(values)
    return arrays


def as_float32(array: npt.NDArray[Any], kind: str) -> npt.NDArray[np.float32]:
    with np.errstate(all="ignore"):
        if kind in GGML and kind not in g.SCALARS:
            return np.asarray(gguf.quants.dequantize(array, gguf.GGMLQuantizationType[kind]))
        return np.asarray(array).astype(np.float32)


def literal_groups(values: npt.NDArray[np.float32]) -> list[int]:
    seen: dict[bytes, int] = {}
    return [
        seen.setdefault((row + np.float32(0)).tobytes(), i) if np.isfinite(row).all() else -1
        for i, row in enumerate(values)
    ]


def bytes_of(arrays: Arrays) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in arrays.items()}


# --- safetensors ---


def literal_safetensors(data: bytes) -> dict[str, bytes]:
    """The bytes of each tensor of a file that is taken to be well-formed."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = data[8 + length :]
    return {name: body[slice(*entry["data_offsets"])] for name, entry in header.items()}


def their_safetensors(data: bytes) -> dict[str, bytes] | None:
    """What the safetensors package reads; None if it refuses."""
    try:
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
        return {name: bytes(entry["data"]) for name, entry in entries}
    except safetensors.SafetensorError:
        return None


def check_safetensors(folder: Path, data: bytes) -> bool:
    """Check one file; whether it was accepted."""
    path = write(folder, data, "safetensors")
    with little_memory():
        arrays = look(path)
    theirs = their_safetensors(data)
    if arrays is None:
        assert theirs is None, "the package reads it"
        return False
    expected = literal_safetensors(data)
    assert bytes_of(arrays) == {name: expected[name] for name in arrays}
    if theirs is not None:
        assert {name: theirs[name] for name in arrays} == bytes_of(arrays)
    return True


def test_valid_files_are_read(folder: Path) -> None:
    assert check_safetensors(folder, SAFETENSORS)
    assert check_gguf(folder, GGUF)
    assert check_gguf(folder, valid_gguf(version=2))


@repeatable
@given(data=damaged(SAFETENSORS, len(SAFETENSORS) - len(valid_safetensors()[1])))
def test_damaged_safetensors(folder: Path, data: bytes) -> None:
    check_safetensors(folder, data)


WEIRD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([*FEW, *MANY, -1, -(2**63), 2**200, 1e308, math.nan, math.inf, 1.0]),
    st.text(max_size=5),
    st.sampled_from([*SAFETENSORS_DTYPES, "Q8_0", "Q4_K", "F4", "Q99", "BF16 ", "\n"]),
    st.lists(st.sampled_from([0, 1, 2, 8, 6, 192, 96, 2**32, 2**63, -1, "1"]), max_size=4),
    st.just([1] * 70),
    st.just({}),
)


@st.composite
def lying_safetensors(draw: st.DrawFn) -> bytes:
    """A header whose values are no such, or others, of all kinds that JSON has."""
    header, data = valid_safetensors()
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(header)))
        entry = header[name]
        change = draw(st.sampled_from(["field", "item", "entry", "drop", "copy"]))
        if change == "entry" or not isinstance(entry, dict) or not entry:
            header[name] = draw(WEIRD)
        elif change == "field":
            entry[draw(st.sampled_from([*entry, "shape"]))] = draw(WEIRD)
        elif change == "item":
            of = draw(st.sampled_from(["shape", "data_offsets"]))
            if isinstance(entry.get(of), list) and entry[of]:
                entry[of] = [draw(WEIRD), *entry[of][1:]][:: draw(st.sampled_from([1, -1]))]
        elif change == "drop":
            del header[name]
        else:
            header[draw(st.text(max_size=8))] = dict(entry)
        if not header:
            break
    text = json.dumps(header).encode()
    if draw(st.integers(0, 9)) == 0:
        text = b"[" * draw(st.sampled_from([10, 5000])) + text
    off = draw(st.sampled_from([0] * 8 + [1, -1, 2**63, 2**64 - 1]))
    return safetensors_bytes(text, data, len(text) + off)


@repeatable
@given(data=lying_safetensors())
def test_lying_safetensors(folder: Path, data: bytes) -> None:
    check_safetensors(folder, data)


# --- GGUF ---


def their_gguf(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]] | None:
    """What the gguf package reads, of a header that it can be trusted with; None if it refuses."""
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, KeyError, IndexError):
        return None
    return {
        tensor.name: (
            tensor.tensor_type.name,
            tuple(tensor.shape.tolist()[::-1]),
            tensor.data.tobytes(),
        )
        for tensor in reader.tensors
    }


def check_gguf(folder: Path, data: bytes) -> bool:
    """Check one file; whether it was accepted."""
    path = write(folder, data, "gguf")
    with little_memory():
        arrays = look(path)
    check_pieces(data)
    if arrays is None:
        return False
    theirs = their_gguf(path)
    if theirs is not None:
        tensors = read_tensors(path)
        for name, array in arrays.items():
            kind, shape, raw = theirs[name]
            assert (tensors[name].dtype, tensors[name].shape) == (kind, shape)
            assert array.tobytes() == raw
    return True


def check_pieces(data: bytes) -> None:
    """A part of the file gives the same header, or asks for more, or the same refusal."""

    def outcome(length: int) -> object:
        try:
            return parse("test", data[:length], len(data)).regions
        except SourceError as error:
            return str(error)

    whole = outcome(len(data))
    for length in {len(data) // 3, 2 * len(data) // 3, max(len(data) - 40, 0)}:
        try:
            part = outcome(length)
        except Incomplete as more:
            assert length < more.needed <= len(data)  # noqa: PT017 - it is no failure
        else:
            assert part == whole


def header_bytes(data: bytes) -> int:
    return min(region.offset for region in parse("test", data, len(data)).regions.values())


@repeatable
@given(data=damaged(GGUF, header_bytes(GGUF)))
def test_damaged_gguf(folder: Path, data: bytes) -> None:
    check_gguf(folder, data)


@settings(repeatable, max_examples=150)
@given(data=damaged(valid_gguf(order=">"), header_bytes(GGUF)))
def test_damaged_big_endian_gguf(folder: Path, data: bytes) -> None:
    check_gguf(folder, data)


@st.composite
def lying_tensor(draw: st.DrawFn) -> Tensor:
    kinds: list[str | int] = [*GGML, "F32", "BF16", "Q8_0", 5, 33, 2**31]
    kind = draw(st.sampled_from(kinds))
    _, block, block_bytes = GGML[kind] if isinstance(kind, str) else (0, 32, 18)
    shape: tuple[int, ...] = (draw(st.integers(1, 9)), draw(st.integers(1, 3)) * block)
    offset, part = None, 1.0
    if draw(st.integers(0, 4)) == 0:
        sizes = st.sampled_from([1, 2, 3, 32, 256, 0, *MANY])
        shape = tuple(draw(st.lists(sizes, max_size=5)))
        offset = draw(st.sampled_from([None, None, 0, 32, 64, 1, 2**63, 2**64 - 32]))
        part = draw(st.sampled_from([1, 0.5]))
    numbers = math.prod(shape)
    size = int((numbers // block * block_bytes if numbers < 10_000 else 64) * part)
    pattern = draw(st.binary(min_size=1, max_size=9))
    return Tensor(kind, shape, (pattern * (size // len(pattern) + 1))[:size], offset)


def metadata_values(depth: int = 0) -> st.SearchStrategy[tuple[int, Any]]:
    numbers = st.one_of(
        st.tuples(st.just(g.UINT32), st.sampled_from([0, 1, 8, 24, 32, 64, 4096, 2**31])),
        st.tuples(st.just(g.INT32), st.integers(-(2**31), 2**31 - 1)),
        st.tuples(st.just(g.FLOAT64), st.floats()),
        st.tuples(st.just(g.BOOL), st.booleans()),
        st.tuples(st.just(g.STRING), st.binary(max_size=12)),
    )
    if depth > 3:
        return numbers
    inner = st.lists(
        metadata_values(depth + 1).map(lambda entry: (entry[0], [entry[1]])), max_size=3
    )
    return st.one_of(
        numbers, inner.map(lambda items: (g.ARRAY, (g.ARRAY, items))), st.just(g.strings(["a"] * 9))
    )


@st.composite
def lying_gguf(draw: st.DrawFn) -> bytes:
    """Well-formed pieces that need not agree with each other."""
    lie = draw(st.sampled_from(["names", "metadata", "counts", "alignment", "version", "more", ""]))
    names = ["output.weight", "token_embd.weight", "blk.0.x"]
    if lie == "names":
        names = draw(st.lists(st.sampled_from([*names, "", "x" * 70]), max_size=3))
    keys = st.sampled_from(["general.alignment", "split.count", "tokenizer.ggml.tokens", "k", ""])
    metadata: dict[str, tuple[int, Any]] = {}
    if lie == "metadata":
        metadata = draw(st.dictionaries(keys, metadata_values(), max_size=4))
    few = st.sampled_from([0, 1, 2, 3, *MANY])
    return gguf_bytes(
        [(name, draw(lying_tensor())) for name in names],
        metadata,
        version=draw(st.sampled_from([1, 2, 4])) if lie == "version" else 3,
        alignment=draw(st.sampled_from([1, 8, 64])) if lie == "alignment" else 32,
        counts=(draw(few), draw(few)) if lie == "counts" else None,
        raw_entries=bytes(16) if lie == "more" else b"",
    )


@repeatable
@given(data=lying_gguf())
def test_lying_gguf(folder: Path, data: bytes) -> None:
    check_gguf(folder, data)


@settings(repeatable, max_examples=100)
@given(data=st.binary(max_size=400), magic=st.booleans())
def test_noise(folder: Path, data: bytes, magic: bool) -> None:
    check_gguf(folder, (b"GGUF\x03\x00\x00\x00" if magic else b"") + data)
    check_safetensors(folder, data)


# --- the fuzzing itself ---


@pytest.mark.parametrize(
    ("whole", "header", "check"),
    [
        (SAFETENSORS, len(SAFETENSORS) - len(valid_safetensors()[1]), check_safetensors),
        (GGUF, header_bytes(GGUF), check_gguf),
    ],
    ids=["safetensors", "gguf"],
)
def test_damage_leaves_some_files_readable(
    folder: Path, whole: bytes, header: int, check: Callable[[Path, bytes], bool]
) -> None:
    """Both outcomes are tried: refused, and read in spite of the damage."""
    outcomes = []

    @settings(repeatable, max_examples=100)
    @given(data=damaged(whole, header))
    def count(data: bytes) -> None:
        outcomes.append(check(folder, data))

    count()
    assert sum(outcomes) >= 20
    assert len(outcomes) - sum(outcomes) >= 30
