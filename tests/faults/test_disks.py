"""Disks that are full or cannot be written: one clear error, no half file, and then it goes on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from faults.checking import (
    RESULTS,
    check_error,
    check_identical,
    check_whole,
    temporary_files,
)
from faults.conftest import Tally
from faults.processes import (
    fill,
    outcome,
    small_disk,
    started,
    stderr_of,
    succeed,
    sweep_command,
    trials_named,
    wait_until,
)

_PAGE = 4096


def drawn_but_not_finished(undisturbed: Path, run: Path) -> None:
    """A run that holds every part, as if it had been killed before it wrote its results."""
    shutil.copytree(undisturbed, run, ignore=shutil.ignore_patterns(*RESULTS, "figures"))


def on_disk(path: Path) -> int:
    """Bytes that a file takes of a disk, or all files below a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(-(-file.stat().st_size // _PAGE) * _PAGE for file in files)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_disk_full_among_parts(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally, share: float
) -> None:
    with small_disk(tmp_path / "disk", 16) as disk:
        run = disk / "run"
        ballast = fill(disk, int(share * on_disk(undisturbed / "parts")))
        check_error(outcome(sweep_command(centroid, run)), "cannot be written .*No space", "free")
        held = check_whole(run, undisturbed)
        assert not temporary_files(run)
        assert bool(held) == (share > 0)
        ballast.unlink()
        succeed(sweep_command(centroid, run))
        check_identical(run, undisturbed)
    tally("disk full while parts are written", 1, identical=1, refused=1)


@pytest.mark.parametrize(
    ("before", "name"),
    [
        ((), "trials.csv"),
        (("trials.csv", "summary.csv"), "elements.npz"),
        ((*RESULTS,), "figures/.*"),
    ],
)
def test_disk_full_among_results(
    centroid: Path,
    undisturbed: Path,
    tmp_path: Path,
    tally: Tally,
    before: tuple[str, ...],
    name: str,
) -> None:
    """The disk has room for the parts and some results, and two pages of the next one."""
    with small_disk(tmp_path / "disk", 16) as disk:
        run = disk / "run"
        drawn_but_not_finished(undisturbed, run)
        spare = sum(on_disk(undisturbed / result) for result in before) + 2 * _PAGE
        ballast = fill(disk, spare)
        check_error(outcome(sweep_command(centroid, run)), f"{name}: cannot be written .*No space")
        check_whole(run, undisturbed)
        assert [result for result in RESULTS if (run / result).exists()] == list(before)
        assert not temporary_files(run)
        ballast.unlink()
        succeed(sweep_command(centroid, run))
        check_identical(run, undisturbed)
    tally("disk full while results are written", 1, identical=1, refused=1)


def test_read_only_disk(centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally) -> None:
    with small_disk(tmp_path / "disk", 16) as disk:
        run = disk / "run"
        drawn_but_not_finished(undisturbed, run)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for folder in (run, disk / "new"):
            result = outcome(sweep_command(centroid, folder))
            check_error(result, "cannot be written .*Read-only file system", "another folder")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        succeed(sweep_command(centroid, run))
        check_identical(run, undisturbed)
    tally("disk that is read only", 2, identical=1, refused=2)


def test_files_limited_in_size(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally
) -> None:
    """As a quota, or a file system with a largest file, would refuse."""
    run = tmp_path / "run"
    limit = (undisturbed / "trials.csv").stat().st_size - 1
    command = sweep_command(centroid, run)
    result = outcome(["prlimit", f"--fsize={limit}", *command])
    check_error(result, "trials.csv: cannot be written .*File too large")
    assert len(check_whole(run, undisturbed)) == trials_named(undisturbed)
    assert not temporary_files(run)
    succeed(command)
    check_identical(run, undisturbed)
    tally("file that may not grow", 1, identical=1, refused=1)


def test_parts_deleted_while_running(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally
) -> None:
    run = tmp_path / "run"
    command = sweep_command(centroid, run)
    with started(command) as process:
        assert wait_until(lambda: trials_named(run) > 0, process)
        (run / "parts").rename(tmp_path / "parts")
        stderr = stderr_of(process)
    check_error(subprocess.CompletedProcess(command, process.returncode, "", stderr), "parts")
    assert not (run / "trials.csv").exists()
    (run / "parts").mkdir()
    succeed(command)
    check_identical(run, undisturbed)
    tally("parts/ deleted under a sweep", 1, identical=1, refused=1)


@pytest.mark.parametrize("files", [6, 12, 20, 40])
def test_few_open_files(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally, files: int
) -> None:
    """Either it finishes, or it ends in one error; the same command then finishes."""
    run = tmp_path / "run"
    command = sweep_command(centroid, run)
    result = outcome(["prlimit", f"--nofile={files}", *command])
    check_whole(run, undisturbed)
    if result.returncode:
        check_error(result, "open files")
        succeed(command)
    check_identical(run, undisturbed)
    tally("few open files allowed", 1, identical=1, refused=int(result.returncode != 0))
