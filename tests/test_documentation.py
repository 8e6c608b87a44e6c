"""The documentation says what the program does, and what it points to is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from documentation import PAGES, ROOT, load_examples, spans
from program import Program

import deadtokens
from deadtokens.cli.app import app

examples = load_examples()
# start.md has a study, and commands.md an example of every command: these are run by make slow.
SHOWN = [page for page in examples.pages() if page.name not in ("commands.md", "start.md")]
TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))
NAMED_TESTS = {
    name for file in TEST_FILES for name in re.findall(r"\bdef (test_\w+)", file.read_text())
} | {file.stem for file in TEST_FILES}
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def check(*arguments: str) -> None:
    command = [sys.executable, str(ROOT / "docs" / "examples.py"), "--check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.name)
def test_examples_are_the_programs_output(page: Path) -> None:
    check("--offline", str(page))


@pytest.mark.slow
@pytest.mark.parametrize("page", list(examples.pages()), ids=lambda page: page.name)
def test_all_examples_are_the_programs_output(page: Path) -> None:
    check(str(page))


def test_every_command_has_its_help_and_an_example() -> None:
    page = ROOT / "docs" / "commands.md"
    shown = examples.commands(page)
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert f"deadtokens {name} --help" in shown
        assert any(f"deadtokens {name} " in command for command in shown if "--help" not in command)


def test_help_of_every_command(monkeypatch: pytest.MonkeyPatch, deadtokens: Program) -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for name, value in examples.TERMINAL.items():
        monkeypatch.setenv(name, value)
    for command in examples.commands(ROOT / "docs" / "commands.md"):
        if command.endswith("--help"):
            shown = deadtokens(*shlex.split(command)[1:]).out.strip("\n")
            assert f"$ {command}\n{shown}\n```" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_pointed_to_is_there(page: Path) -> None:
    for code in spans(page):
        for path in re.findall(r"(?<![\w/.])(?:tests|tools|benchmarks|docs|src)/[\w./-]+\w", code):
            assert (ROOT / path).exists(), code
        for name in re.findall(r"\btest_\w+\b", code):
            assert name in NAMED_TESTS, code
        for target in re.findall(r"^make ([a-z]+)$", code):
            assert target in TARGETS, code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_citation_is_of_this_version() -> None:
    version = f"version: {deadtokens.__version__}"
    assert version in (ROOT / "CITATION.cff").read_text().splitlines()
    assert f"{{{deadtokens.__version__}}}" in (ROOT / "docs" / "citing.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == deadtokens.__version__


def test_every_public_name_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in set(deadtokens.__all__) - {"__version__"}:
        assert re.search(rf":: deadtokens\.(\w+\.)*{name}$", text, re.MULTILINE), name
