"""Build the package, install it in a clean environment, and use it there: `make package`.

What a stranger gets is checked, so nothing is imported from this folder. Every step prints a line;
the first that fails ends it. Needs git, `build`, `twine` and mypy (extra `dev`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
EXAMPLE = "deadtokens fit builtin:qwen3-4b"
MACOS = "macosx_14_0_arm64"
# Tests of an unpacked source distribution: files that it must hold, and the formats.
TESTS = ("tests/test_formats.py", "tests/test_census.py")
# What a user's program may say of types, and what a type checker has to refuse.
TYPED = """\
from typing import assert_type

import numpy as np

import deadtokens as dt

matrix = dt.open_matrix("builtin:whisper-tiny.en")
snowball = dt.snowball_of(matrix, np.ones(matrix.n_rows, np.bool_))
assert_type(snowball, dt.Snowball)
assert_type(dt.fit(snowball).sigma, float)
"""
MISTYPED = TYPED + "dt.fit(3)\n"


class PackageError(Exception):
    """What a stranger would meet."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment with nothing in it but what is installed here.

    Attributes:
        folder: Where it lies; its programs are in ``bin``.
    """

    folder: Path

    @classmethod
    def make(cls, folder: Path, python: str = sys.executable) -> Environment:
        """An empty one, for the interpreter `python`."""
        if python == sys.executable:
            venv.create(folder, with_pip=True, symlinks=True)
        else:
            run(python, "-m", "venv", folder)
        return cls(folder)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def pip(self, *words: str | Path) -> str:
        """`pip` in it; what it prints."""
        return run(self.python, "-m", "pip", "--disable-pip-version-check", *words)

    def use(self, *words: str | Path, within: Path, fails: bool = False) -> str:
        """One of its programs, started in the folder `within`; what it prints."""
        name, *rest = words
        return run(self.folder / "bin" / name, *rest, within=within, fails=fails)


def run(*words: str | Path, within: Path = ROOT, fails: bool = False) -> str:
    """What a program prints: its standard output, or all of it where it is meant to fail.

    Raises:
        PackageError: It fails, or does not where it is meant to.
    """
    line = [str(word) for word in words]
    done = subprocess.run(line, cwd=within, capture_output=True, text=True)
    if (done.returncode != 0) != fails:
        raise PackageError(
            f"{' '.join(line)}: status {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout + done.stderr if fails else done.stdout


def tracked() -> set[str]:
    """Paths of the files that git knows here."""
    return set(run("git", "ls-files", "-z").split("\0")) - {""}


def compare(what: str, has: set[str], wants: set[str]) -> None:
    """Raise what is missing from `has` and what is too much.

    Raises:
        PackageError: The sets differ.
    """
    parts = [
        f"{word}: {', '.join(sorted(paths)[:10])}"
        for word, paths in (("lacks", wants - has), ("should not hold", has - wants))
        if paths
    ]
    if parts:
        raise PackageError(f"{what} " + "; ".join(parts) + " (commit, ignore or exclude them)")


def relative_links(markdown: str) -> list[str]:
    """Targets of links and pictures that an index of packages, which shows one page, cannot follow.

    Code, fenced or not, holds no links.
    """
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", markdown, flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", text)
    return [target for target in targets if not re.match(r"[a-z]+:|#", target)]


def printed_example(readme: str, command: str) -> str:
    """What the README shows below a command, up to the end of its block.

    Raises:
        PackageError: It shows no such command.
    """
    found = re.search(rf"^\$ {re.escape(command)}\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    if found is None:
        raise PackageError(f"README.md has no example of {command}")
    return found[1]


def build(scratch: Path) -> tuple[Path, Path]:
    """Source distribution and wheel of this folder.

    Raises:
        PackageError: The wheel built from the source distribution is another one.
    """
    output = scratch / "dist"
    run(sys.executable, "-m", "build", "--outdir", output, ROOT)  # the wheel from the sdist
    run(sys.executable, "-m", "build", "--wheel", "--outdir", scratch / "tree", ROOT)
    (wheel,) = output.glob("*.whl")
    if wheel.read_bytes() != (scratch / "tree" / wheel.name).read_bytes():
        raise PackageError(
            f"{wheel.name} depends on whether it is built from the source distribution"
        )
    return next(output.glob("*.tar.gz")), wheel


def check_contents(sdist: Path, wheel: Path) -> str:
    """The source distribution is what git knows; the wheel is its package, with data and types."""
    files = tracked()
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    compare(sdist.name, inside, files | {"PKG-INFO"})
    package = {name.removeprefix("src/") for name in files if name.startswith("src/")}
    with zipfile.ZipFile(wheel) as zipped:
        held = {name for name in zipped.namelist() if ".dist-info/" not in name}
    compare(wheel.name, held, package)
    return f"{len(inside)} and {len(held)} files, {sdist.stat().st_size / 1e6:.2f} and " + (
        f"{wheel.stat().st_size / 1e6:.2f} MB"
    )


def read_metadata(wheel: Path) -> tuple[Mapping[str, list[str]], str]:
    """The fields of a wheel's metadata, and its long description."""
    with zipfile.ZipFile(wheel) as zipped:
        (name,) = (entry for entry in zipped.namelist() if entry.endswith(".dist-info/METADATA"))
        message = HeaderParser().parsestr(zipped.read(name).decode())
    return {key: message.get_all(key, []) for key in message}, str(message.get_payload())


