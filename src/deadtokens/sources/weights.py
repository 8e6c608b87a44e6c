"""Which of the files beside each other holds a model's weights."""

from __future__ import annotations

import re
from collections.abc import Iterable

from deadtokens.errors import SourceError

# Where weights lie in several kinds of file, the first kind here is read.
_KINDS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".onnx")
CONVENTIONAL = ("model.safetensors", "pytorch_model.bin", "tf_model.h5", "model.onnx")
# Of a variant: model.safetensors.index.fp16.json.
_INDEX = re.compile(r"(?P<weights>.+)\.index(?P<variant>\.[\w-]+)?\.json")


def weights_file(names: Iterable[str], where: object, remedy: str) -> str | None:
    """The file to read: an index, the conventional name, or the only one of a kind.

    Args:
        names: The files of one folder.
        where: The folder, for error lines.
        remedy: What to do where several could be meant.

    Returns:
        Its name; None if there is none.

    Raises:
        SourceError: There are several, and none of them is the one.
    """
    present = sorted(names)
    for kind in _KINDS:
        indexes = [name for name in present if (weights_of(name) or "").endswith(kind)]
        plain = [name for name in indexes if name.endswith(".index.json")]
        indexes = plain or indexes
        files = [name for name in present if name.endswith(kind)]
        if len(indexes) == 1:
            return indexes[0]
        conventional = [name for name in files if name in CONVENTIONAL]
        if conventional and not indexes:
            return conventional[0]
        if len(files) == 1 and not indexes:
            return files[0]
        if files or indexes:
            raise SourceError(
                f"several model files and no single index: {', '.join((indexes or files)[:8])}",
                where=where,
                remedy=remedy,
            )
    return None


def weights_of(name: str) -> str | None:
    """The name of the weights that an index is of, by its own name; None if it is no index."""
    match = _INDEX.fullmatch(name)
    return match["weights"] if match else None


def is_weights(name: str) -> bool:
    """Whether a file's name is that of weights, or of an index of them."""
    return (weights_of(name) or name).endswith(_KINDS)
