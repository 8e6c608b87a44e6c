"""Models on a hub: only the bytes that are wanted are transferred, once, and kept on disk.

Of safetensors and GGUF files that is the header, and a tensor when it is read. Other files cannot
be read in part and are fetched whole.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from deadtokens.errors import SourceError
from deadtokens.files import AnyArray, Region, StoredTensor, gguf, read_tensors, safetensors
from deadtokens.files.torch_files import require_torch
from deadtokens.listening import listener
from deadtokens.sources.cache import fetch, safe_name, store, stored
from deadtokens.sources.describe import NotUnderstoodError, weight_map
from deadtokens.sources.evidence import Told, told_by
from deadtokens.sources.gguf import gguf_model, has_vocabulary, is_later_part, part_names
from deadtokens.sources.model import Model
from deadtokens.sources.names import name_says
from deadtokens.sources.repository import Repository, open_repository, parse_source
from deadtokens.sources.shards import Shards, put_together
from deadtokens.sources.tokenizer_size import tokenizer_size
from deadtokens.sources.transfer import RemoteFile, stretch
from deadtokens.sources.weights import is_weights, weights_file, weights_of

# Holds most headers of safetensors files, so that one request does.
_FIRST_BYTES = 1 << 16
_FIRST_GGUF_BYTES = 1 << 20  # a vocabulary is in there
_HEADERS_AT_ONCE = 8

_T = TypeVar("_T")


def open_hub(source: str) -> Model:
    """Open a model on the hub; reads headers, its configuration and its tokenizer.

    Args:
        source: ``hf:owner/name``, and then ``@revision``, ``:FILE`` or both.

    Raises:
        SourceError: There is no such model, access is not granted, it cannot be reached, or is
            damaged or of an unsupported kind.
    """
    repo, revision, file = parse_source(source)
    repository = open_repository(repo, revision)
    weights = _weights(repository) if file is None else file
    model = _open(repository, weights)
    return replace(model, source=source, files=repository.kept())


def _weights(repository: Repository) -> str:
    """The file or index at the top of a repository that holds its weights."""
    top = [name for name in repository.files if "/" not in name and not is_later_part(name)]
    remedy = f"name one: {repository.shown}:FILE"
    name = weights_file(top, repository.shown, remedy)
    if name is None:
        deeper = [name for name in repository.files if is_weights(name)]
        there = f"; below are {', '.join(deeper[:8])}" if deeper else ""
        raise SourceError(
            f"no weights at the top of this repository{there}",
            where=repository.shown,
            remedy=remedy,
        )
    return name


# --- what is in them ---


def _open(repository: Repository, weights: str) -> Model:
    """The model in a file, or in the files of an index."""
    if weights.lower().endswith(".gguf"):
        return _open_gguf(repository, weights)
    if not is_weights(weights):
        raise SourceError(
            "files of this kind cannot be opened on a hub",
            where=repository.named(weights),
            remedy="fetch it, and give its path",
        )
    of_index = weights_of(weights)
    safetensors_file = (of_index or weights).endswith(".safetensors")
    open_shards = _open_safetensors if safetensors_file else _open_whole
    shards = open_shards(repository, weights, _places(repository, weights) if of_index else None)
    told, notes = _told(repository, weights)
    tokenizer = repository.tokenizer(weights)
    if tokenizer is not None:
        told = replace(told, tokenizer_size=lambda: tokenizer_size(tokenizer))
    return Model(
        repository.shown,
        shards.tensors,
        told=told,
        tokenizer=tokenizer,
        where=repository.shown,
        remote=safetensors_file,
        absent=shards.absent,
        notes=(*shards.notes, *notes),
    )


def _places(repository: Repository, index: str) -> dict[str, str]:
    """The file of each tensor, by an index."""
    listed = weight_map(repository.json(index), repository.named(index))
    folder = index[: index.rfind("/") + 1]
    return {name: folder + file for name, file in listed.items()}


def _told(repository: Repository, weights: str) -> tuple[Told, tuple[str, ...]]:
    """What the configuration says, and what of it was not understood."""
    notes, found = list[str](), dict[str, dict[str, Any] | None]()
    for name in ("config.json", "adapter_config.json"):
        place = repository.beside(weights, name)
        try:
            found[name] = repository.json(place) if place else None
        except NotUnderstoodError as error:
            notes.append(f"{name} is left out, with what it says of the matrices: {error.what}")
            found[name] = {}
    told = replace(told_by(found["config.json"] or {}), unread=bool(notes))
    adapter = found["adapter_config.json"]
    return (told if adapter is None else told.of_adapter(adapter)), tuple(notes)


def _open_safetensors(
    repository: Repository, weights: str, places: Mapping[str, str] | None
) -> Shards:
    if places is None:
        return Shards(_shard(repository, weights), {})
    files = sorted(set(places.values()))
    present = [name for name in files if name in repository.files]
    opened = zip(present, _side_by_side(repository, present), strict=True)
    missing = _missing(repository, files)
    return put_together(repository.named(weights), places, {**dict(opened), **missing})


def _missing(repository: Repository, files: list[str]) -> dict[str, SourceError]:
    """Why those of the files cannot be read that the repository has not."""
    return {
        file: SourceError(
            "no such file in the repository",
            where=repository.named(file),
            remedy="check the index",
        )
        for file in files
        if file not in repository.files
    }


def _side_by_side(repository: Repository, names: list[str]) -> list[dict[str, StoredTensor]]:
    """The tensors of each shard; headers of several are asked for at once."""
    with ThreadPoolExecutor(min(_HEADERS_AT_ONCE, max(len(names), 1))) as pool:
        started = [pool.submit(_shard, repository, name) for name in names]
        try:
            return [shard.result() for shard in started]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _shard(repository: Repository, name: str) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file, of which the header is read."""

    def regions(start: bytes, size: int) -> dict[str, Region]:
        length = safetensors.header_length(file.where, start[: safetensors.PREFIX_BYTES], size)
        end = safetensors.PREFIX_BYTES + length
        if len(start) < end:
            raise gguf.Incomplete(end)
        return safetensors.regions(file.where, start[safetensors.PREFIX_BYTES : end], size)

    file = repository.remote(name)
    return _stored(repository, name, *_header(repository, name, _FIRST_BYTES, regions))


