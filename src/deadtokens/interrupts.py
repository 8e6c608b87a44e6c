"""Ctrl-C, where it must wait."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Ctrl-C waits until the block has ended: in the middle of some work other errors come of it.

    Signals come to the main thread; in others nothing is held back.
    """
    come: list[int] = []
    earlier = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or earlier is None:
        yield
        return
    signal.signal(signal.SIGINT, lambda number, _: come.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)
        if come:
            signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def noticed() -> Iterator[Callable[[], None]]:
    """Ctrl-C is noticed wherever it comes, and raised where the block asks.

    Python raises KeyboardInterrupt between any two instructions of the main thread: in a destructor
    it is printed and forgotten, between a lock and the block that it is for it leaves the lock
    taken. A loop that waits for threads passes such places many times a second.

    Where Ctrl-C is ignored, as in a script's background, it stays so; a handler of somebody else is
    called in its turn.

    Yields:
        What hands Ctrl-C on, which raises KeyboardInterrupt unless somebody else handles it, if it
        has come meanwhile.
    """
    come: list[int] = []
    earlier = signal.getsignal(signal.SIGINT)
    elsewhere = threading.current_thread() is not threading.main_thread()
    if elsewhere or not callable(earlier):
        yield lambda: None
        return

    def check() -> None:
        if come:
            earlier(come.pop(), None)

    signal.signal(signal.SIGINT, lambda number, _: come.append(number))
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, earlier)
        if come:
            signal.raise_signal(signal.SIGINT)
