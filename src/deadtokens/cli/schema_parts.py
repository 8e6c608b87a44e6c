"""The parts that JSON Schemas are made of."""

from __future__ import annotations

from dataclasses import fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

TEXT, WHOLE, REAL, TRUTH = ({"type": name} for name in ("string", "integer", "number", "boolean"))


def record(**properties: dict[str, Any]) -> dict[str, Any]:
    """An object with these fields; those that are not `optional` are always there."""
    required = [name for name, kind in properties.items() if not kind.get("$comment")]
    kinds = {name: _without_mark(kind) for name, kind in properties.items()}
    return {"type": "object", "properties": kinds, "required": required}


def optional(kind: dict[str, Any]) -> dict[str, Any]:
    """A field that is there where it applies."""
    return kind | {"$comment": "where it applies"}


def _without_mark(kind: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kind.items() if name != "$comment"}


def of(kind: type[Any]) -> dict[str, Any]:
    """An object with a dataclass's fields."""
    return record(**fields_of(kind))


def fields_of(kind: type[Any]) -> dict[str, Any]:
    """A dataclass's fields."""
    hints = get_type_hints(kind)
    return {field.name: _hinted(hints[field.name]) for field in fields(kind)}


def _hinted(hint: Any) -> dict[str, Any]:
    """The kind of a field by its type; a class of ours stands for its name, as text."""
    plain = {bool: TRUTH, int: WHOLE, float: REAL, str: TEXT}
    if hint in plain:
        return plain[hint]
    if get_origin(hint) is Literal:
        return one_of(*get_args(hint))
    parts = [part for part in get_args(hint) if part not in (NoneType, Ellipsis)]
    if get_origin(hint) in (tuple, list):
        return many(_hinted(parts[0]))
    if NoneType in get_args(hint):
        return maybe(_hinted(parts[0]))
    return TEXT


def maybe(kind: dict[str, Any]) -> dict[str, Any]:
    """That, or null where it is not known or undefined."""
    if "enum" in kind:
        return kind | {"enum": [*kind["enum"], None]}
    return kind | {"type": [kind["type"], "null"]}


def many(kind: dict[str, Any]) -> dict[str, Any]:
    """A list of those."""
    return {"type": "array", "items": kind}


def counts(description: str) -> dict[str, Any]:
    """Whole numbers by name."""
    return {"type": "object", "additionalProperties": WHOLE, "description": description}


def one_of(*values: str) -> dict[str, Any]:
    """One of these texts."""
    return {"enum": list(values)}


def said(kind: dict[str, Any], description: str) -> dict[str, Any]:
    """That, with a word about what it is."""
    return kind | {"description": description}
