"""The shape of the code: imports point one way, and loading the package loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import deadtokens as dt

PACKAGE = Path(dt.__file__).parent

# A module imports only what stands above it (docs/architecture.md says what each is for).
ORDER = [
    "errors",
    "formats",
    "rows",
    "files",
    "writing",
    "listening",
    "interrupts",
    "wording",
    "showing",
    "tabular",
    "kernels",
    "sources",
    "tokens",
    "row_facts",
    "snowball",
    "occupied",
    "census",
    "masks",
    "voids",
    "spots",
    "orderings",
    "cluster",
    "near",
    "selection",
    "copies",
    "deadrows",
    "merging",
    "inventory",
    "stocktaking",
    "answers",
    "keep",
    "diff",
    "noise",
    "arguments",
    "cloud",
    "sampling",
    "elements",
    "distances",
    "extent",
    "geometry",
    "statistics",
    "montecarlo",
    "touching",
    "theory",
    "solving",
    "independence",
    "likelihood",
    "fit",
    "marginals",
    "trials",
    "device",
    "trial_tables",
    "parts",
    "runs",
    "summaries",
    "saved_trials",
    "observed",
    "centres",
    "around",
    "specification",
    "scheduler",
    "remote",
    "sweep",
    "verdict",
    "compare",
    "figures",
    "curves",
    "pictures",
    "exports",
    "census_files",
    "survey_lines",
    "survey",
    "report",
    "study_plan",
    "study",
    "cli",
    "notebook",
    "progress",
    "__main__",
]


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def place(module: str) -> int:
    return ORDER.index(module.split(".")[1])


def imported(path: Path) -> list[str]:
    """Modules of this package that a file imports, at its top or inside functions."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import escapes this check"
        if isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            if node.module == "deadtokens":
                names += [f"deadtokens.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return [name for name in names if name.startswith("deadtokens.")]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up(path: Path) -> None:
    relative = path.relative_to(PACKAGE.parent).with_suffix("")
    own = place(".".join(relative.parts))
    for name in imported(path):
        if name != "deadtokens.__version__":
            assert place(name) <= own, f"{path.name} imports {name}"


def test_order_lists_every_module() -> None:
    present = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()}
    assert present == set(ORDER)


def test_modules_stay_readable() -> None:
    for path in modules():
        assert len(path.read_text().splitlines()) <= 400, f"{path.name}: one job?"


@pytest.mark.parametrize(
    "statement", ["import deadtokens", "import deadtokens.cli", "import deadtokens.formats"]
)
def test_importing_loads_nothing_heavy(statement: str) -> None:
    heavy = (
        *("numba", "torch", "pandas", "matplotlib", "scipy", "jinja2", "vl_convert"),
        *("tokenizers", "huggingface_hub", "gguf", "h5py", "fontTools", "dask", "distributed"),
    )
    code = f"{statement}; import sys; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_exported_names_are_there_whatever_is_loaded_first() -> None:
    """`census` is a module and a function; the package's attribute is the function."""
    code = (
        "import deadtokens as dt; dt.snowball_of; dt.Matrix; import deadtokens.census;"
        "assert callable(dt.census), dt.census;"
        "from deadtokens import census; assert callable(census);"
        "assert all(hasattr(dt, name) for name in dt.__all__);"
        "assert set(dt._MODULES) | {'__version__'} == set(dt.__all__) == set(dir(dt))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dt.nothing  # noqa: B018


def test_commands_that_draw_nothing_load_nothing_that_draws() -> None:
    code = (
        "import contextlib, io, sys\n"
        "from deadtokens.cli import run\n"
        "for name in ('inspect', 'census', 'measure'):\n"
        "    sys.argv = ['deadtokens', name, 'builtin:qwen3-4b']\n"
        "    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "        run()\n"
        "print([name for name in ('matplotlib', 'vl_convert', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
