"""How the kernels are compiled: once for all of them.

Cached on disk where a folder for it can be written, without the GIL (threads are the caller's),
and with NumPy's division: no exception can leave a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


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
