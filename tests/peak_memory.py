"""The program in a process of its own, which says how much memory it took; on Linux."""

from __future__ import annotations

import re
import subprocess
import sys

_PROGRAM = """
from deadtokens.cli import run
try:
    run()
finally:
    import re, sys
    print(re.search(r"VmHWM:.*", open("/proc/self/status").read())[0], file=sys.stderr)
"""


def run_measured(*arguments: object) -> tuple[str, int]:
    """What it writes to stdout, and its peak memory in bytes, mapped pages counted."""
    command = [sys.executable, "-c", _PROGRAM, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", result.stderr, re.MULTILINE)
    assert peak is not None, result.stderr
    return result.stdout, int(peak[1]) * 1024
