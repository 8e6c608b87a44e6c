"""Put the real output of the README's example into the README; with --check, fail if it differs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "README.md"
COMMAND = "deadtokens fit builtin:qwen3-4b"


def page() -> str:
    arguments = COMMAND.split()[1:]
    result = subprocess.run(
        [sys.executable, "-m", "deadtokens", *arguments], capture_output=True, text=True, check=True
    )
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(f"$ {COMMAND}\n")
    _, fence, after = rest.partition("```")
    return f"{before}$ {COMMAND}\n{result.stdout}{fence}{after}"


def main() -> None:
    if sys.argv[1:] == ["--check"]:
        if page() != PAGE.read_text(encoding="utf-8"):
            sys.exit("README.md: its example is out of step with the program: run make docs")
    else:
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