def _open_gguf(repository: Repository, name: str) -> Model:
    """The model in a GGUF file, or in the parts of which it is one."""
    header, size = _gguf_header(repository, name)
    names = part_names(name, header, repository.named(name))
    headers = {part: _gguf_header(repository, part) for part in names if part != name}
    headers = {part: headers.get(part, (header, size)) for part in names}
    held = {
        Path(repository.named(part)): _stored(repository, part, of_part.regions, n_bytes)
        for part, (of_part, n_bytes) in headers.items()
    }
    metadata = headers[names[0]][0].metadata
    tokenizer = None if has_vocabulary(metadata) else repository.tokenizer(name)
    model = gguf_model(repository.shown, repository.shown, held, metadata, tokenizer)
    return replace(model, remote=True)


def _gguf_header(repository: Repository, name: str) -> tuple[gguf.Header, int]:
    where = repository.remote(name).where
    return _header(
        repository, name, _FIRST_GGUF_BYTES, lambda start, size: gguf.parse(where, start, size)
    )


def _header(
    repository: Repository, name: str, first: int, parse: Callable[[bytes, int], _T]
) -> tuple[_T, int]:
    """What stands at the beginning of a file, and the file's size.

    Args:
        repository: The repository.
        name: The file.
        first: How many bytes to ask for at first.
        parse: Reads it from the file's first bytes and its size; raises `gguf.Incomplete` if it
            needs more of them.
    """
    place = repository.folder / "headers" / safe_name(name)
    size_line, _, start = (stored(place) or b"").partition(b"\n")
    if size_line.isdigit():
        with contextlib.suppress(SourceError, gguf.Incomplete):  # damaged, and asked for again
            return parse(start, int(size_line)), int(size_line)
    file, held, wanted = repository.remote(name), io.BytesIO(), first
    while True:
        size = stretch(file, held, 0, wanted, lambda _: None)
        try:
            found = parse(held.getvalue(), size)
        except gguf.Incomplete as more:
            wanted = max(more.needed, 2 * held.tell())
        else:
            store(place, f"{size}\n".encode() + held.getvalue())
            return found, size


def _stored(
    repository: Repository, name: str, regions: Mapping[str, Region], size: int
) -> dict[str, StoredTensor]:
    """The tensors in regions of a file of that size."""
    file = replace(repository.remote(name), size=size)

    def place(region: Region) -> Path:
        label = safe_name(region.name, name, region.offset, region.nbytes)
        return repository.folder / "tensors" / label

    def reader(region: Region) -> Callable[[], AnyArray]:
        return lambda: _read(file, region, place(region))

    return {
        region.name: StoredTensor(
            region.name,
            Path(file.where),
            region.dtype,
            region.shape,
            region.nbytes,
            reader(region),
        )
        for region in regions.values()
    }


def _read(file: RemoteFile, region: Region, place: Path) -> AnyArray:
    """A tensor's array, its bytes transferred unless they are kept already."""
    if region.scalar is not None and region.nbytes:
        fetch(file, place, region.offset, region.nbytes, f"{region.name} of {file.where}")
    return region.map(place, 0)


# --- files that cannot be read in part ---


def _open_whole(repository: Repository, weights: str, places: Mapping[str, str] | None) -> Shards:
    if places is None:
        return Shards(_fetched(repository, weights), {})
    wanted = _shards_wanted(places)
    left = len(set(places.values())) - len(wanted)
    if left:
        listener().message(
            f"{repository.named(weights)}: {left} of its files are not fetched, as no tensor in "
            f"them is called like a token matrix; to open one, name it: {repository.shown}:FILE"
        )
    missing = _missing(repository, wanted)
    opened = {file: _fetched(repository, file) for file in wanted if file not in missing}
    return put_together(repository.named(weights), places, {**opened, **missing})


def _shards_wanted(places: Mapping[str, str]) -> list[str]:
    """Those of an index's files that hold tensors with a token matrix's name; else all."""
    said = {name: name_says(name) for name in places}
    named = {places[name] for name, says in said.items() if says.role != "other" and not says.kind}
    return sorted(named or set(places.values()))


def _fetched(repository: Repository, name: str) -> dict[str, StoredTensor]:
    file = repository.remote(name)
    require_torch(file.where)
    size = f", {file.size:,} bytes" if file.size is not None else ""
    listener().message(f"{file.where}: cannot be read in part; all of it is fetched{size}")
    return read_tensors(repository.whole(name))
