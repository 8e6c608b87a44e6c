"""Test the package on other Pythons, and with the oldest versions that it says it takes.

    python tools/check_pythons.py python3.12 python3.13
    python tools/check_pythons.py --lowest python3.11

Each interpreter gets a clean environment with the newest of everything, or with the lowest versions
in pyproject.toml (`--lowest`, which needs uv). There the tests below and the demo are run. It takes
some minutes each; torch is left out.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
import tempfile
from pathlib import Path

from check_package import ROOT, Environment, PackageError, build, run

TESTS = tuple(
    f"tests/test_{name}.py"
    for name in ("formats", "census", "statistics", "sampling", "cli", "sweep", "fit")
)


def install(environment: Environment, wheel: Path, *, lowest: bool) -> None:
    """Put the wheel and what its tests need into an environment."""
    if not lowest:
        environment.pip("install", "--quiet", f"{wheel}[test]")
        return
    uv = ("uv", "pip", "install", "--quiet", "--python", environment.python)
    project = ("--requirements", ROOT / "pyproject.toml", "--extra", "test")
    run(*uv, "--resolution", "lowest-direct", "--only-binary", ":all:", *project)
    run(*uv, "--no-deps", wheel)


def check(python: str, sdist: Path, wheel: Path, folder: Path, *, lowest: bool) -> str:
    """Run the tests and the demo with one interpreter, in `folder`; what they say in short.

    Raises:
        PackageError: A test fails, or the demo does.
    """
    environment = Environment.make(folder / "environment", python)
    install(environment, wheel, lowest=lowest)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    said = environment.use("pytest", "--quiet", *TESTS, within=unpacked)
    environment.use("deadtokens", "demo", "-o", "demo", within=folder)
    pages = len(list((folder / "demo").glob("*/report.html")))
    version = environment.use("python", "--version", within=folder).strip()
    return f"{version}: {said.strip().rpartition(chr(10))[2]}; demo, {pages} pages"


def main() -> int:
    """Check every interpreter that is named; 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("python", nargs="+", help="an interpreter")
    parser.add_argument("--lowest", action="store_true", help="the lowest versions of everything")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pythons-") as named:
        scratch = Path(named).resolve()
        try:
            sdist, wheel = build(scratch)
            for number, python in enumerate(options.python):
                folder = scratch / str(number)
                folder.mkdir()
                print(check(python, sdist, wheel, folder, lowest=options.lowest), flush=True)
        except PackageError as error:
            print(f"pythons: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
