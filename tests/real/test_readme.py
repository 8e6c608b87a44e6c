"""The README's example on a real model file says what the program says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_the_example_is_the_programs_output() -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate_example.py"), "--check", "--real"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
