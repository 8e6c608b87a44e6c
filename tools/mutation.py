"""Mutation testing of the core modules: small faults, one at a time, that the tests must notice.

    python tools/mutation.py [MODULE ...] [--jobs N] [--only TEXT]

A forked process imports each mutant (tools/mutants.py) in place of its module and runs the
module's own test file; it is killed if a test fails, the import fails, or time or memory run out.
Survivors are printed, with a mark where docs/testing.md does not explain them. The exit status is
1 if there are such, or if docs/testing.md explains a mutant that is killed or is none.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.abc
import importlib.machinery
import inspect
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import CodeType, ModuleType

import pytest
from mutants import Mutant, Mutator

ROOT = Path(__file__).parent.parent
# Modules, and tests in their files that are left out: slow, and about other code.
MODULES = {
    "formats": "",
    "statistics": "not twenty_thousand",
    "sampling": "not plain_python and not importing and not philox",
}
MEMORY = 6 << 30  # bytes of address space beyond what a process has when it starts


class _Loader(SourceFileLoader):
    """Loads a module from other source than its file's."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._changed = source

    def get_code(self, fullname: str) -> CodeType:
        """The changed module, compiled."""
        return compile(self._changed, self.get_filename(fullname), "exec")


@dataclass(frozen=True)
class _Finder(importlib.abc.MetaPathFinder):
    name: str
    source: str

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin, self.source)
        return spec


class _QuickestFirst:
    """Pytest plugin: notes how long each test takes, and runs them in that order next time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.seconds.get(item.nodeid, 0.0))


def run_tests(module: str, order: _QuickestFirst, *options: str) -> int:
    """Pytest's exit status on the module's test file."""
    return pytest.main(
        [
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            MODULES[module],
            *options,
            f"tests/test_{module}.py",
        ],
        plugins=[order],
    )


def forget(module: str) -> None:
    """Unload a module, all that import it, and the tests; the rest stays, to save time."""
    gone = {f"deadtokens.{module}", "deadtokens"}
    while True:
        more = {
            name
            for name, loaded in sys.modules.items()
            if name.startswith("deadtokens.") and name not in gone and _imports(loaded) & gone
        }
        if not more:
            break
        gone |= more
    tests = ROOT / "tests"
    for name, loaded in list(sys.modules.items()):
        if name in gone or tests in Path(getattr(loaded, "__file__", None) or "/").parents:
            del sys.modules[name]


def allow_compiling(allowed: bool) -> None:
    """Whether kernels may be compiled for other types than before, or such a call fails."""
    for name, module in sys.modules.items():
        if name.startswith("deadtokens.kernels."):
            for kernel in vars(module).values():
                if getattr(kernel, "signatures", None):
                    kernel.disable_compile(not allowed)


def _imports(module: ModuleType) -> set[str]:
    tree = ast.parse(inspect.getsource(module))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module != "deadtokens":
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"deadtokens.{name.name}" for name in node.names}
    return found


def try_mutant(module: str, mutant: Mutant, order: _QuickestFirst) -> None:
    """In a process of its own: the module's tests on the mutant; exit status 0 if they pass."""
    os.setpgrp()
    with Path("/proc/self/statm").open() as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    sys.meta_path.insert(0, _Finder(f"deadtokens.{module}", mutant.source))
    os._exit(run_tests(module, order, "-x"))


def survivors(module: str, source: str, mutants: list[Mutant], jobs: int) -> list[Mutant]:
    """Those that the tests do not notice."""
    allow_compiling(True)
    order = _QuickestFirst()
    start = time.monotonic()
    if run_tests(module, order):
        raise SystemExit(f"{module}: its tests fail without any mutation")
    timeout = 10 + 5 * (time.monotonic() - start)
    forget(module)
    allow_compiling(False)
    unchanged = Mutant("", 0, "", source)
    if not list(survived(module, [unchanged], 1, order, timeout)):
        raise SystemExit(f"{module}: its tests fail in a forked process")
    return list(survived(module, mutants, jobs, order, timeout))


def survived(
    module: str, mutants: list[Mutant], jobs: int, order: _QuickestFirst, timeout: float
) -> Iterator[Mutant]:
    """Those whose process ends in time with exit status 0, as they end."""
    context = multiprocessing.get_context("fork")
    waiting = list(reversed(mutants))
    running: dict[int, tuple[ForkProcess, Mutant, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            process = context.Process(target=try_mutant, args=(module, mutant, order))
            process.start()
            running[process.sentinel] = process, mutant, time.monotonic() + timeout
        first = min(deadline for _, _, deadline in running.values())
        multiprocessing.connection.wait(list(running), max(0.0, first - time.monotonic()))
        for sentinel, (process, mutant, deadline) in list(running.items()):
            if process.is_alive() and time.monotonic() < deadline:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
            if process.exitcode == 0:
                yield mutant
            del running[sentinel]


def label(module: str, mutant: Mutant) -> str:
    """The line that stands for a mutant, here and in docs/testing.md."""
    return f"{module}{'.' if mutant.scope else ''}{mutant.scope}: {mutant.change}"


def explained(module: str) -> set[str]:
    """Labels of the module's mutants in docs/testing.md."""
    lines = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line.startswith((f"{module}:", f"{module}."))}


def main() -> int:
    """Mutate, test, print; 1 if survivors and explanations are not the same."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", default=list(MODULES), metavar="MODULE")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (all cores)")
    parser.add_argument("--only", default="", help="mutants that have this in their line")
    options = parser.parse_args()
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the tests need none
    good = True
    for module in options.modules:
        source = (ROOT / "src" / "deadtokens" / f"{module}.py").read_text(encoding="utf-8")
        mutants = [m for m in Mutator(source).mutants() if options.only in label(module, m)]
        left = {
            label(module, mutant) for mutant in survivors(module, source, mutants, options.jobs)
        }
        reasons = {reason for reason in explained(module) if options.only in reason}
        print(f"{module}: {len(mutants) - len(left)} of {len(mutants)} killed, {len(left)} left")
        for line in sorted(left - reasons):
            print(f"not explained:\n{line}")
        for line in sorted(reasons - left):
            print(f"explained, but no survivor:\n{line}")
        good = good and left == reasons
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
