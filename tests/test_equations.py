"""Equations of docs/method.md: numbered in order, and cited by the code under numbers they have."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
METHOD = (ROOT / "docs" / "method.md").read_text()
HEADING = re.compile(r"^## (\d+)\. .*$", re.MULTILINE)
TAG = re.compile(r"\\tag\{(\d+)\.(\d+)\}")
# As code and page write it: "equation N", "equations N, N and N", "(N)", "(N to N)".
NUMBER = r"[1-9]\d?\.[1-9]\d?"
CITED = re.compile(rf"(?:\bequations? |\()({NUMBER}(?:(?:, | to | and ){NUMBER})*)\b(?!\.?\d|·)")
SECTION = re.compile(r"docs/method\.md,(?: section)? (\d+)\b")

Number = tuple[int, int]


def defined() -> list[Number]:
    return [(int(section), int(place)) for section, place in TAG.findall(METHOD)]


def python_files(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if path != Path(__file__))


def prose(path: Path) -> Iterator[str]:
    """The docstrings and comments of a module; nothing of one in which no number is cited."""
    code = path.read_text()
    if not CITED.search(" ".join(code.split())):
        return
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            yield ast.get_docstring(node) or ""
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def cited(text: str) -> Iterator[Number]:
    """Numbers of equations in prose; all between the ends of a range."""
    for found in CITED.finditer(" ".join(text.split())):
        numbers = [(int(a), int(b)) for a, b in re.findall(r"(\d+)\.(\d+)", found[1])]
        yield from numbers
        if " to " in found[1]:
            (section, first), (_, last) = numbers[0], numbers[-1]
            yield from ((section, place) for place in range(first, last))


def test_numbers_count_up_from_one_in_each_section() -> None:
    parts = HEADING.split(METHOD)
    numbers = []
    for section, text in zip(parts[1::2], parts[2::2], strict=True):
        count = len(TAG.findall(text))
        numbers += [(int(section), place) for place in range(1, count + 1)]
    assert numbers, "the page has no equations"
    assert defined() == numbers


def test_the_page_cites_its_own_equations() -> None:
    assert set(cited(METHOD)) <= set(defined())


@pytest.mark.parametrize(
    "path", python_files("src"), ids=lambda path: str(path.relative_to(ROOT / "src"))
)
def test_what_a_module_cites_is_there(path: Path) -> None:
    text = list(prose(path))
    assert {number for part in text for number in cited(part)} <= set(defined())
    sections = {number for part in text for number in SECTION.findall(" ".join(part.split()))}
    assert sections <= set(HEADING.findall(METHOD))


def test_every_equation_is_cited_by_code_or_test() -> None:
    paths = python_files("src") + python_files("tests")
    numbers = {number for path in paths for part in prose(path) for number in cited(part)}
    assert sorted(set(defined()) - numbers) == []


def test_citations_are_found() -> None:
    text = (
        "as in (1.3), (14.1\n to 14.3) and equations 2.1, 2.2 and 12.15; not (0.5), (4.5e-3), 7.1"
    )
    assert set(cited(text)) == {
        *((1, 3), (14, 1), (14, 2), (14, 3), (2, 1), (2, 2), (12, 15)),
    }
