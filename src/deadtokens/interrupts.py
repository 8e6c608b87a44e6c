"""Ctrl-C, where it must wait."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


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
