"""Models in GGUF: weights, configuration and vocabulary in one file, or in numbered parts of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deadtokens.errors import SourceError
from deadtokens.files import StoredTensor
from deadtokens.files.gguf import Header, read_header, stored_tensors
from deadtokens.files.kinds import other_kind
from deadtokens.sources.evidence import Told
from deadtokens.sources.model import Model
from deadtokens.sources.names import GGUF_INPUT, GGUF_OUTPUT

_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.gguf)", re.IGNORECASE)


def open_gguf(source: str, where: Path, file: Path) -> Model:
    """Open a GGUF file, and the other parts of its model if it is one of several.

    Args:
        source: What the user named.
        where: The same as a path.
        file: The file, or any part.

    Raises:
        SourceError: A file is damaged, of an unsupported version, or missing.
    """
    header = _header(file)
    parts = [file.with_name(name) for name in part_names(file.name, header, file)]
    headers = [header if part == file else _header(part) for part in parts]
    held = {
        part: stored_tensors(of_part, part) for part, of_part in zip(parts, headers, strict=True)
    }
    metadata, beside = headers[0].metadata, file.parent / "tokenizer.json"
    tokenizer = beside if not has_vocabulary(metadata) and beside.is_file() else None
    model = gguf_model(source, where, held, metadata, tokenizer)
    return replace(model, files=(*parts, beside))


def gguf_model(
    source: str,
    where: object,
    parts: Mapping[Path, Mapping[str, StoredTensor]],
    metadata: Mapping[str, Any],
    tokenizer: Path | None,
) -> Model:
    """The model whose parts hold these tensors.

    Args:
        source: What the user named.
        where: What an error line names.
        parts: The tensors of each file.
        metadata: Of the first.
        tokenizer: The one to take if the metadata holds none.

    Raises:
        SourceError: Two parts hold the same tensor.
    """
    tensors: dict[str, StoredTensor] = {}
    for part, held in parts.items():
        if twice := held.keys() & tensors.keys():
            raise SourceError(
                f"tensor {min(twice)!r} is also in another part of the model",
                where=part,
                remedy="fetch the files again",
            )
        tensors |= held
    return Model(
        source,
        tensors,
        told=_told(tensors, metadata),
        tokenizer=metadata if has_vocabulary(metadata) else tokenizer,
        where=where,
    )


def _told(tensors: Mapping[str, StoredTensor], metadata: Mapping[str, Any]) -> Told:
    """What a GGUF file says of its matrices: the output matrix is left out where they are tied."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    arch = f"{metadata.get('general.architecture')}."
    sizes = {key.removeprefix(arch): value for key, value in metadata.items()
             if key.startswith(arch) and isinstance(value, int)}  # fmt: skip
    vocabulary = {"vocab_size": sizes["vocab_size"]} if "vocab_size" in sizes else {}
    if isinstance(tokens, Sequence):
        vocabulary["tokenizer.ggml.tokens"] = len(tokens)
    ties = {"the file": GGUF_OUTPUT not in tensors} if GGUF_INPUT in tensors else {}
    return Told(vocabulary, {}, ties, gguf=True, name="the metadata")


def has_vocabulary(metadata: Mapping[str, Any]) -> bool:
    """Whether a file's metadata holds the tokenizer."""
    return "tokenizer.ggml.tokens" in metadata


def is_later_part(name: str) -> bool:
    """Whether a file's name is that of a part of a model, and not the first."""
    match = _PART.fullmatch(name)
    return match is not None and int(match[2]) > 1


def part_names(name: str, header: Header, where: object) -> list[str]:
    """The names of all parts of a model, by the name and the header of one; folders stay.

    Raises:
        SourceError: It is one of several, but not named like one.
    """
    count = header.metadata.get("split.count", 1)
    if not isinstance(count, int) or count <= 1:
        return [name]
    match = _PART.fullmatch(name)
    if match is None or int(match[3]) != count:
        raise SourceError(
            f"one of {count:,} parts of a model, but not named like one",
            where=where,
            remedy=f"name the parts NAME-00001-of-{count:05}.gguf and so on",
        )
    return [f"{match[1]}-{number:05}-of-{count:05}{match[4]}" for number in range(1, count + 1)]


def _header(file: Path) -> Header:
    try:
        if file.exists() and not file.is_file():
            raise SourceError("not a regular file", where=file, remedy="give a file")
        if (other := other_kind(file)) is not None:
            raise other
        return read_header(file)
    except OSError as error:
        part = _PART.fullmatch(file.name) is not None
        remedy = "put all parts of the model beside each other" if part else "check the path"
        raise SourceError(error.strerror or str(error), where=file, remedy=remedy) from None
