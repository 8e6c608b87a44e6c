"""Run folders with strange names, moved, reached by links; clocks that go back."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from faults.checking import check_identical, check_whole, resume_command
from faults.conftest import Tally
from faults.processes import (
    TRIALS,
    Moment,
    outcome,
    stop_at,
    succeed,
    sweep_command,
    trials_named,
)

AMONG_PARTS = Moment("part", 0.05)


@pytest.mark.parametrize(
    "name",
    [b"with space\nand 'quotes' \"$(touch gone)\" `touch gone` \\n \x1b[31m", b"r\xff\xfen", b"-o"],
    ids=["shell", "bytes", "option"],
)
def test_printed_command_goes_on_whatever_the_name(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally, name: bytes
) -> None:
    """It is printed on one line that drives no terminal; pasted into a shell it goes on."""
    run = tmp_path / os.fsdecode(name)
    result = stop_at(AMONG_PARTS, sweep_command(centroid, run), run, signal.SIGINT)
    assert result.returncode == 130
    command = resume_command(result.stderr)
    assert command.isprintable()
    held = check_whole(run, undisturbed)
    assert len(held) < 3 * TRIALS
    paths = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PATH": paths},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert shell.returncode == 0, shell.stderr
    check_identical(run, undisturbed)
    assert not (tmp_path / "gone").exists()
    tally("folder with a strange name", 1, identical=1)


def test_moved_between_runs(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally
) -> None:
    first, second = tmp_path / "first", tmp_path / "second" / "run"
    stop_at(AMONG_PARTS, sweep_command(centroid, first), first, signal.SIGKILL)
    second.parent.mkdir()
    shutil.move(first, second)
    assert trials_named(second)
    succeed(sweep_command(centroid, second))
    check_identical(second, undisturbed)
    tally("folder moved between runs", 1, identical=1)


def test_reached_by_a_link(centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally) -> None:
    """The folder is the same by each of its names, and so is its lock."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    stop_at(AMONG_PARTS, sweep_command(centroid, link), link, signal.SIGKILL)
    assert link.is_symlink()
    assert trials_named(tmp_path / "real")
    succeed(sweep_command(centroid, tmp_path / "real"))
    check_identical(link, undisturbed)
    tally("folder reached by a link", 1, identical=1)


BACKWARDS = """
import itertools, time
start = time.time()
steps = itertools.count()
time.time = lambda: start - 3600 * next(steps)
time.time_ns = lambda: int(time.time() * 1e9)
from deadtokens.cli import run
run()
"""


def test_clock_that_goes_backwards(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally
) -> None:
    """Each look at the clock is an hour earlier; parts are from the future, and from 1970."""
    run = tmp_path / "run"
    command = sweep_command(centroid, run)
    stop_at(AMONG_PARTS, command, run, signal.SIGKILL)
    for i, part in enumerate(sorted((run / "parts").glob("*.parquet"))):
        os.utime(part, (0, 0) if i % 2 else (2**32, 2**32))
    result = outcome([command[0], "-c", BACKWARDS, *command[3:]])
    assert result.returncode == 0, result.stderr
    check_identical(run, undisturbed)
    tally("clock that goes backwards", 1, identical=1)


def test_printed_command_is_the_one_given(centroid: Path, tmp_path: Path, tally: Tally) -> None:
    """Options keep their order and spelling."""
    run = tmp_path / "run"
    command = [*sweep_command(centroid, run), "--noise=laplace"]
    result = stop_at(AMONG_PARTS, command, run, signal.SIGINT)
    assert shlex.split(resume_command(result.stderr))[1:] == command[3:]
    tally("Ctrl-C of a sweep", 1)
