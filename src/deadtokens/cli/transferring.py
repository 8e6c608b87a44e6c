"""What is shown of work that takes long: bars on stderr, or lines where that is no terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from deadtokens.cli import display, heartbeat
from deadtokens.cli.heartbeat import Heartbeat
from deadtokens.errors import plain
from deadtokens.listening import Listener, Reached, listen
from deadtokens.wording import duration

if TYPE_CHECKING:
    from rich.progress import Progress

_SMALL_BYTES = 1_000_000  # over before a bar could be read
SHORT_SECONDS = 1.0  # likewise: work that is done by then gets no bar


def listen_to_transfers() -> None:
    """From now on say on stderr what takes long; with bars where that is a terminal."""
    listen(terminal_listener())


def terminal_listener() -> Listener:
    """One that says on stderr what takes long."""
    if not sys.stderr.isatty():
        beats = Heartbeat(display.message, heartbeat.SECONDS)
        return Listener(beats.message, beats.transfer, beats.work, beats.stage)
    bars = _Bars()
    return Listener(display.message, bars.transfer, bars.work)


class _Bars:
    """One bar for each thing that goes on; threads share the display."""

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
        task = progress.add_task(plain(label), total=total, completed=done, unit="")
        try:
            yield lambda reached: progress.update(task, completed=reached)
        finally:
            self._end(progress)

    @contextlib.contextmanager
    def work(self, what: str, total: int) -> Iterator[Reached]:
        """A bar from when the work proves to be long; yields what moves it."""
        begun = time.monotonic()
        with contextlib.ExitStack() as shown:
            bar: Reached | None = None

            def reached(done: int) -> None:
                nonlocal bar
                if bar is None and time.monotonic() - begun >= SHORT_SECONDS and done < total:
                    bar = shown.enter_context(self._counted(what, total))
                if bar is not None:
                    bar(done)

            yield reached

    @contextlib.contextmanager
    def _counted(self, what: str, total: int) -> Iterator[Reached]:
        progress = self._begin()
        task = progress.add_task("", total=total, unit=what)
        try:
            yield lambda done: progress.update(task, completed=done)
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

    class Reach(bars.ProgressColumn):
        """How far it is, how fast, how long still: in bytes, or in units of the work."""

        def __init__(self) -> None:
            super().__init__(table_column=Column(no_wrap=True))
            self._bytes, self._speed = bars.DownloadColumn(), bars.TransferSpeedColumn()

        def render(self, task: bars.Task) -> Any:
            if task.fields["unit"]:
                return _counted_words(task)
            return self._bytes.render(task) + " " + self._speed.render(task)

    return bars.Progress(
        bars.TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", max_width=36),
        ),
        bars.BarColumn(bar_width=12),
        Reach(),
        console=Console(stderr=True),
    )


def _counted_words(task: Any) -> str:
    """So many of so many, and what is known of speed and time."""
    words = f"{task.completed:,.0f} of {task.total:,} {task.fields['unit']}"
    if task.speed:
        words += f", {task.speed:,.3g} per s"
    if task.time_remaining is not None:
        words += f", {duration(task.time_remaining)} left"
    return words
