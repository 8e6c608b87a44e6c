"""Models on this machine: one file, a folder, an index of shards."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deadtokens.errors import SourceError
from deadtokens.files import StoredTensor, read_tensors
from deadtokens.files.kinds import folder_kind
from deadtokens.sources.describe import read_object, weight_map
from deadtokens.sources.evidence import Told, model_parallel_part, one_series, shard_of, told_by
from deadtokens.sources.gguf import is_later_part, open_gguf
from deadtokens.sources.model import Model
from deadtokens.sources.shards import Shards, all_of, put_together
from deadtokens.sources.tokenizer_files import COMPANIONS, TOKENIZER_JSON, find_tokenizer
from deadtokens.sources.tokenizer_size import tokenizer_size
from deadtokens.sources.weights import CONVENTIONAL, weights_file, weights_of

_CONFIGS = ("config.json", "params.json", "args.json")  # the last two as training code writes them


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
    series = _series([other.name for other in path.iterdir()]) if path.is_dir() else []
    if file.suffix.lower() == ".gguf":
        return open_gguf(source, path, file)
    shards = _without_index(path, series) if series else _tensors(file)
    told, notes = _told(folder)
    tokenizer = find_tokenizer(folder)
    files = {tensor.path for tensor in shards.tensors.values()}
    files |= {folder / name for name in (*_CONFIGS, "adapter_config.json", *COMPANIONS)}
    files |= {tokenizer or folder / TOKENIZER_JSON}
    files |= {path} if path.is_file() else set(path.glob("*.index*.json"))
    return Model(
        source,
        shards.tensors,
        told=replace(
            told,
            part=model_parallel_part(file),
            tokenizer_size=lambda: tokenizer_size(tokenizer) if tokenizer else None,
            shard=_alone(file, series),
        ),
        tokenizer=tokenizer,
        files=tuple(sorted(files)),
        where=path,
        absent=shards.absent,
        notes=(*shards.notes, *notes),
    )


def _told(folder: Path) -> tuple[Told, tuple[str, ...]]:
    """What the configuration in a folder says, and what of it was not understood."""
    notes = []

    def read(name: str) -> Mapping[str, Any]:
        try:
            return read_object(folder / name) if (folder / name).exists() else {}
        except SourceError as error:
            notes.append(f"{name} is left out, with what it says of the matrices: {error.what}")
            return {}

    name = next((name for name in _CONFIGS if (folder / name).is_file()), _CONFIGS[0])
    told = replace(told_by(read(name)), name=name, unread=bool(notes))
    if (folder / "adapter_config.json").is_file():
        told = told.of_adapter(read("adapter_config.json"))
    return told, tuple(notes)


def _tensors(path: Path) -> Shards:
    if weights_of(path.name) is not None:
        return _index_tensors(path)
    tensors = read_tensors(path)
    return Shards(tensors, _elsewhere(path, tensors))


def _of_folder(folder: Path) -> Path:
    """The file of a folder to read; of shards without an index the first."""
    try:
        names = [path.name for path in folder.iterdir() if not is_later_part(path.name)]
    except OSError as error:
        raise SourceError(
            error.strerror or str(error), where=folder, remedy="check the path"
        ) from None
    if series := _series(names):
        return folder / series[0]
    for file in sorted(names):
        if part := model_parallel_part(folder / file):
            raise SourceError(
                f"it holds {part}, each with some of the rows or columns only",
                where=folder,
                remedy="merge the parts, or give the model as one file or in shards",
            )
    if (kind := folder_kind(names, folder)) is not None:
        raise kind
    name = weights_file(names, folder, remedy="give one of them")
    if name is None:
        raise SourceError(
            "no model file (.safetensors, .gguf, .bin, .pt) or index in this folder",
            where=folder,
            remedy="give a model's folder or one file",
        )
    return folder / name


def _series(names: Collection[str]) -> list[str]:
    """The shards in a folder that has no index and no whole file; empty if there are none."""
    if any(weights_of(name) is not None or name in CONVENTIONAL for name in names):
        return []
    return one_series(names)


def _without_index(folder: Path, files: list[str]) -> Shards:
    opened = all_of(files, lambda file: read_tensors(folder / file))
    places = {name: file for file, held in opened.items() if not isinstance(held, SourceError)
              for name in held}  # fmt: skip
    found = put_together(folder, places, opened)
    return replace(found, notes=(f"no index there: read were {', '.join(files[:8])}", *found.notes))


def _index_tensors(index: Path) -> Shards:
    places = weight_map(read_object(index), index)
    files = sorted(set(places.values()) | _like(index.parent, set(places.values())))
    return put_together(
        index, places, all_of(files, lambda file: read_tensors(index.parent / file))
    )


def _like(folder: Path, named: set[str]) -> set[str]:
    """Shards of the same numbered series that an index forgets."""
    series = {shard_of(file) for file in named} - {None}
    return (
        {path.name for path in folder.iterdir() if shard_of(path.name) in series}
        if series
        else set()
    )


def _alone(file: Path, series: list[str]) -> str:
    """The shards that are opened without the others, in words; "" if none is missing."""
    shard = shard_of(file.name)
    if shard is None or len(series) == shard[1]:
        return ""
    held = f"{len(series)}" if series else f"{file.name}, one"
    return f"{held} of {shard[1]} shards"


def _elsewhere(path: Path, held: Mapping[str, StoredTensor]) -> dict[str, SourceError]:
    """The tensors that a shard's index places in other shards, and the way to them."""
    if shard_of(path.name) is None:
        return {}
    indexes = [index for index in path.parent.glob("*.json") if weights_of(index.name)]
    try:
        places = {name: file for index in indexes
                  for name, file in weight_map(read_object(index), index).items()}  # fmt: skip
    except SourceError:
        return {}
    return {
        name: SourceError(
            f"the index places {name!r} in {file}",
            where=path,
            remedy="give the folder with all shards",
        )
        for name, file in places.items()
        if name not in held and path.name in places.values()
    }
