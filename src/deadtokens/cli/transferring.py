"""What is shown of transfers: bars on stderr, and what happens to them in lines."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deadtokens.cli import display
from deadtokens.errors import plain
from deadtokens.listening import Listener, Reached, listen

if TYPE_CHECKING:
    from rich.progress import Progress

_SMALL_BYTES = 1_000_000  # over before a bar could be read


def listen_to_transfers() -> None:
    """From now on say on stderr what is transferred; with bars where that is a terminal."""
    if sys.stderr.isatty():
        listen(Listener(display.message, _Bars().transfer))
    else:
        listen(Listener(display.message))


class _Bars:
    """One bar for each transfer that goes on; threads share the display."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._shown = 0

    @contextlib.contextmanager
    def transfer(self, label: str, total: int | None, done: int) -> Iterator[Reached]:
        """A bar for as long as the transfer lasts; yields what moves it."""
        if total is not None and total < _SMALL_BYTES:
            yield lambda _: None
            return
        progress = self._begin()
        task = progress.add_task(plain(label), total=total, completed=done)
        try:
            yield lambda reached: progress.update(task, completed=reached)
        finally:
            self._end(progress)

    def _begin(self) -> Progress:
        with self._lock:
            if self._progress is None:
                self._progress = _new_display()
                self._progress.start()
            self._shown += 1
            return self._progress

    def _end(self, progress: Progress) -> None:
        with self._lock:
            self._shown -= 1
            if not self._shown:
                progress.stop()
                self._progress = None


def _new_display() -> Progress:
    from rich import progress as bars
    from rich.console import Console
    from rich.table import Column

    whole = Column(no_wrap=True)
    return bars.Progress(
        bars.TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", max_width=36),
        ),
        bars.BarColumn(bar_width=12),
        bars.DownloadColumn(table_column=whole),
        bars.TransferSpeedColumn(table_column=whole),
        console=Console(stderr=True),
    )
