"""What a file is that is not read, or not what its name says: told by its first bytes.

People hold pointers to files instead of files, archives, and models of other programs. Each is
named, with the way to one that is read.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from pathlib import Path

from deadtokens.errors import SourceError

_HEAD_BYTES = 512
_EXPORT = "export or convert it to .safetensors"
_GGML = "convert it to GGUF with the converter of the program that it is for"
_DCP = (
    "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pt writes a "
    "file that is read"
)
_UNPACK = "unpack it and give what is inside"
_LFS = "a Git LFS pointer, not the file itself", "run git lfs pull"
_PAGE = "a web page, not a model", "fetch the file again: the address gave a page instead"

# Beginnings of files, and what they are; bytes that several kinds share are looked at below.
_BEGINNINGS: tuple[tuple[bytes, tuple[str, str]], ...] = (
    (b"version https://git-lfs.github.com/", _LFS),
    (b"\x1f\x8b", ("a gzip archive", _UNPACK)),
    (b"BZh", ("a bzip2 archive", _UNPACK)),
    (b"\xfd7zXZ\x00", ("an xz archive", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", ("a zstd archive", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", ("a 7z archive", _UNPACK)),
    (b"lmgg", ("a GGML file, of before GGUF", _GGML)),
    (b"tjgg", ("a GGML file (ggjt), of before GGUF", _GGML)),
    (b"fmgg", ("a GGML file (ggmf), of before GGUF", _GGML)),
    (b"algg", ("a GGML adapter", "give the model")),
    (b"24ka", ("a llama2.c model", "give the checkpoint that it was exported from")),
    (b"PAR1", ("a Parquet file", "give a model")),
    (b"SQLite format 3", ("an SQLite database", "give a model")),
)
# Names of files of other programs.
_SUFFIXES: dict[str, tuple[str, str]] = {
    ".distcp": ("a part of a distributed PyTorch checkpoint", _DCP),
    ".msgpack": ("a Flax checkpoint", f"{_EXPORT} with transformers (from_flax=True)"),
    ".pb": ("a TensorFlow graph", _EXPORT),
    ".tflite": ("a TensorFlow Lite model", "give the model that it was made from"),
    ".keras": ("a Keras archive", "save its weights as .h5: model.save_weights"),
    ".mlmodel": ("a Core ML model", "give the model that it was made from"),
    ".engine": ("a TensorRT engine", "give the model that it was built from"),
    ".plan": ("a TensorRT engine", "give the model that it was built from"),
    ".pkl": ("a pickle, which may run code and is never loaded", _EXPORT),
    ".pickle": ("a pickle, which may run code and is never loaded", _EXPORT),
    ".nemo": ("a NeMo archive", _UNPACK),
    ".zip": ("a zip archive", _UNPACK),
    ".tar": ("a tar archive", _UNPACK),
    ".tgz": ("a tar archive", _UNPACK),
}
_READABLE = (
    (b"GGUF", "a GGUF file", ".gguf"),
    (b"\x93NUMPY", "a NumPy file", ".npy"),
    (b"\x89HDF\r\n", "an HDF5 file", ".h5"),
)
_TENSORFLOW = re.compile(r".*\.(index|data-\d{5}-of-\d{5}|meta)", re.IGNORECASE)
_RANK = re.compile(r"(bf16_)?zero_pp_rank_.*\.pt$")
_READ = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".hdf5", ".onnx", ".npy")
_OF_A_PLACE = re.compile(r"[\w.-]+/[\w.-]+")


def other_kind(path: Path) -> SourceError | None:
    """What a file is if it is not read as what its name says; None where nothing tells.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    suffix = path.suffix.lower()
    for beginning, (what, remedy) in _BEGINNINGS:
        if head.startswith(beginning):
            return SourceError(f"{what}", where=path, remedy=remedy)
    if re.match(rb"\s*<(!doctype html|html)", head, re.IGNORECASE):
        return SourceError(_PAGE[0], where=path, remedy=_PAGE[1])
    for beginning, what, right in _READABLE:
        if head.startswith(beginning) and suffix != right and not _is_hdf5(suffix, right):
            return SourceError(f"{what}", where=path, remedy=f"name it {path.stem}{right}")
    if head[4:8] == b"TFL3":
        return SourceError(_SUFFIXES[".tflite"][0], where=path, remedy=_SUFFIXES[".tflite"][1])
    if head[257:262] == b"ustar":
        return SourceError("a tar archive", where=path, remedy=_UNPACK)
    if _is_ctranslate2(head):
        return SourceError(
            "a CTranslate2 model", where=path, remedy="give the model that it was converted from"
        )
    if suffix == ".bin" and _is_llama2_c(head, path.stat().st_size):
        return SourceError(
            "a llama2.c model", where=path, remedy="give the checkpoint that it was exported from"
        )
    return None


