"""What all benchmarks need: costs, the machine in words, and results as CSV under docs/."""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[1] / "docs" / "performance"
LOAD = os.getloadavg()[0]  # when the benchmark started
_PACKAGES = ("numpy", "scipy", "numba", "torch")
_REPORT_PEAK = """
import re, sys
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
"""


class Cost(NamedTuple):
    """Seconds of all cores together, seconds that passed, and peak memory in MB (0: not taken)."""

    cpu: float
    wall: float
    peak: float = 0.0


def holds(what: str, true: bool) -> None:
    """Print whether something is so; bounds are wide, for machines that have other work."""
    print(f"{what}: {'yes' if true else 'NO'}")


def cost(work: Callable[[], object], seconds: float = 0.6, least: int = 2) -> Cost:
    """The least of some repetitions, 20 at most: other programs only ever add.

    Args:
        work: What to time; it should have run before, so that kernels are compiled.
        seconds: CPU seconds after which no repetition starts.
        least: Repetitions at least.
    """
    costs: list[Cost] = []
    while len(costs) < least or (sum(c.cpu for c in costs) < seconds and len(costs) < 20):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        costs.append(Cost(time.process_time() - cpu, time.perf_counter() - wall))
    return Cost(min(c.cpu for c in costs), min(c.wall for c in costs))


def child(code: str, *arguments: str) -> Cost:
    """The cost of a Python process, peak memory included (mapped pages count)."""
    program = f"import atexit\natexit.register(lambda: exec({_REPORT_PEAK!r}))\n{code}"
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    peak = re.findall(r"^\d+$", result.stderr, re.MULTILINE)[-1]
    return Cost(cpu, wall, int(peak) * 1024 / 1e6)


def save(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write docs/performance/NAME.csv, and what it ran on into machine.json."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_short(value) for value in row] for row in rows)
    path = FOLDER / "machine.json"
    machines = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    machines[name] = machine()
    path.write_text(json.dumps(machines, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Cores, processor, versions, and how many programs ran besides."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return {
        "cores": os.cpu_count(),
        "processor": found[1] if found else platform.machine(),
        "python": platform.python_version(),
        "load at the start": round(LOAD, 1),
        **{package: metadata.version(package) for package in _PACKAGES},
    }


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