def check_metadata(sdist: Path, wheel: Path) -> str:
    """An index would take it and show it without dead links; every version is the same.

    Raises:
        PackageError: It would not.
    """
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    fields, description = read_metadata(wheel)
    if links := relative_links(description):
        raise PackageError(f"the long description links to {', '.join(links)}")
    (version,) = fields["Version"]
    for path, pattern in (
        ("CITATION.cff", r"^version: (.+)$"),
        ("src/deadtokens/__init__.py", r'^__version__ = "(.+)"$'),
    ):
        found = re.search(pattern, (ROOT / path).read_text(), re.MULTILINE)
        if found is None or found[1] != version:
            raise PackageError(f"{path} does not give the version {version}")
    return f"version {version}, {len(description):,} characters of description"


def check_use(clean: Environment, within: Path) -> str:
    """The installed program gives what the README shows, and writes runs and pages.

    Raises:
        PackageError: It does not.
    """
    where = clean.use(
        "python", "-c", "import deadtokens; print(deadtokens.__file__)", within=within
    )
    if not Path(where.strip()).is_relative_to(clean.folder):
        raise PackageError(f"{where.strip()} is not the installed package")
    version = clean.use("deadtokens", "--version", within=within).strip()
    shown = printed_example((ROOT / "README.md").read_text(), EXAMPLE)
    if (given := clean.use(*EXAMPLE.split(), within=within)) != shown:
        raise PackageError(f"{EXAMPLE} does not print what README.md shows, but\n{given}")
    for line, page in (
        ("census builtin:whisper-tiny.en -o census", "census/report.html"),
        ("sweep --centroid census/centroid.safetensors --sigma 1e-8 --tokens 50 --trials 20 "
         "--format float16 -o run", "run/summary.csv"),
        ("report run", "run/report.html"),
    ):  # fmt: skip
        clean.use("deadtokens", *line.split(), within=within)
        if not (within / page).stat().st_size:
            raise PackageError(f"deadtokens {line} leaves {page} empty")
    return f"{version}; fit, census, sweep, report"


