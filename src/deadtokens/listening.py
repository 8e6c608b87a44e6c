"""Who is told about work while it goes on: nobody, unless a listener is set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

Result = TypeVar("Result")
# Called with the bytes that are there by now, or what is done by now, of all that is wanted.
Reached: TypeAlias = Callable[[int], None]


def _say_nothing(_: str) -> None:
    pass


@contextlib.contextmanager
def _show_nothing(_label: str, _total: int | None, _done: int) -> Iterator[Reached]:
    yield lambda _: None


@contextlib.contextmanager
def _show_no_work(_what: str, _total: int) -> Iterator[Reached]:
    yield lambda _: None


@contextlib.contextmanager
def _show_no_stage(_what: str, _seconds: float | None) -> Iterator[None]:
    yield


@dataclass(frozen=True)
class Listener:
    """What is called while something takes long; it may be from several threads at once.

    Attributes:
        message: Takes one line of text.
        transfer: Takes what is transferred, the bytes it has (None if unknown) and those there
            already; gives a context that lasts as long as the transfer, and what to call in it.
        work: Takes what is done, a plural such as "trials", and how many; gives a context likewise.
        stage: Takes what is done that is not counted, and the seconds it is expected to take (None
            if unknown); gives a context that lasts as long.
    """

    message: Callable[[str], None] = _say_nothing
    transfer: Callable[[str, int | None, int], AbstractContextManager[Reached]] = _show_nothing
    work: Callable[[str, int], AbstractContextManager[Reached]] = _show_no_work
    stage: Callable[[str, float | None], AbstractContextManager[None]] = _show_no_stage


_SILENT = Listener()
_listener = _SILENT


def listen(listener: Listener | None) -> None:
    """Tell this listener from now on, in place of the one before; None is nobody."""
    global _listener
    _listener = listener or _SILENT


def listener() -> Listener:
    """The one to tell."""
    return _listener


def doing(what: str, seconds: float | None = None) -> AbstractContextManager[None]:
    """Tell the listener that this goes on, which is not counted, until the context ends."""
    return listener().stage(what, seconds)


def watched(results: Iterable[Result], what: str, total: int, *, each: int = 1) -> Iterator[Result]:
    """The results one after another; the listener is told of so many done with each."""
    with listener().work(what, total) as reached:
        for number, result in enumerate(results, 1):
            yield result
            reached(min(number * each, total))
