"""What has to be true of results whatever happened to the process that wrote them."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from deadtokens.runs import RunFolder
from faults.processes import PROGRAM, SIGMAS

RESULTS = ("trials.csv", "summary.csv", "elements.npz")
_FIGURE_ENDS = {".png": b"IEND\xaeB`\x82", ".svg": b"</svg>\n"}
# Python says these itself, and an interrupted program says none of them.
_NOISE = ("Traceback", "Exception ignored", "resource_tracker", "Warning:")

Trials = frozenset[tuple[int, int]]


def check_whole(run: Path, undisturbed: Path, before: Trials = frozenset()) -> Trials:
    """Every file with a final name is whole; returns the trials that are held.

    Args:
        run: The run folder, or where one would be.
        undisturbed: The same run, finished without any disturbance.
        before: Trials that were held before; none of them may be lost.
    """
    for name in RESULTS:
        if (run / name).exists():
            assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name
    for figure in (run / "figures").glob("*"):
        if not _temporary(figure):
            assert figure.read_bytes().endswith(_FIGURE_ENDS[figure.suffix]), figure.name
    if not (run / "manifest.json").exists():
        assert not list((run / "parts").glob("*.parquet"))
        held: Trials = frozenset()
    else:
        held = _trials_of(RunFolder.open(run))
    assert before <= held
    return held


def _trials_of(run: RunFolder) -> Trials:
    parts = [part for index in range(len(SIGMAS)) for part in run.parts(index)]
    others = set((run.path / "parts").iterdir()) - {part.path for part in parts}
    assert all(map(_temporary, others)), others
    trials = []
    for part in parts:
        assert len(run.read(part).rows) == part.count
        trials += [(part.sigma_index, part.first + i) for i in range(part.count)]
    assert len(set(trials)) == len(trials), "parts overlap"
    return frozenset(trials)


def _temporary(path: Path) -> bool:
    """Files being written, and the folder that a cluster's workers write parts into."""
    name = path.name
    return (name.startswith(".") and path.suffix == ".tmp") or name.startswith("incoming-")


def temporary_files(folder: Path) -> list[Path]:
    """What writing leaves behind when it is cut off."""
    return [path for path in folder.rglob("*") if _temporary(path)]


def check_identical(run: Path, undisturbed: Path) -> None:
    """The run is finished, holds the same bytes as the undisturbed one, and nothing else."""
    for name in RESULTS:
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert check_whole(run, undisturbed) == _trials_of(RunFolder.open(undisturbed))
    assert {path.name for path in run.iterdir()} == {path.name for path in undisturbed.iterdir()}
    assert not temporary_files(run)


def check_error(result: subprocess.CompletedProcess[str], *named: str) -> None:
    """It failed with one line that names what is wrong, and said nothing else about it."""
    assert result.returncode == 1, result.stderr
    check_quiet(result.stderr)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, result.stderr
    for text in named:
        assert re.search(text, errors[0]), (text, errors[0])


def check_quiet(stderr: str) -> None:
    """No traceback, and nothing else that Python says of its own accord."""
    assert not any(noise in stderr for noise in _NOISE), stderr


def resume_command(stderr: str) -> str:
    """The command that an interrupted program prints, as a line for a shell."""
    found = re.search(r"^interrupted; .* To go on: (.*)$", stderr, re.MULTILINE)
    assert found, stderr
    return found[1]


def check_resumable(stderr: str, command: Sequence[str]) -> None:
    """It says how to go on: with the same command."""
    assert shlex.split(resume_command(stderr)) == ["deadtokens", *command[len(PROGRAM) :]]
