"""Census and measure of a full-size matrix, beside NumPy's way to find its equal rows.

151,936 x 2,560 bfloat16, 778 MB, in a warm page cache; whole processes, best of three. Prints a
table: seconds, peak resident memory (mapped pages counted), and how many times faster than NumPy.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from full_matrix import write_full_matrix

PROGRAM = "from deadtokens.cli import run; run()"
NUMPY_UNIQUE = """
import sys, numpy as np
from deadtokens import open_matrix
codes = open_matrix(sys.argv[1]).codes
rows = np.ascontiguousarray(codes).view(np.dtype((np.void, codes.shape[1] * 2))).ravel()
_, counts = np.unique(rows, return_counts=True)
print(np.sort(counts[counts > 1])[::-1])
"""
REPORT_PEAK = """
import re, sys
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
"""


def timed(code: str, *arguments: str) -> tuple[float, float]:
    """Seconds and peak memory in MB of a Python process."""
    program = f"import atexit\natexit.register(lambda: exec({REPORT_PEAK!r}))\n{code}"
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - start
    peak = re.findall(r"^\d+$", result.stderr, re.MULTILINE)[-1]
    return seconds, int(peak) * 1024 / 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model, mask = folder / "full.safetensors", folder / "mask.safetensors"
        write_full_matrix(model, mask)
        cases = {
            "numpy.unique, void view": (NUMPY_UNIQUE, [str(model)]),
            "deadtokens census -o": (PROGRAM, ["census", str(model), "-o", scratch]),
            "deadtokens measure": (PROGRAM, ["measure", str(model)]),
            "deadtokens measure --mask": (PROGRAM, ["measure", str(model), "--mask", str(mask)]),
        }
        print(f"{model.stat().st_size / 1e6:.0f} MB, {os.cpu_count()} cores\n")
        print(f"{'':28}{'seconds':>9}{'peak MB':>9}{'numpy / ours':>14}")
        literal = 0.0
        for name, (code, arguments) in cases.items():
            timed(code, *arguments)  # compiles kernels and warms the page cache
            runs = [timed(code, *arguments) for _ in range(3)]
            seconds, peak = min(run[0] for run in runs), max(run[1] for run in runs)
            literal = literal or seconds
            print(f"{name:28}{seconds:9.2f}{peak:9.0f}{literal / seconds:14.1f}")


if __name__ == "__main__":
    main()
