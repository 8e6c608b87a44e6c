"""Bars while something takes long: in a notebook below the cell, else on stderr.

In a notebook a bar is HTML that IPython replaces in place, which takes no widgets. IPython is used
only where it runs already.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from html import escape
from types import TracebackType
from typing import Any

from deadtokens.cli.transferring import SHORT_SECONDS, terminal_listener
from deadtokens.errors import plain
from deadtokens.listening import Listener, Reached, listen, listener
from deadtokens.wording import counted, duration, transferred

_KEPT = 20  # lines of what has ended, while something goes on
_REDRAWN_SECONDS = 0.2  # at most five times a second: every drawing is sent to the browser


def progress(shown: bool = True) -> AbstractContextManager[None]:
    """Show bars for everything that takes long, from now on; or no longer.

    In a `with` statement, until its end: then all is as it was before.

    Bars are shown for trials, models of a survey, permutations, replicates, distances of large
    clusters and transfers, once they have taken a second; lines for a study's stages and for
    kernels that are compiled. In a notebook they stand below the cell, elsewhere on stderr; where
    that is no terminal, lines alone.

    Args:
        shown: False for no bars.
    """
    _tell_compiled()  # to whoever listened until now
    before = listener()
    listen((_notebook_listener() or terminal_listener()) if shown else None)
    return _Until(before)


class _Until(AbstractContextManager[None]):
    """Gives the listener of before its place back."""

    def __init__(self, before: Listener) -> None:
        self._before = before

    def _ipython_display_(self) -> None:
        """Nothing to see where `progress()` is the last line of a cell."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _tell_compiled()
        listen(self._before)


def _tell_compiled() -> None:
    """Say what kernels were compiled, if their module was loaded at all."""
    compiling = sys.modules.get("deadtokens.kernels.compiling")
    if compiling:
        compiling.watch.tell()


def _notebook_listener() -> Listener | None:
    """One that shows bars below the cell; None where this is no notebook."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython else None
    if getattr(shell, "kernel", None) is None:
        return None
    with contextlib.suppress(ValueError):  # of an earlier call
        shell.events.unregister("post_run_cell", _after_cell)
    shell.events.register("post_run_cell", _after_cell)
    board = Board(shell.display_pub.publish)
    return Listener(board.say, board.transfer, board.work)


def _after_cell(_: object) -> None:
    _tell_compiled()


@dataclass
class _Row:
    """Something that goes on, or went on."""

    label: str
    total: int | None
    words: Callable[[int, int | None], str]
    done: int = 0
    first: int = 0
    begun: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def html(self) -> str:
        """A bar and how far it is; of what has ended, words alone."""
        seconds = (self.ended or time.monotonic()) - self.begun
        label = f"{self.label}: " if self.label else ""
        text = f"{label}{self.words(self.done, self.total)}"
        if self.ended is not None:
            return f"<div>{escape(plain(f'{text} in {duration(seconds)}'))}</div>"
        made = self.done - self.first
        if made > 0 and self.total is not None:
            left = seconds * (self.total - self.done) / made
            text += f", {duration(left)} left"
        value = "" if self.total is None else f' value="{self.done}" max="{self.total}"'
        return f"<div><progress{value}></progress> {escape(plain(text))}</div>"


class Board:
    """Bars below a cell, one for each thing that goes on; threads share them.

    When nothing goes on any longer, a line is left of each piece of work.

    Args:
        publish: Takes a result by MIME type, `transient` with its display's number, and whether it
            takes the place of an earlier one: the shell's.
    """

    def __init__(self, publish: Callable[..., None]) -> None:
        self._publish = publish
        self._lock = threading.RLock()
        self._rows: list[_Row] = []
        self._before = 0
        self._name = uuid.uuid4().hex
        self._shown = False
        self._drawn = 0.0

    def say(self, text: str) -> None:
        """A line of its own."""
        print(plain(text), flush=True)  # noqa: T201 (a notebook colours stderr as an error)

    @contextlib.contextmanager
    def work(self, what: str, total: int) -> Iterator[Reached]:
        """A bar for as long as the work lasts."""
        row = _Row("", total, lambda done, of: counted(done, of or 0, what))
        with self._going_on(row) as reached:
            yield reached

    @contextlib.contextmanager
    def transfer(self, label: str, total: int | None, done: int) -> Iterator[Reached]:
        """A bar for as long as the transfer lasts."""
        with self._going_on(_Row(label, total, transferred, done=done, first=done)) as reached:
            yield reached

    @contextlib.contextmanager
    def _going_on(self, row: _Row) -> Iterator[Reached]:
        with self._lock:
            self._rows.append(row)

        def reached(done: int) -> None:
            row.done = done
            self._draw()

        try:
            yield reached
        finally:
            with self._lock:
                row.ended = time.monotonic()
                if row.ended - row.begun < SHORT_SECONDS:
                    self._rows.remove(row)
                ended = [other for other in self._rows if other.ended is not None]
                if len(ended) == len(self._rows):
                    self._finish()
                elif len(ended) > _KEPT:
                    self._rows.remove(ended[0])
                    self._before += 1

    def _draw(self, *, last: bool = False) -> None:
        now = time.monotonic()
        with self._lock:
            rows = [row for row in self._rows if now - row.begun >= SHORT_SECONDS]
            if not rows or (now - self._drawn < _REDRAWN_SECONDS and not last):
                return
            self._drawn = now
            body = f"<div>{self._before:,} before</div>" if self._before else ""
            body += "".join(row.html() for row in rows)
            content: dict[str, Any] = {
                "text/html": f'<div class="tex2jax_ignore mathjax_ignore">{body}</div>',
                "text/plain": "",
            }
            self._publish(content, transient={"display_id": self._name}, update=self._shown)
            self._shown = True

    def _finish(self) -> None:
        """Nothing goes on: leave what was done in words, and begin anew with the next."""
        if self._shown:
            self._draw(last=True)
        self._rows.clear()
        self._before = 0
        self._shown = False
        self._name = uuid.uuid4().hex
