"""What is said of work that takes long where there is no terminal: a line every half minute.

Without one nobody can tell a program that works from one that hangs, in a log least of all. Said is
how far it is and how long it still takes, where that can be told, and else for how long it goes on.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from deadtokens.listening import Reached
from deadtokens.wording import counted, duration, transferred

SECONDS = 29.0  # looked at every second: no silence lasts longer than half a minute


@dataclass(eq=False)
class _Going:
    """Something that goes on: `total` is None where it is not counted."""

    words: Callable[[int], str]
    total: int | None
    done: int
    begun: float
    expected: float | None = None
    first: int = field(init=False)

    def __post_init__(self) -> None:
        self.first = self.done

    @property
    def counts(self) -> bool:
        """Whether a count says anything: what is all done goes on as something else."""
        return self.total is not None and self.done < self.total

    def left(self, now: float) -> float | None:
        """Seconds that it still takes, by what is done or by what was expected."""
        made, passed = self.done - self.first, now - self.begun
        if self.total is not None and made > 0:
            return passed * (self.total - self.done) / made
        return None if self.expected is None else self.expected - passed


def _line(going: list[_Going], now: float) -> str:
    """What is said of all that goes on, the outermost first.

    The outermost that is counted says most; until some of it is done, the innermost goes with it.
    """
    counting = [one for one in going if one.counts]
    stages = [one for one in going if one.total is None]
    told = counting[0] if counting else (stages or going)[-1]
    words = told.words(told.done) if counting or stages else "finishing"  # all of it is counted
    if counting and told.done == told.first and counting[-1] is not told:
        words += f" ({counting[-1].words(counting[-1].done)})"
    words += f": {duration(now - told.begun)} so far"
    around = going[: going.index(told)][::-1]
    # The first few may be slower or quicker than the rest: what was expected tells more.
    few = told.total is not None and 10 * told.done < told.total
    known = (one.left(now) for one in ((*around, told) if few else (told, *around)))
    left = next((seconds for seconds in known if seconds is not None), None)
    return words if left is None or left < 1 else f"{words}, about {duration(left)} left"


class Heartbeat:
    """Says a line whenever nothing was said for a while and something goes on.

    Args:
        say: Takes a line.
        seconds: How long a while is.
        clock: The time in seconds.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._seconds, self._clock = say, seconds, clock
        self._lock = threading.Lock()
        self._going: list[_Going] = []
        self._last = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread()

    def message(self, text: str) -> None:
        """A line of its own, which is a sign of life too."""
        self._last = self._clock()
        self._say(text)

    def stage(
        self, what: str, seconds: float | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """Something that is not counted, and how long it is expected to take."""
        return self._on(_Going(lambda _: what, None, 0, self._clock(), seconds))

    @contextlib.contextmanager
    def work(self, what: str, total: int) -> Iterator[Reached]:
        """Something that is counted; yields what moves it."""
        going = _Going(lambda done: counted(done, total, what), total, 0, self._clock())
        with self._on(going):
            yield lambda done: setattr(going, "done", done)

    @contextlib.contextmanager
    def transfer(self, label: str, total: int | None, done: int) -> Iterator[Reached]:
        """Bytes that come; yields what moves them."""
        going = _Going(lambda n: f"{label}: {transferred(n, total)}", total, done, self._clock())
        with self._on(going):
            yield lambda reached: setattr(going, "done", reached)

    def beat(self) -> None:
        """Say what goes on, unless something was said just now."""
        with self._lock:
            now = self._clock()
            if not self._going or now - self._last < self._seconds:
                return
            self._last = now
            line = _line(self._going, now)
        self._say(line)

    @contextlib.contextmanager
    def _on(self, going: _Going) -> Iterator[None]:
        with self._lock:
            if not self._going:
                self._last = self._clock()
                self._ended = threading.Event()
                self._thread = threading.Thread(
                    target=self._beats, args=(self._ended,), daemon=True
                )
                self._thread.start()
            self._going.append(going)
        try:
            yield
        finally:
            with self._lock:
                self._going.remove(going)
                ended = None if self._going else self._thread
                if ended:
                    self._ended.set()
            if ended:
                ended.join()  # nothing is said any more once the last thing is over

    def _beats(self, ended: threading.Event) -> None:
        while not ended.wait(self._seconds / 29):
            self.beat()
