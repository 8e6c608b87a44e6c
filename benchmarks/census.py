"""Census and measure of a full-size matrix, beside NumPy's way to find its equal rows.

151,936 x 2,560 bfloat16, 778 MB, in a warm page cache; whole processes, best of three. Prints a
table: seconds, peak resident memory (mapped pages counted), and how many times faster than NumPy.
With --save it is written to docs/performance/census.csv too.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from full_matrix import write_full_matrix
from measuring import child, holds, save

PROGRAM = "from deadtokens.cli import run; run()"
NUMPY_UNIQUE = """
import sys, numpy as np
from deadtokens import open_matrix
codes = open_matrix(sys.argv[1]).codes
rows = np.ascontiguousarray(codes).view(np.dtype((np.void, codes.shape[1] * 2))).ravel()
_, counts = np.unique(rows, return_counts=True)
print(np.sort(counts[counts > 1])[::-1])
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model, mask = folder / "full.safetensors", folder / "mask.safetensors"
        write_full_matrix(model, mask)
        cases = {
            "numpy.unique, void view": (NUMPY_UNIQUE, [str(model)]),
            "deadtokens census": (PROGRAM, ["census", str(model)]),
            "deadtokens census -o": (PROGRAM, ["census", str(model), "-o", scratch]),
            "deadtokens measure": (PROGRAM, ["measure", str(model)]),
            "deadtokens measure --mask": (PROGRAM, ["measure", str(model), "--mask", str(mask)]),
        }
        print(f"{model.stat().st_size / 1e6:.0f} MB, {os.cpu_count()} cores\n")
        print(f"{'':28}{'seconds':>9}{'peak MB':>9}{'numpy / ours':>14}")
        literal, rows = 0.0, []
        for name, (code, arguments) in cases.items():
            child(code, *arguments)  # compiles kernels and warms the page cache
            runs = [child(code, *arguments) for _ in range(3)]
            seconds, peak = min(run.wall for run in runs), max(run.peak for run in runs)
            literal = literal or seconds
            print(f"{name:28}{seconds:9.2f}{peak:9.0f}{literal / seconds:14.1f}")
            rows.append((name, seconds, round(peak), literal / seconds))
        holds("each command within 8 s", max(row[1] for row in rows[1:]) <= 8)
        holds("each command within 1,500 MB", max(row[2] for row in rows[1:]) <= 1_500)
    if "--save" in sys.argv:
        save("census", ("command", "seconds", "peak_mb", "ratio"), rows)


if __name__ == "__main__":
    main()
