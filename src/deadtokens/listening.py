"""Who is told about transfers while they go on: nobody, unless a listener is set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeAlias

# Called with the bytes that are there by now, of all that are wanted.
Reached: TypeAlias = Callable[[int], None]


def _say_nothing(_: str) -> None:
    pass


@contextlib.contextmanager
def _show_nothing(_label: str, _total: int | None, _done: int) -> Iterator[Reached]:
    yield lambda _: None


@dataclass(frozen=True)
class Listener:
    """What is called while bytes are transferred; it may be from several threads at once.

    Attributes:
        message: Takes one line of text.
        transfer: Takes what is transferred, the bytes it has (None if unknown) and those there
            already; gives a context that lasts as long as the transfer, and what to call in it.
    """

    message: Callable[[str], None] = _say_nothing
    transfer: Callable[[str, int | None, int], AbstractContextManager[Reached]] = _show_nothing


_SILENT = Listener()
_listener = _SILENT


def listen(listener: Listener | None) -> None:
    """Tell this listener from now on, in place of the one before; None is nobody."""
    global _listener
    _listener = listener or _SILENT


def listener() -> Listener:
    """The one to tell."""
    return _listener
