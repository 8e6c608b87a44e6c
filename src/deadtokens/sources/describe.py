"""What the JSON files beside weights say: config.json, and indexes of shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deadtokens.errors import SourceError

MOST_JSON_BYTES = 100_000_000


class NotUnderstoodError(SourceError):
    """A file that holds no JSON object."""


def parse_object(content: bytes, where: object) -> dict[str, Any]:
    """The JSON object in a file's bytes.

    Raises:
        SourceError: It holds something else.
    """
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise NotUnderstoodError("not a JSON object", where=where, remedy="fetch the file again")
    return parsed


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file on this machine.

    Raises:
        SourceError: It holds something else, is too large, or cannot be read.
    """
    if path.exists() and not path.is_file():  # a pipe has no end, or never begins
        raise SourceError("not a regular file", where=path, remedy="give a file")
    try:
        with path.open("rb") as file:
            content = file.read(MOST_JSON_BYTES + 1)
    except OSError as error:
        raise SourceError(
            error.strerror or str(error), where=path, remedy="check the path"
        ) from None
    if len(content) > MOST_JSON_BYTES:
        raise SourceError(
            f"more than {MOST_JSON_BYTES:,} bytes, the most that are read of such a file",
            where=path,
            remedy="fetch the file again",
        )
    return parse_object(content, path)


def weight_map(index: Mapping[str, Any], where: object) -> dict[str, str]:
    """The file that holds each tensor, by the tensor's name, from an index of shards.

    Raises:
        SourceError: It is no such index.
    """
    places = index.get("weight_map")
    if not isinstance(places, dict) or not all(_is_file_name(file) for file in places.values()):
        raise SourceError(
            "not an index of shards: no 'weight_map' from tensor names to file names beside it",
            where=where,
            remedy="fetch the file again",
        )
    return places


def _is_file_name(file: object) -> bool:
    """Whether it names a file in the index's own folder, and cannot lead out of it."""
    plain = isinstance(file, str) and file not in ("", "..") and "\0" not in file
    return plain and Path(str(file)).name == file
