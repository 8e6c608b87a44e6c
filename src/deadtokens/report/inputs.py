"""CSV and JSON files of a run folder, read with errors that say where they are wrong."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deadtokens.errors import SourceError

_LONGEST_CELL = 1 << 28  # a token may be long, and its escapes ten times as long
_REMEDY = "write it again with the command that made it, or move it out of the folder"


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The lines of a CSV file with a header that has at least these columns.

    Raises:
        SourceError: It cannot be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            csv.field_size_limit(_LONGEST_CELL)
            reader = csv.DictReader(file)
            lacking = [name for name in columns if name not in (reader.fieldnames or ())]
            if lacking:
                raise SourceError(
                    f"no column {', '.join(map(repr, lacking))}", where=path, remedy=_REMEDY
                )
            # A short line has None for what it lacks, a long one a list under None.
            return [{k: v or "" for k, v in row.items() if isinstance(k, str)} for row in reader]
    except OSError as error:
        raise SourceError(f"cannot be read ({error.strerror or error})", where=path) from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise SourceError(f"not a CSV file ({error})", where=path, remedy=_REMEDY) from None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        SourceError: It cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"cannot be read ({error.strerror or error})", where=path) from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise SourceError("not a JSON object", where=path, remedy=_REMEDY)
    return content


def number(text: str, path: Path) -> float | None:
    """A number of a CSV file; None where the cell is blank or not finite.

    Raises:
        SourceError: It is none.
    """
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise SourceError(f"{text[:40]!r} is no number", where=path, remedy=_REMEDY) from None
    return value if math.isfinite(value) else None


def known(value: float | None, name: str, path: Path) -> float:
    """A number that must be there.

    Raises:
        SourceError: It is blank.
    """
    if value is None:
        raise SourceError(f"a blank {name}", where=path, remedy=_REMEDY)
    return value


def real(facts: Mapping[str, Any], name: str, path: Path) -> float | None:
    """A number of a JSON object; None where it is null, missing or not finite.

    Raises:
        SourceError: There is something else.
    """
    value = facts.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SourceError(f"{name!r} is no number", where=path, remedy=_REMEDY)
    return float(value) if math.isfinite(value) else None


def text(facts: Mapping[str, Any], name: str) -> str:
    """A field of a JSON object in words; empty where it is null or missing."""
    value = facts.get(name)
    return "" if value is None else str(value)


def texts(facts: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of a JSON object in words; empty where there is none."""
    value = facts.get(name)
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def objects(facts: Mapping[str, Any], name: str, path: Path) -> list[dict[str, Any]]:
    """A list of objects in a JSON object; empty where there is none.

    Raises:
        SourceError: There is something else.
    """
    value = facts.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise SourceError(f"{name!r} is no list of objects", where=path, remedy=_REMEDY)
    return value
