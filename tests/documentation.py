"""The pages of the documentation, as tests read them."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))

_CODE = re.compile(r"`([^`]+)`")


def load_examples() -> ModuleType:
    """docs/examples.py as a module."""
    spec = importlib.util.spec_from_file_location("examples", ROOT / "docs" / "examples.py")
    if spec is None or spec.loader is None:
        raise ImportError("docs/examples.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Claim:
    """A row of docs/claims.md.

    Attributes:
        text: What is claimed.
        command: What shows it.
        prints: Fragments that have to be in its output.
    """

    text: str
    command: str
    prints: tuple[str, ...]


def claims() -> list[Claim]:
    """The rows of docs/claims.md."""
    lines = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8").splitlines()
    cells = [line.strip("|").split(" | ") for line in lines if line.startswith("| ")][1:]
    return [
        Claim(text.strip(), _CODE.findall(command)[0], tuple(_CODE.findall(prints)))
        for text, command, prints in cells
    ]


def spans(page: Path) -> list[str]:
    """The inline code of a page, blocks of code left out."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return _CODE.findall(text)