def unread_kind(path: Path) -> SourceError | None:
    """What a file is whose kind is not read, by its name; None where nothing tells."""
    if path.suffix.lower() in _SUFFIXES:
        what, remedy = _SUFFIXES[path.suffix.lower()]
        return SourceError(what, where=path, remedy=remedy)
    if _TENSORFLOW.fullmatch(path.name):
        return SourceError("a part of a TensorFlow checkpoint", where=path, remedy=_EXPORT)
    if path.name == ".metadata":
        return SourceError("the index of a distributed PyTorch checkpoint", where=path, remedy=_DCP)
    return None


def folder_kind(names: Collection[str], folder: Path) -> SourceError | None:
    """What a folder is that holds no model to be read, by the names in it; None where it may."""
    if any(Path(name).suffix.lower() in _READ for name in names if not _RANK.match(name)):
        return None
    if any(name.endswith(".distcp") for name in names):
        return SourceError("a distributed PyTorch checkpoint (.distcp)", where=folder, remedy=_DCP)
    if any(_RANK.match(name) for name in names):
        return SourceError(
            "a DeepSpeed checkpoint in parts",
            where=folder,
            remedy="gather it with its zero_to_fp32.py",
        )
    if "saved_model.pb" in names:
        return SourceError("a TensorFlow SavedModel", where=folder, remedy=_EXPORT)
    kinds = (unread_kind(folder / name) for name in sorted(names))
    return next((kind for kind in kinds if kind is not None), None)


def missing(source: str) -> SourceError:
    """There is no such file or folder; what may have been meant."""
    remedy = "check the path; nothing is downloaded"
    if _OF_A_PLACE.fullmatch(source):
        remedy = f"did you mean hf:{source}, on the hub? Else check the path"
    return SourceError("no such file or folder", where=source, remedy=remedy)


def _is_hdf5(suffix: str, right: str) -> bool:
    return right == ".h5" and suffix == ".hdf5"


def _is_ctranslate2(head: bytes) -> bool:
    """Its version, then the length and the name of a specification, such as WhisperSpec."""
    if len(head) < 8:
        return False
    version, length = struct.unpack_from("<IH", head)
    name = head[6 : 6 + length]
    return 1 <= version <= 20 and 5 <= length <= 64 and bool(re.fullmatch(rb"\w+Spec\x00?", name))


def _is_llama2_c(head: bytes, size: int) -> bool:
    """Seven sizes of a transformer, and as many float32 numbers as they make or more."""
    if len(head) < 28:
        return False
    dim, hidden, layers, heads, kv_heads, vocabulary, length = struct.unpack_from("<7i", head)
    plausible = 0 < dim <= 1 << 16 and dim < hidden <= 1 << 18 and 0 < layers <= 512
    plausible = plausible and 0 < kv_heads <= heads <= 512 and 0 < length <= 1 << 20
    if not plausible or dim % max(heads, 1) or not 0 < abs(vocabulary) <= 1 << 22:
        return False
    return bool(size >= 28 + 4 * dim * (abs(vocabulary) + layers * 3 * hidden))
