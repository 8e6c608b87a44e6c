"""Models on this machine: one file, a folder, an index of shards."""

from __future__ import annotations

from pathlib import Path

from deadtokens.errors import SourceError
from deadtokens.files import StoredTensor, read_tensors
from deadtokens.sources.describe import read_object, tied, weight_map
from deadtokens.sources.gguf import is_later_part, open_gguf
from deadtokens.sources.model import Model
from deadtokens.sources.weights import INDEX, weights_file


def open_local(source: str, path: Path) -> Model:
    """Open a file, a folder or an index; reads headers only.

    Args:
        source: What the user named.
        path: The same as a path.

    Raises:
        SourceError: There is no such source, it is damaged or of an unsupported kind.
    """
    folder = path if path.is_dir() else path.parent
    file = _of_folder(path) if path.is_dir() else path
    if file.suffix.lower() == ".gguf":
        return open_gguf(source, path, file)
    tensors = _tensors(file)
    config, tokenizer = folder / "config.json", folder / "tokenizer.json"
    files = {tensor.path for tensor in tensors.values()} | {config, tokenizer}
    files |= {path} if path.is_file() else set(path.glob("*.index.json"))
    return Model(
        source,
        tensors,
        tied=tied(read_object(config)) if config.is_file() else None,
        tokenizer=tokenizer if tokenizer.is_file() else None,
        files=tuple(sorted(files)),
        where=path,
    )


def _tensors(path: Path) -> dict[str, StoredTensor]:
    if path.name.endswith(INDEX):
        return _index_tensors(path)
    return read_tensors(path)


def _of_folder(folder: Path) -> Path:
    """The file of a folder to read."""
    try:
        names = [path.name for path in folder.iterdir() if not is_later_part(path.name)]
    except OSError as error:
        raise SourceError(
            error.strerror or str(error), where=folder, remedy="check the path"
        ) from None
    name = weights_file(names, folder, remedy="give one of them")
    if name is None:
        raise SourceError(
            "no model file (.safetensors, .gguf, .bin, .pt) or index in this folder",
            where=folder,
            remedy="give a model's folder or one file",
        )
    return folder / name


def _index_tensors(index: Path) -> dict[str, StoredTensor]:
    places = weight_map(read_object(index), index)
    shards = {file: read_tensors(index.parent / file) for file in sorted(set(places.values()))}
    for name, file in places.items():
        if name not in shards[file]:
            raise SourceError(
                f"the index places tensor {name!r} in {file}, which does not hold it",
                where=index,
                remedy="fetch the files again",
            )
    return {name: shards[file][name] for name, file in places.items()}
