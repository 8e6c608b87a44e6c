"""Compiled kernels have plain twins of the same arguments, and say what they cost."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

from deadtokens import kernels

MODULES = {
    name: import_module(f"{kernels.__name__}.{name}")
    for _, name, _ in pkgutil.iter_modules(kernels.__path__)
}
# The plain module of each that has one; the others draw, and are held to their own bodies.
PLAIN = {
    "rows": "plain",
    "pairs": "plain",
    "separation": "plain",
    "likelihood": "plain_likelihood",
    "nearness": "plain_nearness",
    "permutations": "plain_permutations",
}
DRAWING = {"direct", "occupancy", "random", "replicates"}
# Parts of `log_likelihoods` and `log_unsplits`.
WITHOUT_TWIN = {"cell_log_probability", "log_likelihood", "log_unsplit"}


def compiled(module: ModuleType) -> dict[str, Any]:
    """The public kernels that a module defines."""
    bodies = {name: getattr(kernel, "py_func", None) for name, kernel in vars(module).items()}
    return {
        name: vars(module)[name]
        for name, body in bodies.items()
        if name[0] != "_" and body is not None and body.__module__ == module.__name__
    }


KERNELS = {
    f"{name}.{kernel}": (name, dispatcher)
    for name, module in MODULES.items()
    if name != "compiling"
    for kernel, dispatcher in compiled(module).items()
}
TWINS = {
    label: (getattr(MODULES[PLAIN[name]], label.split(".")[1], None), dispatcher)
    for label, (name, dispatcher) in KERNELS.items()
    if name in PLAIN and label.split(".")[1] not in WITHOUT_TWIN
}


@pytest.mark.parametrize("label", TWINS)
def test_twins_have_the_same_arguments(label: str) -> None:
    twin, kernel = TWINS[label]
    assert twin is not None, f"{label} has no plain twin"
    assert list(inspect.signature(kernel.py_func).parameters) == list(
        inspect.signature(twin).parameters
    )


def test_every_module_and_every_twin_is_accounted_for() -> None:
    assert {name for name, _ in KERNELS.values()} == set(PLAIN) | DRAWING
    for plain in set(PLAIN.values()):
        functions = inspect.getmembers(MODULES[plain], inspect.isfunction)
        public = {
            name
            for name, function in functions
            if name[0] != "_" and function.__module__ == MODULES[plain].__name__
        }
        own = {label for label in TWINS if PLAIN[label.split(".")[0]] == plain}
        assert public == {label.split(".")[1] for label in own}, plain


@pytest.mark.parametrize("label", KERNELS)
def test_kernels_say_what_they_cost(label: str) -> None:
    assert "O(" in (inspect.getdoc(KERNELS[label][1]) or "")
