"""How the kernels are compiled: once for all of them.

Cached on disk where a folder for it can be written, without the GIL (threads are the caller's),
and with NumPy's division: no exception can leave a kernel.

Compiling takes seconds, so the listener is told when a process begins to, and when it ends how much
that was. Numba itself says what it compiles: kernels that come out of the cache are none of it.
"""

from __future__ import annotations

import atexit
import contextlib
import time
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core import event

from deadtokens.interrupts import held_back
from deadtokens.listening import listener

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


class _Watch(event.Listener):
    """Counts kernels that are compiled, and the time that takes.

    Numba compiles one at a time in all threads. What a kernel calls is compiled within it.
    """

    def __init__(self) -> None:
        self._kernels = 0
        self._seconds = 0.0
        self._depth = 0
        self._begun = 0.0
        self._held = contextlib.ExitStack()

    def on_start(self, event: Any) -> None:
        if not self._depth and not _own(event):
            return
        if not self._depth:
            if not self._kernels:
                _say(_beginning(event.data["dispatcher"].stats.cache_path))
            self._begun = time.perf_counter()
            self._kernels += 1
            self._held.enter_context(held_back())  # LLVM would make other errors of it
        self._depth += 1

    def on_end(self, event: Any) -> None:  # noqa: ARG002 (Numba calls it so)
        if self._depth:
            self._depth -= 1
            if not self._depth:
                self._seconds += time.perf_counter() - self._begun
                self._held.close()

    def tell(self) -> None:
        """Tell the listener what was compiled since it was told last, if anything was."""
        if self._kernels:
            kernels = "1 kernel" if self._kernels == 1 else f"{self._kernels} kernels"
            _say(f"compiled {kernels} in {self._seconds:.1f} s")
        self._kernels, self._seconds = 0, 0.0


def _own(event: Any) -> bool:
    """Whether a kernel of this package is compiled; a notebook may have others."""
    name: str | None = event.data["dispatcher"].py_func.__module__
    return name is not None and name.startswith("deadtokens.")


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # compiling does not hinge on who hears of it
        listener().message(text)


def _beginning(folder: str | None) -> str:
    took = "a few seconds, about half a minute for a study"
    if folder is None:
        return (
            f"compiling kernels, which takes {took}, in every process: no folder can be written to "
            "keep them in; name one in the environment variable NUMBA_CACHE_DIR"
        )
    return f"compiling kernels for this machine, once: {took}; they are kept in {folder}"


watch = _Watch()
event.register("numba:compile", watch)  # type: ignore[no-untyped-call]
atexit.register(watch.tell)


def _compiler(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    def compile_function(function: Callable[..., Any]) -> Any:
        try:
            return njit(**_OPTIONS, **options, cache=True)(function)
        except RuntimeError:  # no folder for the cache can be written: compile in every process
            return njit(**_OPTIONS, **options)(function)

    return compile_function


# For kernels that make arrays.
array_kernel = _compiler()

# For those that neither make nor keep arrays, Numba's reference counting is off: it would count at
# every call that passes an array, which costs 20 ns where a random word costs 1.
kernel = _compiler(_nrt=False)
try:
    kernel(lambda: None)
except (KeyError, NameError):  # an option that Numba does not document, and only for speed
    kernel = array_kernel
