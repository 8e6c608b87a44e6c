"""Shards put together by their index: what is whole is read, what is missing is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deadtokens.errors import SourceError
from deadtokens.files import StoredTensor


@dataclass(frozen=True)
class Shards:
    """The tensors of shards.

    Attributes:
        tensors: Those that are there, by name.
        absent: Why a tensor that the index lists is not there, by its name.
        notes: What index and shards disagree in, a sentence each.
    """

    tensors: Mapping[str, StoredTensor]
    absent: Mapping[str, SourceError]
    notes: tuple[str, ...] = ()


def put_together(
    index: object,
    places: Mapping[str, str],
    opened: Mapping[str, Mapping[str, StoredTensor] | SourceError],
) -> Shards:
    """The tensors that an index places in shards, and those that it forgets.

    Args:
        index: The index, for error lines.
        places: The shard of each tensor, by the tensor's name.
        opened: The tensors of each shard, or why it cannot be read. Of shards that are missing
            here nothing is known.

    Raises:
        SourceError: No shard can be read.
    """
    read = {file: held for file, held in opened.items() if not isinstance(held, SourceError)}
    broken = {file: held for file, held in opened.items() if isinstance(held, SourceError)}
    if broken and not read:
        raise next(iter(broken.values()))
    everywhere = {name: held[name] for held in reversed(read.values()) for name in held}
    tensors, absent, moved = dict[str, StoredTensor](), dict[str, SourceError](), list[str]()
    for name, file in places.items():
        if file in broken:
            absent[name] = _in_broken(name, broken[file])
        elif name in read.get(file, {}):
            tensors[name] = read[file][name]
        elif name in everywhere:
            tensors[name] = everywhere[name]
            moved.append(name)
        elif file in read:
            absent[name] = SourceError(
                f"the index places tensor {name!r} in {file}, which does not hold it",
                where=index,
                remedy="fetch the files again",
            )
    forgotten = [name for name in everywhere if name not in places]
    tensors |= {name: everywhere[name] for name in forgotten}
    lost = [name for name in absent if places[name] not in broken]
    notes = [
        *(f"{file} was left out: {error.what}" for file, error in broken.items()),
        *_note(lost, "the index names tensors that are not there"),
        *_note(moved, "the index places tensors in other shards than those that hold them"),
        *_note(forgotten, "the index does not name tensors that its shards hold"),
    ]
    return Shards(tensors, absent, tuple(notes))


def _in_broken(name: str, error: SourceError) -> SourceError:
    """Why a tensor of a shard that cannot be read is not there."""
    what = f"{error.what}; the index places {name!r} there"
    return SourceError(what, where=error.where, remedy=error.remedy)


def _note(names: list[str], what: str) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return [f"{what}: {', '.join(names[:3])}{more}"]


def all_of(
    files: list[str], read: Callable[[str], Mapping[str, StoredTensor]]
) -> dict[str, Mapping[str, StoredTensor] | SourceError]:
    """The tensors of each file, or why it cannot be read."""
    opened: dict[str, Mapping[str, StoredTensor] | SourceError] = {}
    for file in files:
        try:
            opened[file] = read(file)
        except SourceError as error:
            opened[file] = error
    return opened