def check_missing_extras(clean: Environment, within: Path) -> str:
    """Without an extra, what needs it names the command that installs it, and that resolves.

    Raises:
        PackageError: It does not, or shows a traceback.
    """
    (within / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (within / "model.pt").write_bytes(b"\x80\x02")
    sweep = (
        "sweep --centroid census/centroid.safetensors --sigma 1e-8 --tokens 50 --trials 20 -o other"
    )
    for extra, line in (
        ("hdf5", "census model.h5"),
        ("torch", "census model.pt"),
        ("torch", f"{sweep} --device cuda"),
        ("cluster", f"{sweep} --scheduler tcp://127.0.0.1:1"),
    ):
        said = clean.use("deadtokens", *line.split(), within=within, fails=True)
        if f"pip install 'deadtokens[{extra}]'" not in said or "Traceback" in said:
            raise PackageError(
                f"deadtokens {line} does not name the extra {extra}, but says\n{said}"
            )
        # What is installed is asked for its extra: no registry has to know the name.
        clean.pip("install", "--quiet", "--dry-run", f"deadtokens[{extra}]")
    return "torch, hdf5, cluster"


def check_types(clean: Environment, within: Path) -> str:
    """`mypy --strict` takes a typed program and refuses one with a wrong argument."""
    words = ("-m", "mypy", "--strict", "--python-executable", clean.python, "--cache-dir", "types")
    for name, text, fails in (("typed.py", TYPED, False), ("mistyped.py", MISTYPED, True)):
        (within / name).write_text(text)
        said = run(sys.executable, *words, name, within=within, fails=fails)
        if fails and "[arg-type]" not in said:
            raise PackageError(f"mypy refuses {name} for another reason\n{said}")
    return "mypy --strict"


def resolves(clean: Environment, requirement: str, *options: str | Path) -> str:
    """How many packages pip would install for a requirement, without installing any."""
    words = ("--dry-run", "--quiet", "--ignore-installed", "--report", "-", *options)
    return f"{len(json.loads(clean.pip('install', *words, requirement))['install'])} packages"


def each(names: Iterable[str], say: Callable[[str], str]) -> str:
    """What is said of each name, asked on every core at once: resolving is pip's own work."""
    names = list(names)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return ", ".join(
            f"{name} {said}" for name, said in zip(names, pool.map(say, names), strict=True)
        )


def check_extras(clean: Environment, wheel: Path) -> str:
    """Every extra resolves, with the newest versions."""
    extras = read_metadata(wheel)[0]["Provides-Extra"]
    return each(extras, lambda extra: resolves(clean, f"{wheel}[{extra}]"))


def check_pythons(clean: Environment, wheel: Path, within: Path) -> str:
    """Wheels of everything exist for each Python that the metadata names."""
    names = (line.rpartition(" :: ")[2] for line in read_metadata(wheel)[0]["Classifier"])
    options = ("--only-binary", ":all:", "--target", within / "x")
    return each(
        (name for name in names if re.fullmatch(r"3\.\d+", name)),
        lambda version: resolves(clean, str(wheel), "--python-version", version, *options),
    )


def check_macos(clean: Environment, wheel: Path, within: Path) -> str:
    """Wheels of everything exist for macOS on Apple's processors."""
    options = ("--only-binary", ":all:", "--target", within / "x")
    return resolves(clean, str(wheel), "--platform", MACOS, *options)


def check_sdist(clean: Environment, sdist: Path, wheel: Path, scratch: Path) -> str:
    """The unpacked source distribution can test the installed package."""
    with tarfile.open(sdist) as archive:
        archive.extractall(scratch, filter="data")
    clean.pip("install", "--quiet", "--constraint", CONSTRAINTS, f"{wheel}[test]")
    unpacked = scratch / sdist.name.removesuffix(".tar.gz")
    clean.use("pytest", "--collect-only", "--quiet", within=unpacked)
    said = clean.use("pytest", "--quiet", *TESTS, within=unpacked)
    return said.strip().rpartition("\n")[2]


def check_all(scratch: Path) -> Iterable[tuple[str, Callable[[], str]]]:
    """The steps in order; each is run before the next is asked for."""
    sdist, wheel = build(scratch)
    within = scratch / "elsewhere"
    within.mkdir()
    clean = Environment.make(scratch / "clean")
    yield "contents", lambda: check_contents(sdist, wheel)
    yield "metadata", lambda: check_metadata(sdist, wheel)
    yield (
        "installed",
        lambda: clean.pip("install", "--quiet", "--constraint", CONSTRAINTS, wheel).strip(),
    )
    yield "used", lambda: check_use(clean, within)
    yield "missing extras are named", lambda: check_missing_extras(clean, within)
    yield "types", lambda: check_types(clean, within)
    yield "extras resolve", lambda: check_extras(clean, wheel)
    yield "Pythons resolve", lambda: check_pythons(clean, wheel, within)
    yield f"{MACOS} resolves", lambda: check_macos(clean, wheel, within)
    yield "tested from the source distribution", lambda: check_sdist(clean, sdist, wheel, scratch)


def main() -> int:
    """Check everything; 1 if a step fails."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="package-") as scratch:
        try:
            for name, check in check_all(Path(scratch).resolve()):
                said = check()
                print(f"{time.monotonic() - start:4.0f} s  {name}: {said}", flush=True)
        except PackageError as error:
            print(f"package: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
