"""Write docs/commands.md from the program's own help; with --check, fail if it is out of date."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent / "commands.md"
COMMANDS = (
    "inspect",
    "census",
    "measure",
    "independence",
    "fit",
    "sweep",
    "sample",
    "theory",
    "compare",
    "report",
    "study",
    "survey",
    "diff",
    "demo",
)
INTRODUCTION = """# Commands

Written by `docs/generate_commands.py` from the program's own help.

Results go to stdout (tables, or JSON with `--json`), everything else to stderr. Exit status:
0 done, 1 bad input or failed (one line says what, where and how to mend it; `deadtokens --debug
COMMAND ...` shows the traceback), 2 wrong usage, 130 interrupted. What the written files hold is
in [files.md](files.md).
"""


def help_of(*command: str) -> str:
    environment = {**os.environ, "COLUMNS": "96", "NO_COLOR": "1", "TERM": "dumb"}
    result = subprocess.run(
        [sys.executable, "-m", "deadtokens", *command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    lines = (line.rstrip() for line in result.stdout.strip().splitlines())
    return "\n".join(lines).replace("python -m deadtokens", "deadtokens")


def page() -> str:
    parts = [INTRODUCTION, f"```text\n{help_of()}\n```\n"]
    parts += [f"## {name}\n\n```text\n{help_of(name)}\n```\n" for name in COMMANDS]
    return "\n".join(parts)


def main() -> None:
    if sys.argv[1:] == ["--check"]:
        if page() != PAGE.read_text(encoding="utf-8"):
            sys.exit(f"{PAGE.name} is out of step with the program: run make docs")
    else:
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
