"""HDF5 files: datasets by path, mapped where they lie in one piece, else read part by part.

Numbers are read as the bits that are stored: HDF5 converts nothing, because h5py would widen what
NumPy has no type for (bfloat16 to float32). Nothing outside the file is ever opened: a file that
links to others is refused, and so are virtual datasets and external storage.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from deadtokens.errors import SourceError
from deadtokens.files.stored import AnyArray, Region, StoredTensor, check_name
from deadtokens.rows import MadeRows, RowChoice

_MOST_OBJECTS = 100_000
_LARGEST_CHUNK = 1 << 30  # a chunk is unpacked whole
_MOST_LOADED = 1 << 32
_MOST_CACHED = 1 << 28
_BLOCK_BYTES = 1 << 24
_REMEDY = "write all of it, as a plain dataset of float16, float32 or bfloat16 numbers"

# What h5py raises on files that are damaged.
_DAMAGED = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    SystemError,  # of Cython, where an error is met on the way out of a callback
)


@dataclass(frozen=True)
class PartedTensor(StoredTensor):
    """A tensor that cannot be mapped, but of which parts can be read; `read` loads all of it.

    Attributes:
        part: Reads entries start to stop of the first axis; safe to call from several threads.
        step: Entries that are best read together.
    """

    part: Callable[[int, int], AnyArray]
    step: int

    @property
    def rows(self) -> MadeRows:
        """Of a 2-D tensor: its rows, read when they are asked for."""
        n_rows, n_columns = self.shape
        return MadeRows((n_rows, n_columns), self._take)

    def _take(self, rows: RowChoice) -> AnyArray:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.shape[0])
            if step == 1:
                return self.part(start, max(start, stop))
            rows = np.arange(start, stop, step)
        numbers = np.arange(self.shape[0])[rows]
        wanted, places = np.unique(numbers, return_inverse=True)
        blocks = np.split(wanted, np.flatnonzero(np.diff(wanted // self.step)) + 1)
        if not wanted.size:
            return self.part(0, 0)
        read = [self.part(int(b[0]), int(b[-1]) + 1)[b - b[0]] for b in blocks]
        return np.concatenate(read)[places]


def read_hdf5(path: Path) -> dict[str, StoredTensor]:
    """The datasets of an HDF5 file, by path (``"group/name"``); reads no data.

    Float16, float32 and float64 are read as they are; bfloat16 as HDF5's own 16-bit type, as
    two-byte opaque numbers (what h5py makes of ml_dtypes' bfloat16), or as 16-bit integers with an
    attribute ``dtype`` of ``"bfloat16"``; all little-endian. Soft links are passed over: what they
    point to is listed under its own path.

    Raises:
        SourceError: h5py is missing, the file is damaged, or it links to another file.
    """
    h5py = _h5py(path)
    with path.open("rb") as opened:  # says in plain words why it cannot be
        size = opened.seek(0, 2)
    try:
        with h5py.File(path, "r") as file:
            names = _names(h5py, file, path)
            return {name: _stored(h5py, file[name], name, path, size) for name in names}
    except _DAMAGED as error:
        raise _damaged(path, error) from None


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise SourceError(
            "HDF5 files are read by h5py, which is not installed",
            where=path,
            remedy="pip install 'deadtokens[hdf5]'",
        ) from None
    return h5py


def _damaged(where: object, error: BaseException) -> SourceError:
    return SourceError(
        f"not a readable HDF5 file ({_words(error)})", where=where, remedy="write or fetch it again"
    )


def _words(error: BaseException) -> str:
    if isinstance(error, SystemError) and error.__cause__ is not None:
        error = error.__cause__
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def _names(h5py: Any, file: Any, path: Path) -> list[str]:
    """Paths of the datasets, each once however many links there are to it.

    Raises:
        SourceError: Something in the file leads out of it.
    """
    names: list[str] = []
    seen = itertools.count(1)

    def look_at_link(name: str, link: Any) -> str | None:
        return f"{name!r} is a link to" if isinstance(link, h5py.ExternalLink) else None

    def look(name: str, item: Any) -> str | None:
        if next(seen) > _MOST_OBJECTS:
            raise ValueError(f"more than {_MOST_OBJECTS:,} objects")
        if not isinstance(item, h5py.Dataset):
            return None
        plan = item.id.get_create_plist()
        if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
            # To ask for its shape would be enough to open the others.
            return f"the numbers of {name!r} lie in"
        if item.shape is not None:
            names.append(name)
        return None

    leading_out = file.visititems_links(look_at_link) or file.visititems(look)
    if leading_out:
        raise SourceError(
            f"{leading_out} another file, and none but the one given is ever opened",
            where=path,
            remedy="copy the numbers into this file, or remove the entry",
        )
    for name in names:
        check_name(path, name)
    return names


def _stored(h5py: Any, dataset: Any, name: str, path: Path, size: int) -> StoredTensor:
    shape = tuple(int(n) for n in dataset.shape)
    label, scalar = _type(h5py, dataset)
    nbytes = math.prod(shape) * dataset.id.get_type().get_size()
    problem = _problem(h5py, dataset, nbytes, size) if nbytes else ""
    if problem or scalar is None:
        label = f"{label} ({problem})" if problem else label
        return StoredTensor(name, path, label, shape, nbytes, _refusal(path, name, label))
    region = Region(name, label, shape, 0, nbytes, scalar, shape)
    if not nbytes or _in_one_piece(h5py, dataset):
        offset = dataset.id.get_offset() if nbytes else 0
        return StoredTensor(name, path, label, shape, nbytes, lambda: region.map(path, offset))
    return _parted(dataset, region, path)


def _type(h5py: Any, dataset: Any) -> tuple[str, np.dtype[Any] | None]:
    """Our name of a dataset's type, and its NumPy type; None where it is none that is read."""
    types, kind = h5py.h5t, dataset.id.get_type()
    exact: dict[Any, Any] = {
        types.IEEE_F16LE: np.float16,
        types.IEEE_F32LE: np.float32,
        types.IEEE_F64LE: np.float64,
        types.STD_U8LE: np.uint8,
        types.STD_I8LE: np.int8,
        types.STD_U16LE: np.uint16,
        types.STD_I16LE: np.int16,
        types.STD_I32LE: np.int32,
        types.STD_I64LE: np.int64,
    }
    if _is_bfloat16(types, dataset, kind):
        return "bfloat16", np.dtype(ml_dtypes.bfloat16)
    for known, scalar in exact.items():
        if kind.equal(known):
            return np.dtype(scalar).name, np.dtype(scalar)
    dtype = dataset.dtype
    if dtype == np.bool_ and kind.get_size() == 1:
        return "bool", np.dtype(np.bool_)
    if dtype.hasobject:
        return "Python objects or references, which are never loaded", None
    if isinstance(kind, types.TypeFloatID) and kind.get_size() != dtype.itemsize:
        return f"floating-point numbers of {8 * kind.get_size()} bits, which NumPy has not", None
    return str(dtype)[:60], None


def _is_bfloat16(types: Any, dataset: Any, kind: Any) -> bool:
    if kind.get_size() != 2:
        return False
    if isinstance(kind, types.TypeOpaqueID):  # what h5py makes of ml_dtypes' bfloat16
        return True
    if isinstance(kind, types.TypeFloatID):
        layout = kind.get_fields(), kind.get_ebias(), kind.get_norm(), kind.get_offset()
        bfloat16 = (15, 7, 8, 0, 7), 127, types.NORM_IMPLIED, 0
        return layout == bfloat16 and kind.get_order() == types.ORDER_LE
    if isinstance(kind, types.TypeIntegerID) and kind.get_order() == types.ORDER_LE:
        stated = dataset.attrs.get("dtype")
        return stated in ("bfloat16", b"bfloat16")
    return False


def _problem(h5py: Any, dataset: Any, nbytes: int, size: int) -> str:
    """Why a dataset's numbers cannot be read, in words; "" if they can."""
    layout = dataset.id.get_create_plist().get_layout()
    held = dataset.id.get_storage_size()
    if not held:
        return "nothing was written to it"
    if layout == h5py.h5d.CHUNKED:
        return _chunk_problem(dataset, size)
    if layout == h5py.h5d.CONTIGUOUS:
        offset = dataset.id.get_offset()
        if held != nbytes or offset is None or not 0 <= offset <= size - nbytes:
            return f"truncated: {nbytes:,} bytes announced in a file of {size:,}"
    return ""


def _chunk_problem(dataset: Any, size: int) -> str:
    """Why the chunks of a dataset cannot be trusted to HDF5, in words; "" if they can.

    HDF5 (2.0) takes the process down with it where its index gives a chunk no bytes, and makes up
    what was never written.
    """
    axes = list(zip(dataset.shape, dataset.chunks, strict=True))
    chunk_bytes = math.prod(dataset.chunks) * dataset.id.get_type().get_size()
    if chunk_bytes > _LARGEST_CHUNK:
        return f"chunks of {chunk_bytes:,} bytes, more than the {_LARGEST_CHUNK:,} unpacked at once"
    packed = dataset.id.get_create_plist().get_nfilters() > 0
    places: set[tuple[int, ...]] = set()

    def look(chunk: Any) -> bool | None:
        held = chunk.size if packed else chunk_bytes
        inside = 0 < chunk.size == held and chunk.byte_offset + held <= size
        inside &= all(0 <= at < n for at, (n, _) in zip(chunk.chunk_offset, axes, strict=True))
        places.add(chunk.chunk_offset)
        return None if inside else True

    if dataset.id.chunk_iter(look):
        return "damaged: its index of chunks leads nowhere"
    expected = math.prod(-(-n // step) for n, step in axes)
    if len(places) != expected:
        return f"incomplete: {len(places):,} of {expected:,} chunks were written"
    return ""


def _refusal(path: Path, name: str, label: str) -> Callable[[], AnyArray]:
    def read() -> AnyArray:
        raise SourceError(f"{name!r} holds {label}", where=path, remedy=_REMEDY)

    return read


def _in_one_piece(h5py: Any, dataset: Any) -> bool:
    plan = dataset.id.get_create_plist()
    return bool(plan.get_layout() == h5py.h5d.CONTIGUOUS and plan.get_nfilters() == 0)


def _parted(dataset: Any, region: Region, path: Path) -> PartedTensor:
    chunks = dataset.chunks or dataset.shape
    entry_bytes = max(1, region.nbytes // region.shape[0]) if region.shape else 1
    slab = [-(-n // chunk) * chunk for n, chunk in zip(dataset.shape[1:], chunks[1:], strict=True)]
    cache = math.prod(slab) * (chunks[0] if chunks else 1) * dataset.id.get_type().get_size()
    held = _Held(path, region, min(cache, _MOST_CACHED))
    step = max(chunks[0] if chunks else 1, _BLOCK_BYTES // entry_bytes)
    return PartedTensor(
        region.name, path, region.dtype, region.shape, region.nbytes, held.load, held.part, step
    )


@dataclass(frozen=True)
class _Held:
    """A dataset of a file that is opened at the first read and kept open.

    Attributes:
        path: The file.
        region: The dataset's name, type and shape.
        cache: Bytes of unpacked chunks that are kept: those of one entry of the first axis.
    """

    path: Path
    region: Region
    cache: int

    @cached_property
    def _dataset(self) -> Any:
        h5py = _h5py(self.path)
        # HDF5 asks for many more slots than chunks, and a prime number of them.
        file = h5py.File(self.path, "r", rdcc_nbytes=max(self.cache, 1 << 20), rdcc_nslots=100_003)
        return file[self.region.name]

    def load(self) -> AnyArray:
        """All of it."""
        if self.region.nbytes > _MOST_LOADED:
            raise SourceError(
                f"{self.region.name!r} would take {self.region.nbytes:,} bytes of memory at once",
                where=self.path,
                remedy="store it in one piece and uncompressed, which is mapped",
            )
        return self._read(tuple(slice(0, n) for n in self.region.shape))

    def part(self, start: int, stop: int) -> AnyArray:
        """Entries start to stop of the first axis."""
        return self._read((slice(start, stop), *(slice(0, n) for n in self.region.shape[1:])))

    def _read(self, chosen: tuple[slice, ...]) -> AnyArray:
        h5s = _h5py(self.path).h5s
        start = tuple(axis.start for axis in chosen)
        count = tuple(axis.stop - axis.start for axis in chosen)
        out = np.empty(count, dtype=self.region.scalar)
        if not out.size:
            return out
        try:
            dataset = self._dataset.id
            where = dataset.get_space()
            if count:
                where.select_hyperslab(start, count)
            bits = out.reshape(count or (1,)).view(f"u{out.itemsize}")
            # The type of the file for the memory too: nothing is converted.
            dataset.read(h5s.create_simple(bits.shape), where, bits, dataset.get_type())
        except _DAMAGED as error:
            raise SourceError(
                f"{self.region.name!r} cannot be read ({_words(error)})",
                where=self.path,
                remedy="write or fetch the file again; compression other than HDF5's own needs its "
                "plugin",
            ) from None
        return out
